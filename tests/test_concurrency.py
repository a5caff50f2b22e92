"""Threads of one program: what they share, what is refused, and what a limit of the system does."""

import copy
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import minigan as mg
from minigan.backends.cpu.threads import Team, blas
from minigan.concurrency import InUse, ProcessWide, Workers, can_start
from minigan.data.prepare.threads import map_in_threads
from minigan.parallel.shared_memory import can_fork
from tests.support.noise_games import assert_same_bits, make_batches, make_game, play


def in_threads(*work):
    """Call all at the same time, each in a thread -> their results."""
    barrier = threading.Barrier(len(work))

    def call(each):
        barrier.wait(20)
        return each()

    with ThreadPoolExecutor(len(work)) as pool:
        return [future.result() for future in [pool.submit(call, each) for each in work]]


# -- games side by side


KINDS = (dict(threads=2), dict(threads=1), dict(backend="plain"))


@pytest.mark.slow
@pytest.mark.parametrize("preset", ("mnist", pytest.param("shibuya-mnist", marks=pytest.mark.slow)))
def test_games_in_threads_give_the_bits_of_each_alone(preset):
    """On processes, on threads, and by the definitions; all start, fork and end at any time."""
    jobs = [lambda kind=kind: play(make_game(preset, **kind), 6) for kind in (*KINDS, KINDS[0])]
    for found, job in zip(in_threads(*jobs), jobs, strict=True):
        assert_same_bits(found, job())


@pytest.mark.long
def test_many_games_in_threads_give_the_bits_of_each_alone():
    jobs = [
        lambda kind=kind, preset=preset: play(make_game(preset, batch_size=16, **kind), 5)
        for preset in ("mnist", "radford-mnist-conditional")
        for kind in KINDS
    ]
    expected = [job() for job in jobs]
    for first in range(20):
        chosen = [(first + step) % len(jobs) for step in (0, 1 + first % 5)]
        for found, i in zip(in_threads(*[jobs[i] for i in chosen]), chosen, strict=True):
            assert_same_bits(found, expected[i])


def passes(net, seed):
    """Forward and backward passes of a network -> all results."""
    rng, found = np.random.default_rng(seed), []
    for _ in range(20):
        x = rng.standard_normal((16, 12, 12, 8), dtype=np.float32)
        y = net.forward(x)
        net.zero_grads()
        found += [y, net.backward(y), *map(np.copy, net.grads.values())]
    return found


def make_net(backend):
    layers = [mg.Conv2d(64, 4, 2, 1), mg.BatchNorm(), mg.ReLU(), mg.ConvTranspose2d(8, 4, 2, 1)]
    net = mg.Sequential([*layers, mg.Tanh()])
    net.setup((12, 12, 8), backend=backend, rng=np.random.default_rng(0))
    return net


def test_networks_of_one_backend_in_two_threads():
    """They share the backend, but no scratch memory."""
    backend = mg.get_backend("numpy", threads=2)
    expected = [passes(make_net(mg.get_backend("numpy", threads=2)), seed) for seed in (1, 2)]
    nets = [make_net(backend) for _ in range(2)]
    found = in_threads(lambda: passes(nets[0], 1), lambda: passes(nets[1], 2))
    for some, others in zip(found, expected, strict=True):
        for array, other in zip(some, others, strict=True):
            np.testing.assert_array_equal(array, other)


def test_forward_in_one_thread_and_backward_in_another():
    """While the first thread uses another network of the same backend."""
    backend = mg.get_backend("numpy", threads=1)
    net, other = make_net(backend), make_net(backend)
    x = np.random.default_rng(0).standard_normal((16, 12, 12, 8), dtype=np.float32)
    y = net.forward(x)
    expected, grads = net.backward(y), net.grads["0.W"].copy()
    net.zero_grads()
    net.forward(x)
    other.backward(other.forward(-x))
    with ThreadPoolExecutor(1) as pool:
        np.testing.assert_array_equal(pool.submit(net.backward, y).result(), expected)
    np.testing.assert_array_equal(net.grads["0.W"], grads)


# -- one object, two threads


def test_an_object_in_use_refuses_another_thread():
    in_use = InUse("G")
    with in_use, ThreadPoolExecutor(1) as pool:
        with pytest.raises(mg.StateError, match=r"^G is in use by another thread: make one for"):
            pool.submit(in_use.__enter__).result()
        with copy.deepcopy(in_use):
            pass
    with in_use:
        pass


def test_a_thread_that_was_interrupted_may_come_again():
    in_use = InUse("G")
    in_use.__enter__()  # and then Ctrl-C
    with in_use:
        pass


def test_what_refuses_a_second_thread():
    game = make_game("mnist", threads=1)
    batches, G = make_batches(game), game.G
    z, optimizer = game.draw_z(4), mg.SGD(G, lr=0.1)
    calls = {
        G.in_use: (lambda: G.forward(z), optimizer.step),
        batches.in_use: (batches.draw, batches.choose, lambda: game.round(batches)),
        game.in_use: (lambda: game.round(batches), game.sample_grid),
    }
    with ThreadPoolExecutor(1) as other:
        for in_use, refused in calls.items():
            with in_use:
                for call in refused:
                    with pytest.raises(mg.StateError, match="in use by another thread"):
                        other.submit(call).result()
    play(game, 1, batches)


def test_a_process_wide_setting_is_made_by_the_first_thread_and_undone_by_the_last():
    events = []

    class Setting:
        def __enter__(self):
            events.append("made")

        def __exit__(self, *_):
            events.append("undone")

    setting, inside, leave = ProcessWide(Setting), threading.Event(), threading.Event()

    def work():
        with setting():
            inside.set()
            leave.wait(20)

    with ThreadPoolExecutor(1) as pool:
        with setting():
            done = pool.submit(work)
            assert inside.wait(20)
        assert events == ["made"]  # the thread is still inside
        leave.set()
        done.result()
    assert events == ["made", "undone"]


@pytest.mark.skipif(not can_fork() or blas.get is None, reason="no fork, or no OpenBLAS")
def test_a_forked_child_forgets_what_other_threads_hold():
    inside, leave, before = threading.Event(), threading.Event(), blas.get()

    def work():
        with blas.single_threaded():
            inside.set()
            leave.wait(20)

    with ThreadPoolExecutor(1) as pool:
        pool.submit(work)
        assert inside.wait(20)
        child = os.fork()
        if child == 0:
            team = Team(2)
            team.run(lambda i, worker: None, 2)
            os._exit(0 if blas.get() == before and blas.single_threaded.users == 0 else 1)
        leave.set()
    assert os.waitpid(child, 0) == (child, 0)


@pytest.mark.skipif(not can_fork(), reason="processes cannot be forked here")
def test_a_game_goes_on_in_a_forked_child():
    """With neither threads, processes nor buffers of its parent's, which goes on too."""
    game = make_game("mnist", threads=2)
    batches = make_batches(game)
    play(game, 2, batches)
    reader, writer = os.pipe()
    child = os.fork()
    rows = [list(game.read(game.round(batches)).values()) for _ in range(2)]
    if child == 0:
        os.write(writer, np.array(rows).tobytes())
        game.captured.close()
        os._exit(0)
    found = os.read(reader, np.array(rows).nbytes)
    assert os.waitpid(child, 0) == (child, 0) and found == np.array(rows).tobytes()
    os.close(reader)
    os.close(writer)


# -- limits of the system


@pytest.fixture
def no_threads(monkeypatch):
    """As after ulimit -u: after some threads no other can be started."""
    start = threading.Thread.start

    def limit(allowed):
        left = [allowed]

        def refuse(thread):
            if not left[0]:
                raise RuntimeError("can't start new thread")
            left[0] -= 1
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", refuse)

    return limit


@pytest.mark.parametrize("allowed", (0, 1))
def test_a_team_with_too_few_threads_does_the_same(allowed, no_threads, caplog):
    expected, found = {}, {}
    Team(3).run(lambda i, worker: expected.update({i: worker}), 7)
    no_threads(allowed)
    team = Team(3)
    for _ in range(2):
        found.clear()
        team.run(lambda i, worker: found.update({i: worker}), 7)
        assert found == expected
    (line,) = caplog.messages
    assert line.startswith(f"minigan: the system allows {allowed} threads of 2")


@pytest.mark.parametrize("allowed", (0, 1))
def test_workers_with_too_few_threads_do_the_same(allowed, no_threads, caplog):
    no_threads(allowed)
    workers = Workers(2, "test")
    assert [workers.submit(pow, 2, i).result() for i in range(4)] == [1, 2, 4, 8]
    with pytest.raises(ZeroDivisionError):
        workers.submit(divmod, 1, 0).result()
    workers.close()
    assert len(caplog.messages) == 1


@pytest.mark.parametrize("allowed", (0, 1, 2))
def test_a_game_without_threads(allowed, no_threads, caplog):
    """Batches are prepared in between; processes cannot be started either."""
    expected = play(make_game("mnist", threads=1), 4)
    no_threads(allowed)
    assert not can_start(allowed + 1)
    no_threads(allowed)
    found = play(make_game("mnist", threads=1), 4)
    assert_same_bits(found, expected)
    no_threads(0)
    found = play(make_game("mnist", threads=2), 4)
    assert found.rows[0]["loss_g"] == pytest.approx(expected.rows[0]["loss_g"], rel=1e-4)
    assert all("\n" not in line for line in caplog.messages)
    assert list(map_in_threads(lambda i: i * i, range(40))) == [i * i for i in range(40)]
