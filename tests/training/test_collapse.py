"""Signs of mode collapse, each reported once; and the checkpoint that is set aside."""

from dataclasses import replace

import numpy as np
import pytest

from minigan.data import Dataset
from minigan.training import collapse
from minigan.training.collapse import ALIKE, GRACE, LOST_STEPS, STEPS, CollapseMonitor
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


def test_a_pattern_in_every_image_is_no_spread():
    """The images differ by noise alone, and their pixels also by place."""
    ramp = 3 * np.arange(64, dtype=np.uint8).reshape(8, 8, 1)
    images = ramp + np.random.default_rng(0).integers(0, 9, (100, 8, 8, 1), np.uint8)
    _, row = look(CollapseMonitor(Dataset("ramp", images, None, (), "0")), images[:64])
    assert row["sample_spread"] == pytest.approx(1, abs=0.1)


def test_one_class_prevails(two_classes):
    monitor = CollapseMonitor(two_classes)
    (line,), row = look(monitor, two_classes.images[:64:2])
    assert "100% of the samples look like class 'above'" in line and row["top_class"] == 1
    assert look(monitor, two_classes.images[:64:2])[0] == []  # reported once
    (line,), row = look(monitor, np.repeat(two_classes.images[:1], 64, axis=0))
    assert "look alike" in line and row["sample_spread"] < ALIKE


def test_a_sample_is_of_the_class_whose_mean_is_nearest():
    """By its brightness, which is 60 or 200 in the classes and 150 in the samples."""
    rng, labels = np.random.default_rng(0), np.arange(40) % 2
    images = rng.integers(40, 80, (40, 8, 8, 1), np.uint8)
    images[labels == 1] += 140
    samples = rng.integers(130, 170, (64, 8, 8, 1), np.uint8)
    monitor = CollapseMonitor(Dataset("two", images, labels, ("dark", "bright"), "0"))
    (line,), row = look(monitor, samples)
    assert "look like class 'bright'" in line and row["top_class"] == 1


def test_images_that_are_sorted_by_class_are_known_from_all_classes(two_classes, monkeypatch):
    monkeypatch.setattr(collapse, "ENOUGH", 20)
    order = np.argsort(two_classes.labels, kind="stable")
    images, labels = two_classes.images[order], two_classes.labels[order]
    monitor = CollapseMonitor(replace(two_classes, images=images, labels=labels))
    (line,), row = look(monitor, images[-64:])
    assert "look like class 'below'" in line and row["top_class"] == 1


def test_a_class_without_pictures_is_not_named(two_classes):
    data = replace(two_classes, labels=two_classes.labels + 1, classes=("none", "above", "below"))
    (line,), _ = look(CollapseMonitor(data), two_classes.images[:64:2])
    assert "look like class 'above'" in line


def test_at_first_all_samples_look_alike(two_classes):
    same = np.repeat(two_classes.images[:1], 64, axis=0)
    assert look(CollapseMonitor(two_classes), same, GRACE - 1)[0] == []


def test_a_discriminator_that_has_won(two_classes):
    monitor = CollapseMonitor(dataset(two_classes.images))
    for name in ("loss_d_real", "loss_d_fake"):
        assert monitor.look(rows_of([0.001] * (STEPS - 1)), None) == []
        (row,) = rows_of([0.001])
        assert monitor.look([{**row, name: 0.5}], None) == []  # back in the game
    assert monitor.look(rows_of([0.001] * (STEPS - 1)), None) == []
    (line,) = monitor.look(rows_of([0.001]), None)
    assert f"close to 0 for {STEPS} steps: it has won" in line
    assert monitor.look(rows_of([0.001] * STEPS), None) == []  # reported once


def test_losses_that_have_exploded(two_classes):
    monitor = CollapseMonitor(dataset(two_classes.images))
    assert monitor.look(rows_of([12.0] * (LOST_STEPS - 1) + [0.7]), None) == []  # a jump
    assert monitor.look(rows_of([12.0] * (LOST_STEPS - 1)), None) == []
    (line,) = monitor.look(rows_of([12.0]), None)
    assert line == "D's loss is above 10: start again, with smaller --lr-g and --lr-d"
    assert monitor.look(rows_of([12.0]), None) == []  # reported once


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
