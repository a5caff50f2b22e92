"""Whatever comes: layers and options drawn at random, data files with a few bytes changed.

Every outcome is the right answer, by naive loops, or one of minigan's own errors in one line.
"""

import gzip
import io
import random
import time
import tracemalloc

import numpy as np
import pytest

import minigan as mg
from minigan.data import load_dataset
from minigan.data.files.decode import Unreadable, decode
from minigan.data.files.idx import read_idx
from minigan.data.prepare.resize import parse_fit
from minigan.data.sets import cifar10 as cifar
from minigan.data.sets import mnist
from minigan.presets import MODULES
from minigan.training.config import config_from_record, new_config
from tests.support import reference
from tests.support.damaged_files import little_memory, mutated
from tests.support.long_form import long_form

hypothesis = pytest.importorskip("hypothesis")
st = hypothesis.strategies
QUICK = 150
SETTINGS = dict(
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=list(hypothesis.HealthCheck),
)


def drawn(examples, strategy, test):
    """Run test(value) on so many values of a strategy."""
    hypothesis.settings(max_examples=examples, **SETTINGS)(hypothesis.given(strategy)(test))()


# -- one convolution, against naive loops --------------------------------------------------------

small = st.integers(-1, 6)
size = st.one_of(st.integers(1, 7), small, st.sampled_from((0, 2.5, None, "3", True, 10**20)))
pair = st.one_of(size, st.tuples(size, size), st.lists(size, max_size=3))
padding = st.one_of(
    st.sampled_from(("valid", "same", "full")),
    small,
    st.tuples(small, small),
    st.tuples(st.tuples(small, small), st.tuples(small, small)),
)
convolution = st.fixed_dictionaries(
    dict(
        transposed=st.booleans(),
        channels=size,
        kernel_size=pair,
        stride=st.one_of(st.integers(1, 3), pair),
        padding=padding,
        output_padding=st.one_of(st.just(0), small, st.tuples(small, small)),
        bias=st.booleans(),
        image=st.tuples(st.integers(1, 7), st.integers(1, 7), st.integers(1, 3)),
        n=st.integers(1, 3),
    )
)


def check_convolution(case):
    case = dict(case)
    transposed, n, image, extra = (
        case.pop(name) for name in ("transposed", "n", "image", "output_padding")
    )
    options = {**case, "output_padding": extra} if transposed else case
    try:
        layer = (mg.ConvTranspose2d if transposed else mg.Conv2d)(**options)
        net = mg.Sequential([layer])
        net.setup(
            image, backend=mg.get_backend("numpy", dtype="float64"), rng=np.random.default_rng(0)
        )
    except mg.MiniganError as error:
        assert isinstance(error, (mg.ConfigError, mg.ShapeError)) and "\n" not in str(error)
        return
    rng = np.random.default_rng(1)
    for p in net.params.values():
        p[...] = rng.standard_normal(p.shape)
    x = rng.standard_normal((n, *image))
    y = net.forward(x)
    dy = rng.standard_normal(y.shape)
    net.zero_grads()
    dx = net.backward(dy)
    geometry = layer.kernel_size, layer.stride, layer.padding
    more = (layer.output_padding,) if transposed else ()
    forward = reference.conv_transpose2d_forward if transposed else reference.conv2d_forward
    backward = reference.conv_transpose2d_backward if transposed else reference.conv2d_backward
    W, b = net.params["0.W"], net.params.get("0.b")
    np.testing.assert_allclose(y, forward(x, W, b, *geometry[1:], *more), rtol=1e-9, atol=1e-11)
    wanted = dict(zip(("dx", "dW", "db"), backward(dy, x, W, *geometry[1:], *more), strict=True))
    np.testing.assert_allclose(dx, wanted["dx"], rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(net.grads["0.W"], wanted["dW"], rtol=1e-9, atol=1e-11)
    if b is not None:
        np.testing.assert_allclose(net.grads["0.b"], wanted["db"], rtol=1e-9, atol=1e-11)


# -- stacks of layers, against the same stack on the plain backend -------------------------------

EPS = 0.1  # BatchNorm of a channel that is constant multiplies its rounding errors by 1/√eps, and a stack may hold several

layer = st.one_of(
    st.builds(
        lambda c, k, s, p: lambda: mg.Conv2d(c, k, s, p),
        st.integers(1, 5),
        st.integers(1, 4),
        st.integers(1, 3),
        padding,
    ),
    st.builds(
        lambda c, k, s, p: lambda: mg.ConvTranspose2d(c, k, s, p),
        st.integers(1, 5),
        st.integers(1, 4),
        st.integers(1, 3),
        padding,
    ),
    st.builds(lambda out: lambda: mg.Linear(out), st.integers(1, 9)),
    st.builds(
        lambda gain, bias: lambda: mg.BatchNorm(gain=gain, bias=bias, eps=EPS),
        st.booleans(),
        st.booleans(),
    ),
    st.builds(
        lambda slope: lambda: mg.LeakyReLU(slope),
        st.sampled_from((0, 0.2, 0.99, 1, -0.1, float("nan"))),
    ),
    st.sampled_from((mg.ReLU, mg.Tanh, mg.Sigmoid, mg.Flatten)),
    st.builds(lambda shape: lambda: mg.Reshape(shape), st.tuples(*[st.integers(1, 6)] * 3)),
    st.builds(lambda classes: lambda: mg.AppendLabels(classes), st.sampled_from((3, 3, 3, 2))),
    st.builds(
        lambda made: lambda: mg.Sequential([each() for each in made]),
        st.lists(st.sampled_from((mg.Tanh, lambda: mg.BatchNorm(eps=EPS))), max_size=2),
    ),
)
in_shape = st.sampled_from(((5,), (4, 4, 2), (7, 5, 3), (1, 1, 6), (12,)))
stack = st.tuples(st.lists(layer, min_size=1, max_size=7), in_shape, st.integers(1, 4))


def check_stack(case):
    layers, in_shape, n = case
    results = []
    for backend in (mg.backends.Backend(np, "float64"), mg.get_backend("numpy", dtype="float64")):
        rng = np.random.default_rng(0)
        try:
            net = mg.Sequential([make() for make in layers])
            net.setup(in_shape, backend=backend, rng=rng)
            if max(np.prod(each.out_shape) for each in net.layers) > 5000:
                return
            labels = (
                np.eye(net.store.classes)[np.arange(n) % net.store.classes]
                if net.store.classes
                else None
            )
            net.zero_grads()
            y = net.forward(rng.standard_normal((n, *in_shape)), labels=labels)
            dx = net.backward(rng.standard_normal(y.shape))
            results.append([y, dx, *net.grads.values(), *net.buffers.values()])
        except mg.MiniganError as error:
            assert isinstance(error, (mg.ConfigError, mg.ShapeError)) and "\n" not in str(error)
            results.append(str(error))
    plain, fast = results
    if isinstance(plain, str) or isinstance(fast, str):
        assert plain == fast
        return
    for wanted, found in zip(plain, fast, strict=True):
        np.testing.assert_allclose(
            found, wanted, rtol=1e-7, atol=1e-9 * max(1, np.abs(wanted).max(initial=0))
        )


# -- options -------------------------------------------------------------------------------------

anything = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 10**6),
    st.floats(),
    st.text(max_size=8),
    st.lists(st.integers(), max_size=2),
    st.sampled_from(
        ("mnist", "epoch", "64x64", "0x9", "crop", "box:1,2,3,4", "once", "cupy", "normal", 2**70)
    ),
)
FIELDS = list(vars(new_config({})))
options = st.dictionaries(st.sampled_from(FIELDS), anything, max_size=5)
presets = st.sampled_from(
    [*MODULES, "shibuya-svhn:T1", "jayathilaka-faces:sgd", "mnist:", ":", "x"]
)


def check_options(case):
    given, preset = case
    try:
        new_config({"preset": preset, **given})
    except mg.MiniganError as error:
        assert isinstance(error, mg.ConfigError) and "\n" not in str(error)
    try:
        config_from_record({**vars(new_config({})), **given})
    except mg.MiniganError as error:
        assert isinstance(error, mg.ConfigError)


@pytest.mark.parametrize("count", (QUICK, long_form("examples")))
@pytest.mark.parametrize(
    "strategy, check",
    (
        (convolution, check_convolution),
        (stack, check_stack),
        (st.tuples(options, presets), check_options),
    ),
    ids=("a convolution", "a stack of layers", "options"),
)
def test_at_random(strategy, check, count, many):
    drawn(many(count), strategy, check)


# -- data files ----------------------------------------------------------------------------------


def picture_file(kind, mode, size=(9, 7)):
    from PIL import Image

    memory = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 4), np.uint8)
    Image.fromarray(pixels).convert(mode).save(memory, kind)
    return memory.getvalue()


PICTURES = {
    "JPEG": ("JPEG", "RGB"),
    "grey JPEG": ("JPEG", "L"),
    "CMYK JPEG": ("JPEG", "CMYK"),
    "PNG": ("PNG", "RGBA"),
    "palette PNG": ("PNG", "P"),
    "1-bit PNG": ("PNG", "1"),
    "GIF": ("GIF", "P"),
    "BMP": ("BMP", "RGB"),
    "WebP": ("WEBP", "RGBA"),
}


@pytest.mark.filterwarnings("ignore")  # Pillow's, about odd files
@pytest.mark.parametrize("count", (60, long_form("mutants")))
@pytest.mark.parametrize("kind", PICTURES)
def test_mutated_pictures(kind, count, many, tally):
    try:
        good = picture_file(*PICTURES[kind])
    except (OSError, KeyError):
        pytest.skip("this Pillow does not write it")
    fits = [parse_fit(text) for text in ("crop", "squash", "centre:5", "box:1,1,4,5")]
    rng, slowest = random.Random(kind), 0.0
    with little_memory():
        for _ in range(many(count) // (1 if isinstance(count, int) else len(PICTURES))):
            start = time.perf_counter()
            try:
                picture = decode(
                    io.BytesIO(mutated(good, rng)), (4, 4, rng.choice((1, 3))), rng.choice(fits)
                )
                assert picture.dtype == np.uint8 and picture.shape[:2] == (4, 4)
                tally["read"] += 1
            except Unreadable as error:
                assert "\n" not in str(error)
                tally["Unreadable"] += 1
            slowest = max(slowest, time.perf_counter() - start)
    assert slowest < 2 and tally["Unreadable"], (slowest, tally)


@pytest.mark.parametrize("count", (100, long_form("mutants")))
@pytest.mark.parametrize("packed", (False, True))
def test_mutated_idx_files(packed, count, many, tally, tmp_path):
    """Plain and gzip; without a hash, so that only the format is between the bytes and the array."""
    shape = (5, 4, 3)
    plain = (
        b"\0\0\x08\x03" + b"".join(extent.to_bytes(4, "big") for extent in shape) + bytes(range(60))
    )
    good, rng, path = gzip.compress(plain) if packed else plain, random.Random(0), tmp_path / "x"
    slowest = 0.0
    tracemalloc.start()
    try:
        for _ in range(many(count)):
            path.write_bytes(mutated(good, rng))
            start = time.perf_counter()
            try:
                assert read_idx(path, shape).shape == shape
                tally["read"] += 1
            except mg.DataError as error:
                assert "\n" not in str(error)
                tally["DataError"] += 1
            slowest = max(slowest, time.perf_counter() - start)
        assert tracemalloc.get_traced_memory()[1] < 32 * 2**20
    finally:
        tracemalloc.stop()
    assert slowest < 2 and tally["DataError"]


@pytest.mark.parametrize("count", (40, long_form("mutants")))
def test_mutated_data_sets(count, many, tally, tmp_path, monkeypatch):
    """A CIFAR-10 archive, a .zip of pictures, MNIST's files: each found by its usual name, in a folder that was named."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(cifar, "RECORDS", 2)
    rng, slowest = random.Random(0), 0.0
    batch = bytes(rng.randrange(256) for _ in range(2 * 3073))
    (tmp_path / "c" / "cifar-10-batches-bin").mkdir(parents=True)
    for name in cifar.FILES:
        (tmp_path / "c" / "cifar-10-batches-bin" / name).write_bytes(batch)
    files = {
        tmp_path / "c" / "cifar-10-batches-bin" / cifar.FILES[0]: (
            batch,
            lambda: load_dataset("cifar10", tmp_path / "c", image_shape=(32, 32, 3)),
        ),
        tmp_path / "p.zip": (
            archive_of_pictures(),
            lambda: load_dataset(
                "folder", images=tmp_path / "p.zip", image_shape=(8, 8, 3), log=lambda line: None
            ),
        ),
        tmp_path / "m" / "train-images-idx3-ubyte": (
            b"\0\0\x08\x03" + bytes(60),
            lambda: load_dataset("mnist", tmp_path / "m"),
        ),
    }
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "train-labels-idx1-ubyte").write_bytes(
        b"\0\0\x08\x01\0\0\xea\x60" + bytes(60_000)
    )
    assert mnist.SETS  # so that the set is the one that is meant
    with little_memory():
        for _ in range(many(count) // (1 if isinstance(count, int) else 20)):
            for path, (good, load) in files.items():
                path.write_bytes(mutated(good, rng))
                start = time.perf_counter()
                try:
                    load()
                    tally["read"] += 1
                except mg.DataError as error:
                    assert "\n" not in str(error)
                    tally["DataError"] += 1
                slowest = max(slowest, time.perf_counter() - start)
                path.write_bytes(good)
    assert slowest < 5  # a folder's cache is flushed to the disk


def archive_of_pictures():
    import zipfile

    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as archive:
        for i, kind in enumerate(("JPEG", "PNG", "GIF", "BMP") * 2):
            archive.writestr(f"{'ab'[i % 2]}/{i}.{kind.lower()}", picture_file(kind, "RGB"))
    return memory.getvalue()
