"""A step on several processes: the numbers of one, whatever happens to the processes."""

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest

import minigan as mg
from minigan.backends.cpu import parallel_step
from minigan.backends.cpu.backend import CpuBackend
from minigan.backends.cpu.parallel_step import ParallelStep
from minigan.gan import Players, plain_round
from minigan.parallel import shared_memory
from minigan.parallel.group import Group
from minigan.parallel.shared_memory import SharedMemoryGroup, can_fork
from tests.support.noise_games import (
    SYSTEMS,
    assert_near,
    assert_same_bits,
    make_batches,
    make_game,
    play,
)
from tests.support.processes import wait_for_end

pytestmark = pytest.mark.skipif(not can_fork(), reason="processes cannot be forked here")


@pytest.fixture(autouse=True)
def quick_checks(monkeypatch):
    """A process that is gone is noticed sooner."""
    monkeypatch.setattr(shared_memory, "SLEEP", 0.05)


def group_of(game):
    return game.captured.replay.group


# -- the numbers -------------------------------------------------------------------------------

SIZES = ((2, 14), (2, 15), (3, 14), (4, 16))  # processes, images in a batch
QUICK = [(preset, 2, 15) for preset in SYSTEMS] + [("mnist", 3, 14), ("mnist", 4, 16)]
REST = [
    pytest.param(preset, *sizes, marks=pytest.mark.slow)
    for preset in SYSTEMS
    for sizes in SIZES
    if (preset, *sizes) not in QUICK
]


@pytest.mark.parametrize("preset, size, batch_size", QUICK + REST)
def test_the_numbers_are_those_of_one_process(preset, size, batch_size):
    """Whole batches, even and uneven shards, and a smaller batch after three, played by one."""
    options = dict(dtype="float64", batch_size=batch_size)
    game = make_game(preset, threads=size, **options)
    found = play(game, 6)
    assert group_of(game).size == size
    game.captured.close()
    assert_near(found, play(make_game(preset, captured=False, threads=1, **options), 6))


def test_float32_has_the_same_bits_every_time():
    found = [play(make_game("mnist", threads=2), 6) for _ in range(2)]
    assert_same_bits(*found)
    one = play(make_game("mnist", captured=False, threads=1), 2)
    for row, expected in zip(found[0].rows, one.rows, strict=False):
        assert row == pytest.approx(expected, rel=1e-3)


class OwnRowsOnly:
    """Mistakes in what the processes exchange: name -> (object, attribute, wrong version)."""

    def average(self, mean, var, n):
        rows = self.all_gather(np.concatenate([mean, var]))
        mean[...], var[...] = np.split(rows.mean(axis=0), 2)  # without the means' own variance
        return n * self.size

    def all_reduce_but_batchnorm(self, array, all_reduce=SharedMemoryGroup.all_reduce):
        if array.ndim == 1:
            all_reduce(self, array)

    def gradients_of_the_first(self, array):
        array[...] = self.group.all_gather(array)[0]

    def mean_of_means(self, value, n):
        return self.all_gather(np.array([float(value)])).mean(), 1.0 / self.size

    def first_rows(self, batch):
        return batch[: len(batch) // self.size]

    def same_z(self, batch, shard=Group.shard):
        rows = shard(self, batch)
        return batch[: len(rows)] if batch.ndim == 2 else rows


MUTANTS = {
    "variance between the shards left out": (Group, "sync_batchnorm", OwnRowsOnly.average),
    "statistics of a process's own rows": (Group, "sync_batchnorm", lambda self, mean, var, n: n),
    "sums of own rows in BatchNorm's backward pass": (
        SharedMemoryGroup, "all_reduce", OwnRowsOnly.all_reduce_but_batchnorm,
    ),
    "gradients not summed": (CpuBackend, "all_reduce", lambda self, array: None),
    "gradients of the first process": (
        CpuBackend, "all_reduce", OwnRowsOnly.gradients_of_the_first,
    ),
    "a loss that is not weighted by rows": (Group, "mean", OwnRowsOnly.mean_of_means),
    "a loss as if its own rows were all": (Group, "mean", lambda self, value, n: (value, 1.0)),
    "everyone takes the first rows": (Group, "shard", OwnRowsOnly.first_rows),
    "the same z everywhere": (Group, "shard", OwnRowsOnly.same_z),
}  # fmt: skip


@pytest.fixture(scope="module")
def played_by_one():
    options = dict(dtype="float64", batch_size=15, threads=1, captured=False)
    return play(make_game("mnist", **options), 3)


@pytest.mark.parametrize("mutant", [None, *MUTANTS])
def test_mutants_are_caught(mutant, played_by_one, monkeypatch):
    if mutant is not None:
        monkeypatch.setattr(*MUTANTS[mutant])
    game = make_game("mnist", dtype="float64", batch_size=15, threads=2)
    found = play(game, 3)
    game.captured.close()
    if mutant is None:
        assert_near(found, played_by_one)
    else:
        with pytest.raises(AssertionError):
            assert_near(found, played_by_one)


def test_a_checkpoint_or_another_rate_is_noticed():
    """The other processes have copies of the old state, so new ones are forked."""
    seen = []
    for size in (2, 1):
        game = make_game("mnist", dtype="float64", threads=size, captured=size > 1)
        batches = make_batches(game, count=14 * 20)
        sections, record = game.state()
        start = {
            name: {key: np.array(array) for key, array in arrays.items()}
            for name, arrays in sections.items()
        }
        play(game, 3, batches)
        game.load(start, record, "a checkpoint")
        rows = play(game, 2, batches).rows
        game.optimizers["D"].lr = 1e-4
        played = play(game, 2, batches)
        seen.append(played._replace(rows=rows + played.rows))
        if size > 1:
            game.captured.close()
    assert_near(*seen)


def test_samples_and_the_average_leave_the_processes_alone():
    game = make_game("mnist", threads=2)
    assert game.average is not None
    batches = make_batches(game, count=14 * 20)
    play(game, 2, batches)
    children = list(group_of(game).children)
    for _ in range(3):
        game.sample_grid()
        play(game, 1, batches)
    assert group_of(game).children == children
    game.captured.close()
    assert all(wait_for_end(child) for child in children)


# -- one small step ----------------------------------------------------------------------------


class Tiny:
    """Two small nets, and a captured step that returns every process's parameters."""

    def __init__(self, size, rows=13, wrap=lambda step, backend: step):
        self.parent = backend = mg.get_backend("numpy", threads=size)
        layers = [mg.Linear(8), mg.BatchNorm(), mg.ReLU(), mg.Linear(4), mg.Tanh()]
        self.G = mg.Sequential(layers, name="G")
        layers = [mg.Linear(8), mg.BatchNorm(), mg.LeakyReLU(0.2), mg.Linear(1)]
        self.D = mg.Sequential(layers, name="D")
        self.G.setup((3,), backend=backend, rng=np.random.default_rng(0))
        self.D.setup((4,), backend=backend, rng=np.random.default_rng(0))
        self.optimizers = [mg.Adam(self.G), mg.SGD(self.D, 0.1)]
        self.x, self.z = (backend.staging_buffer((rows, c)).array for c in (4, 3))
        self.x[...] = np.random.default_rng(1).standard_normal(self.x.shape)
        self.z[...] = np.random.default_rng(2).standard_normal(self.z.shape)
        stateful = [self.G.store, self.D.store, *self.optimizers]
        self.play = backend.capture(lambda own: wrap(self.step_on(own), own), stateful, rows)

    def step_on(self, backend):
        players = Players(
            self.G.on(backend),
            self.D.on(backend),
            *(optimizer.on(backend) for optimizer in self.optimizers),
            lambda x=self.x: (backend.shard(x), None),
            lambda n, z=self.z: backend.shard(z),
        )
        group = backend.group

        def step():
            result = plain_round(players)
            for net in (players.G, players.D):
                buffers = np.concatenate(list(net.buffers.values()))
                result[net.name] = group.all_gather(net.store.flat_params).copy()
                result[f"{net.name} buffers"] = group.all_gather(buffers).copy()
            return result

        return step


@pytest.fixture
def make_tiny():
    """-> function (size, ...) -> Tiny, whose processes end with the test"""
    made = []

    def make(*arguments, **options):
        made.append(Tiny(*arguments, **options))
        return made[-1]

    yield make
    for tiny in made:
        tiny.play.stop()


@pytest.mark.parametrize("size", (2, 3, 4))
def test_all_processes_have_the_same_parameters_bit_for_bit(size, make_tiny):
    tiny = make_tiny(size, rows=17)
    for _ in range(4):
        result = tiny.play()
    for name in ("G", "D", "G buffers", "D buffers"):
        assert len(result[name]) == size
        assert all(np.array_equal(row, result[name][0]) for row in result[name]), name


def test_buffers_that_change_outside_of_the_step_are_noticed():
    """As u of a SpectralNorm does in a forward in training: other processes have the old one."""
    net = mg.Sequential([mg.SpectralNorm(mg.Linear(2))])
    parent = mg.get_backend("numpy", threads=2)
    net.setup((3,), backend=parent, rng=np.random.default_rng(0))
    step = parent.capture(lambda backend: lambda: None, [net.store], 8)
    before = step.state()
    assert step.state() == before
    net.buffers["0.u"] = [1, 0]
    assert step.state() != before
    step.stop()


def make_forward(net, x, y, backend):
    """-> a step: y = net(x)"""
    captured = net.on(backend)

    def step():
        backend.shard(y)[...] = captured.forward(backend.shard(x))

    return step


def test_batchnorm_of_many_channels_fits_the_shared_memory():
    """Its sums are longer than any array of the network."""
    parent, c = mg.get_backend("numpy", threads=2), 70_000
    net = mg.Sequential([mg.BatchNorm(gain=False, bias=False)])
    net.setup((c,), backend=parent, rng=np.random.default_rng(0))
    x = parent.staging_buffer((8, c)).array
    x[...] = np.random.default_rng(0).standard_normal(x.shape)
    y = parent.staging_buffer(x.shape).array
    step = parent.capture(partial(make_forward, net, x, y), [net.store], len(x))
    step()
    step.stop()
    np.testing.assert_allclose(y.mean(axis=0), 0, atol=1e-6)


def test_batchnorm_far_from_zero_is_as_exact_as_in_one_process():
    """Mean 100, deviation 0.01, in float32, of uneven shards."""
    parent = mg.get_backend("numpy", threads=2)
    net = mg.Sequential([mg.BatchNorm()])
    net.setup((3,), backend=parent, rng=np.random.default_rng(0))
    x = parent.staging_buffer((1001, 3)).array
    x[...] = np.random.default_rng(0).normal(100, 0.01, x.shape)
    y = parent.staging_buffer(x.shape).array
    exact = x.astype(np.float64)
    exact = (exact - exact.mean(axis=0)) / np.sqrt(exact.var(axis=0) + 1e-5)
    of_one = np.abs(net.forward(x) - exact).max()
    step = parent.capture(partial(make_forward, net, x, y), [net.store], len(x))
    for _ in range(2):  # recorded, and replayed
        step()
        assert np.abs(y - exact).max() <= 2 * of_one
    step.stop()
    assert of_one < 1e-2


def test_batches_whose_size_changes_are_refused(make_tiny):
    """Each process counts the calls; at the third there is one row more."""

    def wrap(step, backend):
        net, calls = tiny_net.on(backend), []

        def growing():
            calls.append(None)
            net.forward(backend.shard(x[: 13 if len(calls) < 3 else 12]))
            return step()

        return growing

    parent = mg.get_backend("numpy", threads=2)
    tiny_net = mg.Sequential([mg.Linear(3), mg.BatchNorm()])
    tiny_net.setup((4,), backend=parent, rng=np.random.default_rng(0))
    x = parent.staging_buffer((13, 4)).array
    x[...] = np.random.default_rng(0).standard_normal(x.shape)
    tiny = make_tiny(2, wrap=wrap)
    for _ in range(2):
        tiny.play()
    with pytest.raises(mg.StateError, match="batches of the same sizes every time") as caught:
        tiny.play()
    assert "\n" not in str(caught.value) and not tiny.play.group.children


# -- how processes end -------------------------------------------------------------------------


def test_a_process_killed_between_steps_is_replaced(make_tiny):
    tiny, other = make_tiny(3), make_tiny(3)
    first = tiny.play()
    os.kill(tiny.play.group.children[1], signal.SIGKILL)
    time.sleep(0.05)
    assert first["loss_g"] == other.play()["loss_g"]
    for _ in range(2):
        assert tiny.play()["loss_g"] == other.play()["loss_g"]


def fail_in_process_1(failure):
    """-> wrap for Tiny"""

    def wrap(step, backend):
        def failing():
            if backend.group.rank == 1:
                failure()
            return step()

        return failing

    return wrap


def no_memory():
    raise MemoryError("no room for 5 GiB")


@pytest.mark.parametrize(
    "failure, message",
    (
        (no_memory, r"process 1 of 3 ended during a step \(MemoryError: no room for 5 GiB\): try"),
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "killed: was there enough memory"),
    ),
)
def test_a_process_that_ends_within_a_step_is_reported(failure, message, make_tiny):
    tiny = make_tiny(3, wrap=fail_in_process_1(failure))
    with pytest.raises(mg.BackendError, match=message) as caught:
        tiny.play()
    assert "\n" not in str(caught.value) and "--threads 1" in str(caught.value)
    assert tiny.play.group.children == []


@pytest.mark.parametrize("error", (KeyboardInterrupt, MemoryError))
def test_when_the_caller_fails_the_others_end_and_the_next_step_starts_again(error, make_tiny):
    fails = []

    def wrap(step, backend):
        def failing():
            if fails and backend.group.rank == 0:
                raise error
            return step()

        return failing

    tiny = make_tiny(2, wrap=wrap)
    tiny.play()
    children = list(tiny.play.group.children)
    fails.append(1)
    with pytest.raises(error):
        tiny.play()
    assert all(wait_for_end(child) for child in children)
    fails.clear()
    assert np.isfinite(tiny.play()["loss_g"])


def test_no_more_processes_can_be_started(make_tiny, monkeypatch, caplog):
    """One line, the process that was started ends, and threads go on, at later steps too."""
    fork, children = os.fork, []

    def refuse():
        if children:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        children.append(fork())
        return children[0]

    tiny, other = make_tiny(3), make_tiny(3)
    expected = [other.play()["loss_g"] for _ in range(2)]
    monkeypatch.setattr(os, "fork", refuse)
    played = [tiny.play()["loss_g"] for _ in range(2)]
    assert wait_for_end(children[0])
    (line,) = caplog.messages
    assert line.startswith("minigan: could not start 2 more processes (Resource temporarily")
    np.testing.assert_allclose(played, expected, rtol=1e-4)


def test_each_step_from_a_new_thread():
    """Processes belong to the program, not to the thread that forked them."""
    with ThreadPoolExecutor(1) as one:
        expected = one.submit(play, make_game("mnist", threads=2), 6).result()
    game = make_game("mnist", threads=2)
    batches, rows, children = make_batches(game), [], set()
    for _ in range(6):
        with ThreadPoolExecutor(1) as fresh:
            rows.append(fresh.submit(lambda: game.read(game.round(batches))).result())
        time.sleep(0.01)
        children.update(group_of(game).children)
    assert rows == expected.rows and len(children) == 2  # two, because of the smaller batch


def test_a_step_is_for_one_thread_at_a_time(make_tiny):
    entered, leave = threading.Event(), threading.Event()

    def wrap(step, backend):
        def slow():
            if backend.group.rank == 0:
                entered.set()
                leave.wait(20)
            return step()

        return slow

    tiny = make_tiny(2, wrap=wrap)
    with ThreadPoolExecutor(1) as other:
        first = other.submit(tiny.play)
        assert entered.wait(20)
        with pytest.raises(mg.StateError, match="a captured step is in use by another thread"):
            tiny.play()
        leave.set()
        assert np.isfinite(first.result()["loss_g"])


def test_signals_are_for_the_callers_process(make_tiny):
    """What stops a terminal's program reaches all processes, but a step must end as a whole."""
    tiny = make_tiny(2)
    tiny.play()
    children = list(tiny.play.group.children)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(children[0], number)
    assert np.isfinite(tiny.play()["loss_g"]) and tiny.play.group.children == children


@pytest.mark.parametrize("owner", ("a captured step", "a game"))
def test_processes_end_with_their_owner(owner):
    """At once, and not when the garbage collector runs."""
    gc.disable()
    try:
        if owner == "a game":
            object_ = make_game("mnist", threads=2)
            play(object_, 4)
            children = list(group_of(object_).children)
        else:
            object_ = Tiny(2).play
            object_()
            children = list(object_.group.children)
        assert len(children) == 1
        del object_
        assert all(wait_for_end(child) for child in children)
    finally:
        gc.enable()


PROGRAM = """
import os, signal, sys, numpy as np
import minigan as mg
backend = mg.get_backend("numpy", threads=2)
net = mg.Sequential([mg.Linear(2)])
net.setup((2,), backend=backend, rng=np.random.default_rng(0))
play = backend.capture(lambda own: own.group.barrier, [net.store], 100)
play()
print(play.group.children[0], flush=True)
{end}
"""


@pytest.mark.parametrize(
    "end",
    (
        "os.kill(os.getpid(), signal.SIGKILL)",
        *(
            pytest.param(end, marks=pytest.mark.slow)
            for end in ("pass", "os._exit(3)", "1 / 0", "sys.exit(4)")
        ),
    ),
)
def test_no_process_outlives_the_program(end):
    program = [sys.executable, "-c", PROGRAM.format(end=end)]
    done = subprocess.run(program, capture_output=True, text=True, timeout=60)
    assert wait_for_end(int(done.stdout)), done.stderr
    assert done.stdout.count("\n") == 1, "the other process prints nothing"
    assert ("ZeroDivision" in done.stderr) == (end == "1 / 0")


BUSY = """
import os, signal, sys, time, numpy as np
import minigan as mg
backend = mg.get_backend("numpy", threads=2)
net = mg.Sequential([mg.Linear(2)])
net.setup((2,), backend=backend, rng=np.random.default_rng(0))
def make_step(own):
    def step():
        if own.group.rank == 1:
            time.sleep(60)
        print(play.group.children[0], flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    return step
play = backend.capture(make_step, [net.store], 100)
play()
"""


def test_a_process_that_computes_ends_with_its_parent():
    """It does not wait for the next barrier, where its parent never arrives."""
    done = subprocess.run([sys.executable, "-c", BUSY], capture_output=True, text=True, timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert wait_for_end(int(done.stdout), seconds=5), done.stderr


def test_warnings_about_forks_are_not_shown():
    """JAX warns, if it is loaded, in a function that Python calls before each fork."""
    warn = "import os, warnings\nos.register_at_fork(before=lambda: warnings.warn('threads'))\n"
    program = [sys.executable, "-W", "error", "-c", warn + PROGRAM.format(end="pass")]
    done = subprocess.run(program, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and not done.stderr, done.stderr


# -- where it does not pay ---------------------------------------------------------------------


def test_a_step_stays_as_it_is_where_processes_do_not_pay_or_cannot_be(monkeypatch):
    net = mg.Sequential([mg.Linear(2)])
    net.setup((2,), backend=mg.get_backend("numpy"), rng=np.random.default_rng(0))

    def processes(rows, threads=4):
        def make_step(backend):
            return lambda: backend

        backend = mg.get_backend("numpy", threads=threads)
        step = backend.capture(make_step, [net.store], rows)
        if isinstance(step, ParallelStep):
            return step.group.size
        assert step() is backend
        return 1

    assert processes(8) == 2, "4 rows are a shard"
    assert processes(15) == 3 and processes(100) == 4
    assert processes(7) == 1 and processes(0) == 1 and processes(100, threads=1) == 1
    monkeypatch.setattr(parallel_step, "MAX_STATE", 5)
    assert processes(100) == 1, "too many parameters"
    monkeypatch.setattr(parallel_step, "MAX_STATE", 2**23)
    monkeypatch.setattr(sys, "platform", "darwin")
    assert processes(100) == 1
