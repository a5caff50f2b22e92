"""Your own arrays as a data set: .npy, .npz, .csv and IDX files.

    .npy        images, memory-mapped if they are uint8; labels beside them, in NAME-labels.npy
    .npz        images and labels, by these names or by Keras' (x_train, y_train of its mnist.npz);
                or one array alone
    .csv        a picture a row, as Kaggle has MNIST: label and pixels, with a header or without
    IDX         MNIST's own format, plain or .gz: ...-images-idx3-ubyte, with ...-labels-idx1-ubyte
                beside it. EMNIST's pictures, recognized by name, are stored transposed

Images are (n, h, w), or (n, h, w, 1 or 3) with channels last. Their numbers may be 0 .. 255, or
floats in [0, 1] or [-1, 1]: the smallest and the largest decide which, and the log says it.
Labels (n,) are whole numbers or texts; each different value is a class, in ascending order: numbers
in a text by their value.
"""

import hashlib
import re
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from math import isqrt
from pathlib import Path
from typing import Any

import numpy as np

from minigan.concurrency import without_warnings
from minigan.data.base import Dataset, Limit, Log, fingerprint
from minigan.data.files.decode import Form
from minigan.data.files.idx import read_idx
from minigan.data.files.locations import cache_folder, full_path
from minigan.data.files.messages import UNWRITABLE, as_data_errors, damaged, printable
from minigan.data.files.npz import read_npy_bytes
from minigan.data.prepare.file_index import natural_key
from minigan.data.prepare.resize import fit_arrays
from minigan.errors import ArrayTypeError, DataError
from minigan.files import open_regular, write_atomically

IMAGES, LABELS = ("images", "x_train", "x"), ("labels", "y_train", "y")  # names in an .npz
IDX_NAME = "idx3-ubyte"
PART = 4096  # images converted at a time
NEAR = 0.5 / 255  # a number this far outside of [0, 1] is there by rounding
MOST = 2**35  # numbers in an IDX file or an .npz: far above every published set
Arrays = tuple[np.ndarray, np.ndarray | None]  # images, labels


def is_array_file(path: str | Path) -> bool:
    """Is it a file of arrays, by its name?"""
    name = Path(path).name.lower()
    named = name.endswith((".npy", ".npz", ".csv")) or IDX_NAME in name
    return named and not full_path(path).is_dir()  # folders of pictures may have such names


def load_array_file(path: Path, form: Form, limit: Limit, log: Log) -> Dataset:
    """Load the file -> Dataset. Raises DataError, ShapeError.

    form   what every picture becomes: its size, and how it is resized
    limit  only the first `limit` pictures
    """
    path = full_path(path)
    images, labels = read(path)
    images = as_images(path, images)
    labels = one_each(path, images, labels)
    classes: tuple[str, ...] = ()
    if labels is not None:
        classes, labels = as_classes(path, labels[:limit])
    pixels = as_pixels(path, images, limit, log)
    # pixels in their order: of those in a file, Batches reads through no map
    fitted = np.ascontiguousarray(fit_arrays(pixels, form.shape, form.fit))
    identity = fingerprint(form.shape, hashlib.sha256(fitted.data).hexdigest(), labels)
    return Dataset("folder", fitted, labels, classes, identity)


def shape_of(path: str | Path) -> tuple[int, int, int]:
    """-> (h, w, c) of the images in the file. Raises DataError."""
    file = full_path(Path(path))
    found = as_images(file, read(file, rows=1)[0]).shape
    return found[1], found[2], found[3]


def keep_arrays(images: Any, labels: Any, log: Log) -> Path:
    """Save arrays in the cache, once, images as bytes -> the .npy file, to resume a run from.

    labels  or None
    Raises ArrayTypeError, DataError, and RunError if there is no room.
    """
    given = {"images": images} | ({} if labels is None else {"labels": labels})
    for name, array in given.items():
        is_masked = isinstance(array, np.ma.MaskedArray)  # a file would not keep the mask
        if is_masked or not isinstance(array, np.ndarray) or array.dtype.kind not in "biufcSU":
            kind = type(array).__name__ + ", with labels" * (array is images and len(given) > 1)
            cure = ": take numpy.asarray(labels, str)" * (name == "labels" and not is_masked)
            expected = "expected a NumPy array of numbers or texts"
            raise ArrayTypeError(f"{name}: {expected}, got {kind}{cure}")
    images = as_images("images", images)
    labels = one_each("images", images, labels)
    arrays = {".npy": as_pixels("images", images, None, log)}
    arrays |= {} if labels is None else {"-labels.npy": labels}
    digest = hashlib.sha256()
    for array in arrays.values():
        digest.update(f"{array.dtype} {array.shape} ".encode())
        digest.update(np.ascontiguousarray(array).data)
    folder = cache_folder() / "arrays"
    with as_data_errors(folder, UNWRITABLE):
        folder.mkdir(parents=True, exist_ok=True)
    name = digest.hexdigest()[:16]
    for ending, array in arrays.items():
        file = folder / f"{name}{ending}"
        if not file.exists():
            write_atomically(file, partial(np.save, arr=array, allow_pickle=False))
    return folder / f"{name}.npy"


def read(path: Path, rows: int | None = None) -> Arrays:
    """-> images and labels as they are stored.

    rows  read no more than this many of a .csv, whose text takes long to convert
    """
    name = path.name.lower()
    if name.endswith(".npy"):
        beside = path.with_name(f"{path.stem}-labels.npy")
        return read_npy(path), read_npy(beside) if beside.exists() else None
    if name.endswith(".npz"):
        return read_npz(path)
    return read_csv(path, rows) if name.endswith(".csv") else read_idx_pair(path)


@contextmanager
def errors_as_damage(path: Path) -> Iterator[None]:
    """Raise DataError for a file that NumPy cannot read."""
    with as_data_errors(path):
        try:
            yield
        except (OSError, MemoryError):
            raise
        except Exception as error:  # NumPy lets many kinds through
            reason = printable(" ".join(str(error).split())) or type(error).__name__
            raise damaged(path, f"cannot be read as arrays of numbers ({reason})") from error


def read_npy(path: Path) -> np.ndarray:
    """-> the array, memory-mapped, read only."""
    with errors_as_damage(path), np.errstate(over="ignore"):  # of the size that it declares
        open_regular(path).close()
        array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
        return array


def read_npz(path: Path) -> Arrays:
    """-> images and labels, by their names in the file."""
    with errors_as_damage(path), open_regular(path) as file, zipfile.ZipFile(file) as archive:
        members = {each.filename.removesuffix(".npy"): each for each in archive.infolist()}

        def array(names: Sequence[str]) -> np.ndarray | None:
            member = next((members[name] for name in names if name in members), None)
            return None if member is None else read_npy_bytes(archive.read(member))

        if sum(member.file_size for member in members.values()) > MOST:
            raise ValueError("it declares too many numbers")
        images = array([*members] if len(members) == 1 else IMAGES)
        if images is None:
            found = ", ".join(map(printable, members)) or "nothing"
            raise damaged(path, f"expected arrays images and labels, or x_train, got {found}")
        return images, array(LABELS) if len(members) > 1 else None


def read_csv(path: Path, rows: int | None = None) -> Arrays:
    """-> images and labels: one row a picture, of h·h or h·h·3 numbers, a label before them."""
    with errors_as_damage(path), without_warnings(), open_regular(path) as file:
        columns = file.readline(2**20).decode("utf-8-sig", "replace").strip().split(",")
        last = columns[1:]
        counted = last in [[str(i + start) for i in range(len(last))] for start in (0, 1)]  # pandas
        has_header = counted or not any(map(is_number, last))
        has_label = side_of(len(columns)) is None
        if has_label and side_of(len(columns) - 1) is None:
            got = f"got {len(columns)}"
            raise damaged(path, f"expected a label and h·h or h·h·3 pixels between commas, {got}")
        kinds = [re.sub(r"\d.*", "", name) for name in columns]  # pixel1, pixel2 ..., label
        if has_header and has_label and not counted and kinds[0] == kinds[1]:
            raise damaged(path, f"expected labels in the first column, got {columns[0]!r:.40}")
        if has_header and has_label and not columns[0].strip('"'):  # as pandas writes an index
            raise damaged(path, "its first column has no name: save it with index=False")
        if not has_header:
            file.seek(0)
        text = (line.decode("utf-8-sig", "replace") for line in file)
        options: Any = dict(delimiter=",", ndmin=2, comments=None, max_rows=rows)
        numbers = np.loadtxt(text, np.float32, **options)
    if numbers.shape[1:] != (len(columns),):
        raise damaged(path, f"expected {len(columns)} columns in every row, got {numbers.shape}")
    table = numbers[:, has_label:]
    pixels = table.astype(np.uint8)  # loadtxt's own conversion wraps around in NumPy 2.0
    if not np.array_equal(pixels, table):
        raise damaged(path, "expected pixels that are whole numbers from 0 to 255")
    side = side_of(pixels.shape[1]) or 1
    return pixels.reshape(len(table), side, side, -1), numbers[:, 0] if has_label else None


def is_number(text: str) -> bool:
    """Is a field of a .csv a number, and no name?"""
    return re.fullmatch(r'[ "+-]*\.?\d[\d.eE+-]*[ "]*', text) is not None


def side_of(numbers: int) -> int | None:
    """-> side of a square picture with this many numbers, gray or color; None if there is none."""
    for channels in (1, 3):
        side = isqrt(numbers // channels)
        if side > 1 and side * side * channels == numbers:
            return side
    return None


def read_idx_pair(path: Path) -> Arrays:
    """-> images, and the labels of the file beside them."""
    images = read_idx(path, 3)
    if "emnist" in path.name.lower():
        images = images.transpose(0, 2, 1)
    name = re.sub(r"images(.)idx3", r"labels\1idx1", path.name.removesuffix(".gz"))
    for beside in (path.with_name(name), path.with_name(f"{name}.gz")):
        if "idx3" not in name and beside.exists():
            return images, read_idx(beside, 1)
    return images, None


def one_each(path: Path | str, images: np.ndarray, labels: np.ndarray | None) -> Any:
    """-> labels (n,), one for each image; (n, 1), as Keras has them, or None. Raises DataError."""
    if labels is not None and labels.shape == (len(images), 1):
        labels = labels[:, 0]
    if labels is not None and labels.shape != (len(images),):
        raise DataError(f"{path}: expected class numbers ({len(images)},), got {labels.shape}")
    return labels


def as_images(path: Path | str, images: np.ndarray) -> np.ndarray:
    """-> images (n, h, w, c). Raises DataError for another shape, with the cure."""
    if images.ndim == 3:
        images = images[..., None]
    shape = images.shape
    if images.ndim == 4 and shape[3] not in (1, 3) and shape[1] in (1, 3):
        raise DataError(
            f"{path}: {shape} looks channels-first; minigan is channels-last: "
            "take images.transpose(0, 2, 3, 1)"
        )
    if images.ndim != 4 or shape[3] not in (1, 3) or 0 in shape:
        raise DataError(
            f"{path}: expected images (n, h, w), or (n, h, w, 1 or 3), got {shape}: "
            "reshape them first"
        )
    return images


def as_classes(path: Path, labels: np.ndarray) -> tuple[tuple[str, ...], np.ndarray]:
    """Labels (n,) -> names of the classes, number of each label's (n,). Raises DataError."""
    kind = labels.dtype.kind
    if kind == "S":
        labels = np.char.decode(labels, "utf-8", "backslashreplace")
    elif kind == "f" and np.all(np.abs(labels) < 2**53) and not np.any(labels % 1):
        labels = labels.astype(np.int64)
    elif kind not in "iubU":
        raise DataError(f"{path}: expected labels that are whole numbers or texts")
    values, numbers = np.unique(labels, return_inverse=True)
    names = [str(value) for value in values.tolist()]
    if values.dtype.kind == "U":  # 10 is after 2
        order = sorted(range(len(names)), key=lambda i: natural_key(names[i]))
        names, numbers = [names[i] for i in order], np.argsort(order)[numbers]
    return tuple(map(printable, names)), numbers.astype(np.int32)


def as_pixels(path: Path | str, images: np.ndarray, limit: Limit, log: Log) -> np.ndarray:
    """The first `limit` images, numbers in 0 .. 255, in [0, 1] or in [-1, 1] -> uint8.

    Which of these is a matter of all images. Raises DataError for other numbers.
    """
    if images.dtype == np.uint8:
        return images[:limit]
    if images.dtype.kind not in "fiub":
        raise DataError(f"{path}: expected images of numbers, got {images.dtype}")
    parts = [slice(start, start + PART) for start in range(0, len(images), PART)]
    lowest, highest = float(images.min()), float(images.max())  # NaN if one number is
    if images.dtype.kind in "iu" or (lowest > -NEAR and 1 + NEAR < highest <= 255):
        low, high = 0.0, 255.0
    else:
        low, high = (0.0 if lowest > -NEAR else -1.0), 1.0
    if not (low - NEAR < lowest and highest < high + NEAR):  # NaN neither
        raise DataError(
            f"{path}: expected images in 0 .. 255, in [0, 1] or in [-1, 1], "
            f"got {lowest:g} .. {highest:g}"
        )
    log(f"{path}: {images.dtype}, {lowest:g} .. {highest:g}: {low:g} is black and {high:g} white")
    images = images[:limit]
    pixels = np.empty(images.shape, np.uint8)
    for part in parts:
        pixels[part] = np.rint((images[part].astype(np.float64) - low) * (255 / (high - low)))
    return pixels
