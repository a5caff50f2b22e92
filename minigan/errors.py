"""Every error that minigan raises on purpose, in one place.

Each derives from the built-in exception that fits, so that `except ValueError`
works as a reader expects, and from MiniganError, which the command line turns
into one line on stderr and exit code 2. A message is one line: who, what was
wanted, what came, what to do.
"""


class MiniganError(Exception):
    """Base of all of them: a mistake that the message tells how to mend."""


class ShapeError(MiniganError, ValueError):
    """An array, or an image size, does not fit the layer that it meets."""


class ConfigError(MiniganError, ValueError):
    """An option or argument is outside of what it may be."""


class ArrayTypeError(MiniganError, TypeError):
    """An array of the wrong kind: another backend's, another dtype, or no array."""


class StateError(MiniganError, RuntimeError):
    """Calls in an order that has no meaning, as backward before forward."""


class BackendError(MiniganError, RuntimeError):
    """A backend cannot be had here: a package, a driver or a device is missing."""


class DataError(MiniganError, OSError):
    """A data file is missing, damaged, or could not be downloaded."""


class DataUnavailable(DataError):
    """A data set is in none of the usual places and could not be downloaded.

    The one DataError after which going on with another data set is right. Files
    that are there but damaged, or a folder that was named and lacks them, are not this.
    """


class RunError(MiniganError, OSError):
    """A run folder or checkpoint cannot be written, read, or used for this."""


class GradientError(MiniganError, AssertionError):
    """A hand-written backward pass disagrees with finite differences."""
