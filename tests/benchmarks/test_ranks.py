"""ranks.py: a step on several ranks, and the model of it."""

import os
import socket
import subprocess
import threading
import time
from contextlib import suppress

import numpy as np
import pytest

from benchmarks import one_rank, ranks, results, two_hosts
from benchmarks.interleaved import BenchmarkError
from minigan.errors import ConfigError
from minigan.parallel.group import Group
from tests.support.ranks import needs_mpi

FOUND = {"fit": [0.01, 0.001], "whole": 0.0, "small": 30, "gradients": [10**6, 2 * 10**6]}
TINY = ["--width", "2", "--seconds", "0.02"]


def test_the_model():
    def seconds(n, batch, latency, rate, **more):
        return sum(ranks.model(FOUND | more, n, batch, (latency, rate)))

    assert seconds(1, 64, 1e-3, 1e6) == pytest.approx(0.074), "one rank exchanges nothing"
    assert seconds(4, 64, 0.0, 1e30) == pytest.approx(0.026), "a perfect network"
    assert seconds(2, 64, 1e-3, 1e30) == pytest.approx(0.042 + 30e-3 + 2 * 2e-3)
    assert seconds(2, 64, 0.0, 1e9) == pytest.approx(0.042 + 3e-3)
    assert seconds(512, 64 * 512, 0.0, 1e9) == pytest.approx(0.074 + 2 * 511 / 512 * 3e-3)
    assert seconds(8, 64, 0.0, 1e30, whole=1e-4) == pytest.approx(0.018 + 64e-4), "done by all"


def compute(rows, o=0.01, c=0.001, whole=1e-5):
    """-> what measure_compute would find."""
    batch = ranks.ranks_that_compute()
    points = [{"rows": n, "slowest": o + c * n + whole * n * batch, "mean": 0.0} for n in rows]
    return {"points": points, "whole": whole}


def test_the_fit_does_not_know_the_rows_that_are_predicted():
    found = compute([2, 4, 8, 16])
    found["points"][2]["slowest"] *= 0.5
    numbers, error = ranks.fit(found, left_out=[8])
    assert numbers == pytest.approx((0.01, 0.001)) and error < 1e-9
    numbers, error = ranks.fit(found)
    assert numbers != pytest.approx((0.01, 0.001), rel=0.1) and error > 0.1
    with pytest.raises(ConfigError, match="too few images"):
        ranks.fit(compute([2, 4]), left_out=[4])


def test_a_step_is_predicted_from_its_parts_and_compared(capsys):
    measured = {"seconds": 0.022, "latency": 1e-3, "rate": 1e9}
    found = compute([2, 4, 8, 16], whole=0.0) | {"small": 1, "gradients": [10**6]}
    options = ranks.parse(["--preset", "mnist", "--batch", "16", "--ranks", "2"])
    lines = []
    (ratio,) = ranks.report_model(2, [measured], [found], options, lines.append)
    assert ratio == pytest.approx(0.022 / (0.018 + 0.001 + 0.002 + 0.001))
    assert lines[-1] == "  within 15% of the prediction: yes"
    ranks.report_model(2, [measured | {"seconds": 0.027}], [found], options, lines.append)
    assert lines[-1] == "  within 15% of the prediction: NO"


def test_both_ways_to_grow_are_predicted():
    found = ranks.predict(FOUND, 64, (0.0, 1e30))
    assert list(found) == list(ranks.SAME)
    same_batch, same_each = found.values()
    assert list(same_batch) == [2, 4, 8, 16, 32], "two images on each, at least"
    assert same_batch[8] == pytest.approx({"seconds": 0.018, "efficiency": 0.074 / 8 / 0.018})
    assert list(same_each) == list(ranks.PREDICTED) and set(ranks.SHOWN) <= set(same_each)
    assert same_each[512] == pytest.approx({"seconds": 0.074, "efficiency": 1.0})


class Noted(Group):
    """One of two ranks, without the other; notes the bytes of its all-reduces."""

    size = 2

    def __init__(self):
        self.sizes = []

    def all_reduce(self, array):
        self.sizes.append(array.nbytes)

    def all_gather(self, values):
        return np.array([[1.0, 2.0], [2.0, 1.0]])


def test_collectives_are_left_out():
    noted = Noted()
    group = one_rank.Ranks(noted)
    game, batches = one_rank.make_game({"preset": "mnist", "width": 4}, 8, group, **one_rank.TINY)
    step, counted = one_rank.warm(game, batches, group)
    gradients, small = one_rank.split(game, counted)
    assert gradients == [game.D.ready().flat_grads.nbytes, game.G.ready().flat_grads.nbytes]
    sent = {}
    for group.way in ("connected", "own", "alone"):
        noted.sizes.clear()
        step()
        sent[group.way] = list(noted.sizes)
    assert sent["connected"] == counted and len(small) > 20
    of_losses = [n for n in small if n == 16]  # a sum, and its number of rows
    assert sorted(sent["own"]) == sorted(of_losses + gradients)
    assert sent["alone"] == []


def test_of_ranks_that_are_alone_the_slowest_counts_between_two_collectives():
    group = one_rank.Ranks(Noted())
    spent = one_rank.take_turns(group, {"alone": lambda: None}, 0.0)["alone"]
    assert spent == [(4.0, 3.0)] * one_rank.LEAST


@needs_mpi
@pytest.mark.slow
def test_ranks_are_measured(tmp_path, capsys):
    file = tmp_path / "result.json"
    words = ["--preset", "mnist", "--rounds", "1", "--batch", "16", "--ranks", "2", *TINY]
    assert ranks.main([*words, "--json", str(file)]) == 0
    shown = capsys.readouterr().out
    for line in ("forked processes", "2 ranks", "with synchronized BatchNorm it takes"):
        assert line in shown
    (record,) = results.load(file)
    (found,) = record["turns"]["2 ranks"]
    assert len(found["gradients"]) == 2 and found["small"] > 20
    assert found["own"] > 0 and found["slowest"] >= found["mean"] > 0
    (of_model,) = record["turns"].get("compute", [{"points": []}])
    assert [point["rows"] for point in of_model["points"]] in ([], [2, 4, 8, 16])
    assert ("within 15% of the prediction: " in shown) == bool(of_model["points"])


@needs_mpi
@pytest.mark.slow
def test_presets_are_predicted_and_drawn(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    file, picture = tmp_path / "result.json", tmp_path / "ranks.png"
    chosen = ["--predict", "mnist,radford-mnist-conditional", *TINY, "--batch", "8"]
    words = [*chosen, "--network", "25,1.1", "--json", str(file)]
    assert ranks.main([*words, "--plot", str(picture)]) == 0
    assert capsys.readouterr().out.count("512 ranks: too few images") == 2
    assert ranks.main(words) == 0, "again: the records are replaced"
    records = results.load(file)
    assert [record["preset"] for record in records] == ["mnist", "radford-mnist-conditional"]
    assert records[0]["network"] == [25.0, 1.1]
    assert list(records[0]["predicted"]["same batch"]) == ["2", "4"]
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_ranks_can_train_every_preset_without_dropout():
    left_out = set(ranks.MODULES) - set(ranks.RANKED)
    assert left_out == {"tensorflow-mnist", "tensorflow-cifar10"}


def test_the_cable_delays_packets_and_keeps_their_order():
    pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(2)]
    (a, end_of_a), (b, end_of_b) = pairs
    files, is_over = [end_of_a.fileno(), end_of_b.fileno()], threading.Event()
    cable = threading.Thread(target=two_hosts.carry, args=(files, is_over))
    cable.start()
    try:
        start = time.perf_counter()
        for size in (50_000, 1):
            a.send(bytes(size))
        assert [len(b.recv(2**16)) for _ in range(2)] == [50_000, 1]
        assert time.perf_counter() - start >= 1e-3 * (0.1 + 50_000 * 8e-3 / two_hosts.RATE)
        b.send(b"answer")
        assert a.recv(2**16) == b"answer"
    finally:
        is_over.set()
        cable.join()
        for each in (a, end_of_a, b, end_of_b):
            each.close()


@pytest.mark.parametrize("other, unlike", [(1.0 + 1e-6, []), (1.0, [1])])
def test_ranks_that_train_another_run_are_not_measured(other, unlike, monkeypatch):
    def start(engine, options, n, file):
        np.save(file, np.array([0.5, 1.0 if n == 1 else other]))
        return {"unlike": unlike if n == 2 else []}

    monkeypatch.setattr(ranks, "start", start)
    with pytest.raises(BenchmarkError, match="do not train the run of one process"):
        two_hosts.compare_numbers(None, lambda line: None)


def can_make_namespaces():
    with suppress(OSError):
        make = ["unshare", "-n", "ip", "link", "add", "a0", "type", "veth"]
        has_tun = os.access("/dev/net/tun", os.R_OK | os.W_OK)
        return has_tun and subprocess.run(make, capture_output=True).returncode == 0
    return False


@needs_mpi
@pytest.mark.slow
@pytest.mark.skipif(not can_make_namespaces(), reason="needs root, ip, TUN, and namespaces")
def test_two_hosts_talk_over_their_link(tmp_path, capsys):
    file = tmp_path / "result.json"
    words = ["--preset", "mnist", "--rounds", "1", "--batch", "8", *TINY, "--json", str(file)]
    assert two_hosts.main(words) == 0, capsys.readouterr().err
    (record,) = results.load(file)
    assert record["what"] == "two hosts" and record["difference"] < two_hosts.CLOSE
    (found,) = record["turns"]["2 ranks"]
    assert found["latency"] > 1e-4, "what goes through shared memory is faster"
    names = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True).stdout
    assert not any(name in names for name in two_hosts.HOSTS)
