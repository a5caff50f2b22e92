"""Recorded steps: the same bits as without, no waiting, no new memory, and nothing left behind when it fails.

On a GPU where there is one; else on the strict stand-in, which keeps the rules of recording.
"""

import sys

import numpy as np
import pytest

import minigan as mg
import minigan.training.loop
from minigan.data import Batches
from minigan.training.config import new_config
from minigan.training.game import Game
from minigan.gan import MEASURED
from tests.support.strict_cupy import CUDARuntimeError, make_module

SMALL = dict(backend="cupy", width=4, batch_size=4, z_dim=6, seed=3)
SYSTEMS = {  # every rule, and what may change from step to step: rates, labels, limits, several steps of D
    "mnist": {},
    "fredriksson-mnist": {},
    "shibuya-mnist": dict(joint_update=True),
    "radford-mnist-conditional": {},
    "shibuya-fnn": {},
}


@pytest.fixture
def stand_in(monkeypatch):
    """-> the module that stands in for CuPy"""
    module = make_module()
    monkeypatch.setitem(sys.modules, "cupy", module)
    return module


@pytest.fixture
def cupy(make_cupy):
    """A GPU, or the stand-in."""


def new_game(preset, recorded=True, **options):
    game = Game(new_config(dict(preset=preset, **{**SMALL, **SYSTEMS.get(preset, {}), **options})))
    if not recorded:
        game.recorded = None
    return game


def new_batches(game, count=14, flip=False):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, *game.config.image_shape), np.uint8)
    labels = np.arange(count) % game.preset.classes if game.preset.classes else None
    return Batches(
        images, game.config.batch_size, 1, labels=labels, flip=flip, pixel_min=game.preset.pixel_min
    )


def assert_same(a, b):
    """All numbers of two games, bit by bit."""
    for (sections_a, record_a), (sections_b, record_b) in ((a.state(), b.state()),):
        assert record_a == record_b
        for name, section in sections_a.items():
            for key, array in section.items():
                np.testing.assert_array_equal(array, sections_b[name][key], err_msg=f"{name} {key}")


@pytest.mark.parametrize("preset", SYSTEMS)
def test_recorded_rounds_have_the_bits_of_eager_ones(preset, cupy):
    """With a smaller last batch now and then, another learning rate, and pictures drawn in between."""
    games = [new_game(preset), new_game(preset, recorded=False)]
    seen = []
    for game in games:
        batches, rows = new_batches(game), []
        for step in range(9):
            if step == 6:
                game.rates["G"] = game.optimizers["G"].lr = 1e-3
            rows.append(game.read(game.round(batches)))
            if step == 4:
                game.sample(5, game.stream("sample"))
        seen.append(rows)
    assert games[0].recorded.replay is not None, "nothing was recorded"
    assert seen[0] == seen[1]
    assert_same(*games)


def test_images_that_do_not_fit_come_from_the_host(stand_in):
    """With the same bits, mirrored ones too."""
    seen = []
    for free in (2**30, 0):
        stand_in.device.free = free
        game = new_game("mnist")
        batches = new_batches(game, flip=True)
        seen.append([game.read(game.round(batches)) for _ in range(6)])
        assert (game.recorded.pixels is None) == (free == 0)
    assert seen[0] == seen[1]


def test_a_checkpoint_of_recorded_rounds_goes_on_with_the_same_bits(cupy):
    whole = new_game("mnist")
    batches = new_batches(whole)
    for _ in range(3):
        whole.round(batches)
    state, place = whole.state(), (batches.epoch, batches.position)
    other, others = new_game("mnist"), new_batches(whole)
    for _ in range(3):  # it has recorded a round before it is given other numbers
        other.round(others)
    other.load(*state, "a checkpoint")
    others.seek(*place)
    for _ in range(4):
        assert whole.read(whole.round(batches)) == other.read(other.round(others))
    assert_same(whole, other)


@pytest.mark.parametrize("preset", SYSTEMS)
def test_a_round_neither_waits_nor_allocates(preset, stand_in):
    """Once it is recorded; and it is one launch, a few kernels besides, and copies from pinned memory."""
    game = new_game(preset)
    batches = new_batches(game, count=8)
    for _ in range(3):
        game.round(batches)
    counts = stand_in.device.counts
    counts.clear()
    for _ in range(5):
        game.round(batches)
    recorded = game.recorded
    averaged = 0 if game.average is None else 1 + len(game.G.buffers)
    # results into a row, images from bytes, and the average of weights and of each of the running statistics
    assert counts["graphs"] == 5 and counts["launches"] == 5 * (1 + len(recorded.images) + averaged)
    assert counts["synchronisations"] == counts["allocations"] == counts["pageable uploads"] == 0
    assert counts["uploads"] == 5 * (len(recorded.numbers) + len(recorded.labels) + len(recorded.z))


@pytest.mark.parametrize("preset", ("mnist", "radford-mnist-conditional"))
def test_pictures_are_drawn_by_one_launch_a_batch(preset, stand_in):
    """The same as step by step, of G as it is by then, and of another net that pictures are drawn from."""
    game = new_game(preset)
    batches, size = new_batches(game), game.config.batch_size

    def step_by_step(n):
        generator, numbers = (
            game.stream("sample"),
            np.arange(n + size) % max(game.preset.classes, 1),
        )
        drawn = [
            game.pictures(game.draw_z(size, generator), numbers[start : start + size])
            for start in range(0, n, size)
        ]
        return np.concatenate(drawn)[:n]

    for net in (game.drawn_from, game.drawn_from, game.G, game.make_generator("another")):
        game.round(batches)
        game.drawn_from = net
        np.testing.assert_array_equal(game.sample(7, game.stream("sample")), step_by_step(7))
    stand_in.device.counts.clear()
    game.sample(3 * size, game.stream("sample"))
    assert stand_in.device.counts["graphs"] == 3 and stand_in.device.counts["launches"] == 0
    with pytest.raises(mg.RunError, match="the generator gives NaN"):
        next(iter(net.params.values()))[...] = game.backend.asarray(np.nan)
        game.sample(2, game.stream("sample"))


def test_an_eager_round_neither_waits_nor_allocates(stand_in):
    game = new_game("mnist", recorded=False)
    batches = new_batches(game, count=8)
    z, draw = game.backend.asarray(np.zeros((4, 6), np.float32)), batches.draw
    game.draw_z = lambda n: z
    images = game.backend.asarray(draw()[0])
    play = minigan.training.loop.play_round
    for counted in (False, False, True):
        stand_in.device.counts.clear()
        result = play(
            game.G, game.D, game.optimizers, lambda: (images, None), game.draw_z, game.rules
        )
        if counted:
            assert not {"synchronisations", "allocations", "uploads"} & set(
                stand_in.device.counts
            ), stand_in.device.counts
    assert set(MEASURED) < set(result)


def test_a_run_compiles_one_module_and_hardly_anything_of_cupys_own(stand_in):
    """Each of CuPy's elementwise kernels would take a second to compile on a new machine."""
    for preset in ("mnist", "fredriksson-mnist"):
        stand_in.device.elementwise.clear()
        game = new_game(preset)
        batches = new_batches(game)
        for _ in range(5):
            game.read(game.round(batches))
        game.sample(6, game.stream("sample"))
        game.state()
        assert game.backend.kernels.modules == 1
        assert stand_in.device.elementwise == set()


def a_net(backend):
    net = mg.Sequential([mg.Linear(6), mg.BatchNorm(), mg.Tanh(), mg.Linear(1)])
    net.setup((4,), backend=backend, rng=np.random.default_rng(0))
    optimizer, x = mg.Adam(net), backend.asarray(np.random.default_rng(1).standard_normal((8, 4)))

    def step():
        net.zero_grads()
        loss, dlogits = mg.bce_with_logits(net.forward(x), 1.0, backend=backend)
        net.backward(dlogits, need_dx=False)
        optimizer.step()
        return loss

    return net, optimizer, step


def test_capture_leaves_networks_and_optimizers_as_they_were(cupy):
    backend = mg.get_backend("cupy")
    net, optimizer, step = a_net(backend)
    step()
    before = [
        backend.to_host(array).copy() for owner in (net.store, optimizer) for array in owner.kept()
    ]
    replay = backend.capture(step)
    after = [backend.to_host(array) for owner in (net.store, optimizer) for array in owner.kept()]
    for a, b in zip(before, after, strict=True):
        np.testing.assert_array_equal(a, b)
    assert optimizer.steps == 1
    version = net.store.version
    losses = [float(backend.to_host(replay())) for _ in range(3)]
    assert (
        losses[0] > losses[1] > losses[2]
        and optimizer.steps == 4
        and net.store.version == version + 3
    )


def test_what_is_handed_out_beside_a_graph_stays_as_it_is(cupy):
    """A recorded step writes into memory of its own, whatever runs and is kept besides."""
    backend = mg.get_backend("cupy")
    net, _, step = a_net(backend)
    replay = backend.capture(step)
    x = backend.asarray(np.ones((8, 4)))
    y = net.forward(x, train=False)
    kept = backend.to_host(y).copy()
    for _ in range(3):
        replay()
    net.forward(
        backend.asarray(np.ones((64, 4)))
    )  # larger: the eager memory grows, the graph's stays
    replay()
    np.testing.assert_array_equal(backend.to_host(y), kept)


def test_the_stand_in_notices_memory_that_a_graph_has_lost(stand_in):
    backend = mg.get_backend("cupy")
    net, _, step = a_net(backend)
    replay = backend.capture(step)
    replay()
    net.steps[0].memory.memory.clear()
    with pytest.raises(AssertionError, match="memory that was given back"):
        replay()


def test_on_the_cpu_capture_is_the_step_itself():
    def step():
        return 1

    assert mg.get_backend("numpy").capture(step) is step


@pytest.mark.parametrize(
    "what, forbidden",
    (
        ("new memory", lambda backend, x: backend.empty((3,))),
        ("a result of an operation", lambda backend, x: backend.xp.add(x, x)),
        ("a copy from the host", lambda backend, x: x.set(np.zeros(x.shape, x.dtype))),
        ("a copy to the host", lambda backend, x: backend.to_host(x)),
        ("waiting", lambda backend, x: backend.synchronize()),
        ("CuPy's own cuBLAS", lambda backend, x: backend.xp.matmul(x, x, out=x)),
        ("a mistake", lambda backend, x: 1 / 0),
    ),
)
def test_a_step_that_cannot_be_recorded(what, forbidden, stand_in):
    """It fails in the recording alone, which is ended; everything is put back, and the next one works."""
    backend = mg.get_backend("cupy")
    net, optimizer, step = a_net(backend)
    before = backend.to_host(net.store.flat_params).copy()
    x = backend.asarray(np.eye(2))

    def bad_step():
        step()
        if stand_in.device.recording is not None:
            forbidden(backend, x)

    with pytest.raises(ZeroDivisionError if what == "a mistake" else CUDARuntimeError):
        backend.capture(bad_step)
    assert (
        stand_in.device.recording is None
        and backend.recording is None
        and backend.scope == ""
        and not stand_in.device.streams
    )
    np.testing.assert_array_equal(backend.to_host(net.store.flat_params), before)
    assert optimizer.steps == 0
    replay = backend.capture(step)
    assert (
        float(backend.to_host(replay())) > float(backend.to_host(replay())) and optimizer.steps == 2
    )


def test_memory_that_a_step_takes_each_time_is_noticed(stand_in, monkeypatch):
    """CUDA would let it pass: the pool gives the same memory to others after the recording."""
    backend = mg.get_backend("cupy")
    net, _, step = a_net(backend)
    before = backend.to_host(net.store.flat_params).copy()
    sizes = iter((100, 200))
    monkeypatch.setattr(stand_in.cuda.MemoryPool, "total_bytes", lambda pool: next(sizes))
    with pytest.raises(mg.StateError, match="must not allocate memory"):
        backend.capture(step)
    np.testing.assert_array_equal(backend.to_host(net.store.flat_params), before)


def test_the_null_stream_is_not_recorded(stand_in):
    with pytest.raises(CUDARuntimeError, match="null stream"), stand_in.cuda.Stream() as stream:
        stream.begin_capture()


def test_games_that_the_host_steps_into_are_not_recorded(stand_in):
    assert (
        new_game("jayathilaka-faces:sgd", width=2).recorded is None
    )  # its numbers would have to be told each time
    assert new_game("tensorflow-mnist").recorded is None  # Dropout's masks are drawn on the host
    assert new_game("mnist").recorded is not None
    assert (
        new_game("jayathilaka-faces:sgd", width=2, backend="numpy").recorded is not None
    )  # processes run all of Python
