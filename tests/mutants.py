"""Files with something wrong in them, and the long forms of tests that need many."""

import pytest


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
            data[at : at + 4] = rng.choice((b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"\0\0\0\x80"))
        elif kind == 2:
            del data[at : at + rng.randint(1, 40)]
        elif kind == 3:
            data[at:at] = data[at : at + rng.randint(1, 40)]
        elif kind == 4:
            data[at] = rng.randrange(256)
        else:
            del data[at:]
    return bytes(data)
