"""IDX files, and an MNIST of five pictures."""

import gzip
import hashlib
import struct

import numpy as np

from minigan.data.sets import mnist

SHAPE = (5, 28, 28)
PIXELS = (np.arange(5 * 28 * 28) % 7 * 40).astype(np.uint8).reshape(SHAPE)
LABELS = np.array([3, 1, 4, 1, 5], np.uint8)


def idx_bytes(array, magic=None):
    magic = 0x00000800 + array.ndim if magic is None else magic
    return struct.pack(f">{1 + array.ndim}I", magic, *array.shape) + array.tobytes()


def sha(content):
    return hashlib.sha256(content).hexdigest()


def flipped(content, position):
    """The same with one bit changed."""
    return content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :]


GOOD, GOOD_LABELS = idx_bytes(PIXELS), idx_bytes(LABELS)
SMALL = {
    "train": (
        mnist.IdxFile("train-images-idx3-ubyte", SHAPE, sha(GOOD)),
        mnist.IdxFile("train-labels-idx1-ubyte", (5,), sha(GOOD_LABELS)),
    )
}


def put_idx(folder, images=GOOD, labels=GOOD_LABELS, spelling="{}-idx{}-ubyte"):
    """Write the two files -> folder"""
    folder.mkdir(parents=True, exist_ok=True)
    pack = (lambda content: gzip.compress(content, mtime=0)) if spelling.endswith(".gz") else bytes
    (folder / spelling.format("train-images", 3)).write_bytes(pack(images))
    (folder / spelling.format("train-labels", 1)).write_bytes(pack(labels))
    return folder


def is_the_small_set(loaded):
    images, labels = loaded
    assert images.shape == (5, 28, 28, 1) and images.dtype == np.uint8 and images.flags.c_contiguous
    assert labels.shape == (5,) and labels.dtype == np.uint8
    np.testing.assert_array_equal(images[..., 0], PIXELS)
    np.testing.assert_array_equal(labels, LABELS)
    return True
