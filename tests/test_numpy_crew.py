"""Several processes at one step: the numbers of one, whatever happens to the processes."""

import gc
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import numpy as np
import pytest

import minigan as mg
import minigan.training.loop
from minigan.backends.cpu import crew as numpy_crew
from minigan.backends.cpu import sides as numpy_sides
from minigan.backends.cpu.backend import NumpyBackend
from minigan.backends.cpu.sides import change_hands, settle
from minigan.data import Batches
from minigan.gan import Rules, play_round, update_discriminator
from minigan.training.captured_round import Recorded
from minigan.training.config import new_config
from minigan.training.game import Game

pytestmark = pytest.mark.skipif(not numpy_crew.can_fork(), reason="processes are not forked here")

SYSTEMS = {  # every rule of the game, labels, decay
    "mnist": {},
    "fredriksson-mnist": {},
    "shibuya-mnist": dict(joint_update=True),
    "radford-mnist-conditional": {},
    "shibuya-fnn": {},
    "tensorflow-mnist": {},
}


def make_game(monkeypatch, preset, size, dtype="float64", **options):
    """size: how many processes; 1: nobody but this one"""
    monkeypatch.setattr(
        minigan.training.loop,
        "get_backend",
        lambda name, threads, precision: NumpyBackend(dtype, threads=size),
    )
    options = {
        "width": 4,
        "batch_size": 14,
        "z_dim": 6,
        "seed": 3,
        **SYSTEMS.get(preset, {}),
        **options,
    }
    game = Game(new_config(dict(preset=preset, **options)))
    if size == 1:
        game.recorded = None
    return game


def make_batches(game, count=50):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (count, *game.config.image_shape), np.uint8)
    labels = np.arange(count) % game.preset.classes if game.preset.classes else None
    return Batches(images, game.config.batch_size, 1, labels=labels, pixel_min=game.preset.pixel_min)


def play(game, steps, batches=None):
    """-> what each round measured, and at the end all numbers of the game"""
    batches = batches or make_batches(game)
    rows = [game.read(game.round(batches)) for _ in range(steps)]
    sections, record = game.state()
    return (
        rows,
        {
            f"{section}/{name}": array.copy()
            for section, arrays in sections.items()
            for name, array in arrays.items()
        },
        record,
    )


def assert_near(ours, theirs, within=1e-7):
    for mine, other in zip(ours[0], theirs[0], strict=True):
        assert mine == pytest.approx(other, rel=within)
    for name, array in ours[1].items():
        np.testing.assert_allclose(
            array, theirs[1][name], rtol=within, atol=1e-9, err_msg=name
        )  # a bias before BatchNorm is but rounding
    assert ours[2] == theirs[2], "steps, or the state of a generator"


def crew_of(game):
    return game.recorded.replay.crew


@pytest.fixture
def tiny():
    """-> function size -> a captured step of two small nets, which gives everyone's parameters; its parts"""

    def make(size, rows=13, wrap=lambda step: step):
        backend = NumpyBackend("float32", threads=size)
        G = mg.Sequential(
            [mg.Linear(8), mg.BatchNorm(), mg.ReLU(), mg.Linear(4), mg.Tanh()], name="G"
        )
        D = mg.Sequential([mg.Linear(8), mg.BatchNorm(), mg.LeakyReLU(0.2), mg.Linear(1)], name="D")
        for net, shape in ((G, (3,)), (D, (4,))):
            net.setup(shape, backend=backend, rng=np.random.default_rng(0))
        optimizers = {"G": mg.Adam(G), "D": mg.SGD(D, 0.1)}
        x, z = backend.inbox((rows, 4)).array, backend.inbox((rows, 3)).array
        x[...] = np.random.default_rng(1).standard_normal(x.shape)
        z[...] = np.random.default_rng(2).standard_normal(z.shape)

        def step():
            share = backend.share
            result = play_round(
                G, D, optimizers, lambda: (share(x), None), lambda n: share(z), Rules(same_z=True)
            )
            if backend.crew is not None:
                for net in (G, D):
                    result[net.name] = backend.crew.exchange(net.store.flat_params).copy()
                    result[f"{net.name} buffers"] = backend.crew.exchange(
                        np.concatenate(list(net.buffers.values()))
                    ).copy()
            return result

        return backend.capture(wrap(step), rows), backend, optimizers, (G, D)

    return make


def wait_for_end(pid, seconds=10):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            with open(f"/proc/{pid}/stat") as file:
                if file.read().split(")")[-1].split()[0] == "Z":
                    return True
        except OSError:
            return True
        time.sleep(0.01)
    return False


@pytest.mark.parametrize("size, batch_size", [(2, 14), (2, 15), (3, 14), (4, 16)])
@pytest.mark.parametrize("preset", SYSTEMS)
def test_the_numbers_are_those_of_one_process(preset, size, batch_size, monkeypatch):
    """With shares of the same size, where real images and fakes are two sides in D's update, and of different ones; and a smaller
    batch after three, played by one alone."""
    game = make_game(monkeypatch, preset, size, batch_size=batch_size)
    if game.recorded is None:  # Dropout draws in the middle of a step
        assert any(net.ready().generators for net in game.nets.values())
        return
    ours = play(game, 6)
    assert crew_of(game).size == size
    assert_near(ours, play(make_game(monkeypatch, preset, 1, batch_size=batch_size), 6))


def test_in_float32_within_rounding_and_every_time_the_same_bits(monkeypatch):
    first, again = (play(make_game(monkeypatch, "mnist", 2, "float32"), 6) for _ in range(2))
    assert first[0] == again[0] and first[2] == again[2]
    for name, array in first[1].items():
        np.testing.assert_array_equal(array, again[1][name])
    assert_near(
        (first[0][:2], {}, None),
        (play(make_game(monkeypatch, "mnist", 1, "float32"), 2)[0], {}, None),
        1e-3,
    )


def test_how_many_rows_were_announced_does_not_matter(monkeypatch):
    """Sides are taken by what each batch has."""
    game = make_game(monkeypatch, "mnist", 2, batch_size=15)
    capture = game.backend.capture
    monkeypatch.setattr(game.backend, "capture", lambda step, rows: capture(step, 16))
    assert_near(play(game, 3), play(make_game(monkeypatch, "mnist", 1, batch_size=15), 3))


def test_sides_do_not_hide_what_is_wrong_with_a_batch():
    backend = NumpyBackend("float32", threads=2)
    D = mg.Sequential([mg.Flatten(), mg.Linear(1)], name="D")
    D.setup((2, 2, 1), backend=backend, rng=np.random.default_rng(0))
    right, share = np.ones((8, 2, 2, 1), np.float32), backend.share
    update, optimizer = backend.implementation(update_discriminator), mg.Adam(D, 1e-3)
    for real, fake, error in (
        (right.astype(np.float64), right, mg.ArrayTypeError),
        (right[:, :1], right, mg.ShapeError),
        (right, right.tolist(), mg.ArrayTypeError),
        (np.ones((8, 2, 2, 3), np.float32),) * 2 + (mg.ShapeError,),
    ):
        with pytest.raises(error, match=r"D\.0"):
            backend.capture(
                lambda real=real, fake=fake: update(D, optimizer, share(real), share(fake)), 8
            )()
    assert np.isfinite(
        backend.capture(lambda: update(D, optimizer, share(right), share(right)), 8)()[
            "loss_d_real"
        ]
    )


@pytest.mark.parametrize("size", [2, 3])
def test_all_processes_have_the_same_parameters_bit_by_bit(size, tiny):
    play, *_ = tiny(size)
    for _ in range(4):
        result = play()
    for name in ("G", "D", "G buffers", "D buffers"):
        assert len(result[name]) == size
        assert all(np.array_equal(row, result[name][0]) for row in result[name]), name
    play.stop()


def wrong_pool(self, mean, var, n):
    rows = self.exchange(np.concatenate([mean, var]))
    mean[...], var[...] = np.split(rows.mean(axis=0), 2)  # without the means' own variance
    return n * self.size


MUTANTS = {
    "variance between the shares left out": ("pool", wrong_pool),
    "statistics of one's own rows": ("pool", lambda self, mean, var, n: n),
    "sums of one's own rows in BatchNorm's backward pass": ("add", lambda self, values: None),
    "gradients of one's own rows": ("add_gradients", lambda self, gradient: None),
    "gradients of the first process": (
        "add_gradients",
        lambda self, gradient: np.copyto(gradient, self.exchange(gradient)[0]),
    ),
    "loss as if one's own rows were all": (
        "mean",
        lambda self, value, n: (self.exchange(np.array([value]))[:, 0].mean(), 1.0),
    ),
    "everyone takes the first rows": (
        "share",
        lambda self, batch: batch[: len(batch) // self.size],
    ),
    "running statistics of one's own side": (
        "update_running",
        lambda self, norm, *statistics: norm.update_running(*statistics),
    ),
}


@contextmanager
def no_sides(crew):
    crew.unsettled = []
    yield
    crew.unsettled = None


def one_reads_his_own(crew, batches):
    change_hands(crew, batches)
    return [(real, fake)[2 * crew.rank // crew.size] for real, fake in batches]


SIDES = {
    "statistics of both sides together": ("sides", no_sides),
    "losses change places": ("settle", lambda crew, *figures: settle(crew, *figures)[::-1]),
    "no rows change hands": ("change_hands", one_reads_his_own),
}


@pytest.mark.parametrize("mutant", [*MUTANTS, *SIDES])
def test_mutants_are_caught(mutant, monkeypatch):
    size, batch_size = (4, 16) if mutant in SIDES else (2, 14)
    right = play(make_game(monkeypatch, "mnist", 1, batch_size=batch_size), 3)
    if mutant in SIDES:
        monkeypatch.setattr(numpy_sides, *SIDES[mutant])
    else:
        monkeypatch.setattr(numpy_crew.Crew, *MUTANTS[mutant])
    ours = play(make_game(monkeypatch, "mnist", size, batch_size=batch_size), 3)
    with pytest.raises(AssertionError):
        assert_near(ours, right)


def test_what_else_changes_the_game_is_heard_of(monkeypatch):
    """A checkpoint that is loaded, another learning rate: the other processes are forked anew."""
    seen = []
    for size in (2, 1):
        game = make_game(monkeypatch, "mnist", size)
        batches = make_batches(game, count=14 * 20)
        start = game.state()
        start = (
            {
                name: {key: a.copy() for key, a in arrays.items()}
                for name, arrays in start[0].items()
            },
            start[1],
        )
        play(game, 3, batches)
        game.load(*start, "a checkpoint")
        rows = play(game, 2, batches)[0]
        game.optimizers["D"].lr = 1e-4
        ours = play(game, 2, batches)
        seen.append((rows + ours[0], *ours[1:]))
    assert_near(*seen)


@pytest.mark.parametrize("size", [1, 2])
def test_a_round_of_batches_of_different_sizes(size, monkeypatch):
    """The second is smaller, and wants a z of its own although z is shared."""
    game = make_game(monkeypatch, "mnist", 2)
    game.rules = Rules(d_steps=2, same_z=True)
    game.recorded = Recorded(game) if size == 2 else None
    other = make_game(monkeypatch, "mnist", 1)
    other.rules = game.rules
    assert_near(play(game, 4), play(other, 4))


def test_pictures_between_rounds_and_the_average_do_not_fork_anew(monkeypatch):
    game = make_game(monkeypatch, "mnist", 2)
    assert game.average is not None
    batches = make_batches(game, count=14 * 20)
    play(game, 2, batches)
    children = list(crew_of(game).children)
    for _ in range(3):
        game.sample_grid()
        play(game, 1, batches)
    assert crew_of(game).children == children
    game.recorded.close()
    assert all(wait_for_end(child) for child in children)


def test_processes_go_with_the_game(monkeypatch):
    """At once, not when the garbage collector comes by."""
    gc.disable()
    try:
        game = make_game(monkeypatch, "mnist", 2)
        play(game, 4)
        children = list(crew_of(game).children)
        del game
        assert all(wait_for_end(child) for child in children)
    finally:
        gc.enable()


def test_a_process_that_was_killed_between_steps_is_replaced(tiny):
    play, *_ = tiny(3)
    other, *_ = tiny(3)
    first = play()
    os.kill(play.crew.children[1], signal.SIGKILL)
    time.sleep(0.05)
    assert first["loss_g"] == other()["loss_g"]
    for _ in range(2):
        assert play()["loss_g"] == other()["loss_g"]
    for captured in (play, other):
        captured.stop()


def test_a_process_that_ends_within_a_step_is_told_and_nobody_is_left(tiny):
    def wrap(step):
        def failing():
            if backend.crew.rank == 1:
                raise MemoryError("no room for 5 GiB")
            return step()

        return failing

    play, backend, *_ = tiny(3, wrap=wrap)
    with pytest.raises(
        mg.BackendError,
        match=r"process 1 of 3 ended within a step \(MemoryError: no room for 5 GiB\): try a smaller",
    ):
        play()
    assert play.crew is None and backend.crew is None and backend.team.size == 3


def test_one_that_is_killed_within_a_step(tiny):
    def wrap(step):
        def failing():
            if backend.crew.rank == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            return step()

        return failing

    play, backend, *_ = tiny(2, wrap=wrap)
    with pytest.raises(mg.BackendError, match="killed: was there enough memory"):
        play()


def test_no_more_processes_to_be_had(tiny, monkeypatch):
    """One line, and the first that was started ends."""
    fork, children = os.fork, []

    def refuse():
        if children:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        child = fork()
        children.append(child)
        return child

    play, *_ = tiny(3)
    monkeypatch.setattr(os, "fork", refuse)
    with pytest.raises(
        mg.BackendError,
        match=r"could not start 2 more processes \(Resource temporarily unavailable\): --threads 1",
    ):
        play()
    assert wait_for_end(children[0])


def test_without_semaphores_the_step_stays_as_it_is(monkeypatch):
    def refuse(*arguments, **options):
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr("multiprocessing.synchronize.SemLock.__init__", refuse)
    assert not numpy_crew.can_fork()


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_when_the_caller_fails_the_others_end_and_the_next_step_begins_anew(error, tiny):
    fails = []

    def wrap(step):
        def failing():
            if fails and backend.crew.rank == 0:
                raise error
            return step()

        return failing

    play, backend, *_ = tiny(2, wrap=wrap)
    play()
    children = list(play.crew.children)
    fails.append(1)
    with pytest.raises(error):
        play()
    assert all(wait_for_end(child) for child in children)
    fails.clear()
    assert np.isfinite(play()["loss_g"])
    children = list(play.crew.children)
    del play
    assert all(wait_for_end(child) for child in children), "they go with the captured step"


def test_signals_are_the_callers_business(tiny):
    """Ctrl-C reaches all processes of a terminal; the step must come to its end."""
    play, *_ = tiny(2)
    play()
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(play.crew.children[0], number)
    children = list(play.crew.children)
    assert np.isfinite(play()["loss_g"]) and play.crew.children == children
    play.stop()


PROGRAM = """
import os, signal, sys, numpy as np
import minigan as mg
backend = mg.get_backend("numpy", threads=2)
net = mg.Sequential([mg.Linear(2)]); net.setup((2,), backend=backend, rng=np.random.default_rng(0))
play = backend.capture(lambda: backend.crew.meet(), 100)
play()
print(play.crew.children[0], flush=True)
{end}
"""


@pytest.mark.parametrize(
    "end", ["pass", "os._exit(3)", "os.kill(os.getpid(), signal.SIGKILL)", "1 / 0"]
)
def test_no_process_outlives_the_program(end):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(end=end)], capture_output=True, text=True, timeout=60
    )
    assert wait_for_end(int(done.stdout)), done.stderr
    assert done.stdout.count("\n") == 1 and ("ZeroDivision" in done.stderr) == (end == "1 / 0"), (
        "the children print nothing"
    )


def test_who_warns_of_forks_is_not_heard():
    """JAX does, where it is loaded, by a function that Python calls before each fork."""
    warn = "import os, warnings\nos.register_at_fork(before=lambda: warnings.warn('fork and threads', RuntimeWarning))\n"
    program = [sys.executable, "-W", "error", "-c", warn + PROGRAM.format(end="pass")]
    done = subprocess.run(program, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and not done.stderr, done.stderr


def test_where_it_does_not_pay_or_cannot_be_the_step_stays_as_it_is(monkeypatch):
    backend = NumpyBackend("float32", threads=4)
    net = mg.Sequential([mg.Linear(2)])
    net.setup((2,), backend=backend, rng=np.random.default_rng(0))

    def step():
        return None

    assert backend.capture(step, 8).size == 2, "4 rows are a share"
    assert backend.capture(step, 7) is step and backend.capture(step) is step
    assert NumpyBackend("float32", threads=1).capture(step, 100) is step
    monkeypatch.setattr(numpy_crew, "MOST", 5)
    assert backend.capture(step, 100) is step, "so many parameters"
    monkeypatch.setattr(numpy_crew, "MOST", 2**23)
    monkeypatch.setattr(sys, "platform", "darwin")
    assert backend.capture(step, 100) is step


def test_a_layer_derived_from_batchnorm_is_refused():
    class Own(mg.BatchNorm):
        pass

    backend = NumpyBackend("float32", threads=2)
    net = mg.Sequential([mg.Linear(2), Own()])
    net.setup((2,), backend=backend, rng=np.random.default_rng(0))
    x = backend.inbox((16, 2)).array
    with pytest.raises(mg.StateError, match="derived from BatchNorm"):
        backend.capture(lambda: net.forward(backend.share(x)), 16)()


def test_z_sizes_are_what_a_round_draws():
    for preset in minigan.training.loop.get_preset.__globals__["MODULES"]:
        rules, sizes = minigan.training.loop.get_preset(preset).rules, []
        config = new_config(dict(preset=preset, width=2, batch_size=4, z_dim=3))
        game = Game(config)
        batches = make_batches(game, count=40)

        def draw(n, game=game, sizes=sizes):
            sizes.append(n)
            return game.draw_z(n)

        def images(game=game, batches=batches):
            x, numbers = batches.draw()
            return x, game.labels(numbers)

        play_round(game.G, game.D, game.optimizers, images, draw, rules)
        assert rules.z_sizes(4) == sizes, preset
