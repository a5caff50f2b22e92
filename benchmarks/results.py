"""Result files: a list of records as JSON, one for each measurement.

A file is named <date>-<kind of host>.json. Measured again, a record takes the place of the
one before it. No names of hosts or folders go into it.
"""

import json
from pathlib import Path

from benchmarks.machine import cores
from minigan.backends import BACKENDS
from minigan.errors import ConfigError, DataError

SAME = (
    "what",
    "preset",
    "width",
    "batch",
    "backend",
    "seconds",
    "seeds",
)  # what makes two records the same measurement


def key(record):
    precision = record.get("precision", "fp32")  # which older files do not tell
    return [record.get(name) for name in SAME] + [
        precision,
        record["machine"]["cpu"],
        record["machine"]["threads"],
    ]


def load(path):
    """-> list of records. Raises DataError."""
    try:
        records = json.loads(Path(path).read_text())
        if not isinstance(records, list) or not all(
            "what" in record and "machine" in record for record in records
        ):
            raise ValueError("no list of records")
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{path} is not a result file ({error})") from error
    return records


def expect_common(options):
    """Raises ConfigError, DataError for the options that all measurements share."""
    if options.backend not in BACKENDS:
        raise ConfigError(
            f"--backend must be one of {', '.join(BACKENDS)}, got {options.backend!r}"
        )
    for name, least, most in (
        ("width", 1, None),
        ("batch", 2, None),
        ("rounds", 1, None),
        ("threads", 1, cores()),
    ):
        value = getattr(options, name, None)
        if value is not None and (value < least or (most and value > most)):
            raise ConfigError(
                f"--{name} must be {f'{least} to {most}' if most else f'at least {least}'}, got {value}"
            )
    expect_writable(options.json)


def expect_writable(path):
    """Raises DataError now, not after minutes of measuring, where `add` could not write."""
    if path is None:
        return
    if not Path(path).resolve().parent.is_dir():
        raise DataError(f"--json {path}: there is no such folder")
    if Path(path).exists():
        load(path)


def add(path, record):
    """Write a record into the file, if there is one named."""
    if path is None:
        return
    records = load(path) if Path(path).exists() else []
    write(path, [old for old in records if key(old) != key(record)] + [record])


def write(path, records):
    """Write a result file, one record a line."""
    lines = ",\n".join(json.dumps(rounded(each)) for each in records)
    Path(path).write_text(f"[\n{lines}\n]\n")


def rounded(value):
    """-> the same with 6 significant digits: small files."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {name: rounded(each) for name, each in value.items()}
    if isinstance(value, list):
        return [rounded(each) for each in value]
    return value


def ratios(record, row):
    """-> in each round, a contender's time over minigan's: above 1 where minigan is faster."""
    ours = next(each for each in record["contenders"] if each["name"] == "minigan")
    return [theirs / own for theirs, own in zip(row["seconds"], ours["seconds"], strict=True)]
