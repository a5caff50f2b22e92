"""The IDX format of MNIST, Fashion-MNIST, KMNIST and EMNIST.

A file is plain or gzip-compressed (recognized by its first two bytes, not by its name) and holds,
big-endian:

    byte 0, 1     0 0
    byte 2        element type; 8 is uint8, the only one that is read here
    byte 3        number of dimensions, d
    4 + 4d        d sizes, uint32 each
    the rest      the elements, last dimension fastest

At most one byte more than the expected or declared shape is ever read, and no more than the file
can hold: neither a wrong header nor a gzip bomb can make it use more memory.

Source: Y. LeCun, C. Cortes, C. Burges, "The MNIST database", file formats
"""

import gzip
import hashlib
import os
import struct
import zlib
from math import prod
from pathlib import Path

import numpy as np

from minigan.data.files.messages import as_data_errors, damaged, wrong_hash
from minigan.files import open_regular

GZIP_MAGIC = b"\x1f\x8b"
RATIO = 1032  # no gzip file unpacks to more than this times its bytes


def read_idx(
    path: Path, shape: tuple[int, ...] | int, *, sha256: str | None = None, cure: str = ""
) -> np.ndarray:
    """Read one IDX file of uint8, plain or gzip.

    shape   what the header must say, as (60000, 28, 28); or only its number of dimensions
    sha256  hex digest of the decompressed file, header included; None: not checked
    cure    what an error tells the user to do
    -> uint8 array of the shape, writable
    Raises DataError: missing, unreadable, not IDX, another shape, too short, too long, or another
    hash.
    """
    d = shape if isinstance(shape, int) else len(shape)
    with as_data_errors(path), open_regular(path) as file:
        packed = file.read(2) == GZIP_MAGIC
        held = os.fstat(file.fileno()).st_size * (RATIO if packed else 1)
        file.seek(0)
        try:  # read() takes memory for all that it is asked for
            data = gzip.GzipFile(fileobj=file) if packed else file
            found = data.read(4 + 4 * d)
            if isinstance(shape, int):
                shape = struct.unpack(f">{d}I", found[4:].ljust(4 * d, b"\0"))
            header = bytes([0, 0, 8, d]) + np.array(shape, ">u4").tobytes()
            content = found + data.read(min(prod(shape) + 1, held))
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise damaged(path, str(error), cure) from error
    length = len(header) + prod(shape)
    if found.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        wrong = "is a web page, not data (a login page of the network, or an error page)"
    elif found != header:
        expected = f"{header.hex()} (IDX, uint8, {shape})"
        wrong = f"begins with {found.hex() or 'nothing'}, expected {expected}"
    elif len(content) != length:
        wrong = f"is {'longer' if content[length:] else 'shorter'} than the expected {length} bytes"
    elif sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
        wrong = wrong_hash(hashlib.sha256(content).hexdigest(), sha256)
    else:
        return np.frombuffer(bytearray(content), np.uint8, offset=len(header)).reshape(shape)
    raise damaged(path, wrong, cure)
