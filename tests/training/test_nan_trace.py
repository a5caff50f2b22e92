"""Numbers that are not finite stop a run, and the message names the step and the layer."""

import sys

import numpy as np
import pytest

import minigan as mg
from minigan.training.game import Game
from tests.support.strict_cupy import make_module
from tests.support.training_runs import metrics, names, train


def break_in_step_7(monkeypatch, player, name, value):
    """Whenever step 7 is played, one number of a parameter breaks."""
    play = Game.round

    def broken(self, batches):
        if batches.epoch == 0 and batches.position == 6:  # again when the steps are repeated
            parameter = self.nets[player].params[name]
            parameter[...] = self.backend.asarray(np.full(parameter.shape, value))
        return play(self, batches)

    monkeypatch.setattr(Game, "round", broken)


@pytest.mark.parametrize(
    "player, name, place",
    (
        ("D", "2.W", "D.2 (Conv2d 4->8, k4 s2 p1): its W is no longer finite"),
        ("G", "2.gain", "G.2 (BatchNorm 16): its gain is no longer finite"),
        ("D", "12.b", "D.12 (Linear 144->1): its b is no longer finite"),
    ),
)
@pytest.mark.parametrize("backend", ("plain", "numpy", "cupy"))
def test_the_step_and_the_layer_are_named(player, name, place, backend, tmp_path, monkeypatch):
    """The losses are read in step 10; the message is about step 7."""
    if backend == "cupy":
        monkeypatch.setitem(sys.modules, "cupy", make_module())
    threads = 1 if backend == "numpy" else None
    for value in (np.nan, np.inf) if backend == "plain" else (np.nan,):
        out = tmp_path / str(value)
        with monkeypatch.context() as patch:
            break_in_step_7(patch, player, name, value)
            with pytest.raises(mg.RunError) as caught:
                train(out, backend=backend, threads=threads, steps=20, sample_every=5)
        message = str(caught.value)
        assert message.startswith("step 7: loss_") and "\n" not in message
        assert f"first in {place}. The checkpoint of step 5 is kept" in message
        assert "--lr-d" in message
        assert names(out / "checkpoints") == ["step-00000000.npz", "step-00000005.npz"]
        assert metrics(out)[-1]["step"] == "7"


@pytest.mark.parametrize("backend", ("plain", "numpy"))
def test_an_overflow_within_a_layer_is_found(backend, tmp_path):
    """A learning rate far too large: some product overflows, in a layer that is named."""
    far_too_large = dict(preset="shibuya-fnn", lr_d=1, lr_g=1, beta1=0.99, threads=None)
    try:
        train(tmp_path / "a", backend=backend, steps=60, sample_every=50, **far_too_large)
    except mg.RunError as error:
        assert "first in " in str(error)
