"""The types that every room shares."""

from typing import Any

Array = Any  # numpy.ndarray or cupy.ndarray: the one kind that a backend computes with
Shape = tuple[int, ...]
Pair = tuple[int, int]  # (vertical, horizontal)
Padding = tuple[Pair, Pair]  # ((top, bottom), (left, right))
