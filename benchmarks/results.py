"""Result files: lists of records as JSON, one record for each measurement.

A file is named <date>-<kind of host>.json. The same command, repeated, replaces the earlier record.
No names of hosts or folders are recorded.
"""

import json
from datetime import date
from pathlib import Path

from minigan.errors import DataError
from minigan.files import write_atomically

# of the same measurement
SAME = ("what", "preset", "width", "batch", "backend", "seconds", "seeds", "network", "asked")
COMMON = ("preset", "width", "batch", "backend", "precision", "rounds")
NOT_ASKED = ("data_dir", "images", "json", "launcher", "plot")  # where, not what


def key(record):
    """-> what tells one measurement from another."""
    facts = record["machine"]
    precision = record.get("precision", "fp32")  # missing in older files
    return [*map(record.get, SAME), precision, facts["cpu"], facts["threads"]]


def new_record(what, facts, options=None, **more):
    """-> a record of today.

    facts    of the machine
    options  of the command: those in COMMON are recorded by name, all that are plain as "asked"
    """
    given = {} if options is None else vars(options)
    common = {name: value for name, value in given.items() if name in COMMON}
    today = date.today().isoformat()
    record = {"what": what, "date": today, "machine": facts, "asked": plain(given), **common}
    return record | more


def plain(given):
    """-> the options that are numbers, texts, or lists of these, as they come back from a file."""
    kinds, found = (int, float, str, type(None)), {}
    for name, value in given.items():
        each = value if isinstance(value, (list, tuple)) else [value]
        if name not in NOT_ASKED and all(isinstance(one, kinds) for one in each):
            found[name] = rounded(list(value) if isinstance(value, tuple) else value)
    return found


def listed(values):
    """A dict -> "a 1, b 2"."""
    return ", ".join(f"{name} {value}" for name, value in values.items())


def load(path):
    """-> list of records. Raises DataError."""
    try:
        records = json.loads(Path(path).read_text())
        if not all("what" in record and "machine" in record for record in records):
            raise ValueError("no list of records")
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{path} is not a result file ({error})") from error
    return records


def expect_writable(path):
    """-> path. Raises DataError now, not after minutes of measuring, if `add` could not write."""
    if not Path(path).resolve().parent.is_dir():
        raise DataError(f"--json {path}: there is no such folder")
    if Path(path).exists():
        load(path)
    return path


def add(path, record):
    """Write a record into the file, if there is one named."""
    if path is None:
        return
    records = load(path) if Path(path).exists() else []
    write(path, [old for old in records if key(old) != key(record)] + [record])


def write(path, records):
    """Write a result file, one record a line."""
    lines = ",\n".join(json.dumps(rounded(each)) for each in records)
    write_atomically(path, f"[\n{lines}\n]\n".encode())


def rounded(value):
    """-> the same with 6 significant digits, which keeps files small."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {name: rounded(each) for name, each in value.items()}
    if isinstance(value, list):
        return [rounded(each) for each in value]
    return value


def ratios(ours, theirs):
    """Rows of one record -> in each round, their time over ours: above 1 if ours is faster."""
    return [b / a for a, b in zip(ours["seconds"], theirs["seconds"], strict=True)]
