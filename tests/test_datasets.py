"""Each published set by its name, from small files in the right format; wrong files give their line."""

import gzip
import hashlib
import io
import pickle
import sys
import tarfile
import tracemalloc
import zipfile

import numpy as np
import pytest
from PIL import Image

import minigan as mg
from minigan.data import DATASETS, Dataset, dataset, load_dataset, load_test
from minigan.data.files.checksums import Published
from minigan.data.files.locations import cache_folder
from minigan.data.sets import celeba, mnist, svhn
from minigan.data.sets import cifar10 as cifar
from tests.test_mnist import LABELS, PIXELS, SHAPE, idx_bytes, sha

IDX = ("mnist", "fashion-mnist", "kmnist")
BELOW = {"mnist": "mnist", "fashion-mnist": "FashionMNIST/raw", "kmnist": "kmnist"}


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A user without data and without network."""

    def no_network(*_, **__):
        raise ConnectionRefusedError(111, "Connection refused")

    for name in ("HOME", "USERPROFILE", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    for name in ("MINIGAN_DATA", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("urllib.request.urlopen", no_network)
    monkeypatch.setattr("minigan.data.files.download.PAUSE", 0)
    return tmp_path / "home"


def refusal(name, *args, kind=mg.DataError, **options):
    """The one line that load_dataset refuses with."""
    with pytest.raises(mg.MiniganError) as caught:
        load_dataset(name, *args, **options)
    assert type(caught.value) is kind and "\n" not in str(caught.value)
    return str(caught.value)


def published(content, name, mirror="https://example.org/"):
    return Published(name, len(content), sha(content), mirror)


# -- MNIST, Fashion-MNIST, KMNIST ---------------------------------------------------------------


def pictures_of(name):
    """Five pictures as bright as those of the set, in the mean."""
    return (
        PIXELS if name == "mnist" else np.full(SHAPE, round(mnist.SETS[name].mean * 255), np.uint8)
    )


def packed(name):
    return [gzip.compress(idx_bytes(array), mtime=0) for array in (pictures_of(name), LABELS)]


@pytest.fixture
def small(monkeypatch):
    """All three sets with five pictures each."""
    for name in IDX:
        files = []
        for content, array, file in zip(
            packed(name), (pictures_of(name), LABELS), mnist.SETS[name].files["train"], strict=True
        ):
            hashes = (
                {"sha256": sha(idx_bytes(array))}
                if name == "mnist"
                else {"packed": (len(content), sha(content))}
            )
            files.append(mnist.IdxFile(file.name, array.shape, **hashes))
        monkeypatch.setitem(
            mnist.SETS, name, mnist.SETS[name]._replace(files={"train": tuple(files)})
        )


def put(folder, name, plain=False):
    folder.mkdir(parents=True, exist_ok=True)
    for content, file in zip(packed(name), mnist.SETS[name].files["train"], strict=True):
        (folder / (file.name if plain else f"{file.name}.gz")).write_bytes(
            gzip.decompress(content) if plain else content
        )
    return folder


def test_the_table_of_the_three_sets():
    for name in IDX:
        the_set = mnist.SETS[name]
        assert len(the_set.classes) == 10 and [file.shape for file in the_set.files["test"]] == [
            (10000, 28, 28),
            (10000,),
        ]
        for file in (*the_set.files["train"], *the_set.files["test"]):
            digest = file.sha256 or file.packed[1]
            assert (
                len(digest) == 64
                and set(digest) <= set("0123456789abcdef")
                and (file.sha256 is None) == (name != "mnist")
            )
    assert (
        len(
            {
                file.packed
                for name in IDX[1:]
                for files in mnist.SETS[name].files.values()
                for file in files
            }
        )
        == 8
    )


@pytest.mark.parametrize("name", IDX)
@pytest.mark.parametrize("plain", (False, True))
def test_idx_sets(name, plain, small, tmp_path, monkeypatch):
    put(tmp_path / "data" / BELOW[name], name, plain)
    put(tmp_path / "own", name, plain)
    for data_dir in (tmp_path / "data", tmp_path / "own"):
        data = load_dataset(name, data_dir)
        np.testing.assert_array_equal(data.images[..., 0], pictures_of(name))
        assert data.name == name and data.labels.tolist() == LABELS.tolist() and data.note is None
        assert data.classes == mnist.SETS[name].classes
    monkeypatch.setenv("MINIGAN_DATA", str(tmp_path / "data"))
    assert load_dataset(name).fingerprint == data.fingerprint


def test_one_is_never_taken_for_another(small, tmp_path, monkeypatch):
    for name in IDX:
        for other in IDX:
            for plain in (False, True):
                folder = put(tmp_path / f"{name}-{other}-{plain}", other, plain)
                if name == other:
                    continue
                line = refusal(name, folder)
                assert str(folder) in line and any(
                    x in line
                    for x in ("another set under the same", "SHA-256 is", "bytes long, expected")
                )
                if name != "mnist" and not plain:
                    title, mirror = mnist.SETS[name].title, mnist.SETS[name].mirrors[0]
                    assert line.endswith(
                        f"put {title}'s own file there, {mirror}train-images-idx3-ubyte.gz"
                    )
    monkeypatch.setenv(
        "MINIGAN_DATA", str(put(tmp_path / "top", "mnist"))
    )  # which the others then leave alone
    assert refusal("kmnist", kind=mg.DataUnavailable).startswith(
        f"KMNIST is not in {tmp_path / 'top'} or "
    )
    assert load_dataset("auto").name == "mnist"


def test_one_flipped_bit_of_a_gzip_file(small, tmp_path):
    folder = put(tmp_path / "data", "kmnist")
    path = folder / "train-labels-idx1-ubyte.gz"
    content = bytearray(path.read_bytes())
    content[4] ^= 1  # the time, which gzip does not care about
    path.write_bytes(content)
    assert refusal("kmnist", folder).startswith(f"{path}: SHA-256 is ")


@pytest.mark.parametrize("name", IDX)
def test_where_idx_sets_come_from(name, small, tmp_path):
    line = refusal(name, tmp_path)
    assert line.startswith(
        f"{tmp_path}: no {mnist.SETS[name].title} here: looked for train-images-idx3-ubyte and train-labels"
    )
    assert str(tmp_path / mnist.SETS[name].below[0]) in line
    line = refusal(name, kind=mg.DataUnavailable)
    assert line.startswith(
        f"{mnist.SETS[name].title} is not in {cache_folder()}; train-images-idx3-ubyte.gz: could not be downloaded"
    )
    assert mnist.SETS[name].mirrors[0] in line and str(cache_folder() / name) in line


class Answer(io.BytesIO):
    """What urlopen gives for a file."""

    length = None


@pytest.mark.parametrize("name", IDX)
def test_downloaded_once(name, small, monkeypatch):
    asked = []

    def serve(request, timeout):
        asked.append(request.full_url)
        return Answer(packed(name)["labels" in request.full_url])

    monkeypatch.setattr("urllib.request.urlopen", serve)
    for _ in range(2):
        np.testing.assert_array_equal(load_dataset(name).images[..., 0], pictures_of(name))
    assert asked == [
        f"{mnist.SETS[name].mirrors[0]}{file.name}.gz" for file in mnist.SETS[name].files["train"]
    ]


def test_a_mirror_with_another_set(small, monkeypatch):
    monkeypatch.setattr(
        "urllib.request.urlopen",
        lambda request, timeout: Answer(packed("fashion-mnist")["labels" in request.full_url]),
    )
    line = refusal("kmnist", kind=mg.DataUnavailable)
    assert "SHA-256 is" in line or "bytes long" in line
    assert not list(cache_folder().rglob("*ubyte*"))


# -- shapes, limits, names ----------------------------------------------------------------------


def test_shapes_and_limits(small, tmp_path):
    put(tmp_path / "mnist", "mnist")
    data = load_dataset("mnist", tmp_path, image_shape=(32, 32, 3), limit=3)
    assert data.images.shape == (3, 32, 32, 3) and data.labels.tolist() == [3, 1, 4]
    theirs = Image.fromarray(PIXELS[2]).resize((32, 32), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(
        data.images[2], np.repeat(np.asarray(theirs)[..., None], 3, axis=2)
    )
    native = load_dataset("mnist", tmp_path)
    assert native.images.shape == (5, 28, 28, 1) and np.array_equal(native.images[..., 0], PIXELS)
    assert load_dataset("mnist", tmp_path, limit=99).fingerprint == native.fingerprint
    left = {"fit": "box:0,0,20,28"}
    others = (
        {},
        {"limit": 4},
        {"image_shape": (28, 28, 3)},
        {"fit": "centre:20"},
        left,
        {**left, "image_shape": (28, 20, 1)},
    )
    prints = [load_dataset("mnist", tmp_path, **options).fingerprint for options in others]
    assert len(set(prints)) == 6 and all(len(each) == 16 for each in prints)


def test_strokes_by_name():
    data = load_dataset("strokes", limit=10)
    images, labels = mg.data.strokes(10)
    np.testing.assert_array_equal(data.images, images)
    assert (
        data.labels.tolist() == labels.tolist()
        and data.name == "strokes"
        and data.classes == tuple("0123456789")
    )


def test_auto(small, tmp_path, monkeypatch):
    monkeypatch.setattr(dataset, "STROKES", 20)
    data = load_dataset("auto")
    assert (
        data.name == "strokes"
        and len(data.images) == 20
        and "NOT on MNIST: MNIST is not in" in data.note
    )
    put(tmp_path / "data", "mnist")
    data = load_dataset("auto", tmp_path / "data")
    assert data.name == "mnist" and data.note is None
    refusal("auto", tmp_path)  # a folder that was named is never replaced by something else
    (tmp_path / "p").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "p" / "1.png")
    assert load_dataset("auto", images=tmp_path / "p", log=lambda line: None).name == "folder"


@pytest.mark.parametrize(
    "name, options, said",
    (
        (
            "cifar",
            {},
            "the data set must be one of auto, mnist, fashion-mnist, kmnist, cifar10, svhn, celeba, folder, strokes, got 'cifar'",
        ),
        (
            "folder",
            {},
            "the data set \"folder\" needs a folder or .zip of pictures, and only it takes one: got 'folder' with None",
        ),
        ("mnist", {"images": "p"}, "got 'mnist' with 'p'"),
        ("strokes", {"fit": "stretch"}, "fit must be crop, squash, centre:SIZE or box:"),
        ("strokes", {"limit": 0}, "limit must be a whole number of at least 1, got 0"),
        (
            "strokes",
            {"image_shape": (28, 28, 4)},
            "image_shape must be (h, w, 1 or 3), got (28, 28, 4)",
        ),
        ("strokes", {"image_shape": (28, 28)}, "image_shape must be"),
        (
            "strokes",
            {"image_shape": (0, 28, 1)},
            "image_shape: each number must be a whole number of at least 1, got 0",
        ),
    ),
)
def test_arguments(name, options, said):
    assert said in refusal(name, kind=mg.ConfigError, **options)


def test_a_box_larger_than_the_pictures():
    assert (
        refusal("strokes", limit=9, kind=mg.ShapeError, fit="centre:108")
        == "a picture of 28x28 is too small for centre:108"
    )


def test_a_dataset_cannot_be_changed():
    data = Dataset("x", PIXELS, None, (), "0", None)
    with pytest.raises(AttributeError):
        data.name = "y"
    assert DATASETS[0] == "auto"


# -- CIFAR-10 -----------------------------------------------------------------------------------

RECORDS = 4


def batch_file(i):
    """-> content of data_batch_i.bin, of test_batch.bin for 0: RECORDS pictures of noise, their labels."""
    rng = np.random.default_rng(i)
    pixels, labels = (
        rng.integers(0, 256, (RECORDS, 32, 32, 3), np.uint8),
        rng.integers(0, 10, RECORDS).astype(np.uint8),
    )
    planes = pixels.transpose(0, 3, 1, 2).reshape(RECORDS, -1)
    return np.concatenate([labels[:, None], planes], axis=1).tobytes(), pixels, labels


def cifar_archive(change=lambda name, content: content):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name in ("readme.html", "test_batch.bin", *reversed(cifar.FILES)):
            content = (
                b"another" * 99
                if "html" in name
                else batch_file(int(name[11]) if "data" in name else 0)[0]
            )
            content = change(name, content)
            if content is not None:
                info = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


@pytest.fixture
def small_cifar(monkeypatch):
    monkeypatch.setattr(cifar, "RECORDS", RECORDS)

    def use(content):
        monkeypatch.setattr(cifar, "ARCHIVE", published(content, cifar.ARCHIVE.name))
        return content

    return use


def is_cifar(data):
    wanted = [batch_file(i) for i in range(1, 6)]
    np.testing.assert_array_equal(data.images, np.concatenate([pixels for _, pixels, _ in wanted]))
    assert data.labels.tolist() == np.concatenate([labels for *_, labels in wanted]).tolist()
    assert data.name == "cifar10" and data.classes == cifar.CLASSES
    return True


SHAPE32 = {"image_shape": (32, 32, 3)}


def test_cifar_from_the_archive_and_from_its_folder(small_cifar, tmp_path, monkeypatch):
    content = small_cifar(cifar_archive())
    (tmp_path / "cifar10").mkdir()
    (tmp_path / "cifar10" / cifar.ARCHIVE.name).write_bytes(content)
    assert is_cifar(load_dataset("cifar10", tmp_path, **SHAPE32))
    assert [path.name for path in (tmp_path / "cifar10").iterdir()] == [
        cifar.ARCHIVE.name
    ]  # nothing was unpacked
    monkeypatch.setenv("MINIGAN_DATA", str(tmp_path))
    assert is_cifar(load_dataset("cifar10", **SHAPE32))
    for folder, data_dir in (
        (tmp_path / "x" / cifar.FOLDER, tmp_path / "x"),
        (tmp_path / "y", tmp_path / "y"),
    ):
        folder.mkdir(parents=True)
        for i, name in enumerate(cifar.FILES, 1):
            (folder / name).write_bytes(batch_file(i)[0])
        assert is_cifar(load_dataset("cifar10", data_dir, **SHAPE32))


def is_cifar_test(data):
    _, pixels, labels = batch_file(0)
    np.testing.assert_array_equal(data[0], pixels)
    assert data[1].tolist() == labels.tolist()
    return True


def test_test_images_of_cifar(small_cifar, tmp_path, monkeypatch):
    """From the archive, or from the folder; where the folder lacks them, from the next place, or the error says so."""
    folder = tmp_path / "x" / cifar.FOLDER
    folder.mkdir(parents=True)
    for i, name in enumerate(cifar.FILES, 1):
        (folder / name).write_bytes(batch_file(i)[0])
    with pytest.raises(
        mg.DataError,
        match=r"looked for cifar-10-binary.tar.gz or cifar-10-batches-bin with test_batch.bin in",
    ):
        cifar.load_cifar10(tmp_path / "x", split="test")
    content = small_cifar(cifar_archive())
    (tmp_path / "x" / cifar.ARCHIVE.name).write_bytes(content)
    assert is_cifar_test(cifar.load_cifar10(tmp_path / "x", split="test"))
    (tmp_path / "x" / cifar.ARCHIVE.name).unlink()
    (folder / "test_batch.bin").write_bytes(batch_file(0)[0])
    assert is_cifar_test(load_test("cifar10", tmp_path / "x", (32, 32, 3), "crop"))
    assert is_cifar(load_dataset("cifar10", tmp_path / "x", **SHAPE32))  # as ever
    small, _ = load_test("cifar10", tmp_path / "x", (16, 16, 1), "crop")
    assert small.shape == (RECORDS, 16, 16, 1)
    (folder / "test_batch.bin").write_bytes(batch_file(0)[0][:-1])
    with pytest.raises(mg.DataError, match=r"test_batch.bin is 12291 bytes long, expected 12292"):
        cifar.load_cifar10(tmp_path / "x", split="test")
    with pytest.raises(mg.ConfigError, match="expected split 'train' or 'test', got 'dev'"):
        cifar.load_cifar10(tmp_path / "x", split="dev")


def test_cifar_is_downloaded(small_cifar, monkeypatch):
    content = small_cifar(cifar_archive())
    asked = []
    monkeypatch.setattr(
        "urllib.request.urlopen",
        lambda request, timeout: asked.append(request.full_url) or Answer(content),
    )
    for _ in range(2):
        assert is_cifar(load_dataset("cifar10", **SHAPE32))
    assert asked == ["https://example.org/cifar-10-binary.tar.gz"]
    assert [path.name for path in (cache_folder() / "cifar10").iterdir()] == [cifar.ARCHIVE.name]


@pytest.mark.parametrize(
    "change, said",
    (
        (
            lambda name, content: content[:-1] if "4" in name else content,
            "data_batch_4.bin is 12291 bytes long, expected 12292",
        ),
        (lambda name, content: None if "2" in name else content, "has no data_batch_2.bin"),
        (
            lambda name, content: b"\x0a" + content[1:] if "3" in name else content,
            "data_batch_3.bin has a label 10, expected 0 to 9",
        ),
    ),
)
def test_cifar_archives_that_are_not_right(change, said, small_cifar, tmp_path):
    (tmp_path / cifar.ARCHIVE.name).write_bytes(small_cifar(cifar_archive(change)))
    assert said in refusal("cifar10", tmp_path, **SHAPE32)


def test_cifar_files_that_are_not_right(small_cifar, tmp_path):
    path = tmp_path / cifar.ARCHIVE.name
    content = small_cifar(cifar_archive())
    path.write_bytes(content[:-5])
    assert f"{path}: is {len(content) - 5} bytes long, expected {len(content)}" in refusal(
        "cifar10", tmp_path, **SHAPE32
    )
    path.write_bytes(content[:-1] + b"\xff")
    assert f"{path}: SHA-256 is" in refusal("cifar10", tmp_path, **SHAPE32)
    path.unlink()
    path.mkdir()
    assert f"{path}: expected a file, got a folder" in refusal("cifar10", tmp_path, **SHAPE32)
    for i, name in enumerate(cifar.FILES, 1):
        (tmp_path / name).write_bytes(batch_file(i)[0] + (b"more" if i == 5 else b""))
    assert "data_batch_5.bin is 12293 bytes long, expected 12292: delete it and fetch" in refusal(
        "cifar10", tmp_path, **SHAPE32
    )


@pytest.mark.parametrize("name", cifar.PICKLES)
def test_pickles_are_refused(name, small_cifar, tmp_path, monkeypatch):
    monkeypatch.setattr(pickle, "load", None)
    (tmp_path / "cifar10").mkdir()
    (tmp_path / "cifar10" / name).write_bytes(pickle.dumps({}))
    line = refusal("cifar10", tmp_path, **SHAPE32)
    assert line.startswith(
        f"{tmp_path / 'cifar10' / name}: is the Python version of CIFAR-10"
    ) and line.endswith("/cifar-10-binary.tar.gz")


def test_where_cifar_comes_from(tmp_path):
    line = refusal("cifar10", tmp_path, **SHAPE32)
    assert line.startswith(
        f"{tmp_path}: no CIFAR-10 here: looked for cifar-10-binary.tar.gz or cifar-10-batches-bin in it and in"
    )
    assert "put https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz there" in line
    line = refusal("cifar10", kind=mg.DataUnavailable, **SHAPE32)
    assert line.startswith(
        f"CIFAR-10 is not in {cache_folder()}; cifar-10-binary.tar.gz: could not be downloaded"
    )
    assert "put the file into" in line


# -- SVHN ---------------------------------------------------------------------------------------


def svhn_file():
    scipy_io = pytest.importorskip("scipy.io")
    pixels = np.random.default_rng(0).integers(0, 256, (7, 32, 32, 3), np.uint8)
    labels = np.array([1, 9, 10, 2, 10, 3, 4], np.uint8)
    file = io.BytesIO()
    scipy_io.savemat(
        file, {"X": pixels.transpose(1, 2, 3, 0), "y": labels[:, None]}, do_compression=True
    )
    return file.getvalue(), pixels, labels % 10


def test_svhn(tmp_path, monkeypatch):
    content, pixels, labels = svhn_file()
    monkeypatch.setattr(svhn, "TRAIN", published(content, svhn.TRAIN.name))
    asked = []
    monkeypatch.setattr(
        "urllib.request.urlopen",
        lambda request, timeout: asked.append(request.full_url) or Answer(content),
    )
    (tmp_path / "svhn").mkdir()
    (tmp_path / "svhn" / svhn.TRAIN.name).write_bytes(content)
    for data_dir in (tmp_path, None):
        data = load_dataset("svhn", data_dir, **SHAPE32)
        np.testing.assert_array_equal(data.images, pixels)
        assert (
            data.images.flags.c_contiguous
            and data.labels.tolist() == labels.tolist()
            and data.classes == tuple("0123456789")
        )
    assert asked == ["https://example.org/train_32x32.mat"]
    (tmp_path / "svhn" / svhn.TRAIN.name).write_bytes(content[:-1] + b"x")
    assert "SHA-256 is" in refusal("svhn", tmp_path, **SHAPE32)


def test_svhn_that_cannot_be_had(tmp_path, monkeypatch):
    pytest.importorskip("scipy.io")
    line = refusal("svhn", tmp_path, **SHAPE32)
    places = f"it and in {tmp_path / 'SVHN'} and in {tmp_path / 'svhn'}"
    assert line.startswith(
        f"{tmp_path}: no SVHN here: looked for train_32x32.mat in {places}: put http://"
    )
    assert "train_32x32.mat: could not be downloaded" in refusal(
        "svhn", kind=mg.DataUnavailable, **SHAPE32
    )


def test_svhn_without_scipy(tmp_path, monkeypatch):
    for name in ("scipy", "scipy.io"):
        monkeypatch.setitem(sys.modules, name, None)
    assert (
        refusal("svhn", tmp_path, **SHAPE32)
        == "SVHN is a MATLAB file, which scipy reads: pip install scipy"
    )


# -- CelebA -------------------------------------------------------------------------------------


def faces():
    """Six faces of 178 x 218, as (name, JPEG)."""
    for i in range(6):
        file = io.BytesIO()
        Image.new("RGB", (178, 218), (i * 40, 0, 0)).save(file, "JPEG")
        yield f"{i + 1:06}.jpg", file.getvalue()


@pytest.fixture
def small_celeba(monkeypatch, tmp_path):
    """-> folder with the .zip, folder with the pictures."""
    monkeypatch.setattr(celeba, "COUNT", 6)
    file = io.BytesIO()
    for folder in (tmp_path / "zip" / "celeba", tmp_path / "folder" / celeba.FOLDER):
        folder.mkdir(parents=True)
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in faces():
            archive.writestr(f"{celeba.FOLDER}/{name}", content)
            (tmp_path / "folder" / celeba.FOLDER / name).write_bytes(content)
    (tmp_path / "zip" / "celeba" / celeba.ARCHIVE.name).write_bytes(file.getvalue())
    monkeypatch.setattr(celeba, "ARCHIVE", published(file.getvalue(), celeba.ARCHIVE.name))
    return tmp_path / "zip", tmp_path / "folder"


def silent(line):
    pass


def test_celeba(small_celeba, tmp_path, monkeypatch):
    (tmp_path / "twice" / celeba.FOLDER).mkdir(parents=True)
    (tmp_path / "twice" / celeba.FOLDER / celeba.FOLDER).symlink_to(small_celeba[1] / celeba.FOLDER)
    for fit in ("crop", "centre:108", "box:14,34,144,184"):
        for data_dir in (*small_celeba, small_celeba[1] / celeba.FOLDER, tmp_path / "twice"):
            data = load_dataset("celeba", data_dir, image_shape=(16, 16, 3), fit=fit, log=silent)
            assert (
                data.name == "celeba"
                and data.images.shape == (6, 16, 16, 3)
                and data.labels is None
                and data.classes == ()
            )
            assert (
                np.abs(data.images[:, 8, 8, 0].astype(int) - [0, 40, 80, 120, 160, 200]).max() <= 2
            )
    monkeypatch.setenv("MINIGAN_DATA", str(small_celeba[0]))
    assert len(load_dataset("celeba", image_shape=(16, 16, 3), limit=4, log=silent).images) == 4


def test_celeba_that_is_not_whole(small_celeba):
    zipped, folder = small_celeba
    (folder / celeba.FOLDER / "000001.jpg").unlink()
    line = refusal("celeba", folder, log=silent)
    assert (
        line
        == f'{folder / celeba.FOLDER}: 5 pictures, CelebA has 6: for a part of it take the data set "folder"'
    )
    path = zipped / "celeba" / celeba.ARCHIVE.name
    content = bytearray(path.read_bytes())
    content[60] ^= 1
    path.write_bytes(content)
    line = refusal("celeba", zipped, log=silent)
    assert line.startswith(f"{path}: SHA-256 is") and line.endswith(
        f"fetch it again from {celeba.PAGE}"
    )


def test_where_celeba_comes_from(tmp_path, home):
    line = refusal("celeba", tmp_path, log=silent)
    assert line.startswith(
        f"{tmp_path}: no CelebA here: looked for img_align_celeba or img_align_celeba.zip"
    )
    assert (
        "no program can download it: fetch img_align_celeba.zip by hand from http" in line
        and line.endswith("and put it there")
    )
    line = refusal("celeba", kind=mg.DataUnavailable, log=silent)
    assert line.startswith(f"CelebA is not in {cache_folder()}: no program") and line.endswith(
        f"put it {cache_folder() / 'celeba'}"
    )


# -- memory -------------------------------------------------------------------------------------


def test_a_set_of_the_right_shape_is_held_once(small, tmp_path, monkeypatch):
    big = np.random.default_rng(0).integers(0, 80, (20_000, 28, 28), np.uint8)
    labels = np.zeros(20_000, np.uint8)
    files = tuple(
        mnist.IdxFile(name, array.shape, sha(idx_bytes(array)))
        for name, array in (("train-images-idx3-ubyte", big), ("train-labels-idx1-ubyte", labels))
    )
    monkeypatch.setitem(mnist.SETS, "mnist", mnist.SETS["mnist"]._replace(files={"train": files}))
    for file, array in zip(files, (big, labels), strict=True):
        (tmp_path / file.name).write_bytes(idx_bytes(array))
    tracemalloc.start()
    try:
        data = load_dataset("mnist", tmp_path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak - data.images.nbytes < 4 << 20
    assert data.fingerprint == load_dataset("mnist", tmp_path).fingerprint
    assert hashlib.sha256(data.images).hexdigest() == sha(big.tobytes())
