"""Decode all pictures of a source into one file of pixels.

The pictures are decoded in parallel and written in the order of their names, under a temporary
name; unreadable ones are left out. A build that is killed leaves only that temporary file, and the
next build starts over.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple

import numpy as np

from minigan.concurrency import without_warnings
from minigan.data.base import Limit, Log
from minigan.data.files.decode import Form, Unreadable, decode
from minigan.data.files.messages import printable, some
from minigan.data.prepare.file_index import Source
from minigan.data.prepare.threads import map_in_threads
from minigan.errors import DataError
from minigan.files import replacing
from minigan.progress_bar import progress_bar

BLOCK = 8  # pictures that a thread decodes at a time; Ctrl-C waits for them
MOST_SKIPPED = 0.05  # fraction of the files that may be unreadable
INTERVAL = 10.0  # s between lines about the progress


class Picture(NamedTuple):
    """A picture, decoded, or why it is unreadable."""

    name: str
    pixels: np.ndarray | None  # (h, w, c)
    traits: Counter[str]  # see decode
    error: Exception | None = None  # an OSError: perhaps the system can read it later


def build(
    source: Source, names: list[str], limit: Limit, out: Path, form: Form, log: Log, own_too: bool
) -> dict[str, Any]:
    """Decode the first `limit` pictures into the file `out`.

    names    of all pictures, sorted; the folders on the first level after source.top are the
             labels, unless pictures lie beside them
    own_too  take pictures that minigan wrote, too
    -> what index.json stores, see sets/folder.py
    Raises DataError: too many unreadable pictures; OSError: the file cannot be written.
    """
    start = len(source.top)
    most = left = len(names[:limit])  # to take; those of minigan do not count
    own, beside = list[str](), list[str]()
    counts = Counter[str]()  # folder -> readable pictures, which may be 0
    skipped: list[list[str]] = []  # [name, reason] of each unreadable picture
    failed, traits = list[str](), Counter[str]()
    done, digest, due = 0, hashlib.sha256(), monotonic() + INTERVAL
    with (
        without_warnings(),  # Pillow's, about odd files
        progress_bar(total=most, unit="picture", leave=False) as bar,
        replacing(out) as file,
    ):
        for block in decode_blocks(source, names, form):
            for name, pixels, found, error in block:
                if found.pop("own", 0) and not own_too:
                    own.append(name)
                    continue
                if not left:
                    break
                left -= 1
                beside += [name] * ("/" not in name[start:])
                folder = name[start:].rpartition("/")[0].partition("/")[0]
                counts[folder] += pixels is not None
                if pixels is None:
                    skipped.append([name, getattr(error, "strerror", None) or str(error)])
                    failed += [name] * isinstance(error, OSError)
                else:
                    file.write(pixels.data)
                    digest.update(pixels.data)
                    traits += found
            if len(skipped) > MOST_SKIPPED * most:
                small = any("too small for" in reason for _, reason in skipped)
                raise DataError(
                    f"{source.path}: {summary(skipped)} of the first {done + len(block):,} files "
                    f"cannot be read, more than {MOST_SKIPPED:.0%} of {most:,}: "
                    f"{source.cure}{', or give another --fit' * small}"
                )
            done += len(block)
            bar.update(len(block))  # on a terminal; elsewhere a line now and then
            if bar.disable and monotonic() >= due:
                log(f"{done:,} of {most:,} pictures prepared")
                due = monotonic() + INTERVAL
            if not left:
                break
    unlabeled = f"{len(beside):,} of its pictures lie beside the folders: {some(beside)}"
    return {
        "source": source.fingerprint,
        "files": most - left + len(own),
        "counts": [counts.total()] if beside else list(counts.values()),
        "classes": [] if beside else list(map(printable, counts)),
        "unlabeled": unlabeled if beside and len(counts) > 1 else "",
        "skipped": skipped,
        "failed": failed,
        "traits": traits,
        "own": own,
        "notes": source.notes,
        "sha256": digest.hexdigest(),
    }


def decode_blocks(source: Source, names: list[str], form: Form) -> Iterator[list[Picture]]:
    """The pictures in order, a few at a time."""

    def decoded(name: str) -> Picture:
        traits = Counter[str]()
        try:
            with source.open(name) as file:
                return Picture(name, decode(file, form, traits), traits)
        except (Unreadable, OSError) as error:
            return Picture(name, None, traits, error)

    def work(start: int) -> list[Picture]:
        return [decoded(name) for name in names[start : start + BLOCK]]

    return map_in_threads(work, range(0, len(names), BLOCK))


def summary(skipped: list[list[str]]) -> str:
    """[[name, reason], ...] -> their number and the first few: "2 (a.jpg: damaged; b.png: ...)"."""
    lines = [printable(f"{name}: {reason}") for name, reason in skipped[:3]]
    return f"{len(skipped):,} ({'; '.join(lines + ['...'] * (len(skipped) > 3))})"
