"""Files with something wrong in them, and the long forms of tests that need many."""

import sys
from contextlib import contextmanager

import pytest

MOST = 512 * 2**20  # bytes that a damaged file may take


@contextmanager
def little_memory():
    """Fails where the process grows by more than MOST, however briefly. (Windows does not tell.)"""
    before = largest()
    yield
    assert largest() - before < MOST


def largest():
    """-> bytes that were resident at most so far"""
    try:
        import resource
    except ImportError:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
        1 if sys.platform == "darwin" else 1024
    )


def long_form(option):
    """-> the long form of a test, as long as the option says"""
    return pytest.param(option, marks=[pytest.mark.long, pytest.mark.slow])


def mutated(data, rng):
    """-> the bytes with a few changes: bits, bytes, runs of them, cuts, repeats, numbers of note."""
    data = bytearray(data)
    for _ in range(rng.randint(1, 6)):
        if not data:
            break
        at, kind = rng.randrange(len(data)), rng.randrange(6)
        if kind == 0:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data[at : at + 4] = rng.choice(
                (b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"\0\0\0\x80")
            )
        elif kind == 2:
            del data[at : at + rng.randint(1, 40)]
        elif kind == 3:
            data[at:at] = data[at : at + rng.randint(1, 40)]
        elif kind == 4:
            data[at] = rng.randrange(256)
        else:
            del data[at:]
    return bytes(data)
