"""Decode all pictures of a source into one file of pixels.

The pictures are decoded in parallel and written in the order of their names, under a temporary
name; unreadable ones are left out. A build that is killed leaves only that temporary file, and the
next build starts over.
"""

import hashlib
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np

from minigan.data.base import Log, Shape
from minigan.data.files.decode import Unreadable, decode
from minigan.data.files.messages import printable
from minigan.data.prepare.file_index import Source
from minigan.data.prepare.resize import Fit
from minigan.data.prepare.threads import map_in_threads
from minigan.errors import DataError
from minigan.files import replacing

BLOCK = 8  # pictures that a thread decodes at a time; Ctrl-C waits for them
MOST_SKIPPED = 0.05  # fraction of the files that may be unreadable
INTERVAL = 10.0  # s between lines about the progress

Block = tuple[list[str], np.ndarray, dict[str, str]]  # names, pixels, name -> why it is unreadable


def build(
    source: Source, names: list[str], limit: int | None, out: Path, shape: Shape, fit: Fit, log: Log
) -> dict[str, Any]:
    """Decode the first `limit` pictures into the file `out`.

    names  of all pictures, sorted; the folders on the first level after source.top are the labels
    -> what index.json stores, see sets/folder.py
    Raises DataError: too many unreadable pictures; OSError: the file cannot be written.
    """
    from tqdm import tqdm  # late: `import minigan` stays quick

    start = len(source.top)
    labeled, names = all("/" in name[start:] for name in names), names[:limit]
    counts = Counter[str]()  # label -> readable pictures, which may be 0
    skipped: list[list[str]] = []  # [name, reason] of each unreadable picture
    digest, due = hashlib.sha256(), monotonic() + INTERVAL
    with (
        warnings.catch_warnings(),
        tqdm(total=len(names), unit="picture", leave=False, disable=None) as bar,
        replacing(out) as file,
    ):
        warnings.simplefilter("ignore")  # Pillow's, about odd files
        for block, pixels, reasons in decode_blocks(source, names, shape, fit):
            file.write(pixels.data)
            digest.update(pixels.data)
            for name in block:
                label = name[start:].partition("/")[0] if labeled else ""
                counts[label] += name not in reasons
            skipped += [[name, reason] for name, reason in reasons.items()]
            if len(skipped) > MOST_SKIPPED * len(names):
                raise DataError(
                    f"{source.path}: {summary(skipped)} of {len(names):,} files cannot be read, "
                    f"more than {MOST_SKIPPED:.0%}: repair or remove them"
                )
            bar.update(len(block))  # on a terminal; elsewhere a line now and then
            if bar.disable and monotonic() >= due:
                log(f"{counts.total() + len(skipped):,} of {len(names):,} pictures prepared")
                due = monotonic() + INTERVAL
    return {
        "source": source.fingerprint,
        "files": len(names),
        "counts": list(counts.values()),
        "classes": [printable(label) for label in counts] if labeled else [],
        "skipped": skipped,
        "sha256": digest.hexdigest(),
    }


def decode_blocks(source: Source, names: list[str], shape: Shape, fit: Fit) -> Iterator[Block]:
    """The pictures in order, a few at a time."""

    def work(start: int) -> Block:
        block, reasons, readable = names[start : start + BLOCK], {}, 0
        pixels = np.empty((len(block), *shape), np.uint8)
        for name in block:
            try:
                with source.open(name) as file:
                    pixels[readable] = decode(file, shape, fit)
                readable += 1
            except (Unreadable, OSError) as error:
                reasons[name] = getattr(error, "strerror", None) or str(error)
        return block, pixels[:readable], reasons

    return map_in_threads(work, range(0, len(names), BLOCK))


def summary(skipped: list[list[str]], most: int = 3) -> str:
    """[[name, reason], ...] -> their number and the first few: "2 (a.jpg: damaged; b.png: ...)"."""
    lines = [printable(f"{name}: {reason}") for name, reason in skipped[:most]]
    return f"{len(skipped):,} ({'; '.join(lines + ['...'] * (len(skipped) > most))})"
