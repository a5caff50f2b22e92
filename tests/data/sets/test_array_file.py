"""Arrays of one's own: every format gives the same images, and what does not fit gets one line."""

import contextlib
import errno
import gzip
import io
import os
import re
import zipfile

import numpy as np
import pytest

import minigan as mg
from minigan.data import Batches, load_dataset, to_pixels
from minigan.data.sets import array_file
from minigan.data.sets.array_file import keep_arrays
from minigan.training.config import new_config
from tests.support.pictures import put
from tests.support.refusals import refusal

RNG = np.random.default_rng(0)
GRAY, COLOR = RNG.integers(0, 256, (30, 6, 6), np.uint8), RNG.integers(0, 256, (30, 6, 8, 3), "u1")
LABELS = np.arange(30) % 4 * 2 + 1  # 1, 3, 5, 7


def load(path, shape=(6, 6, 1), limit=None):
    """-> Dataset, and what was said"""
    lines = []
    data = load_dataset("folder", images=path, image_shape=shape, limit=limit, log=lines.append)
    return data, lines


def idx(array):
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    return header + np.ascontiguousarray(array, np.uint8).tobytes()


def csv(images, labels=None, header=False):
    rows = [",".join(map(str, image.ravel())) for image in images]
    if labels is not None:
        rows = [f"{label},{row}" for label, row in zip(labels, rows, strict=True)]
    names = "label," + ",".join(f"pixel{i}" for i in range(36))
    return "\n".join([names] * header + rows)


def save(folder, kind):
    """-> a file of GRAY"""
    path = folder / {"csv": "a.csv", "header": "a.csv", "npz": "a.npz", "keras": "a.npz"}.get(
        kind, "a.npy"
    )
    floats = GRAY.astype("f8") / 255
    arrays = {"npy": GRAY, "image axis": GRAY[..., None], "unit": floats.astype("f4")}
    arrays |= {"signed": 2 * floats - 1, "whole floats": GRAY.astype("f8"), "int64": GRAY + 0}
    arrays["fortran"] = np.asfortranarray(GRAY)
    if kind in arrays:
        np.save(path, arrays[kind].astype("i8") if kind == "int64" else arrays[kind])
        np.save(folder / "a-labels.npy", LABELS)
    elif kind in ("npz", "keras"):
        names = ("images", "labels") if kind == "npz" else ("x_train", "y_train")
        write = np.savez_compressed if kind == "npz" else np.savez
        write(path, **dict(zip(names, (GRAY, LABELS), strict=True)))
    elif kind in ("csv", "header"):
        path.write_text(csv(GRAY, LABELS, kind == "header"))
    else:  # idx, EMNIST
        name = {"idx": "train", "emnist": "emnist-letters-train"}[kind]
        stored = GRAY.transpose(0, 2, 1) if kind == "emnist" else GRAY
        path = folder / f"{name}-images-idx3-ubyte.gz"
        path.write_bytes(gzip.compress(idx(stored)))
        labels = folder / f"{name}-labels-idx1-ubyte.gz"
        labels.write_bytes(gzip.compress(idx(LABELS)))
    return path


COUNTED = ",".join(map(str, range(37))) + "\n"  # the names of columns, as pandas writes them
KINDS = (
    "npy", "image axis", "fortran", "unit", "signed", "whole floats", "int64", "npz", "keras",
    "csv", "header", "idx", "emnist",
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_every_format_gives_the_same_images(kind, tmp_path):
    data, lines = load(save(tmp_path, kind))
    np.testing.assert_array_equal(data.images[..., 0], GRAY)
    assert data.images.dtype == np.uint8
    assert [data.classes[i] for i in data.labels] == [str(label) for label in LABELS]
    assert data.classes == ("1", "3", "5", "7")
    expected = {"unit": "0 is black", "signed": "-1 is black", "whole floats": "255 white"}
    assert len(lines) == (kind in expected or kind == "int64")
    assert expected.get(kind, "") in " ".join(lines)


def test_all_have_one_fingerprint(tmp_path):
    found = set()
    for kind in KINDS:
        (tmp_path / kind).mkdir()
        found.add(load(save(tmp_path / kind, kind))[0].fingerprint)
    assert len(found) == 1


def test_bytes_are_memory_mapped(tmp_path):
    np.save(tmp_path / "a.npy", COLOR)
    data, _ = load(tmp_path / "a.npy", (6, 8, 3))
    base = data.images
    while base is not None and not isinstance(base, np.memmap):
        base = base.base
    assert isinstance(base, np.memmap) and data.labels is None


@pytest.mark.parametrize("stored", ("C", "F"))
@pytest.mark.parametrize("fit", ("crop", "center:6"))
def test_a_file_that_became_shorter_is_an_error_and_no_crash(stored, fit, tmp_path):
    """Reading through a memory map would end the process."""
    images = RNG.integers(0, 256, (3000, 6, 8), np.uint8)
    np.save(tmp_path / "a.npy", np.asarray(images, order=stored))
    shape = (6, 8, 1) if fit == "crop" else (6, 6, 1)
    said = dict(log=lambda line: None)
    data = load_dataset("folder", images=tmp_path / "a.npy", image_shape=shape, fit=fit, **said)
    batches = Batches(data.images, 1000, shuffle="never")
    expected = images if fit == "crop" else images[:, :, 1:7]
    os.truncate(tmp_path / "a.npy", 100)
    with contextlib.suppress(mg.DataError):  # where it is not in memory
        for start in (0, 1000, 2000):
            found = to_pixels(batches.draw()[0])
            np.testing.assert_array_equal(found[..., 0], expected[start : start + 1000])


def test_limit_and_resizing(tmp_path):
    np.savez(tmp_path / "a.npz", images=COLOR, labels=LABELS)
    data, _ = load(tmp_path / "a.npz", (12, 12, 1), limit=7)
    assert data.images.shape == (7, 12, 12, 1)
    assert [data.classes[i] for i in data.labels] == list(map(str, LABELS[:7]))


@pytest.mark.parametrize("separator", "-.")
@pytest.mark.parametrize("packed", ("images", "labels"))
def test_one_of_two_idx_files_may_be_packed(packed, separator, tmp_path):
    for kind, array, d in (("images", GRAY, 3), ("labels", LABELS, 1)):
        content = gzip.compress(idx(array)) if kind == packed else idx(array)
        name = f"train-{kind}{separator}idx{d}-ubyte" + ".gz" * (kind == packed)
        (tmp_path / name).write_bytes(content)
    data, _ = load(next(tmp_path.glob("*images*")))
    np.testing.assert_array_equal(data.images[..., 0], GRAY)
    assert [data.classes[i] for i in data.labels] == list(map(str, LABELS))


def test_one_array_alone_and_strings_as_labels(tmp_path):
    np.savez(tmp_path / "a.npz", whatever=GRAY)
    np.testing.assert_array_equal(load(tmp_path / "a.npz")[0].images[..., 0], GRAY)
    names = np.array(["cat", "dog"])[np.arange(30) % 2]
    np.savez(tmp_path / "b.npz", images=GRAY, labels=names)
    data, _ = load(tmp_path / "b.npz")
    assert data.classes == ("cat", "dog") and list(data.labels[:3]) == [0, 1, 0]


@pytest.mark.parametrize("dtype", ("U2", "S2"))
def test_numbers_in_texts_are_in_the_order_of_their_values(dtype, tmp_path):
    np.savez(tmp_path / "a.npz", images=GRAY, labels=(np.arange(30) % 10 + 1).astype(dtype))
    data, _ = load(tmp_path / "a.npz")
    assert data.classes == tuple(map(str, range(1, 11)))
    np.testing.assert_array_equal(data.labels, np.arange(30) % 10)


def test_what_is_black_is_a_matter_of_all_images(tmp_path):
    images = np.linspace(-1, 1, 5 * 36).reshape(5, 6, 6)[::-1]
    np.save(tmp_path / "a.npy", images)
    first, whole = load(tmp_path / "a.npy", limit=2)[0], load(tmp_path / "a.npy")[0]
    np.testing.assert_array_equal(first.images, whole.images[:2])


def test_nan_is_found_in_every_part(monkeypatch, tmp_path):
    monkeypatch.setattr(array_file, "PART", 10)
    images = GRAY / 255
    images[25] = np.nan
    np.save(tmp_path / "a.npy", images)
    with pytest.raises(mg.DataError, match=r"expected images in 0 .. 255.*got nan"):
        load(tmp_path / "a.npy")


def test_a_folder_of_pictures_may_have_the_name_of_an_array(tmp_path):
    for name in ("a.npy", "x-idx3-ubyte"):
        data, _ = load(put(tmp_path / name, ["1.png", "2.png"]))
        assert len(data.images) == 2


@pytest.mark.parametrize(
    "start", ("", "\ufeff", "\ufefflabel,1x1" + ",1x2" * 35 + "\n", COUNTED, "label" + COUNTED[1:])
)
def test_no_row_of_a_csv_is_lost(start, tmp_path):
    (tmp_path / "a.csv").write_text(start + csv(GRAY, LABELS), "utf-8")
    np.testing.assert_array_equal(load(tmp_path / "a.csv")[0].images[..., 0], GRAY)


@pytest.mark.parametrize("label", ("1.5", '"1"', "#1", "cat", "\N{EM SPACE}"))
def test_labels_of_a_csv_are_whole_numbers(label, tmp_path):
    rows = csv(GRAY, LABELS).split("\n")
    for i in (0, 3):
        wrong = [*rows]
        wrong[i] = label + rows[i][1:]
        (tmp_path / "a.csv").write_text("\n".join(wrong))
        with pytest.raises(
            mg.DataError, match=r"could not convert string|labels that are whole numbers"
        ):
            load(tmp_path / "a.csv")


def test_labels_of_a_csv_may_be_any_whole_numbers(tmp_path):
    (tmp_path / "a.csv").write_text(csv(GRAY, LABELS * 1000 - 2000))
    data, _ = load(tmp_path / "a.csv")
    assert data.classes == ("-1000", "1000", "3000", "5000")
    assert data.labels.tolist() == [0, 1, 2, 3] * 7 + [0, 1]


def test_an_index_that_pandas_wrote_is_no_label(tmp_path):
    header = "," + ",".join(map(str, range(36))) + "\n"
    (tmp_path / "a.csv").write_text(header + csv(GRAY, range(30)))
    message = "its first column has no name: save it with index=False"
    assert message in refusal(load, tmp_path / "a.csv")


def test_a_csv_without_rows_is_one_line(tmp_path, recwarn):
    (tmp_path / "a.csv").write_text(csv([], [], header=True) + "\n")
    assert "expected 37 columns in every row, got (0, 1)" in refusal(load, tmp_path / "a.csv")
    assert not recwarn.list


def test_texts_as_objects_are_refused_with_the_cure(tmp_path):
    labels = np.array(["cat", "dog"] * 15, object)
    kinds = (labels, labels.astype(np.dtypes.StringDType()))
    for each in kinds:
        with pytest.raises(
            mg.ArrayTypeError, match=r"labels: .*: take numpy.asarray\(labels, str\)"
        ):
            keep_arrays(GRAY, each, print)
    np.savez(tmp_path / "a.npz", images=GRAY, labels=labels)
    assert "Python objects: save numpy.asarray(labels, str)" in refusal(load, tmp_path / "a.npz")


def test_labels_in_the_last_column_of_a_csv_are_refused(tmp_path):
    names = ",".join(f"pixel{i}" for i in range(36)) + ",label"
    rows = [f"{row},{i}" for i, row in enumerate(csv(GRAY).split("\n"))]
    (tmp_path / "a.csv").write_text("\n".join([names, *rows]))
    with pytest.raises(mg.DataError, match="expected labels in the first column, got 'pixel0'"):
        load(tmp_path / "a.csv")


def test_pictures_of_a_csv_may_have_no_label(tmp_path):
    (tmp_path / "a.csv").write_text(csv(GRAY))
    data, _ = load(tmp_path / "a.csv")
    np.testing.assert_array_equal(data.images[..., 0], GRAY)
    assert data.labels is None


MISTAKES = {
    "channels first": (GRAY[:, None], r"\(30, 1, 6, 6\) looks channels-first.*transpose"),
    "flat": (GRAY.reshape(30, 36), r"expected images \(n, h, w\), or .*, got \(30, 36\): reshape"),
    "four channels": (np.zeros((3, 5, 5, 4), "u1"), r"expected images .* got \(3, 5, 5, 4\)"),
    "none": (GRAY[:0], r"got \(0, 6, 6, 1\)"),
    "too large": (GRAY * 3.0, r"expected images in 0 .. 255, in \[0, 1\] or in .*, got 0 .."),
    "negative": (GRAY - 300.0, r"expected images in 0 .. 255"),
    "NaN": (np.where(GRAY > 250, np.nan, 0.5), r"expected images in 0 .. 255"),
    "complex": (GRAY + 0j, r"expected images of numbers, got complex128"),
    "text": (np.full((3, 5, 5), "a"), r"expected images of numbers, got <U1"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_arrays_that_do_not_fit(mistake, tmp_path):
    array, message = MISTAKES[mistake]
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(mg.DataError, match=message) as caught:
        load(tmp_path / "a.npy")
    assert str(tmp_path / "a.npy") in str(caught.value) and "\n" not in str(caught.value)


def damaged_files():
    """-> name, content"""
    whole = idx(GRAY)
    yield "a.npy", b""
    yield "a.npy", b"\x93NUMPY\x01\x00\xff\xff{"
    for shape in ((2**63,), (-1, 6, 6), (True, 6, 6)):  # NumPy raises other kinds of errors
        header = io.BytesIO()
        declared = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(header, declared)
        yield "a.npy", header.getvalue() + bytes(36)
    yield "a.npz", b"PK\x03\x04 no archive"
    yield "a.npz", b""
    yield "a.csv", b""
    yield "a.csv", b"label,a,b\n1,2,3"
    yield "a.csv", csv(GRAY, LABELS).encode() + b"\n1,2"
    yield "a.csv", csv(GRAY, LABELS).encode().replace(b",", b",x", 1)
    yield "a.csv", csv(GRAY, LABELS).encode().replace(b",1", b",999", 1)
    yield "train-images-idx3-ubyte", whole[:-1]
    yield "train-images-idx3-ubyte", whole + b"0"
    yield "train-images-idx3-ubyte", b"\x00\x00\x0d\x03" + whole[4:]
    yield "train-images-idx3-ubyte", whole[:4] + b"\xff" * 12
    yield "train-images-idx3-ubyte.gz", gzip.compress(whole, mtime=0)[:-9]


@pytest.mark.parametrize("name, content", list(damaged_files()))
def test_damaged_files_get_one_line(name, content, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(mg.DataError) as caught:
        load(tmp_path / name)
    assert re.match(re.escape(str(tmp_path / name)), str(caught.value))
    assert "\n" not in str(caught.value)


def test_python_objects_are_never_loaded(tmp_path):
    array = np.empty((3, 6, 6), object)
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    np.savez(tmp_path / "b.npz", images=array, allow_pickle=True)
    for name in ("a.npy", "b.npz"):
        with pytest.raises(mg.DataError, match=r"cannot be read as arrays|expected arr"):
            load(tmp_path / name)


def test_a_declared_shape_takes_no_memory(tmp_path):
    header = io.BytesIO()
    shape = {"descr": "|u1", "fortran_order": False, "shape": (2**40, 28, 28)}
    np.lib.format.write_array_header_1_0(header, shape)
    (tmp_path / "a.npy").write_bytes(header.getvalue() + bytes(784))
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as archive:
        archive.write(tmp_path / "a.npy", "images.npy")
    for name in ("a.npy", "b.npz"):
        with pytest.raises(mg.DataError, match="cannot be read as arrays of numbers"):
            load(tmp_path / name)


def test_labels_are_whole_numbers_or_texts(tmp_path):
    np.savez(tmp_path / "a.npz", images=GRAY, labels=LABELS.astype("f4"))
    assert load(tmp_path / "a.npz")[0].classes == ("1", "3", "5", "7")
    for wrong in (np.where(LABELS == 1, np.nan, 2.0), LABELS + 0.5):
        np.savez(tmp_path / "b.npz", images=GRAY, labels=wrong)
        with pytest.raises(mg.DataError, match="expected labels that are whole numbers or texts"):
            load(tmp_path / "b.npz")


def test_labels_of_another_length(tmp_path):
    np.savez(tmp_path / "a.npz", images=GRAY, labels=LABELS[:-1])
    with pytest.raises(mg.DataError, match=r"expected class numbers \(30,\), got \(29,\)"):
        load(tmp_path / "a.npz")


@pytest.mark.parametrize(
    "shape, preset, size, channels",
    (
        ((28, 28), "mnist", "28x28", 1),
        ((32, 30, 3), "color32", "32x30", 3),
        ((48, 80, 3), "image64", "48x80", 3),
        ((96, 96), "image64", "96x96", 1),
    ),
)
def test_the_net_has_the_size_of_the_arrays(shape, preset, size, channels, tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((5, *shape), np.uint8))
    config = new_config({"images": str(tmp_path / "a.npy")})
    assert (config.preset, config.image_size, config.channels) == (preset, size, channels)
    given = new_config({"images": str(tmp_path / "a.npy"), "image_size": "64", "channels": 3})
    assert given.image_shape == (64, 64, 3)


def test_arrays_in_memory_from_python(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    small = dict(width=2, batch_size=4, z_dim=3, threads=1, log=lambda line: None)
    images = RNG.uniform(-1, 1, (20, 8, 8)).astype("f4")
    run = mg.train(images=images, steps=2, out="a", **small)
    assert run.sample(2).shape == (2, 8, 8, 1)
    del images
    assert mg.train(resume="a", steps=3, log=small["log"]).history.metrics["step"][-1] == 3
    labels = np.repeat(np.arange(10), 4)
    images = RNG.integers(0, 256, (40, 28, 28), np.uint8)
    preset = "radford-mnist-conditional"
    run = mg.train(images=images, labels=labels, preset=preset, steps=1, out="b", **small)
    assert run.sample(3, label=2).shape == (3, 28, 28, 1)
    run = mg.train(images=images, labels=labels[:, None], preset=preset, steps=1, out="c", **small)
    assert run.sample(3, label=2).shape == (3, 28, 28, 1)  # labels as Keras has them
    message = "labels: expected a NumPy array of numbers or texts, got list"
    with pytest.raises(mg.ArrayTypeError, match=message):
        mg.train(images=images, labels=[1, 2], **small)


def test_the_shape_of_a_csv_takes_one_row(tmp_path, monkeypatch):
    """Its text takes long to convert, and is converted once: to train on."""
    (tmp_path / "a.csv").write_text(csv(GRAY, LABELS))
    rows, loadtxt = [], np.loadtxt

    def counted(*arguments, **options):
        table = loadtxt(*arguments, **options)
        rows.append(len(table))
        return table

    monkeypatch.setattr(np, "loadtxt", counted)
    assert new_config({"images": str(tmp_path / "a.csv")}).image_shape == (6, 6, 1)
    load(tmp_path / "a.csv")
    assert rows == [1, 30]


def test_arrays_in_memory_are_checked_before_they_are_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for given, message in (
        (dict(images=COLOR.transpose(0, 3, 1, 2)), "images: (30, 3, 6, 8) looks channels-first"),
        (dict(images=GRAY * 3.0), "images: expected images in 0 .. 255"),
        (dict(images=GRAY, labels=LABELS[1:]), "images: expected class numbers (30,), got (29,)"),
    ):
        with pytest.raises(mg.DataError) as caught:
            mg.train(**given, steps=1)
        assert str(caught.value).startswith(message)
    assert list(tmp_path.iterdir()) == []


def test_arrays_in_memory_are_kept_as_bytes(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    lines = []
    file = keep_arrays(GRAY / 255, LABELS, lines.append)
    assert file == keep_arrays(GRAY, LABELS, lines.append)
    assert lines == ["images: float64, 0 .. 1: 0 is black and 1 white"]
    kept = np.load(file)
    assert kept.dtype == np.uint8 and np.array_equal(kept[..., 0], GRAY)
    for rounded in (GRAY / 255 * (1 + 1e-7), GRAY / 255 - 1e-9, GRAY / 127.5 - 1 - 1e-9):
        np.testing.assert_array_equal(np.load(keep_arrays(rounded, LABELS, print)), kept)


def test_the_same_images_with_other_labels_are_kept_in_another_file():
    quiet, others = (lambda line: None), LABELS[::-1]
    files = [keep_arrays(GRAY, labels, quiet) for labels in (LABELS, others)]
    for file, labels in zip(files, (LABELS, others), strict=True):
        data, _ = load(file)
        assert [data.classes[i] for i in data.labels] == list(map(str, labels))


def test_arrays_that_could_not_be_kept_leave_no_file(home, monkeypatch):
    """It would be taken for whole the next time."""

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    message = refusal(keep_arrays, GRAY, LABELS, lambda line: None, kind=mg.RunError)
    assert "No space left on device" in message
    assert not [path for path in home.rglob("*") if path.is_file()]
