"""Files with something wrong in them."""

import sys
from contextlib import contextmanager

LIMIT = 512 * 2**20  # bytes that a damaged file may take


@contextmanager
def little_memory():
    """Fail if the process grows by more than LIMIT, however briefly. Windows reports nothing."""
    before = peak_memory()
    yield
    assert peak_memory() - before < LIMIT


def peak_memory():
    """-> the largest number of bytes that were resident so far."""
    try:
        import resource
    except ImportError:
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def mutated(data, rng):
    """-> the bytes with a few changes: bits, bytes, runs, cuts, repeats, special numbers."""
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
