"""Signs of mode collapse, each reported once; and the checkpoint that is set aside."""

import numpy as np
import pytest

from minigan.data import Dataset
from minigan.training import collapse
from minigan.training.collapse import ALIKE, GRACE, STEPS, CollapseMonitor
from tests.support.pictures import dataset
from tests.support.training_runs import names, resume, train


def rows_of(losses, first=1):
    return [
        {"step": first + i, "loss_d_real": loss / 2, "loss_d_fake": loss / 2}
        for i, loss in enumerate(losses)
    ]


@pytest.fixture(scope="module")
def two_classes():
    """Half of the images are bright above, half below."""
    images = np.random.default_rng(0).integers(0, 40, (200, 8, 8, 1), np.uint8)
    images[::2, :4] += 200
    images[1::2, 4:] += 200
    return Dataset("two", images, np.arange(200) % 2, ("above", "below"), "0", None)


def look(monitor, samples, step=GRACE):
    rows = rows_of([1.0], step)
    return monitor.look(rows, samples), rows[0]


def test_samples_like_the_real_images_are_no_sign(two_classes):
    lines, row = look(CollapseMonitor(two_classes), two_classes.images[:64])
    assert lines == []
    assert row["sample_spread"] == pytest.approx(1, abs=0.1)
    assert row["top_class"] == pytest.approx(0.5, abs=0.05)


def test_one_class_prevails(two_classes):
    monitor = CollapseMonitor(two_classes)
    (line,), row = look(monitor, two_classes.images[:64:2])
    assert "100% of the samples look like class 'above'" in line and row["top_class"] == 1
    assert look(monitor, two_classes.images[:64:2])[0] == []  # reported once
    (line,), row = look(monitor, np.repeat(two_classes.images[:1], 64, axis=0))
    assert "look alike" in line and row["sample_spread"] < ALIKE


def test_at_first_all_samples_look_alike(two_classes):
    same = np.repeat(two_classes.images[:1], 64, axis=0)
    assert look(CollapseMonitor(two_classes), same, GRACE - 1)[0] == []


def test_a_discriminator_that_has_won(two_classes):
    monitor = CollapseMonitor(dataset(two_classes.images))
    assert monitor.look(rows_of([0.001] * (STEPS - 1)), None) == []
    assert monitor.look(rows_of([0.5]), None) == []  # back in the game
    assert monitor.look(rows_of([0.001] * (STEPS - 1)), None) == []
    (line,) = monitor.look(rows_of([0.001]), None)
    assert f"close to 0 for {STEPS} steps: it has won" in line
    assert monitor.look(rows_of([0.001] * STEPS), None) == []  # reported once


def test_without_labels_there_is_no_class(two_classes):
    data = Dataset("none", two_classes.images, None, (), "0", None)
    lines, row = look(CollapseMonitor(data), two_classes.images[:64:2])
    assert lines == [] and "top_class" not in row


def test_a_warning_sets_a_checkpoint_aside(tmp_path, monkeypatch):
    monkeypatch.setattr(collapse, "GRACE", 6)
    lines = train(tmp_path / "a", steps=12, sample_every=3, lr_g=1e-6)
    warnings = [line for line in lines if "the samples look alike" in line]
    assert len(warnings) == 1 and warnings[0].startswith("WARNING: step 6: ")
    found = names(tmp_path / "a/checkpoints")
    assert found == ["kept-step-00000003.npz", "step-00000009.npz", "step-00000012.npz"]
    resume(tmp_path / "a", steps=13)
