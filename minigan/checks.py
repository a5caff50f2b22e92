"""Checks of arguments (numbers in a range, unknown names): one check, one wording."""

from collections.abc import Collection, Iterable
from difflib import get_close_matches
from math import inf, nan
from numbers import Real
from operator import index
from typing import Any

import numpy as np

from minigan.errors import ConfigError, ShapeError

# Decorates the public functions that compute: they are independent of the caller's np.seterr.
# Numbers that underflow are 0; those that overflow are inf or NaN, and are reported in words.
ignore_float_errors = np.errstate(all="ignore")

LARGEST = 2**31 - 1  # of an extent: above it NumPy cannot even report that memory is missing


def expect_size(name: str, value: Any, least: int = 1, most: int = LARGEST) -> int:
    """-> value as int; raises ConfigError unless it is a whole number in least..most.

    name  the argument, for the message: "Conv2d: stride"
    """
    try:
        number = least - 1 if isinstance(value, bool) else index(value)
    except TypeError:  # also for an array
        number = least - 1
    if not least <= number <= most:
        end = f" and at most {most}" if number > most else ""
        raise ConfigError(f"{name} must be a whole number of at least {least}{end}, got {value!r}")
    return number


def expect_number(name: str, value: Any, allowed: str) -> float:
    """-> value as float; raises ConfigError unless it is in an interval such as "[0, 1)".

    allowed  "[a, b]" with the ends, "(a, b)" without them, or one of each kind
    """
    low, high = (float(end) for end in allowed[1:-1].split(","))
    try:
        number = float(value) if isinstance(value, Real) and not isinstance(value, bool) else nan
    except OverflowError:  # a whole number too large for a float
        number = inf
    above = number > low or (number == low and allowed[0] == "[")
    if not (above and (number < high or (number == high and allowed[-1] == "]"))):
        raise ConfigError(f"{name} must be {in_words(low, high, allowed)}, got {value!r}")
    return number


def expect_one_hot(label: str, labels: Any, classes: int) -> None:
    """Raises ShapeError for class numbers (n,), in place of one-hot rows (n, classes)."""
    if getattr(labels, "ndim", 2) == 1:
        raise ShapeError(
            f"{label}: expected one-hot labels (n, {classes}), got {labels.shape}: "
            f"call backend.asarray(numpy.eye({classes})[labels])"
        )


def did_you_mean(value: object, choices: Iterable[str]) -> str:
    """-> the end of a message about an unknown name: ": did you mean mnist?", or "" """
    nearest = get_close_matches(str(value), choices, 1, cutoff=0.7)
    return f": did you mean {nearest[0]}?" if nearest else ""


def expect_choice(name: str, value: object, choices: Collection[str]) -> None:
    """Raises ConfigError unless value is one of the choices; it names the nearest one."""
    if value not in choices:
        hint = did_you_mean(value, choices)
        raise ConfigError(f"{name} must be one of {', '.join(choices)}, got {value!r}{hint}")


def in_words(low: float, high: float, allowed: str) -> str:
    """-> the interval in words: "at least 0 and below 1"."""
    words = f"{'at least' if allowed[0] == '[' else 'above'} {low:g}"
    if high < inf:
        words += f" and {'at most' if allowed[-1] == ']' else 'below'} {high:g}"
    return words
