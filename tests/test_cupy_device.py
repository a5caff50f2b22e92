"""The CuPy backend on the device: on the GPU where there is one, else on the strict stand-in for it.

Exact is what NumPy computes in float64 by the definitions alone, on the same numbers. Whatever the backend has in the place of
a definition is looked up in its own table, `backend.faster`: an operation that no case here comes to is a failure.
    python -m pytest tests/test_cupy_device.py
With MINIGAN_GPU=1 in the environment a machine without a GPU fails.
"""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

import minigan as mg
from minigan.averaging import approach
from minigan.arrays import Backend
from minigan.backends.fusion import see_parts
from minigan.backends.gpu import nearest as cupy_neighbours
from minigan.backends.gpu.batchnorm import in_parts
from minigan.backends.gpu.blocks import Block
from minigan.data import Batches
from minigan.data.files.npz import load_arrays, pack, save_arrays, unpack
from minigan.evaluation.neighbors import nearest
from minigan.gan import Rules, play_round
from minigan.layers import sequential
from minigan.losses import bce_with_logits, mean_sigmoid
from minigan.optimizers import length
from minigan.training.config import new_config
from minigan.training.game import Game

LIMITS = {"fp32": 1e-5, "tf32": 1e-3}  # of the error, relative to the length of what is exact


def exact():
    return Backend(np, "float64")


def expect_close(found, wanted, limit, what):
    assert found.shape == wanted.shape, what
    off = np.linalg.norm(found.astype(np.float64) - wanted) / max(np.linalg.norm(wanted), 1e-30)
    assert off < limit, f"{what}: off by {off:.1e}"  # also where it is NaN


def bits(results):
    return {name: array.tobytes() for name, array in results.items()}


# -- primitives -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", LIMITS)
def test_gemm(precision, make_cupy):
    """Every form that layers ask for: either operand transposed, added to what is there; sizes odd, one, and of whole tiles."""
    backend, rng = make_cupy(precision=precision), np.random.default_rng(0)
    for m, k, n in (
        (1, 1, 1),
        (1, 7, 3),
        (5, 1, 4),
        (33, 17, 9),
        (64, 128, 32),
        (127, 65, 31),
        (130, 257, 129),
    ):
        a, b, start = (
            rng.standard_normal(shape).astype(np.float32) for shape in ((m, k), (k, n), (m, n))
        )
        forms = (
            {"a": (a, False), "aT": (a.T.copy(), True)},
            {"b": (b, False), "bT": (b.T.copy(), True)},
        )
        for name_a, (held_a, turned_a) in forms[0].items():
            for name_b, (held_b, turned_b) in forms[1].items():
                for accumulate in (False, True):
                    seen = []
                    for _ in range(3):
                        left, right = backend.asarray(held_a), backend.asarray(held_b)
                        out = backend.asarray(start if accumulate else np.full_like(start, np.nan))
                        backend.gemm(
                            left.T if turned_a else left,
                            right.T if turned_b else right,
                            out=out,
                            accumulate=accumulate,
                        )
                        seen.append(backend.to_host(out))
                    wanted = a.astype(np.float64) @ b.astype(np.float64) + (
                        start if accumulate else 0
                    )
                    what = f"{name_a} {name_b} {m} {k} {n}, accumulate {accumulate}"
                    expect_close(seen[0], wanted, LIMITS[precision], what)
                    assert len({each.tobytes() for each in seen}) == 1, (
                        f"{what}: not the same at every run"
                    )


def random_geometry(rng):
    """-> x shape, kernel, stride, padding, output size."""
    while True:
        n, h, w, c = (int(rng.integers(1, high)) for high in (4, 14, 14, 6))
        kernel, stride = (tuple(rng.integers(1, high, 2).tolist()) for high in (6, 4))
        padding = tuple(tuple(rng.integers(0, 4, 2).tolist()) for _ in range(2))
        out = tuple(
            (size + sum(pad) - k) // s + 1
            for size, pad, k, s in zip((h, w), padding, kernel, stride, strict=True)
        )
        if all(size + sum(pad) >= k for size, pad, k in zip((h, w), padding, kernel, strict=True)):
            return (n, h, w, c), kernel, stride, padding, out


@pytest.mark.parametrize("dtype", ("float32", "float64"))
def test_im2col_and_col2im(dtype, make_cupy):
    """Copies are exact; sums of a window's copies are to rounding. Nothing of what was in the memory before stays."""
    backend, plain, rng = make_cupy(dtype), exact(), np.random.default_rng(1)
    for _ in range(40):
        x_shape, kernel, stride, padding, out = random_geometry(rng)
        x, c = (
            rng.standard_normal(x_shape).astype(dtype),
            rng.standard_normal((x_shape[0], *out, *kernel, x_shape[3])).astype(dtype),
        )
        wanted_cols, wanted_x = plain.empty(c.shape), plain.empty(x.shape)
        plain.im2col(x.astype(np.float64), wanted_cols, stride, padding)
        plain.col2im(c.astype(np.float64), wanted_x, stride, padding)
        seen = []
        for _ in range(3):
            cols, folded = (backend.asarray(np.full(shape, np.nan)) for shape in (c.shape, x.shape))
            backend.im2col(backend.asarray(x), cols, stride, padding)
            backend.col2im(backend.asarray(c), folded, stride, padding)
            seen.append((backend.to_host(cols), backend.to_host(folded)))
        np.testing.assert_array_equal(seen[0][0], wanted_cols)
        expect_close(seen[0][1], wanted_x, LIMITS["fp32"], f"{x_shape} {kernel} {stride} {padding}")
        assert len({folded.tobytes() for _, folded in seen}) == 1


@pytest.mark.parametrize("dtype", ("float32", "float64"))
def test_numbers_of_philox_are_those_of_its_twin(dtype, make_cupy):
    """Uniform ones bit by bit; normal ones to the last bit of a logarithm and a sine. Others at each call, the same at the same step."""
    device, host = make_cupy(dtype), mg.get_backend("numpy", dtype=dtype)
    drawn = []
    for backend in (device, host, device):
        philox = backend.philox(2**40 + 3, stream=2)
        uniform, more, normal = (
            backend.empty((33, 5)),
            backend.empty((33, 5)),
            backend.empty((7, 3)),
        )
        philox.uniform(uniform), philox.uniform(more), philox.normal(normal)
        drawn.append([backend.to_host(array) for array in (uniform, more, normal)])
    for found, wanted, again in zip(*drawn, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=0 if found.shape == (33, 5) else 1e-6)
        assert found.tobytes() == again.tobytes()
    assert not np.array_equal(drawn[0][0], drawn[0][1])


def test_numbers_are_those_that_numpy_draws(make_cupy):
    drawn = []
    for backend in (make_cupy(), mg.get_backend("numpy")):
        out = backend.empty((7, 5))
        backend.fill_uniform(np.random.default_rng(1), out)
        drawn.append(backend.to_host(out))
    np.testing.assert_array_equal(*drawn)


# -- operations -------------------------------------------------------------------------------------------


def same(kernel_size, stride=2):
    return dict(kernel_size=kernel_size, stride=stride, padding="same")


LAYERS = {  # in_shape, layers: each operation at sizes odd, one, and as they are in the nets
    "linear": ((19,), lambda: [mg.Linear(7)]),
    "linear, tile": ((100,), lambda: [mg.Linear(64, bias=False), mg.BatchNorm(), mg.Tanh()]),
    "vectors to images": (
        (10,),
        lambda: [mg.Linear(3 * 3 * 8), mg.Reshape((3, 3, 8)), mg.BatchNorm(), mg.Tanh()],
    ),
    "k5 s2 same": ((7, 7, 8), lambda: [mg.Conv2d(12, **same(5))]),
    "k4 s2 p1": ((8, 8, 4), lambda: [mg.Conv2d(8, 4, 2, 1, bias=False), mg.BatchNorm(), mg.Tanh()]),
    "k4 s2 p1, uneven": (
        (9, 5, 3),
        lambda: [mg.Conv2d(7, 4, 2, 1, bias=False), mg.BatchNorm(gain=False), mg.Sigmoid()],
    ),
    "k3 s1": ((6, 5, 5), lambda: [mg.Conv2d(4, 3, 1, 1), mg.Tanh()]),
    "one channel in": ((14, 14, 1), lambda: [mg.Conv2d(16, **same(5)), mg.Tanh()]),
    "three channels in": ((12, 12, 3), lambda: [mg.Conv2d(16, 4, 2, 1), mg.Tanh()]),
    "whole image to three numbers": ((7, 7, 6), lambda: [mg.Conv2d(3, 7), mg.Flatten()]),
    "stride above the kernel": ((8, 9, 2), lambda: [mg.Conv2d(3, 2, 3)]),
    "transposed k5 s2 same": (
        (4, 4, 12),
        lambda: [mg.ConvTranspose2d(8, **same(5), bias=False), mg.BatchNorm(), mg.Tanh()],
    ),
    "transposed k4 s2 p1": ((4, 5, 8), lambda: [mg.ConvTranspose2d(6, 4, 2, 1)]),
    "transposed to one channel": ((7, 7, 8), lambda: [mg.ConvTranspose2d(1, **same(5)), mg.Tanh()]),
    "transposed to three channels": (
        (8, 8, 8),
        lambda: [mg.ConvTranspose2d(3, 4, 2, 1), mg.Tanh()],
    ),
    "transposed from one pixel": (
        (1, 1, 20),
        lambda: [mg.ConvTranspose2d(8, 4, bias=False), mg.BatchNorm(bias=False)],
    ),
    "transposed, odd ways": (
        (3, 4, 5),
        lambda: [mg.ConvTranspose2d(6, (3, 5), (2, 3), ((1, 0), (2, 1)), output_padding=(1, 2))],
    ),
    "normalised alone": ((5, 3, 7), lambda: [mg.BatchNorm()]),
    "normalised vectors": ((33,), lambda: [mg.BatchNorm(gain=False, bias=False)]),
    "relu": ((17,), lambda: [mg.ReLU()]),
    "leaky relu": ((3, 3, 5), lambda: [mg.LeakyReLU(0.2)]),
    "sigmoid": ((17,), lambda: [mg.Sigmoid()]),
    "tanh": ((4, 3, 3), lambda: [mg.Tanh()]),
}
IN_FP32 = {  # where rounding decides on which side of 0 a number is, a ReLU's gradient jumps; and one number may be nearly 0
    "linear, relu": ((12,), lambda: [mg.Linear(9, bias=False), mg.BatchNorm(), mg.ReLU()]),
    "k5, leaky relu": (
        (7, 7, 4),
        lambda: [mg.Conv2d(8, **same(5), bias=False), mg.BatchNorm(), mg.LeakyReLU(0.2)],
    ),
    "one channel in, leaky relu": (
        (14, 14, 1),
        lambda: [mg.Conv2d(8, **same(5)), mg.LeakyReLU(0.2)],
    ),
    "whole image to one number": ((7, 7, 6), lambda: [mg.Conv2d(1, 7), mg.Flatten()]),
    "transposed, relu": (
        (4, 4, 8),
        lambda: [mg.ConvTranspose2d(4, 4, 2, 1, bias=False), mg.BatchNorm(), mg.ReLU()],
    ),
}
ALL = LAYERS | IN_FP32


def build(name, backend, fused=True):
    in_shape, layers = ALL[name]
    if not fused:
        backend.faster.pop(sequential.plan, None)
    net = mg.Sequential(layers(), name=name)
    net.setup(in_shape, backend=backend, rng=np.random.default_rng(3))
    for i, array in enumerate(net.params.values()):
        if array.ndim == 1:  # biases and gains too at values that matter
            array[...] = backend.asarray(
                np.random.default_rng([4, i]).normal(0.5, 0.5, array.shape).astype(np.float32)
            )
    return net


def poison(net):
    """NaN into all memory that the next forward pass must write before it is read."""
    for memory in (
        net.backend.workspace,
        net.memory,
        *(part.memory for part in (*net.layers, *net.steps) if hasattr(part, "memory")),
    ):
        for array in memory.memory.values():
            if array.dtype.kind == "f":
                array.fill(np.nan)


def play(net, n, train):
    """Forward, and backward in each way that a GAN asks for -> name -> host array."""
    rng, host, buffers = np.random.default_rng([5, n]), net.backend.to_host, dict(net.buffers)
    x, dy = (
        net.backend.asarray(rng.standard_normal((n, *shape)).astype(np.float32))
        for shape in (net.in_shape, net.out_shape)
    )
    kept = {name: buffer.copy() for name, buffer in buffers.items()}
    net.zero_grads()
    poison(net)
    found = {"y": net.forward(x, train=train), "dx": net.backward(dy)}
    net.backward(dy, need_dx=False)
    found["dx alone"] = net.backward(dy, need_dw=False)
    found |= net.grads | net.buffers
    found = {name: host(array).copy() for name, array in found.items()}
    for name, buffer in buffers.items():
        buffer[...] = kept[name]
    return found


def joined(found):
    """Gradients and statistics of all layers, as one array."""
    images = {name: array for name, array in found.items() if "." not in name}
    rest = [array.ravel() for name, array in found.items() if "." in name]
    return {**images, "gradients and statistics": np.concatenate(rest)} if rest else images


def counted(backend, counts):
    """Each operation of the backend's table says that it was called."""
    for definition, operation in list(backend.faster.items()):

        def called(*arguments, operation=operation, definition=definition, **options):
            counts[definition] += 1
            return operation(*arguments, **options)

        backend.faster[definition] = called
    return backend


@pytest.mark.parametrize(
    "name, precision", [(name, "fp32") for name in ALL] + [(name, "tf32") for name in LAYERS]
)
def test_layers(name, precision, make_cupy):
    """Alone and fused, in training and sampling mode, in batches of odd sizes; three runs give the same bits."""
    wanted_net = build(name, exact())
    for fused in (False, True):
        net = build(name, make_cupy(precision=precision), fused)
        for n, train in (
            (17, True),
            (9, True),
            (6, False),
            *([(1, False)] if precision == "fp32" else []),
        ):
            wanted, seen = (
                play(wanted_net, n, train),
                [play(net, n, train) for _ in range(3 if n == 17 else 1)],
            )
            if precision == "tf32":  # so much rounding is even only over many numbers
                wanted, seen = joined(wanted), [joined(each) for each in seen]
            for what, array in wanted.items():
                expect_close(
                    seen[0][what],
                    array,
                    LIMITS[precision],
                    f"{what}, n {n}, train {train}, fused {fused}",
                )
            assert all(bits(each) == bits(seen[0]) for each in seen)


@pytest.mark.parametrize("precision", LIMITS)
@pytest.mark.parametrize(
    "name",
    ("k4 s2 p1", "k4 s2 p1, uneven", "one channel in", "linear, tile", "transposed k5 s2 same"),
)
def test_two_batches_in_one_pass(name, precision, make_cupy):
    """As D takes real images and fakes: statistics of each half on its own, gradients of both together."""
    plain, net, n = build(name, exact()), build(name, make_cupy(precision=precision)), 9
    assert see_parts(net.steps, Block)
    rng, host = np.random.default_rng(12), net.backend.to_host
    x, dy = (
        rng.standard_normal((2 * n, *shape)).astype(np.float32)
        for shape in (net.in_shape, net.out_shape)
    )
    wanted = {"y": []}
    for half in (slice(n), slice(n, 2 * n)):
        wanted["y"].append(plain.forward(x[half].astype(np.float64)))
        plain.backward(dy[half].astype(np.float64), need_dx=False)
    wanted = {"y": np.concatenate(wanted["y"]), **plain.grads, **plain.buffers}
    seen, first = [], {key: buffer.copy() for key, buffer in net.buffers.items()}
    for _ in range(3):
        for key, buffer in net.buffers.items():
            buffer[...] = first[key]
        net.zero_grads()
        poison(net)
        with in_parts(net.backend, 2):
            y = net.forward(net.backend.asarray(x))
        net.backward(net.backend.asarray(dy), need_dx=False)
        seen.append(
            {key: host(array).copy() for key, array in {"y": y, **net.grads, **net.buffers}.items()}
        )
    for what, array in joined(wanted).items():
        expect_close(joined(seen[0])[what], array, LIMITS[precision], what)
    assert bits(seen[0]) == bits(seen[1]) == bits(seen[2])


OPTIMIZERS = {
    "Adam": lambda net: mg.Adam(net, 0.01),
    "Adam, eps hat": lambda net: mg.Adam(net, 0.01, eps=0.1, eps_hat=True, l2=0.1),
    "SGD": lambda net: mg.SGD(net, 0.01),
    "SGD, Nesterov": lambda net: mg.SGD(net, 0.01, momentum=0.9, nesterov=True, l2=0.1),
    "RMSprop": lambda net: mg.RMSprop(net, 0.01),
}


def five_steps(backend, optimizer):
    """-> how far each parameter went, and the moments."""
    net = build("linear", backend)
    first, made = backend.to_host(net.store.flat_params).copy(), OPTIMIZERS[optimizer](net)
    for step in range(5):
        gradient = np.random.default_rng([6, step]).standard_normal(first.shape).astype(np.float32)
        net.store.flat_grads[...] = backend.asarray(gradient)
        made.step()
    moments = {
        name: backend.to_host(array) for name, array in made.state().items() if name != "steps"
    }
    return {"change": backend.to_host(net.store.flat_params) - first, **moments}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_optimizers(optimizer, make_cupy):
    wanted, seen = (
        five_steps(exact(), optimizer),
        [five_steps(make_cupy(), optimizer) for _ in range(3)],
    )
    for what, array in wanted.items():
        expect_close(seen[0][what], array, LIMITS["fp32"], what)
    assert bits(seen[0]) == bits(seen[1]) == bits(seen[2])


@pytest.mark.parametrize("levels", (256, 2))  # with two grey levels there are many ties
@pytest.mark.parametrize(
    "d", (3, 1024, 1025)
)  # the last is more than float32 can do: then the definition does it
def test_nearest_pictures_are_those_of_the_definition(d, levels, make_cupy, monkeypatch):
    """In one tile and in several, of fewer pictures than strips and of more; far ones at the edge of what float32 holds."""
    backend, rng = make_cupy("float32"), np.random.default_rng(0)
    queries = rng.integers(0, 256 if levels == 256 else 2, (9, d, 1, 1), dtype=np.uint8)
    queries[0] = 255
    find = backend.implementation(Nearest)(queries, backend)
    other = backend.implementation(Nearest)(
        queries[::-1].copy(), backend
    )  # whose memory is its own
    assert find.by_device == (d <= 1024)
    for n, tile in ((1, 150), (30, 150), (150, 150), (150, 70)):
        monkeypatch.setattr(cupy_neighbours, "TILE", 9 * 4 * tile)
        corpus = rng.integers(0, levels, (n, d, 1, 1), dtype=np.uint8)
        corpus[n // 2] = 0
        wanted, order = nearest(queries, corpus)
        for distances, indices in (
            find.among(corpus),
            [found[::-1] for found in other.among(corpus)],
        ):
            assert distances.dtype == np.float64 and indices.dtype == np.int64
            np.testing.assert_array_equal(distances, wanted[:, 0])
            np.testing.assert_array_equal(indices, order[:, 0])
    with pytest.raises(mg.ShapeError, match="of the same shape"):
        find.among(corpus[:, :-1])


def test_nearest_by_tensor_cores_is_left_to_the_definition(make_cupy):
    queries = np.zeros((2, 5), np.uint8)
    assert not cupy_neighbours.DeviceNearest(
        queries, mg.get_backend("cupy", precision="tf32")
    ).by_device


def verdict(backend):
    """-> losses against soft and hard targets, clipped or not, with their gradients; the mean probability; the length of a
    gradient; an average that takes it in."""
    logits = backend.asarray(np.random.default_rng(7).normal(0, 20, (37, 1)).astype(np.float32))
    gradient = backend.asarray(np.random.default_rng(7).standard_normal(4099).astype(np.float32))
    mean_of, length_of = backend.implementation(mean_sigmoid), backend.implementation(length)
    found = {"probability": mean_of(logits, backend), "length": length_of(gradient, backend)}
    found["average"] = backend.asarray(np.arange(4099) / 100)
    backend.implementation(approach)(found["average"], gradient, 0.3, backend)
    for target in (0, 0.9, 1):
        for limit in (None, 15.0):
            loss, dlogits = bce_with_logits(logits, target, limit=limit, backend=backend)
            found |= {f"loss, {target}, {limit}": loss, f"dlogits, {target}, {limit}": dlogits}
    return {name: np.asarray(backend.to_host(array)).copy() for name, array in found.items()}


def test_losses_and_lengths(make_cupy):
    wanted, seen = verdict(exact()), [verdict(make_cupy()) for _ in range(3)]
    for what, array in wanted.items():
        expect_close(seen[0][what], array, LIMITS["fp32"], what)
    assert bits(seen[0]) == bits(seen[1]) == bits(seen[2])


# -- the game ---------------------------------------------------------------------------------------------


@pytest.fixture
def smooth(monkeypatch):
    """Games with a Tanh for each ReLU: else a jump of its gradient, by rounding, is all that one sees after some steps."""

    def get(name):
        preset = mg.presets.get_preset(name)

        def without_kinks(layers):
            return lambda *arguments: [
                mg.Tanh() if isinstance(layer, (mg.ReLU, mg.LeakyReLU)) else layer
                for layer in layers(*arguments)
            ]

        return replace(
            preset,
            generator=without_kinks(preset.generator),
            discriminator=without_kinks(preset.discriminator),
        )

    monkeypatch.setattr("minigan.training.loop.get_preset", get)


def small(backend, preset):
    """-> Game, Batches of random images: three whole ones in an epoch."""
    game = Game(new_config(dict(preset=preset, width=4, batch_size=8, backend=backend)))
    images = np.random.default_rng(8).integers(0, 256, (24, *game.config.image_shape), np.uint8)
    return game, Batches(images, 8, [0, 4], pixel_min=game.preset.pixel_min)


PRESETS = ("mnist", "fredriksson-mnist", "color32", "tensorflow-mnist")


@pytest.mark.parametrize("preset", PRESETS)
def test_ten_steps_are_those_of_the_numpy_backend(preset, make_cupy, smooth):
    make_cupy()
    losses = []
    for backend in ("numpy", "cupy"):
        game, batches = small(backend, preset)
        losses.append([list(game.read(game.round(batches)).values()) for _ in range(10)])
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-3)


def test_every_faster_operation_was_held_against_its_definition(make_cupy):
    """The cases above come to all that the backend has of its own."""
    counts = Counter()
    for fused in (False, True):
        for name in ALL:
            net = build(name, counted(make_cupy(), counts), fused)
            play(net, 2, True), play(net, 2, False)
    for optimizer in OPTIMIZERS:
        five_steps(counted(make_cupy(), counts), optimizer)
    verdict(counted(make_cupy(), counts))
    few, backend = np.zeros((2, 3), np.uint8), counted(make_cupy(), counts)
    backend.implementation(Nearest)(few, backend).among(few)
    D = build(
        "k4 s2 p1", counted(make_cupy(), counts)
    )  # with both batches at once: test_two_batches_in_one_pass, test_cupy_fused.py
    images = [D.backend.asarray(np.ones((3, *D.in_shape))) for _ in range(2)]
    D.backend.implementation(mg.gan.update_discriminator)(D, mg.Adam(D, 1e-3), *images)
    untested = [
        f"{definition.__module__}.{definition.__qualname__}"
        for definition in make_cupy().faster
        if not counts[definition]
    ]
    assert not untested


@pytest.mark.parametrize(
    "name",
    (
        "k5, leaky relu",
        "one channel in",
        "transposed, relu",
        "transposed to one channel",
        "vectors to images",
    ),
)
def test_gradients_in_float64(name, make_cupy):
    net = build(name, make_cupy("float64"))
    x = net.backend.asarray(np.random.default_rng(9).standard_normal((3, *net.in_shape)))
    assert mg.check_gradients(net, x, directions=2)


@pytest.mark.parametrize("preset", ("mnist", "fredriksson-mnist"))
def test_a_checkpoint_goes_to_the_cpu_and_back(preset, make_cupy, smooth, tmp_path):
    """Whatever it is taken up on, all numbers are there, bit for bit; and the game goes on as if it had stayed."""
    make_cupy()
    games = {}
    for name, backend in (("stays", "cupy"), ("gpu", "cupy"), ("cpu", "numpy"), ("back", "cupy")):
        games[name] = small(backend, preset)
    for name, before in (("stays", None), ("gpu", None), ("cpu", "gpu"), ("back", "cpu")):
        game, batches = games[name]
        if before is not None:
            other, others = games[before]
            sections, record = other.state()
            save_arrays(tmp_path / "state.npz", pack(sections, record))
            sections, record = unpack(load_arrays(tmp_path / "state.npz"), "state.npz")
            game.load(sections, record, "state.npz")
            batches.seek(others.epoch, others.position)
            assert {key: bits(section) for key, section in game.state()[0].items()} == {
                key: bits(each) for key, each in sections.items()
            }
        for _ in range(9 if name == "stays" else 3):
            result = game.round(batches)
        games[name + " ends"] = list(game.read(result).values())
    np.testing.assert_allclose(games["back ends"], games["stays ends"], rtol=1e-3)


# -- the graph --------------------------------------------------------------------------------------------


def game_on(backend, captured):
    """-> function z on the host -> plays a round; function -> all that is learnt, as bytes."""
    preset = mg.presets.get_preset("mnist")
    G, D = (
        mg.Sequential(preset.generator(4, 5, (28, 28, 1)), name="G"),
        mg.Sequential(preset.discriminator(4, (28, 28, 1)), name="D"),
    )
    rng = np.random.default_rng(10)
    G.setup((5,), backend=backend, rng=rng)
    D.setup((28, 28, 1), backend=backend, rng=rng)
    optimizers = {net.name: mg.Adam(net, 1e-3) for net in (G, D)}
    images, z = backend.asarray(rng.uniform(-1, 1, (6, 28, 28, 1))), backend.zeros((6, 5))

    def step():
        play_round(G, D, optimizers, lambda: (images, None), lambda n: z, Rules(same_z=True))

    def learnt():
        moments = [array for each in optimizers.values() for array in (each.m, each.v)]
        return [
            backend.to_host(array).tobytes()
            for net in (G, D)
            for array in (net.store.flat_params, *net.buffers.values())
        ] + [backend.to_host(array).tobytes() for array in moments]

    first = learnt()
    played = backend.capture(step) if captured else step
    assert learnt() == first, "the capture itself must not count as a step"

    def play_with(values):
        z[...] = backend.asarray(values)
        played()

    return play_with, learnt


@pytest.mark.parametrize("precision", LIMITS)
def test_a_graph_plays_what_the_program_plays(precision, make_cupy):
    """Bit for bit after each of several steps, each with another z."""
    games = [game_on(make_cupy(precision=precision), captured) for captured in (False, True)]
    rng, seen = np.random.default_rng(11), set()
    for _ in range(4):
        z = rng.standard_normal((6, 5))
        states = []
        for play_with, learnt in games:
            play_with(z)
            states.append(learnt())
        assert states[0] == states[1]
        seen.add(states[0][0])
    assert len(seen) == 4  # and it does go on


# -- mistakes ---------------------------------------------------------------------------------------------


def test_mistakes_are_told_in_one_line(make_cupy):
    backend = make_cupy()
    a, b = backend.zeros((4, 3)), backend.zeros((3, 5))
    net = build("linear", backend)
    for mistake, said in (
        (lambda: mg.get_backend("cupy", precision="bf16"), "precision"),
        (lambda: mg.get_backend("numpy", precision="tf32"), "precision"),
        (lambda: backend.gemm(a, b, out=backend.zeros((5, 4)).T), "gemm"),
        (lambda: backend.gemm(a, b, out=backend.zeros((4, 5), "float64")), "gemm"),
        (lambda: net.forward(np.zeros((2, 19), np.float32)), r"call backend.asarray\(x\)"),
        (lambda: net.forward(backend.zeros((2, 19), "float64")), "float64"),
    ):
        with pytest.raises(mg.MiniganError, match=said) as caught:
            mistake()
        assert "\n" not in str(caught.value)
