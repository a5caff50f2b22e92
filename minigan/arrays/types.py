"""The types that every room shares."""

from typing import Any

Array = Any  # numpy.ndarray or cupy.ndarray: the kind that the backend computes with
Shape = tuple[int, ...]
Pair = tuple[int, int]  # (vertical, horizontal)
Padding = tuple[Pair, Pair]  # ((top, bottom), (left, right))
