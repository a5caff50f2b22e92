"""Every error that minigan raises on purpose, in one place.

Each derives from the built-in exception that fits, so that `except ValueError` works as expected,
and from MiniganError, which the command line turns into one line on stderr and exit code 2, or 1 if
it is no mistake of the user: see cli/main.py. A message is one line: the object, the expected
value, the actual value, the fix.
"""


class MiniganError(Exception):
    """Base class of all. The message says how to fix the mistake."""


class ShapeError(MiniganError, ValueError):
    """An array or an image size does not fit the layer."""


class ConfigError(MiniganError, ValueError):
    """An option or argument is out of range."""


class ArrayTypeError(MiniganError, TypeError):
    """An array of the wrong kind: another backend's, another dtype, or no array."""


class StateError(MiniganError, RuntimeError):
    """Calls in an invalid order, such as backward before forward."""


class BackendError(MiniganError, RuntimeError):
    """A backend is not available: a package, a driver or a device is missing."""


class DataError(MiniganError, OSError):
    """A data file is missing, damaged, or could not be downloaded."""


class DataUnavailable(DataError):
    """A data set is in none of the usual places and could not be downloaded.

    This is the only DataError after which another data set may be used instead. Damaged files, or
    files missing from a folder that the user named, are plain DataErrors.
    """


class RunError(MiniganError, OSError):
    """A run folder or checkpoint cannot be written, read or used."""


class TrainingError(RunError):
    """A training failed: its numbers are not finite any more, or its end could not be saved."""


class GradientError(MiniganError, AssertionError):
    """A hand-written backward pass disagrees with finite differences."""
