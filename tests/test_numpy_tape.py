"""Passes that are noted and repeated: the same bits as without, nothing left out, and what cannot be repeated is played as ever."""

import numpy as np
import pytest

import minigan as mg
from minigan.backends.cpu import crew as numpy_crew
from minigan.backends.cpu import trace as numpy_tape
from minigan.backends.cpu.backend import NumpyBackend
from minigan.backends.cpu.blocks import Block
from minigan.backends.cpu.trace import Tape, Watched, plain
from tests.test_numpy_crew import SYSTEMS, make_batches, make_game
from tests.test_numpy_crew import play as play_rounds

pytestmark = pytest.mark.skipif(not numpy_crew.can_fork(), reason="processes are not forked here")


def state_of(game, rows):
    sections, record = game.state()
    return (
        rows,
        record,
        {
            name: {key: array.tobytes() for key, array in section.items()}
            for name, section in sections.items()
        },
    )


def play(monkeypatch, preset, noted, dtype="float32", size=2):
    """Rounds with a smaller batch at the end of an epoch, another rate, and pictures in between."""
    with monkeypatch.context() as patch:
        if not noted:
            patch.setattr(numpy_tape, "see_parts", lambda steps, block: False)
        game = make_game(monkeypatch, preset, size, dtype=dtype)
        batches, rows = make_batches(game, count=50), []
        for step in range(9):
            if step == 5:
                game.optimizers["G"].lr = game.rates["G"] = 1e-3
            rows.append(game.read(game.round(batches)))
            if step in (1, 6):
                game.sample(40, game.stream("sample"))  # larger than a batch
        tapes = game.recorded.replay.tapes
        assert tapes and all(tape.whole == noted for tape in tapes.values())
        return state_of(game, rows)


@pytest.mark.parametrize(
    "preset", [preset for preset in SYSTEMS if preset != "tensorflow-mnist"]
)  # it draws, for Dropout
def test_tapes_have_the_bits_of_passes_that_are_played(preset, monkeypatch):
    assert play(monkeypatch, preset, True) == play(monkeypatch, preset, False)


def test_sides_of_four_processes(monkeypatch):
    assert play(monkeypatch, "mnist", True, size=4) == play(monkeypatch, "mnist", False, size=4)


def test_no_layer_is_asked_again(monkeypatch):
    game = make_game(monkeypatch, "mnist", 2)
    batches = make_batches(game, count=14 * 20)
    play_rounds(game, 2, batches)
    asked = []
    monkeypatch.setattr(Block, "start_forward", lambda *arguments: asked.append("forward"))
    monkeypatch.setattr(Block, "operation_backward", lambda *arguments: asked.append("backward"))
    rows = play_rounds(game, 3, batches)[0]
    assert not asked and len({row["loss_g"] for row in rows}) == 3


def captured(monkeypatch, layers, passes):
    """-> gradients of a net after so many captured passes; passes: its backward's options, and a batch that it sees uncaptured before"""
    backend = NumpyBackend("float64", threads=2)
    net = mg.Sequential(layers(), name="net")
    net.setup((6, 6, 3), backend=backend, rng=np.random.default_rng(0))
    rng, inbox = np.random.default_rng(1), backend.inbox((8, 6, 6, 3))
    given = [(rng.standard_normal((8, 6, 6, 3)), other, options) for other, options in passes]
    turn, found = [0], []

    def step():
        options = given[turn[0]][2]
        turn[0] += 1
        y = net.forward(backend.share(inbox.array))
        dx = net.backward(y * y, **options)
        backend.add_gradients(net.store.flat_grads)
        return dx

    replay = backend.capture(step, 8)
    mg.Adam(net)  # an owner of what is kept
    for x, other, _ in given:
        net.zero_grads()
        if other:
            net.forward(backend.asarray(rng.standard_normal((other, 6, 6, 3))), train=False)
        inbox.open(8)[...] = x
        inbox.send()
        dx = replay()
        found.append((net.store.flat_grads.tobytes(), None if dx is None else dx.tobytes()))
    whole = [tape.whole for tape in replay.tapes.values()] if hasattr(replay, "tapes") else []
    return found, whole


def convolutions():
    return [
        mg.Conv2d(8, 3, 2, 1),
        mg.BatchNorm(),
        mg.LeakyReLU(0.2),
        mg.Conv2d(4, 3, 1, 1),
        mg.Tanh(),
    ]


def test_another_kind_of_backward_pass_after_other_batches(monkeypatch):
    """What the layers remember by then is of other batches; it must be of the forward pass that was repeated."""
    passes = [
        (0, {}),
        (0, {}),
        (11, dict(need_dw=False)),
        (3, dict(need_dx=False)),
        (0, {}),
        (11, dict(need_dw=False)),
    ]
    ours, whole = captured(monkeypatch, convolutions, passes)
    assert whole == [True] * 4  # forward, and three kinds of backward
    monkeypatch.setattr(numpy_tape, "see_parts", lambda steps, block: False)
    wanted, whole = captured(monkeypatch, convolutions, passes)
    assert not any(whole) and ours == wanted


def test_what_winograd_keeps_by_name_after_larger_batches(monkeypatch):
    def layers():
        return [
            mg.Conv2d(80, 3, 1, 1),
            mg.LeakyReLU(0.2),
            mg.Conv2d(80, 3, 1, 1),
            mg.LeakyReLU(0.2),
        ]

    passes = [(0, dict(need_dw=False)), (11, {}), (0, {})]
    ours, whole = captured(monkeypatch, layers, passes)
    assert whole == [True] * 3
    monkeypatch.setattr(numpy_tape, "see_parts", lambda steps, block: False)
    assert captured(monkeypatch, layers, passes)[0] == ours


class Twice(mg.Layer):
    """A layer of one's own, which allocates."""

    def forward(self, x, train=True):
        return 2 * x

    def backward(self, dy, need_dx=True, need_dw=True):
        return 2 * dy


def test_layers_of_ones_own_are_played(monkeypatch):
    passes = [(0, {})] * 3
    found, whole = captured(
        monkeypatch, lambda: [*convolutions(), mg.Sequential([Twice()])], passes
    )
    assert whole == [False] and len({gradients for gradients, _ in found}) == 3


def noted(work, *arrays):
    """-> tape of work(*arrays), all of them watched; what it gave"""
    tape = Tape(arrays, may_be_noted=True)
    tape.note_down(NumpyBackend("float64", threads=1), work, arrays)
    return tape


WORK = {  # what a layer may do to its memory
    "ufunc": lambda x, y: np.multiply(x, 2.0, out=y),
    "of two": lambda x, y: np.add(x, y, out=y),
    "by name": lambda x, y: np.maximum(x, 0.1, out=y),
    "product": lambda x, y: np.matmul(x, x.T, out=y),
    "sum": lambda x, y: np.add.reduce(x, axis=0, out=y[1]),
    "in place": lambda x, y: y.__iadd__(x),
    "part": lambda x, y: y.__setitem__((slice(1), slice(None, None, 2)), x[1:2, ::2]),
    "one number": lambda x, y: y.__setitem__((1, 2), 3.0),
    "row": lambda x, y: y.__setitem__(0, x[2]),
    "fill": lambda x, y: y[1:].fill(7),
    "copyto": lambda x, y: np.copyto(y, x.T),
    "view": lambda x, y: np.add(y.reshape(-1)[::2], 1.0, out=y.reshape(-1)[::2]),
}


@pytest.mark.parametrize("what", WORK)
def test_what_is_noted_is_done_again(what):
    rng = np.random.default_rng(0)
    x, y, other_x, other_y = rng.standard_normal((4, 3, 3))
    tape = noted(WORK[what], x, y)
    assert (
        tape.whole
        and len(tape.calls) == 1
        and not any(isinstance(value, Watched) for value in tape.calls[0][1])
    )
    tape.play((other_x, other_y))
    WORK[what](other_x, other_y)
    assert np.array_equal(tape.places[1], other_y) and not np.array_equal(other_y, y)


@pytest.mark.parametrize(
    "work",
    (
        lambda x: x + 1,
        lambda x: np.exp(x),
        lambda x: x.sum(),
        lambda x: np.concatenate([x, x]),
        lambda x: x.copy(),
        lambda x: x.astype("float32"),
        lambda x: np.mean(x),
        lambda x: np.dot(x, x),
    ),
)
def test_what_makes_another_array_is_not_repeated(work):
    x = np.arange(9.0).reshape(3, 3)
    tape = noted(work, x)
    assert not tape.whole
    assert np.array_equal(plain(tape.result), work(x)), "it is done all the same"


def test_what_went_wrong_leaves_no_tape(monkeypatch):
    def work(x):
        np.add(x, 1.0, out=x)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        noted(work, np.zeros(2))
    assert Watched.tape is None
