"""A data set, and the fingerprint by which a resumed run recognizes it."""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from minigan.data.files.messages import printable, some
from minigan.errors import ConfigError

DataDir = str | Path | None  # the folder with the files of a set; None: the usual ones
Shape = tuple[int, int, int]  # (h, w, c) of a picture
LabeledImages = tuple[np.ndarray, np.ndarray]  # images, labels
Log = Callable[[str], object]  # called with each line for the user
Limit = int | None  # only the first pictures, this many; None: all


@dataclass(frozen=True)
class Dataset:
    """Pictures of one shape, in memory or memory-mapped."""

    name: str  # "mnist", "folder", ...: never "auto"
    images: np.ndarray  # (count, h, w, c) uint8
    labels: np.ndarray | None  # (count,) integers from 0, or None
    classes: tuple[str, ...]  # names of the labels; () without labels
    fingerprint: str  # equal if pixels and labels are equal
    note: str | None = None  # a line that the user must not miss
    traits: Mapping[str, int] = field(default_factory=dict)  # counts; see decode.py
    unlabeled: str = ""  # why a folder of pictures has no labels


def are_names(classes: Sequence[str]) -> bool:
    """Do the names of the classes say more than their numbers?"""
    return list(classes) != list(map(str, range(len(classes))))


def class_number(option: str, label: str, classes: Sequence[str]) -> int:
    """Name of a class, or its number, as given with an option -> its number. Raises ConfigError.

    A name comes first: of the classes 1 .. 10, "10" is the last, which has the number 9.
    """
    label = printable(label)  # as the names are
    if label in classes:
        return classes.index(label)
    if not (re.fullmatch("[0-9]{1,9}", label) and int(label) < len(classes)):
        or_name = f", or a name: {some(classes)}" if are_names(classes) else ""
        raise ConfigError(f"{option} must be in 0 .. {len(classes) - 1}{or_name}, got {label}")
    return int(label)


def fingerprint(shape: Shape, pixels_sha256: str, labels: np.ndarray | None) -> str:
    """-> 16 hex digits."""
    numbers = b"" if labels is None else labels.astype("<i4").tobytes()
    return hashlib.sha256(f"{shape} {pixels_sha256} ".encode() + numbers).hexdigest()[:16]
