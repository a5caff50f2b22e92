"""ranks.py: a step on several ranks, and the model of it."""

import os
import subprocess
from contextlib import suppress

import pytest

from benchmarks import ranks, results, two_hosts
from tests.support.ranks import needs_mpi

FOUND = {"fit": [0.01, 0.001], "small": 30, "gradients": [10**6, 2 * 10**6]}


def test_the_model():
    def seconds(n, batch, latency, rate):
        return ranks.model(FOUND, n, batch, latency, rate)

    assert seconds(1, 64, 1e-3, 1e6) == pytest.approx(0.074), "one rank exchanges nothing"
    assert seconds(4, 64, 0.0, 1e30) == pytest.approx(0.026), "a perfect network"
    assert seconds(2, 64, 1e-3, 1e30) == pytest.approx(0.042 + 30e-3 + 2 * 2e-3)
    assert seconds(2, 64, 0.0, 1e9) == pytest.approx(0.042 + 3e-3)
    assert seconds(512, 64 * 512, 0.0, 1e9) == pytest.approx(0.074 + 2 * 511 / 512 * 3e-3)


def test_efficiency_is_predicted_for_both_ways_to_grow():
    lines = []
    found = ranks.predict(FOUND, 64, (0.0, 1e30), lines.append)
    assert found["same images on each rank"] == pytest.approx(dict.fromkeys(ranks.PREDICTED, 1.0))
    assert list(found["same batch"]) == [2, 4, 8, 16, 32], "two images on each, at least"
    assert found["same batch"][8] == pytest.approx(0.074 / 8 / 0.018)
    assert all(line.startswith("predicted efficiency") for line in lines)


@needs_mpi
def test_ranks_are_measured_and_predictions_drawn(tmp_path, capsys, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(ranks, "SECONDS", 0.02)
    file, picture = tmp_path / "result.json", tmp_path / "ranks.png"
    words = ["--preset", "mnist", "--rounds", "1", "--width", "2", "--batch", "8", "--ranks", "2"]
    assert ranks.main([*words, "--json", str(file), "--plot", str(picture)]) == 0
    assert "measured on 2 ranks: " in capsys.readouterr().out
    (record,) = results.load(file)
    assert len(record["gradients"]) == 2 and record["small"] > 20
    assert picture.read_bytes().startswith(b"\x89PNG")


def can_make_namespaces():
    with suppress(OSError):
        make = ["unshare", "-n", "ip", "link", "add", "a0", "type", "veth"]
        return os.geteuid() == 0 and subprocess.run(make, capture_output=True).returncode == 0
    return False


@needs_mpi
@pytest.mark.skipif(not can_make_namespaces(), reason="needs root, ip, and network namespaces")
def test_two_hosts_talk_over_their_link(capsys, monkeypatch):
    monkeypatch.setattr(ranks, "SECONDS", 0.02)
    monkeypatch.setattr(two_hosts, "RATE", 400)
    words = ["--preset", "mnist", "--rounds", "1", "--width", "2", "--batch", "8"]
    assert two_hosts.main(words) == 0, capsys.readouterr().err
    rate = float(capsys.readouterr().out.partition(", or moves ")[2].split()[0])
    assert rate < 0.06, "GB/s: what goes through shared memory is faster"
    names = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True).stdout
    assert not any(name in names for name in two_hosts.HOSTS)
