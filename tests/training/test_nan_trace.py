"""Numbers that are not finite stop a run, and the message names the step and the layer."""

import sys

import numpy as np
import pytest

import minigan as mg
from minigan.training.game import Game
from minigan.training.nan_trace import locate_nan
from tests.support.noise_games import make_batches, make_game
from tests.support.strict_cupy import make_module
from tests.support.training_runs import metrics, names, train


def break_in_step_4(monkeypatch, player, name, value):
    """Whenever step 4 is played, one number of a parameter breaks."""
    play = Game.round

    def broken(self, batches):
        if batches.epoch == 0 and batches.position == 3:  # again when the steps are repeated
            parameter = self.nets[player].params[name]
            values = self.backend.to_host(parameter).copy()
            values.reshape(-1)[0] = value
            parameter[...] = self.backend.asarray(values)
        return play(self, batches)

    monkeypatch.setattr(Game, "round", broken)


CASES = {  # player, parameter, its value in step 4, the place
    "weights": ("D", "2.W", np.nan, "D.2 (Conv2d 4->8, k4 s2 p1): its W is no longer finite"),
    "gain": ("G", "2.gain", np.nan, "G.2 (BatchNorm 16): its gain is no longer finite"),
    "bias": ("D", "12.b", np.inf, "D.12 (Linear 144->1): its b is no longer finite"),
    "overflow": ("G", "4.W", 3e38, "G.4 (ConvTranspose2d 16->8, k4 s2 p1): forward"),
}


@pytest.mark.parametrize(
    "backend, case",
    (
        *(("plain", case) for case in CASES),
        *(("numpy", case) for case in CASES),
        ("cupy", "gain"),
        ("cupy", "overflow"),
    ),
)
def test_the_step_and_the_layer_are_named(backend, case, tmp_path, monkeypatch):
    """The losses are read in step 6; the message is about step 4."""
    if backend == "cupy":
        monkeypatch.setitem(sys.modules, "cupy", make_module())
    player, name, value, place = CASES[case]
    break_in_step_4(monkeypatch, player, name, value)
    threads = 1 if backend == "numpy" else None
    lines = []
    with pytest.raises(mg.RunError) as caught:
        train(
            tmp_path / "a", lines.append, backend=backend, threads=threads, steps=8, sample_every=3
        )
    found = str(caught.value)
    assert lines[-1].endswith("is not finite: playing again from step 3, to find the layer")
    assert found.startswith("step 4: loss_") and "\n" not in found
    assert f"first in {place}. The checkpoint of step 3 is kept" in found and "--lr-d" in found
    assert names(tmp_path / "a/checkpoints") == ["step-00000000.npz", "step-00000003.npz"]
    assert metrics(tmp_path / "a")[-1]["step"] == "4"


@pytest.mark.parametrize("backend", ("plain", "numpy"))
def test_an_overflow_of_running_statistics_is_named(backend, tmp_path, monkeypatch):
    """The losses stay finite, since training normalizes by the batch; samples do not."""
    play = Game.round

    def broken(self, batches):
        if batches.position == 3:
            self.nets["G"].params["4.W"][...] *= 1e21  # of BatchNorm's input, so of 1e42 in its var
        return play(self, batches)

    monkeypatch.setattr(Game, "round", broken)
    with pytest.raises(
        mg.RunError, match=r"outputs NaN \(G average\.5\.running_var is not finite\)"
    ):
        train(tmp_path / "a", backend=backend, threads=None, steps=8, sample_every=3)


@pytest.mark.parametrize("backend", ("plain", "numpy"))
def test_an_overflow_within_a_layer_is_found(backend, tmp_path):
    """A learning rate far too large: some product overflows, in a layer that is named."""
    far_too_large = dict(preset="shibuya-fnn", optimizer="sgd", loss="lsgan", lr_d=1, lr_g=1)
    options = dict(backend=backend, threads=None, steps=60, sample_every=50, **far_too_large)
    with pytest.raises(mg.TrainingError, match=r"step 4: loss_g is nan, first in D\.3 \(Linear"):
        train(tmp_path / "a", **options)


def test_whole_batches_are_prepared_to_find_it():
    """A rank has prepared its own rows only."""
    game = make_game("mnist")
    batches = make_batches(game)
    batches.shard = lambda rows: rows[:7]
    for buffer in batches.buffers:
        buffer.fill(np.nan)
    assert locate_nan(game, batches, 2) == ""
