"""A data set, and the fingerprint by which a resumed run recognizes it."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

DataDir = str | Path | None  # the folder with the files of a set; None: the usual ones
Shape = tuple[int, int, int]  # (h, w, c) of a picture
LabeledImages = tuple[np.ndarray, np.ndarray]  # images, labels
Log = Callable[[str], object]  # called with each line for the user


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


def fingerprint(shape: Shape, pixels_sha256: str, labels: np.ndarray | None) -> str:
    """-> 16 hex digits."""
    numbers = b"" if labels is None else labels.astype("<i4").tobytes()
    return hashlib.sha256(f"{shape} {pixels_sha256} ".encode() + numbers).hexdigest()[:16]
