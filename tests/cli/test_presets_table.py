"""The table of presets, and one in detail."""

import re
from dataclasses import replace

import pytest

from minigan.cli import presets_table
from minigan.objective import Objective
from minigan.presets import MODULES, get_preset
from minigan.training.config import new_config
from minigan.training.outline import outline
from tests.support.commands import run
from tests.support.preset_counts import counts_of

OPTIONS = {"preset": "color32"}


def test_every_preset_has_a_row_with_its_numbers(capsys):
    assert run("presets") == 0
    lines = capsys.readouterr().out.splitlines()
    rows = [line for line in lines if line.split() and line.split()[0] in MODULES]
    assert [row.split()[0] for row in rows] == list(MODULES)
    for row in rows:
        preset = get_preset(row.split()[0])
        for counts in counts_of(preset.name):
            assert f" {sum(counts):,} " in row
        assert preset.source in row and "x".join(map(str, preset.image_shape)) in row
    assert len({row.index(" MiB") for row in rows}) == 1  # columns are aligned
    names = ", ".join(f"jayathilaka-faces:{name}" for name in ("adam", "rmsprop", "sgd"))
    assert f"variants: {names}" in "\n".join(lines)
    assert "of a step: minigan presets NAME" in lines[-1]


def test_the_operations_of_a_step_include_r1():
    """64 images, of which D plays 8, and then 16 at two sides: 6.83 GFLOP, and 0.50 for R1."""
    d_forward, d_first = (
        2 * (256 * 48 * 24 + 64 * 16 * 24 * 48 + 64 * 9 * 48 * 48),
        2 * 256 * 48 * 24,
    )
    d_forward += 2 * (16 * 16 * 48 * 96 + 16 * 96)
    of_r1 = 8 * 2 * d_forward + 16 * (3 * d_forward - d_first)
    preset = get_preset("color32")
    found = [
        presets_table.costs(replace(preset, objective=objective), *outline(new_config(OPTIONS)))[0]
        for objective in (preset.objective, Objective())
    ]
    assert found == [f"{6.830948352 + of_r1 * 1e-9:.1f}", "6.8"] == ["7.3", "6.8"]


def test_one_preset_in_detail(capsys, monkeypatch):
    monkeypatch.setattr(presets_table, "measure_step", lambda preset: 1.5)
    assert run("presets", "shibuya-svhn:T3") == 0
    out = capsys.readouterr().out
    for trained, kept in counts_of("shibuya-svhn"):
        assert f"{trained:,} trained, {kept:,} not" in out
    for line in (
        "shibuya-svhn:T3: Shibuya, dcgan_svhn (minigan/presets/shibuya.py)",
        "data       svhn, 32x32x3, fit crop",
        "training   25 epochs, batches of 128, never shuffled",
        "optimizer  Adam, lr of G 0.0001, lr of D 0.001, beta1 0.9, eps 1e-08, eps_hat True",
        "round      keras_round: One round: D steps on real images, then on fakes of `predict`; "
        "then G steps.",
        "loss       loss bce, real_target 0.9, fake_target 0, loss_limit 16.1181",
        "costs      166.1 GFLOP a step, at least 246 MiB",
        "A step takes 1.50 s on this machine: the second of two, on noise.",
    ):
        assert line in out.splitlines()


@pytest.mark.parametrize("name", ("shibuya-fnn", "jayathilaka-faces:rmsprop"))
def test_a_step_is_measured(name, capsys):
    assert run("presets", name) == 0
    seconds = re.search(r"A step takes (\d+\.\d\d) s on this machine", capsys.readouterr().out)
    assert float(seconds[1]) < 10
