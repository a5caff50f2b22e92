"""The IDX format: MNIST's, and also Fashion-MNIST's, KMNIST's and EMNIST's.

A file is plain or gzip-compressed (told by its first two bytes, not by its
name) and holds, big-endian:

    byte 0, 1     0 0
    byte 2        element type; 8 is uint8, the only one read here
    byte 3        number of dimensions, d
    4 + 4d        d sizes, uint32 each
    the rest      the elements, last dimension fastest

The caller says what must be in the file, and no more than that plus one byte is
ever read: neither a wrong header nor a gzip bomb can make it use more memory.

Source: Y. LeCun, C. Cortes, C. Burges, "The MNIST database", file formats
"""

import gzip
import hashlib
import os
import stat
import zlib
from io import BufferedReader
from pathlib import Path

import numpy as np

from minigan.errors import DataError

CHUNK = 1 << 20  # bytes read, inflated and hashed at a time: 1 MiB
GZIP_MAGIC = b"\x1f\x8b"


class _Damaged(Exception):
    """What is wrong with the file, without its name and without the cure."""


def read_idx(
    path: str | Path,
    shape: tuple[int, ...],
    *,
    sha256: str | None = None,
    name: str | None = None,
    cure: str = "delete it and download it again",
) -> np.ndarray:
    """Read one IDX file of uint8, plain or gzip.

    shape   what the header must say, as (60000, 28, 28)
    sha256  hex digest of the decompressed file, header included; None: not checked
    name    what an error calls the file (default: its path)
    cure    what an error tells the user to do
    -> uint8 array of that shape, writable, owned by the caller
    Raises DataError: missing, unreadable, not IDX, another shape, too short, too
    long, or not the bytes that sha256 stands for.
    """
    try:
        # Asked first: opening a pipe waits for its other end, opening a folder says "permission denied" on Windows.
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise _Damaged(
                f"expected a file, got a {'folder' if Path(path).is_dir() else 'device or pipe'}"
            )
        with open(path, "rb") as file:
            packed = file.read(2) == GZIP_MAGIC
            file.seek(0)
            return _read(gzip.GzipFile(fileobj=file) if packed else file, shape, sha256)
    except _Damaged as error:
        reason = str(error)
    except EOFError:
        reason = "the gzip stream is cut off before its end"
    except (gzip.BadGzipFile, zlib.error) as error:
        reason = f"the gzip stream is damaged ({error})"
    except OSError as error:
        reason, cure = (
            f"cannot be read ({error.strerror or error})",
            "see that it exists and that you may read it",
        )
    raise DataError(": ".join(filter(None, [str(name or path), reason, cure])))


def _read(
    stream: BufferedReader | gzip.GzipFile, shape: tuple[int, ...], sha256: str | None
) -> np.ndarray:
    """The whole of read_idx, from an open binary stream. Raises _Damaged and what gzip raises."""
    header = stream.read(4 + 4 * len(shape))
    _check_header(header, shape)
    array = np.empty(shape, np.uint8)
    rest, done, digest = array.data.cast("B"), 0, hashlib.sha256(header)
    while done < array.size:
        n = stream.readinto(rest[done : done + CHUNK])
        if n == 0:
            raise _Damaged(
                f"ends after {len(header) + done} bytes, expected {len(header) + array.size}"
            )
        digest.update(rest[done : done + n])
        done += n
    # The read past the end also makes gzip compare its checksum.
    if stream.read(1):
        raise _Damaged(
            f"goes on after the {len(header) + array.size} bytes that its header declares"
        )
    if sha256 is not None and digest.hexdigest() != sha256:
        raise _Damaged(
            f"SHA-256 is {digest.hexdigest()[:12]}..., expected {sha256[:12]}...: damaged, or another "
            "data set under the same file name"
        )
    return array


def _check_header(header: bytes, shape: tuple[int, ...]) -> None:
    """Raises _Damaged unless `header` announces uint8 elements in `shape`."""
    magic = bytes([0, 0, 8, len(shape)])
    if not header:
        raise _Damaged("is empty")
    if header.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        raise _Damaged(
            "is a web page, not data (a login page of the network, or an error page of the server)"
        )
    if not header.startswith(magic):
        raise _Damaged(
            f"begins with bytes {header[:4].hex()}, expected {magic.hex()} "
            f"(IDX, uint8, {len(shape)} dimension{'s' * (len(shape) > 1)})"
        )
    if len(header) < 4 + 4 * len(shape):
        raise _Damaged(f"ends after {len(header)} bytes, inside its header")
    sizes = tuple(int.from_bytes(header[i : i + 4], "big") for i in range(4, len(header), 4))
    if sizes != tuple(shape):
        raise _Damaged(f"holds shape {sizes}, expected {tuple(shape)}")
