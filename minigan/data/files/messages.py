"""Parts of error messages about files."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from minigan.errors import DataError

UNREADABLE = "cannot be read ({}): check that it exists and that you may read it"
UNWRITABLE = (  # of a file in the cache
    "cannot be written ({}): free some space, check that you may write there, "
    "or set XDG_CACHE_HOME to another folder"
)


@contextmanager
def as_data_errors(path: object, trouble: str = UNREADABLE) -> Iterator[None]:
    """Raise DataError "<path>: <trouble, with what the system says>" for an OSError inside."""
    try:
        yield
    except DataError:  # an OSError too; it already says what to do
        raise
    except OSError as error:
        raise DataError(f"{path}: {trouble.format(error.strerror or error)}") from error


def damaged(path: Path, reason: str, cure: str = "") -> DataError:
    """-> the error for a file with wrong content; `cure` says what to do."""
    return DataError(": ".join(filter(None, (str(path), reason, cure))))


def wrong_hash(found: str, expected: str) -> str:
    """-> the reason to reject a file with another SHA-256 than the expected one."""
    return f"SHA-256 is {found[:12]}..., expected {expected[:12]}...: damaged, or another file"


def escaped(text: object) -> str:
    """-> the text, with control and invisible characters as in \\x1b."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


def counted(n: int, thing: str) -> str:
    """-> "1 file", "2,000 files"."""
    return f"{n:,} {thing}{'s' * (n != 1)}"


def some(names: Sequence[str], most: int = 5) -> str:
    """-> the first few names, on one line."""
    return ", ".join([*map(printable, names[:most]), *["..."] * (len(names) > most)])


def printable(text: str) -> str:
    """-> the start of a text from a file or server, safe to print on one line."""
    with suppress(UnicodeEncodeError):  # bytes of a name that the locale could not decode
        text = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return escaped(text[:200])
