"""Trace and replay: the bits of untraced passes, nothing left out, and mistakes that are caught."""

import numpy as np
import pytest

import minigan as mg
from minigan.backends.cpu import activations, blocks, convolution, trace
from minigan.backends.cpu.trace import Trace, TracedSteps, TracingBackend, TracingNumPy
from minigan.parallel.group import Group
from minigan.parallel.shared_memory import can_fork
from minigan.presets import MODULES, get_preset
from tests.support.networks import Skip
from tests.support.noise_games import SYSTEMS, assert_same_bits, make_batches, make_game, play

needs_fork = pytest.mark.skipif(not can_fork(), reason="processes cannot be forked here")
QUICK = ("mnist", "shibuya-mnist")
SLOW = [name for name in {**SYSTEMS, **MODULES} if name not in QUICK]


def untraced(monkeypatch):
    """Captured steps run their layers at every pass."""
    monkeypatch.setattr(trace, "plan", blocks.plan)


# -- whole systems -----------------------------------------------------------------------------


def play_captured(preset):
    """Rounds with a smaller batch, another learning rate, and samples between -> Played"""
    game = make_game(preset, threads=2)
    if game.captured is None:
        return None
    batches, rows = make_batches(game), []
    for step in range(7):
        if step == 5:
            game.optimizers["G"].lr = game.rates["G"] = 1e-3
        rows.append(game.read(game.round(batches)))
        if step in (1, 5):
            game.sample(20, game.stream("sample"))
    game.captured.close()
    return play(game, 0)._replace(rows=rows)


@needs_fork
@pytest.mark.parametrize(
    "preset", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]
)
def test_replayed_rounds_have_the_bits_of_untraced_ones(preset, monkeypatch):
    replayed = play_captured(preset)
    if replayed is None:  # Dropout draws in the middle of a step
        assert any(net.store.generators for net in make_game(preset).nets.values())
        return
    untraced(monkeypatch)
    assert_same_bits(replayed, play_captured(preset))


@needs_fork
def test_no_layer_runs_again(monkeypatch):
    game = make_game("mnist", threads=2)
    batches = make_batches(game, count=14 * 20)
    play(game, 2, batches)

    def refuse(*arguments):
        raise AssertionError("a layer runs again")

    monkeypatch.setattr(blocks.Block, "begin_forward", refuse)
    monkeypatch.setattr(blocks.Block, "operation_backward", refuse)
    rows = play(game, 3, batches).rows
    assert len({row["loss_g"] for row in rows}) == 3


# -- one network, in one process ---------------------------------------------------------------


def convolutions():
    return [
        mg.Conv2d(8, 3, 2, 1), mg.BatchNorm(), mg.LeakyReLU(0.2), mg.Conv2d(4, 3, 1, 1), mg.Tanh(),
        mg.BatchNorm(), mg.ConvTranspose2d(3, 4, 2, 1), mg.Sigmoid(),
    ]  # fmt: skip


def wide():
    return [mg.Conv2d(16, 3, 1, 1), mg.LeakyReLU(0.2), mg.Conv2d(16, 4, 2, 1), mg.BatchNorm()]


def conditional():
    within = mg.Sequential([mg.AppendLabels(3), mg.Conv2d(5, 3), mg.BatchNorm(), mg.ReLU()])
    return [within, mg.AppendLabels(3), mg.Flatten(), mg.AppendLabels(3), mg.Linear(4), mg.Tanh()]


def test_an_input_in_any_order():
    """A layer that only renames axes must not copy the first input, outside the trace."""
    parent = mg.get_backend("numpy", threads=2)
    net = mg.Sequential([mg.Flatten()], name="net")
    net.setup((3, 4, 2), backend=parent, rng=np.random.default_rng(0))
    captured = net.on(TracingBackend(parent, Group()))
    for seed in range(3):
        x = np.random.default_rng(seed).standard_normal((5, 3, 4, 2)).astype(np.float32)
        y = captured.forward(np.asfortranarray(x))
        np.testing.assert_array_equal(y, x.reshape(5, -1))


class Pass:
    """A forward pass of n images, and backward passes with these (need_dx, need_dw)."""

    def __init__(self, n, *backward, train=True):
        self.n, self.backward, self.train = n, backward, train


BOTH, DX, DW = (True, True), (True, False), (False, True)
PASSES = {
    "the same again and again": [Pass(8, BOTH)] * 4,
    "other kinds of backward pass": [
        Pass(8, BOTH), Pass(8, DW, DX), Pass(8, DX), Pass(8, BOTH, DX, BOTH), Pass(8, DW),
    ],
    "smaller and larger batches between": [
        Pass(8, BOTH), Pass(11, DX), Pass(8, BOTH), Pass(3, DW), Pass(8, DX), Pass(20, BOTH),
        Pass(11, BOTH), Pass(3, BOTH), Pass(8, BOTH),
    ],
    "sampling between": [
        Pass(8, DW), Pass(8, train=False), Pass(8, DW), Pass(16, train=False), Pass(8, BOTH),
        Pass(8, DX, train=False), Pass(16, train=False),
    ],
}  # fmt: skip


def run_passes(layers, passes, dtype="float64"):
    """On the backend of a captured step -> everything that the passes leave"""
    parent = mg.get_backend("numpy", dtype, threads=2)
    net = mg.Sequential(layers(), name="net")
    net.setup((6, 6, 3), backend=parent, rng=np.random.default_rng(0))
    optimizer = mg.Adam(net)
    captured = net.on(TracingBackend(parent, Group()))
    rng, found = np.random.default_rng(1), []
    for one in passes:
        x = rng.standard_normal((one.n, 6, 6, 3)).astype(dtype)
        labels = np.eye(3, dtype=dtype)[rng.integers(0, 3, one.n)] if net.classes else None
        found.append(captured.forward(x, train=one.train, labels=labels).copy())
        for need_dx, need_dw in one.backward:
            dy = rng.standard_normal((one.n, *net.out_shape)).astype(dtype)
            dx = captured.backward(dy, need_dx, need_dw)
            found.append(None if dx is None else dx.copy())
        many = None if labels is None else labels[:1].repeat(13, axis=0)
        net.forward(np.ones((13, 6, 6, 3), dtype), labels=many)  # uncaptured, between
        found += [array.copy() for array in net.store.state_arrays()]
        optimizer.step()
        net.zero_grads()
    return found, captured


@pytest.mark.parametrize("layers", (convolutions, wide, conditional))
@pytest.mark.parametrize("passes", PASSES)
def test_any_order_of_passes_has_the_bits_of_untraced_ones(passes, layers, monkeypatch):
    monkeypatch.setattr(convolution, "WIDE", 1000)  # Winograd for `wide`, whose tiles are kept
    replayed, captured = run_passes(layers, PASSES[passes])
    (steps,) = captured.steps
    assert type(steps) is TracedSteps
    assert set(steps.traces) == {(one.n, one.train) for one in PASSES[passes]}
    untraced(monkeypatch)
    played, captured = run_passes(layers, PASSES[passes])
    assert not any(isinstance(step, TracedSteps) for step in captured.steps)
    assert len(replayed) == len(played)
    for one, other in zip(replayed, played, strict=True):
        np.testing.assert_array_equal(one, other)


def write_behind_the_trace(x, y, xp):
    y[...] = np.tanh(x)


def test_the_comparison_finds_a_kernel_that_writes_behind_the_trace(monkeypatch):
    functions = (write_behind_the_trace, activations.tanh_backward)
    monkeypatch.setitem(activations.FUNCTIONS, mg.Tanh, functions)
    replayed, _ = run_passes(convolutions, PASSES["the same again and again"])
    untraced(monkeypatch)
    played, _ = run_passes(convolutions, PASSES["the same again and again"])
    np.testing.assert_array_equal(replayed[0], played[0])  # the first pass is recorded: it ran
    with pytest.raises(AssertionError):
        for one, other in zip(replayed, played, strict=True):
            np.testing.assert_array_equal(one, other)


def test_a_kernel_that_makes_a_new_array_is_refused(monkeypatch):
    functions = (lambda x, y, xp: xp.copyto(y, xp.tanh(x)), activations.tanh_backward)
    monkeypatch.setitem(activations.FUNCTIONS, mg.Tanh, functions)
    line = r"numpy\.tanh returns a new array, so this pass cannot be replayed: give it out="
    with pytest.raises(mg.StateError, match=line) as caught:
        run_passes(convolutions, [Pass(8)])
    assert "\n" not in str(caught.value)


# -- the recorder ------------------------------------------------------------------------------

WORK = {  # what a kernel may do
    "of one array": lambda xp, x, y: xp.multiply(x, 2.0, out=y),
    "of two": lambda xp, x, y: xp.add(x, y, out=y),
    "product": lambda xp, x, y: xp.matmul(x, x.T, out=y),
    "sum": lambda xp, x, y: xp.add.reduce(x, axis=0, out=y[1]),
    "copy of a part": lambda xp, x, y: xp.copyto(y[1:, ::2], x[1:, ::2]),
    "fill": lambda xp, x, y: xp.copyto(y[1:], 7),
    "through a view": lambda xp, x, y: xp.add(y.reshape(-1)[::2], 1.0, out=y.reshape(-1)[::2]),
    "clip": lambda xp, x, y: xp.clip(x, -0.5, 0.5, out=y),
    "two calls": lambda xp, x, y: xp.subtract(xp.exp(x, out=y), 1.0, out=y),
}


@pytest.mark.parametrize("work", WORK)
def test_a_call_is_replayed_on_other_numbers(work):
    xp, passes = TracingNumPy(), Trace()
    for seed in range(3):
        x, y = np.random.default_rng(seed).standard_normal((2, 3, 3))
        expected = y.copy()
        WORK[work](np, x, expected)
        passes.run(xp, lambda x, y: WORK[work](xp, x, y), [x, y])
        np.testing.assert_array_equal(passes.inputs[1], expected)
    assert len(passes.calls) == (2 if work == "two calls" else 1)


@pytest.mark.parametrize(
    "work",
    (
        lambda xp, x: xp.exp(x),
        lambda xp, x: xp.add(x, 1),
        lambda xp, x: xp.sum(x),
        lambda xp, x: xp.concatenate([x, x]),
        lambda xp, x: xp.pad(x, 1),
        lambda xp, x: xp.add.reduce(x),
        lambda xp, x: xp.ones(3),
    ),
)
def test_a_function_that_returns_a_new_array_is_refused_while_recording(work):
    xp, x, passes = TracingNumPy(), np.arange(9.0).reshape(3, 3), Trace()
    np.testing.assert_array_equal(work(xp, x), work(np, x))  # allowed outside of a recording
    with pytest.raises(mg.StateError, match="returns a new array"):
        passes.run(xp, lambda x: work(xp, x), [x])
    assert xp.calls is None and passes.calls is None


def test_types_and_memory_that_stays_are_no_part_of_a_pass():
    xp, passes = TracingNumPy(), Trace()
    assert xp.float32 is np.float32 and xp.ndarray is np.ndarray and xp.pi == np.pi
    passes.run(xp, lambda x: (xp.empty(3), xp.zeros(3)), [np.ones(2)])
    assert passes.calls == []


def test_an_opaque_call_is_one_call_with_one_result():
    backend, seen = TracingBackend(mg.get_backend("numpy"), Group()), []
    results = iter([5, 5, 5, 6])

    def exchange(array):
        seen.append(backend.xp.sum(array))  # anything may happen inside
        return next(results)

    passes = Trace()
    for _ in range(3):
        assert passes.run(backend.xp, lambda x: backend.opaque_call(exchange, x), [np.ones(3)]) == 5
    assert len(passes.calls) == 1 and seen == [3, 3, 3]
    line = "a captured step must give a network batches of the same sizes every time"
    with pytest.raises(mg.StateError, match=line):
        passes.run(backend.xp, None, [np.ones(3)])


def test_a_pass_that_fails_is_recorded_again():
    xp, passes, fails = TracingNumPy(), Trace(), [True]

    def work(x):
        xp.add(x, 1.0, out=x)
        if fails:
            raise KeyboardInterrupt
        return x

    with pytest.raises(KeyboardInterrupt):
        passes.run(xp, work, [np.zeros(2)])
    fails.clear()
    for start in (1.0, 5.0):
        assert passes.run(xp, work, [np.full(2, start)]).tolist() == [start + 1] * 2


# -- layers that it does not know --------------------------------------------------------------


class Twice(mg.Layer):
    """A user's layer."""

    def forward(self, x, train=True):
        return 2 * x

    def backward(self, dy, need_dx=True, need_dw=True):
        return 2 * dy


class OwnNorm(mg.BatchNorm):
    """Means something else."""

    def forward(self, x, train=True):
        return super().forward(x, train)


class NamedNorm(mg.BatchNorm):
    """Has the same passes."""


def skip():
    return Skip([mg.Tanh()])


@pytest.mark.parametrize("layer", (Twice, OwnNorm, lambda: mg.Dropout(0.5), skip))
@pytest.mark.parametrize("is_within", (False, True))
def test_a_layer_that_may_need_the_whole_batch_is_refused(layer, is_within):
    layer = layer()
    net = mg.Sequential([mg.Linear(2), mg.Sequential([layer]) if is_within else layer], name="D")
    parent = mg.get_backend("numpy")
    net.setup((3,), backend=parent, rng=np.random.default_rng(0))
    with pytest.raises(mg.StateError) as caught:
        net.on(TracingBackend(parent, Group()))
    line = str(caught.value)
    assert line.startswith(f"D.1{'.0' * is_within} (") and "\n" not in line
    assert "in a captured step a layer sees the rows of one process only" in line
    assert 'get_backend("numpy", threads=1)' in line


def test_a_class_with_the_same_passes_is_taken():
    net, parent = mg.Sequential([mg.Linear(2), NamedNorm()]), mg.get_backend("numpy")
    net.setup((3,), backend=parent, rng=np.random.default_rng(0))
    x = np.random.default_rng(1).standard_normal((5, 3), np.float32)
    captured = net.on(TracingBackend(parent, Group()))
    for _ in range(2):
        np.testing.assert_allclose(captured.forward(x), net.forward(x), rtol=1e-5)


def test_every_preset_without_dropout_can_be_traced():
    for name in MODULES:
        preset, parent = get_preset(name), mg.get_backend("numpy")
        D = mg.Sequential(preset.discriminator(2, preset.image_shape), name="D")
        D.setup(preset.image_shape, backend=parent, rng=np.random.default_rng(0))
        if D.store.generators:
            with pytest.raises(mg.StateError, match="Dropout"):
                D.on(TracingBackend(parent, Group()))
        else:
            assert type(D.on(TracingBackend(parent, Group())).steps[0]) is TracedSteps
