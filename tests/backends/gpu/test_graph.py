"""Captured steps: the bits of eager ones, no waiting, no new memory, and nothing left by failures.

On the stand-in, which keeps the rules of recording, or on a GPU if there is one.
"""

import re

import numpy as np
import pytest

import minigan as mg
from minigan.gan import MEASURED
from minigan.parallel.group import Group
from minigan.parallel.nccl import NcclGroup
from tests.support.gpu_cases import filled
from tests.support.noise_games import assert_same_bits, make_batches, make_game, play
from tests.support.strict_cupy import CUDARuntimeError

SYSTEMS = {  # every kind of round; rates that change, labels, limits, several steps of D
    "mnist": {},
    "fredriksson-mnist": {},
    "shibuya-mnist": {},
    "radford-mnist-conditional": dict(width=2),
    "shibuya-fnn": {},
    "color32": {},
}


def new_game(preset, captured=True, **options):
    options = {"backend": "cupy", "batch_size": 4, **SYSTEMS.get(preset, {}), **options}
    return make_game(preset, captured, **options)


@pytest.fixture
def cupy(make_cupy):
    """A GPU, or the stand-in."""


# -- rounds of a game --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "preset",
    ["mnist", *(pytest.param(name, marks=pytest.mark.slow) for name in SYSTEMS if name != "mnist")],
)
def test_captured_rounds_have_the_bits_of_eager_ones(preset, cupy):
    """With a smaller last batch, another learning rate, and samples drawn in between."""
    played = []
    for captured in (True, False):
        game = new_game(preset, captured)
        batches, rows = make_batches(game, count=14), []
        for step in range(9):
            if step == 6:
                game.rates["G"] = game.optimizers["G"].lr = 1e-3
            rows.append(game.read(game.round(batches)))
            if step == 4:
                game.sample(5, game.stream("sample"))
        assert not captured or game.captured.replay is not None
        played.append(play(game, 0)._replace(rows=rows))
    assert_same_bits(*played)


def test_images_that_do_not_fit_come_from_the_host(stand_in):
    """With the same bits, mirrored ones too."""
    seen = []
    for free in (2**30, 0):
        stand_in.device.free = free
        game = new_game("mnist")
        seen.append(play(game, 6, make_batches(game, count=14, flip=True)).rows)
        assert (game.captured.pixels is None) == (free == 0)
    assert seen[0] == seen[1]


def test_a_checkpoint_of_captured_rounds_continues_with_the_same_bits(cupy):
    whole, other = new_game("mnist"), new_game("mnist")
    batches, others = make_batches(whole, count=14), make_batches(whole, count=14)
    play(whole, 3, batches)
    play(other, 2, others)  # it has recorded a round before it gets other numbers
    other.load(*whole.state(), "a checkpoint")
    others.seek(batches.epoch, batches.position)
    assert_same_bits(play(whole, 4, batches), play(other, 4, others))


@pytest.mark.parametrize("preset", SYSTEMS)
def test_a_round_neither_waits_nor_allocates(preset, stand_in):
    """It is one graph, a few kernels besides, and copies from pinned memory."""
    game = new_game(preset)
    batches = make_batches(game, count=8)
    for _ in range(3):
        game.round(batches)
    counts, captured = stand_in.device.counts, game.captured
    counts.clear()
    for _ in range(5):
        game.round(batches)
    # measurements into a row, images from bytes, and the averages of weights and statistics
    averaged = 0 if game.average is None else 1 + len(game.G.buffers)
    assert counts["graphs"] == 5
    assert counts["launches"] == 5 * (1 + len(captured.images) + averaged)
    assert counts["synchronizations"] == counts["allocations"] == counts["pageable uploads"] == 0
    uploads = len(captured.numbers) + len(captured.labels) + len(captured.z)
    assert counts["uploads"] == 5 * uploads


def test_an_eager_round_neither_waits_nor_allocates(stand_in):
    game = new_game("mnist", captured=False)
    backend = game.backend
    z, images = filled(backend, (4, 6), 0.1), filled(backend, (4, 28, 28, 1), 0.5)
    players = game.players(backend, lambda: (images, None), lambda n: z)
    for _ in range(3):
        stand_in.device.counts.clear()
        result = game.play(players)
    forbidden = {"synchronizations", "allocations", "uploads"}
    assert not forbidden & set(stand_in.device.counts), stand_in.device.counts
    assert set(MEASURED) <= set(result)


def test_a_run_compiles_one_module_and_none_of_cupys_own_kernels(stand_in):
    """Each of CuPy's elementwise kernels would take a second to compile on a new machine."""
    for preset in ("mnist", "fredriksson-mnist"):
        stand_in.device.elementwise.clear()
        game = new_game(preset)
        play(game, 5, make_batches(game, count=14))
        game.sample(6, game.stream("sample"))
        assert game.backend.kernels.modules == 1
        assert stand_in.device.elementwise == set()


@pytest.mark.parametrize("preset", ("mnist", "radford-mnist-conditional"))
def test_samples_are_drawn_by_one_launch_a_batch(preset, stand_in):
    """The same as eagerly, of G as it is by then, and of another net that is drawn from."""
    game = new_game(preset)
    batches, size = make_batches(game, count=14), game.config.batch_size

    def eagerly(n):
        generator, drawn = game.stream("sample"), []
        numbers = np.arange(n + size) % max(game.preset.classes, 1)
        for start in range(0, n, size):
            z = np.empty((size, game.config.z_dim), np.float32)
            game.fill_z(z, generator)
            drawn.append(game.images_of(game.backend.asarray(z), numbers[start : start + size]))
        return np.concatenate(drawn)[:n]

    for net in (game.drawn_from, game.drawn_from, game.G, game.make_generator("another")):
        game.round(batches)
        game.drawn_from = net
        np.testing.assert_array_equal(game.sample(7, game.stream("sample")), eagerly(7))
    counts, launches = stand_in.device.counts, []
    for n in (1, 3):
        counts.clear()
        game.sample(n * size, game.stream("sample"))
        assert counts["graphs"] == n
        launches.append(counts["launches"])
    assert launches[0] == launches[1]  # of the frozen statistics, once
    assert (launches[0] == 0) == (preset == "mnist")


def test_which_games_can_be_captured(stand_in):
    def is_captured(preset, **options):
        return new_game(preset, **options).captured is not None

    assert is_captured("mnist")
    assert not is_captured("jayathilaka-faces:sgd"), "no kernel: its rate could not change"
    assert not is_captured("tensorflow-mnist"), "Dropout's masks are drawn on the host"
    assert is_captured("jayathilaka-faces:sgd", backend="numpy"), "processes run all of Python"


class OneRank(NcclGroup):
    """A group of one GPU. Sums of one in place are nothing to NCCL: these go to another array."""

    def __init__(self, xp):
        super().__init__(Group(), xp)
        self.size, self.sums, self.others = 2, 0, {}  # not 1, of which nothing is summed up

    def shard(self, batch):
        return batch

    def all_reduce(self, array):
        key = (array.size, array.dtype.name)
        if key not in self.others:
            self.others[key] = self.xp.empty(array.shape, array.dtype)
        other, stream = self.others[key].reshape(array.shape), self.xp.cuda.get_current_stream()
        kind, places = self.dtypes[array.dtype.name], (array.data.ptr, other.data.ptr)
        self.communicator.allReduce(*places, array.size, kind, self.sum, stream.ptr)
        array[...] = other
        self.sums += 1


def nodes_of(game):
    """-> how many nodes the graph of a game's rounds has"""
    text = game.captured.replay.graph.debug_dot_str(0)
    return len(set(re.findall(r"graph_\d+_node_\d+", text)))


@pytest.mark.parametrize(
    "preset", ["mnist", pytest.param("radford-mnist-conditional", marks=pytest.mark.slow)]
)
def test_sums_by_nccl_are_in_the_graph(preset, cupy):
    """A world of one GPU: the same bits; for each sum NCCL's node, and one that copies it back."""
    games = [new_game(preset), new_game(preset)]
    backend = games[1].backend
    try:
        backend.ranks = group = OneRank(backend.xp)
    except mg.BackendError as error:
        pytest.skip(str(error))
    played = [play(game, 2, make_batches(game, count=14)) for game in games]
    assert_same_bits(*played)
    with_nccl, without = nodes_of(games[1]), nodes_of(games[0])
    sums, runs = group.sums // 4, 4  # three that warm up, and the recorded one
    assert group.sums == sums * runs and sums > 10
    pools = with_nccl - without - 2 * sums  # kernels beside them: one before each sum of moments
    assert 0 < pools < sums
    for game in games:
        game.captured.close()


# -- one small step ----------------------------------------------------------------------------


class Small:
    """A net and its optimizer, and a step of them for `capture`."""

    def __init__(self):
        self.backend = mg.get_backend("cupy")
        self.net = mg.Sequential([mg.Linear(6), mg.BatchNorm(), mg.Tanh(), mg.Linear(1)])
        self.net.setup((4,), backend=self.backend, rng=np.random.default_rng(0))
        self.optimizer = mg.Adam(self.net)
        self.x = self.backend.asarray(np.random.default_rng(1).standard_normal((8, 4)))
        self.stateful = [self.net.store, self.optimizer]

    def make_step(self, backend, also=lambda backend, x: None):
        net, optimizer = self.net.on(backend), self.optimizer.on(backend)
        self.captured = net

        def step():
            net.zero_grads()
            loss, dlogits = mg.bce_with_logits(net.forward(self.x), 1.0, backend=backend)
            net.backward(dlogits, need_dx=False)
            optimizer.step()
            also(backend, self.x)
            return loss

        return step

    def capture(self):
        return self.backend.capture(self.make_step, self.stateful)

    def state(self):
        host = self.backend.to_host
        return [host(array) for each in self.stateful for array in each.state_arrays()]


def test_capture_leaves_networks_and_optimizers_as_they_were(cupy):
    small = Small()
    small.make_step(small.backend)()
    before = small.state()
    replay = small.capture()
    for one, other in zip(before, small.state(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert small.optimizer.steps == 1
    version = small.net.store.version
    losses = [float(small.backend.to_host(replay())) for _ in range(3)]
    assert losses[0] > losses[1] > losses[2]
    assert small.optimizer.steps == 4 and small.net.store.version == version + 3


def test_the_numbers_of_a_graph_are_those_of_the_program(cupy):
    seen = []
    for is_captured in (True, False):
        small = Small()
        step = small.capture() if is_captured else small.make_step(small.backend)
        for number in range(5):
            small.optimizer.lr = 0.01 / (1 + number // 2)
            step()
        seen.append(small.state())
    for one, other in zip(*seen, strict=True):
        np.testing.assert_array_equal(one, other)


def test_results_that_are_kept_beside_a_graph_stay_as_they_are(cupy):
    """A recorded step writes into memory of its own, whatever runs beside it."""
    small = Small()
    backend, net, replay = small.backend, small.net, small.capture()
    y = net.forward(filled(backend, (8, 4), 1.0), train=False)
    kept = backend.to_host(y)
    for _ in range(3):
        replay()
    net.forward(filled(backend, (64, 4), 1.0))  # larger: the eager memory grows, the graph's stays
    replay()
    np.testing.assert_array_equal(backend.to_host(y), kept)


def test_the_stand_in_notices_memory_that_a_graph_has_lost(stand_in):
    small = Small()
    replay = small.capture()
    replay()
    small.captured.steps[0].memory.memory.clear()
    small.captured.steps[0].saved = None
    with pytest.raises(AssertionError, match="memory that was given back"):
        replay()


def divide_by_zero(backend, x):
    return 1 / 0


FORBIDDEN = {  # what a step may not do while it is recorded
    "new memory": lambda backend, x: backend.xp.empty((3,), np.float32),
    "a result of an operation": lambda backend, x: backend.xp.add(x, x),
    "a copy from the host": lambda backend, x: x.set(np.zeros(x.shape, x.dtype)),
    "a copy to the host": lambda backend, x: backend.to_host(x),
    "waiting": lambda backend, x: backend.synchronize(),
    "CuPy's own cuBLAS": lambda backend, x: backend.xp.matmul(x[:4], x[:4], out=x[4:]),
    "a sum, even with out": lambda backend, x: backend.xp.sum(x, axis=0, out=x[0]),
    "a mistake": divide_by_zero,
}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_a_step_that_cannot_be_recorded(what, stand_in):
    """The recording ends, everything is restored, and the next one works."""
    small, device = Small(), stand_in.device
    before, backends = small.state(), []

    def also(backend, x):
        backends.append(backend)
        if device.recording is not None:
            FORBIDDEN[what](backend, x)

    with pytest.raises(ZeroDivisionError if what == "a mistake" else CUDARuntimeError):
        small.backend.capture(lambda backend: small.make_step(backend, also), small.stateful)
    assert device.recording is None and not device.streams and backends[-1].recording is None
    for one, other in zip(before, small.state(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert small.optimizer.steps == 0
    replay = small.capture()
    losses = [float(small.backend.to_host(replay())) for _ in range(2)]
    assert losses[0] > losses[1] and small.optimizer.steps == 2


def test_memory_that_a_step_takes_each_time_is_noticed(stand_in, monkeypatch):
    """CUDA would let it pass: after the recording the pool gives the memory to others."""
    small = Small()
    before, sizes = small.state(), iter((100, 200))
    monkeypatch.setattr(stand_in.cuda.MemoryPool, "total_bytes", lambda pool: next(sizes))
    with pytest.raises(mg.StateError, match="must not allocate memory"):
        small.capture()
    for one, other in zip(before, small.state(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("owner", ("GpuBackend", "Stream"))
def test_the_streams_wait_for_each_other(owner, stand_in, monkeypatch):
    """Without one of these waits a GPU could read what is not yet written."""
    small = Small()
    kind = {"GpuBackend": type(small.backend), "Stream": stand_in.cuda.Stream}[owner]
    monkeypatch.setattr(kind, "synchronize", lambda self: None)
    with pytest.raises((AssertionError, mg.BackendError), match=r"two streams|status 7"):
        small.capture()()


def test_the_null_stream_is_not_recorded(stand_in):
    with pytest.raises(CUDARuntimeError, match="null stream"), stand_in.cuda.Stream() as stream:
        stream.begin_capture()
