"""Contenders in their own processes: their environment, their end, and whose turn it is."""

import pytest

from benchmarks import interleaved, machine
from benchmarks.interleaved import BenchmarkError, Workers

CLOCKWORK = "tests.support.in_process_worker:Clockwork"


def test_a_contender_starts_as_on_a_users_machine(monkeypatch):
    """Without the variables by which a shell pins BLAS and thread pools."""
    for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, "1")
    assert {"OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "OMP_NUM_THREADS"} <= set(machine.pinned())
    with Workers() as workers:
        worker = workers.require("a", CLOCKWORK, {}, environment={"OMPX": "1"})
        assert worker.call("environment", prefix="OMP") == ["OMPX"]
        assert worker.call("environment", prefix="OPENBLAS") == []
        assert worker.call("peak_mib") > 5


def test_a_process_plays_one_game_after_another():
    """A new contender in the same process; if it cannot be made, the process is ended."""
    with Workers() as workers:
        worker = workers.add("a", CLOCKWORK, {})
        found = worker.call("time_blocks", warm_up=1, blocks=2, steps=3)
        assert [len(found[kind]) for kind in ("seconds", "events", "launch")] == [2, 2, 2]
        assert workers.add("a", CLOCKWORK, {"events": False}) is worker
        assert worker.call("time_blocks", warm_up=1, blocks=2, steps=3)["events"] == []
        assert workers.add("a", CLOCKWORK, {"color": 1}) is None
        assert "color" in workers.absent["a"] and not workers
        assert worker.process.poll() is not None
        assert workers.add("a", CLOCKWORK, {}) is not worker and not workers.absent


def test_a_contender_that_does_not_answer_or_vanishes_is_reported():
    with Workers() as workers:
        workers.require("slow", CLOCKWORK, {}).limit = 0.3
        with pytest.raises(BenchmarkError, match=r"^slow: no answer within 0 s$"):
            workers["slow"].call("hang")
        gone = workers.require("gone", CLOCKWORK, {})
        with pytest.raises(BenchmarkError, match=r"^gone: its process ended with code 3: no mess"):
            gone.call("vanish")
        with pytest.raises(BenchmarkError, match=r"^other: not installed: pip install no_such$"):
            workers.require("other", "benchmarks.contenders:need", {"package": "no_such"})


def test_turns_alternate(quick, monkeypatch):
    turns = []

    class Logged(interleaved.Worker):
        def time(self, method, times):
            turns.append((self.name, method, times))
            return 0.001

    monkeypatch.setattr(interleaved, "Worker", Logged)
    monkeypatch.setattr(interleaved, "WARM_UP", 1)
    with Workers() as workers:
        for name in "ab":
            workers.require(name, CLOCKWORK, {})
        seconds = workers.interleave({"a": "run", "b": "play"}, 2, 5e-3, lambda line: None)
    a, b = ("a", "run", 5), ("b", "play", 5)  # a turn of 5 ms, steps of 1 ms
    assert turns == [("a", "run", 1)] * 2 + [("b", "play", 1)] * 2 + [a, b] * 3
    assert seconds == {"a": [0.001] * 2, "b": [0.001] * 2}
