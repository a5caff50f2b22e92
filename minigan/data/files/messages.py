"""Parts of error messages about files."""

from pathlib import Path

from minigan.errors import DataError


def unreadable(path: object, error: OSError) -> DataError:
    """-> the error for a file that cannot be read."""
    return DataError(
        f"{path}: cannot be read ({error.strerror or error}): "
        "check that it exists and that you may read it"
    )


def unwritable(path: Path, error: OSError) -> DataError:
    """-> the error for a file in the cache that cannot be written."""
    return DataError(
        f"{path}: cannot be written ({error.strerror or error}): free some space, "
        "check that you may write there, or set XDG_CACHE_HOME to another folder"
    )


def damaged(path: Path, reason: str, cure: str = "") -> DataError:
    """-> the error for a file with wrong content; `cure` says what to do."""
    return DataError(": ".join(filter(None, (str(path), reason, cure))))


def wrong_hash(found: str, expected: str) -> str:
    """-> the reason to reject a file with another SHA-256 than the expected one."""
    return f"SHA-256 is {found[:12]}..., expected {expected[:12]}...: damaged, or another file"


def printable(text: str) -> str:
    """-> the start of a text from a file or server, safe to print on one line."""
    return "".join(c if c.isprintable() else " " for c in text[:200])
