"""What the fast NumPy backend is made of: the team of threads, each kernel, blocks in a row.

tests/test_definitions.py holds whole layers against their definitions; here are the parts.
"""

import io
import subprocess
import sys
import threading
import tracemalloc

import numpy as np
import pytest

import minigan as mg
from minigan.arrays import Backend
from minigan.backends.workspace import Workspace
from minigan.backends.cpu import convolution as numpy_convolution
from minigan.backends.cpu import threads
from minigan.backends.cpu.backend import NumpyBackend
from minigan.backends.cpu.few_channels import Thin
from minigan.backends.cpu.im2col import Columns
from minigan.backends.cpu.winograd import TILE, Winograd, toom_cook
from minigan.layers.conv2d import conv2d_backward, conv2d_forward
from minigan.layers.conv_transpose2d import conv_transpose2d_backward, conv_transpose2d_forward
from minigan.presets import get_preset

# -- threads -------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", (1, 2, 3, 5))
@pytest.mark.parametrize("count", (1, 2, 3, 7))
def test_shares_are_fixed_by_numbers_alone(size, count):
    shares = []
    for _ in range(3):
        done = []
        threads.Team(size).run(lambda i, worker, done=done: done.append((i, worker)), count)
        assert sorted(i for i, _ in done) == list(range(count))
        shares.append(dict(done))
    assert shares[0] == shares[1] == shares[2]


@pytest.mark.parametrize("where", (0, 3))
def test_an_exception_of_any_worker_is_raised_when_all_have_stopped(where):
    team, done = threads.Team(2), []

    def work(i, worker):
        if i == where:
            raise ValueError(f"in chunk {i}")
        done.append(i)

    for _ in range(2):
        with pytest.raises(ValueError, match=f"in chunk {where}"):
            team.run(work, 4)
    done.clear()
    team.run(lambda i, worker: done.append(i), 4)  # and goes on to work
    assert sorted(done) == [0, 1, 2, 3]


def test_runs_within_runs_and_side_by_side():
    team, sums = threads.get_team(2), np.zeros((4, 3))

    def outer(i, worker):
        team.run(lambda j, _: np.add(sums[i, j : j + 1], i + j, out=sums[i, j : j + 1]), 3)

    callers = [threading.Thread(target=team.run, args=(outer, 4)) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(20)
    np.testing.assert_array_equal(sums, 4 * np.add.outer(np.arange(4.0), np.arange(3.0)))


def test_blas_is_set_back():
    if threads.blas.get is None:
        pytest.skip("NumPy here is built on another BLAS than OpenBLAS")
    before, seen = threads.blas.get(), []
    threads.Team(2).run(lambda i, worker: seen.append(threads.blas.get()), 2)
    assert seen == [1, 1] and threads.blas.get() == before
    with pytest.raises(ZeroDivisionError):
        threads.Team(2).run(lambda i, worker: 1 / 0, 2)
    assert threads.blas.get() == before


def test_without_a_blas_to_be_held_there_is_one_worker(monkeypatch):
    monkeypatch.setattr(threads.blas, "set", None)
    backend = NumpyBackend(threads=4)
    assert backend.team.size == 1
    net = mg.Sequential([mg.Conv2d(3, 3)])
    net.setup((5, 5, 2), backend=backend, rng=np.random.default_rng(0))
    assert net.forward(np.ones((2, 5, 5, 2), np.float32)).shape == (2, 3, 3, 3)


@pytest.mark.parametrize(
    "files, most",
    (
        ({"/sys/fs/cgroup/cpu.max": "100000 100000"}, 1),
        ({"/sys/fs/cgroup/cpu.max": "50000 100000"}, 1),
        ({"/sys/fs/cgroup/cpu.max": "max 100000"}, None),
        (
            {
                "/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "150000",
                "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
            },
            1,
        ),
        (
            {
                "/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
                "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
            },
            None,
        ),
        ({"/sys/fs/cgroup/cpu.max": "nonsense"}, None),
        ({}, None),
    ),
)
def test_cpus_of_a_container(files, most, monkeypatch):
    def open_fake(path):
        if path not in files:
            raise FileNotFoundError(path)
        return io.StringIO(files[path])

    monkeypatch.setattr(threads, "open", open_fake, raising=False)
    monkeypatch.setattr(threads.os, "sched_getaffinity", lambda pid: set(range(6)), raising=False)
    assert threads.available_cpus() == (most or 6)


@pytest.mark.skipif(not hasattr(threads.os, "fork"), reason="no fork on this system")
def test_a_process_that_forks_or_exits_does_not_hang():
    script = """
import os, warnings
import numpy as np, minigan as mg
def step():
    net.zero_grads(); y = net.forward(x); net.backward(y); return y.tobytes()
net = mg.Sequential([mg.Conv2d(8, 3), mg.BatchNorm(), mg.ReLU()])
net.setup((9, 9, 4), backend=mg.get_backend("numpy", threads=2), rng=np.random.default_rng(0))
x = np.random.default_rng(1).standard_normal((16, 9, 9, 4)).astype("float32")
before = step()
warnings.simplefilter("ignore")
child = os.fork()
assert step() == before
if child:
    assert os.waitpid(child, 0)[1] == 0
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


# -- kernels -------------------------------------------------------------------------------------


def random_geometry(rng, kind):
    """-> x, y shapes without the batch axis, W shape, stride, padding: any at all that the kernel takes"""
    while True:
        s = int(rng.integers(1, 3)) if kind is Winograd else int(rng.integers(1, 4))
        taps = 2 if rng.integers(2) else 3
        least, most = (s * (taps - 1) + 1, s * taps) if kind is Winograd else (1, 5)
        k = [int(size) for size in rng.integers(least, most + 1, 2)]
        padding = tuple(tuple(int(p) for p in rng.integers(0, size, 2)) for size in k)
        c_in = int(rng.integers(1, 5)) if kind is Thin else int(rng.choice([1, 3, 5, 12]))
        c_out = int(rng.choice([1, 3, 4, 9]))
        h, w = (int(v) for v in rng.integers(1, 20, 2))
        out = [
            (size + sum(pads) - size_k) // s + 1
            for size, pads, size_k in zip((h, w), padding, k, strict=True)
        ]
        if min(out) >= 1:
            return (h, w, c_in), (*k, c_in, c_out), (*out, c_out), (s, s), padding


def run_both(backend, x, y, W, b_y, b_x, stride, padding):
    """The six results of both convolutions at one geometry: y, dx, dW, and transposed x, dy, dW."""
    results = []
    for forward, backward, ins, outs, b in (
        (conv2d_forward, conv2d_backward, x, y, b_y),
        (conv_transpose2d_forward, conv_transpose2d_backward, y, x, b_x),
    ):
        memory, out, d_in = Workspace(backend), np.empty_like(outs), np.empty_like(ins)
        dW, db = np.zeros_like(W), np.zeros_like(b)
        backend.implementation(forward)(ins, W, b, out, stride, padding, backend, memory)
        backend.implementation(backward)(
            outs, ins, W, dW, db, d_in, stride, padding, backend, memory
        )
        results += [out, d_in, dW, db]
    return results


@pytest.mark.parametrize("kind", (Columns, Thin, Winograd))
@pytest.mark.parametrize("seed", range(40))
def test_a_kernel_at_any_geometry(kind, seed, monkeypatch):
    """Within 4 times of what another order of summation makes of the definition, or of 1e-6 of its largest value.

    Winograd within 40 times.
    """

    def choose(geometry, backend):
        return Winograd(*geometry, backend.dtype) if kind is Winograd else kind(*geometry)

    monkeypatch.setattr(numpy_convolution, "choose_kernel", choose)
    rng = np.random.default_rng([7, seed])
    x_shape, W_shape, y_shape, stride, padding = random_geometry(rng, kind)
    n = int(rng.integers(1, 8))
    arrays = [
        rng.standard_normal(shape)
        for shape in ((n, *x_shape), (n, *y_shape), W_shape, y_shape[2:], x_shape[2:])
    ]
    plain, fast = Backend(np, "float64"), NumpyBackend("float64", threads=2)
    exact = run_both(plain, *arrays, stride, padding)
    for found, wanted in zip(run_both(fast, *arrays, stride, padding), exact, strict=True):
        np.testing.assert_allclose(
            found, wanted, rtol=0, atol=1e-13 * max(1, np.abs(wanted).max()) * 10
        )

    x, y, W, b_y, b_x = singles = [array.astype(np.float32) for array in arrays]
    p, q, order = rng.permutation(x_shape[2]), rng.permutation(y_shape[2]), rng.permutation(n)
    plain, fast = Backend(np, "float32"), NumpyBackend("float32", threads=2)
    wanted = run_both(plain, *singles, stride, padding)
    other_order = (x[order][..., p], y[order][..., q], W[:, :, p][..., q], b_y[q], b_x[p])
    mixed = run_both(plain, *map(np.ascontiguousarray, other_order), stride, padding)
    inverse_p, inverse_q, inverse = np.argsort(p), np.argsort(q), np.argsort(order)
    y_back, x_back = (lambda a: a[inverse][..., inverse_q]), (lambda a: a[inverse][..., inverse_p])
    W_back = lambda a: a[:, :, inverse_p][..., inverse_q]  # noqa: E731
    backs = (
        y_back,
        x_back,
        W_back,
        lambda a: a[inverse_q],
        x_back,
        y_back,
        W_back,
        lambda a: a[inverse_p],
    )
    times = 40 if kind is Winograd else 4
    for found, one, other, back in zip(
        run_both(fast, *singles, stride, padding), wanted, mixed, backs, strict=True
    ):
        largest = max(np.abs(one).max(), 1e-3)
        rounding = max(np.abs(one - back(other)).max(), 1e-6 * largest)
        assert np.abs(found - one).max() <= times * rounding


@pytest.mark.parametrize("m, r", ((2, 2), (2, 3), (4, 2), (4, 3)))
def test_winograd_is_exact_but_for_rounding(m, r):
    A, G, B = toom_cook(m, r)
    rng = np.random.default_rng(0)
    d, g = rng.standard_normal(m + r - 1), rng.standard_normal(r)
    wanted = [d[j : j + r] @ g for j in range(m)]
    np.testing.assert_allclose(A @ ((G @ g) * (B @ d)), wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("k", (4, 5))
def test_winograd_in_float32_is_as_exact_as_it_says(k):
    """At the sizes of a real layer, where 2,048 or 3,200 products are summed up: 1e-5 at most, 3e-6 root mean square."""
    rng = np.random.default_rng(0)
    padding = ((1, k - 3), (1, k - 3))
    arrays = [
        rng.standard_normal(shape)
        for shape in ((4, 14, 14, 128), (4, 7, 7, 256), (k, k, 128, 256), (256,), (128,))
    ]
    exact = run_both(NumpyBackend("float64"), *arrays, (2, 2), padding)
    singles = [array.astype(np.float32) for array in arrays]
    for winograd, most, usual in ((True, 1e-5, 3e-6), (False, 2e-6, 1e-6)):
        backend = NumpyBackend("float32", winograd=winograd)
        found = run_both(backend, *singles, (2, 2), padding)
        assert {type(one.kernel) for one in backend.convolutions.values()} == {
            Winograd if winograd else Columns
        }
        for i in (0, 1, 2, 4, 5, 6):  # all but db
            off = np.abs(found[i] - exact[i])
            assert off.max() <= most * np.abs(exact[i]).max()
            assert np.sqrt(np.mean(off**2)) <= usual * np.sqrt(np.mean(exact[i] ** 2))


# -- nets ----------------------------------------------------------------------------------------


def preset_nets(preset, backend, width=8):
    system, nets = get_preset(preset), []
    for name, layers, in_shape in (
        ("G", system.generator(width, system.z_dim, system.image_shape), (system.z_dim,)),
        ("D", system.discriminator(width, system.image_shape), system.image_shape),
    ):
        net = mg.Sequential(layers, name=name)
        net.setup(in_shape, backend=backend, rng=np.random.default_rng(1))
        nets.append(net)
    return nets


@pytest.fixture
def always_winograd(monkeypatch):
    monkeypatch.setattr(numpy_convolution, "WIDE", 1)
    assert TILE == 4


@pytest.mark.parametrize("preset", ("mnist", "fredriksson-mnist"))
@pytest.mark.parametrize("count", (1, 2, 3))
def test_blocks_in_a_row_in_any_order_of_calls(preset, count, always_winograd):
    """Each block does a part of its neighbours' work: it must be done whatever was called before."""
    plain = preset_nets(preset, Backend(np, "float64"))
    fast = preset_nets(preset, NumpyBackend("float64", threads=count))
    rng = np.random.default_rng(count)
    for reference, net in zip(plain, fast, strict=True):
        assert len(net.steps) < len(net.layers) == len(reference.steps)
        for calls in ("t", "tb", "tbb", "sd", "tdbd", "stb", "tsb", "twwd", "tdw"):
            n = int(rng.integers(2, 9))
            x, dy = (rng.standard_normal((n, *shape)) for shape in (net.in_shape, net.out_shape))
            for call in calls:
                if call in "ts":  # training or sampling
                    results = [one.forward(x, train=call == "t") for one in (reference, net)]
                else:
                    needs = {"b": (True, True), "d": (True, False), "w": (False, True)}[call]
                    results = [one.backward(dy, *needs) for one in (reference, net)]
                if results[0] is not None:
                    np.testing.assert_allclose(
                        results[1],
                        results[0],
                        rtol=0,
                        atol=1e-11 * max(1, np.abs(results[0]).max()),
                    )
        for kind in ("grads", "buffers"):
            for key, wanted in getattr(reference, kind).items():
                np.testing.assert_allclose(
                    getattr(net, kind)[key],
                    wanted,
                    rtol=0,
                    atol=1e-10 * max(1, np.abs(wanted).max()),
                )


@pytest.mark.parametrize(
    "layers, in_shape",
    (
        (
            lambda: [
                mg.Conv2d(6, 5, 2, "same"),
                mg.BatchNorm(),
                mg.Tanh(),
                mg.Conv2d(5, 4, 2, 1),
                mg.Sigmoid(),
            ],
            (19, 32, 5),
        ),
        (
            lambda: [
                mg.ConvTranspose2d(6, 4, 2, 1),
                mg.BatchNorm(),
                mg.Tanh(),
                mg.ConvTranspose2d(5, 5, 2, "same"),
            ],
            (8, 7, 5),
        ),
    ),
)
def test_gradients_through_winograd(layers, in_shape, always_winograd):
    net = mg.Sequential(layers())
    net.setup(in_shape, backend=NumpyBackend("float64", threads=2), rng=np.random.default_rng(0))
    assert {type(step.operation.kernel) for step in net.steps} == {Winograd}
    mg.check_gradients(net, np.random.default_rng(1).standard_normal((3, *in_shape)))


def test_a_layer_of_another_class_is_left_alone():
    class Louder(mg.Conv2d):
        def forward(self, x, train=True):
            return 2 * super().forward(x, train)

    nets = []
    for layer in (mg.Conv2d(3, 3), Louder(3, 3)):
        net = mg.Sequential([layer, mg.Sequential([mg.Tanh()])])
        net.setup((6, 6, 2), backend=NumpyBackend("float64"), rng=np.random.default_rng(0))
        nets.append(net)
    x = np.random.default_rng(1).standard_normal((2, 6, 6, 2))
    np.testing.assert_allclose(
        np.arctanh(nets[1].forward(x)), 2 * np.arctanh(nets[0].forward(x)), rtol=1e-9
    )


@pytest.mark.parametrize("preset", ("mnist", "fredriksson-mnist"))
def test_what_the_user_gave_is_only_read(preset):
    """Arrays that cannot be written to, and arrays that are not contiguous."""
    for net in preset_nets(preset, NumpyBackend()):
        rng = np.random.default_rng(0)
        x = rng.standard_normal((6, *net.in_shape)).astype(np.float32)
        dy = rng.standard_normal((6, *net.out_shape)).astype(np.float32)
        results = []
        for spread in (False, True):
            given = [
                np.repeat(array, 2, axis=-1)[..., ::2] if spread else array.copy()
                for array in (x, dy)
            ]
            for array in given:
                array.flags.writeable = False
            net.zero_grads()
            results.append(
                (net.forward(given[0]), net.backward(given[1]), net.store.flat_grads.copy())
            )
        for one, other in zip(*results, strict=True):
            np.testing.assert_array_equal(one, other)


def test_winograd_allocates_nothing_once_warm(always_winograd):
    layers = [
        mg.Conv2d(24, 5, 2, "same"),
        mg.BatchNorm(),
        mg.LeakyReLU(0.2),
        mg.Conv2d(32, 4, 2, 1),
    ]
    net = mg.Sequential(layers)
    net.setup((28, 28, 8), backend=NumpyBackend(), rng=np.random.default_rng(0))
    rng = np.random.default_rng(1)
    x = rng.standard_normal((64, 28, 28, 8)).astype(np.float32)
    dy = rng.standard_normal((64, *net.out_shape)).astype(np.float32)

    def step():
        net.forward(x)
        net.backward(dy)

    step()
    results = x.nbytes + dy.nbytes  # of y and dx, which may be new
    step()
    tracemalloc.start()
    try:
        for _ in range(3):
            step()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < results + 200_000 < results + x.nbytes / 4


@pytest.mark.parametrize("make", (lambda: mg.LeakyReLU(0.2), mg.ReLU, mg.Sigmoid, mg.Tanh))
def test_activations_share_no_memory(make, monkeypatch):
    """Threads run them side by side: scratch memory of the backend would be one for all, and a race."""
    backend, layer = NumpyBackend("float32"), make()
    net = mg.Sequential([layer])
    net.setup((5,), backend=backend, rng=np.random.default_rng(0))

    def refuse(*arguments):
        raise AssertionError("scratch memory in an activation")

    monkeypatch.setattr(backend, "scratch", refuse)
    x = np.linspace(-2, 2, 15, dtype=np.float32).reshape(3, 5)
    y, dx = np.empty_like(x), np.empty_like(x)
    layer.forward_op(x, *layer.constants, y, backend)
    layer.backward_op(x, y, *layer.constants, dx, backend)
    assert np.all(np.isfinite(y)) and np.all(np.isfinite(dx))


def test_threads_handle_floating_point_errors_as_their_caller():
    def divide(i, worker):
        np.divide(np.ones(3), np.zeros(3))

    team = threads.Team(2)
    with np.errstate(divide="ignore"):
        team.run(divide, 4)
    with np.errstate(divide="raise"), pytest.raises(FloatingPointError):
        team.run(divide, 4)
