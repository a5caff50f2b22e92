"""Small data sets and picture files."""

import io
import struct
import zipfile
import zlib

import numpy as np
from PIL import Image

from minigan.data import Dataset

DIGITS = tuple("0123456789")


def dataset(images: np.ndarray, name: str = "mnist", note: str | None = None) -> Dataset:
    """What load_dataset returns, of these images; labels 0, 1, 2 ... in turn."""
    return Dataset(name, images, np.arange(len(images)) % len(DIGITS), DIGITS, "0" * 16, note)


def noise(count: int, seed: int = 0):
    """-> a replacement for load_dataset: `count` images of noise, in the requested shape."""

    def load_dataset(name, data_dir=None, *, image_shape=(28, 28, 1), **options):
        images = np.random.default_rng(seed).integers(0, 256, (count, *image_shape), np.uint8)
        return dataset(images, "mnist" if name == "auto" else name)

    return load_dataset


def png(value):
    """-> a PNG file of 4x4 pixels in color number `value`; see colors."""
    file = io.BytesIO()
    Image.new("RGB", (4, 4), (value % 256, value // 256, 9)).save(file, "PNG")
    return file.getvalue()


def colors(data):
    """-> the color numbers of the pictures, in order."""
    return [int(image[0, 0, 0]) + 256 * int(image[0, 0, 1]) for image in data.images]


def put(folder, names, start=0):
    """Write a picture for each name, with the color numbers start, start + 1, ... -> folder"""
    for i, name in enumerate(names, start):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(i))
    return folder


def archive(path, names, method=zipfile.ZIP_DEFLATED, start=0):
    """The same as a .zip -> path"""
    with zipfile.ZipFile(path, "w", method) as file:
        for i, name in enumerate(names, start):
            member = zipfile.ZipInfo("x")
            member.filename, member.compress_type = name, method  # whatever the name is
            file.writestr(member, png(i))
    return path


def png_bytes(rows, size, bits, color_type, *chunks):
    """A PNG made by hand: rows of packed numbers, (width, height), and chunks before them."""

    def chunk(kind, content):
        checksum = zlib.crc32(kind + content)
        return struct.pack(">L", len(content)) + kind + content + struct.pack(">L", checksum)

    header = struct.pack(">LLBBBBB", *size, bits, color_type, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    parts = ((b"IHDR", header), *chunks, (b"IDAT", pixels), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)
