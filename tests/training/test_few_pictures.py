"""A folder of any pictures is trained on without a further option, even a dozen of them."""

from math import ceil

import numpy as np
import pytest
from PIL import Image

from minigan.api import train
from minigan.cli.main import main
from minigan.data import Batches
from minigan.evaluation.frechet import frechet_distance, moments
from minigan.training.config import new_config
from minigan.training.few_pictures import LEAST, fit_to_few


@pytest.fixture(autouse=True)
def few_images():
    """Here the pictures are the test's own."""


def spots(count, h, w, channels):
    """-> pictures of one bright spot on dark ground, at another place in each."""
    rng, (rows, columns) = np.random.default_rng(0), np.mgrid[:h, :w]
    pictures = []
    for _ in range(count):
        y, x = rng.uniform(0.3, 0.7, 2) * (h, w)
        spot = np.exp(-(((rows - y) / h) ** 2 + ((columns - x) / w) ** 2) / 0.03)
        color = rng.uniform(0.6, 1.0, channels) * 255
        pictures.append((spot[..., None] * color).astype(np.uint8))
    return np.stack(pictures)


def save(pictures, folder):
    folder.mkdir()
    for i, picture in enumerate(pictures):
        Image.fromarray(picture.squeeze()).save(folder / f"{i}.png")
    return folder


def distance(samples, real):
    """Fréchet distance of means over 4 x 4 areas and all channels."""
    features = []
    for images in (samples, real):
        n, h, w, c = images.shape
        areas = images.reshape(n, 4, h // 4, 4, w // 4, c).mean(axis=(2, 4, 5)) / 255
        features.append(moments(areas.reshape(n, -1).astype(np.float64)))
    return frechet_distance(*features)


def test_a_dozen_pictures_are_mirrored_and_trained_on_long_enough(tmp_path, capsys):
    folder = save(spots(12, 12, 16, 3), tmp_path / "dozen")
    words = ["train", "--images", str(folder), "--image-size", "12x16", "--width", "4", "--dry-run"]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "NOTE: 12 pictures cannot fill a batch of 64" in said
    assert "mirrored ones are added, unless --no-flip" in said
    assert "NOTE: expect blurs first" in said
    assert f"dry run: {LEAST:,} steps would go" in said
    main([*words, "--no-flip", "--epochs", "7"])
    said = capsys.readouterr().out
    assert "mirrored" not in said and "dry run: 7 steps would go" in said


def test_what_a_run_changed_by_itself_is_recorded_and_resumed(tmp_path):
    options = dict(image_size="12x16", width=4, batch_size=16, log=lambda line: None)
    folder = save(spots(12, 12, 16, 3), tmp_path / "dozen")
    run = train(images=folder, out=tmp_path / "run", steps=2, **options)
    assert run.config.flip and (run.config.steps, run.config.epochs) == (2, None)
    assert train(resume=run.folder, steps=3, log=options["log"]).config.flip


def test_many_pictures_and_conditional_nets_are_left_alone(tmp_path):
    options = dict(width=4, steps=1, log=lambda line: None)
    many = train(images=spots(1000, 12, 16, 1), out=tmp_path / "many", **options)
    classes = dict(labels=np.arange(40) % 10, preset="radford-mnist-conditional")
    few = train(images=spots(40, 28, 28, 1), out=tmp_path / "few", **classes, **options)
    assert not many.config.flip and not few.config.flip


def black(count, batch_size):
    return Batches(np.zeros((count, 1, 1, 1), np.uint8), batch_size)


def test_a_data_set_of_which_few_images_are_taken_is_left_alone():
    config = new_config({"limit": 100})
    assert fit_to_few(config, {}, black(100, config.batch_size), 1) == (config, [])


def test_steps_are_counted_where_one_takes_several_batches():
    config = new_config({"images": "photos"})
    enough = ceil(LEAST / config.epochs)  # batches in an epoch, if a step takes one
    batches = black(enough * config.batch_size, config.batch_size)
    assert fit_to_few(config, {}, batches, per_round=1)[0] == config
    assert fit_to_few(config, {}, batches, per_round=2)[0].steps == LEAST


@pytest.mark.slow
@pytest.mark.parametrize(
    "shape",
    ((12, 16, 3), (48, 80, 3), (28, 28, 1), pytest.param((128, 128, 3), marks=pytest.mark.long)),
    ids=lambda shape: f"{shape}",
)
def test_samples_of_any_size_and_of_a_dozen_pictures_come_nearer_to_the_pictures(shape, tmp_path):
    h, w, c = shape
    real, found = spots(12, *shape), []
    rates = dict(lr_g=4e-3, lr_d=2e-3, beta1=0.0)
    options = dict(image_size=f"{h}x{w}", channels=c, width=4, batch_size=16, z_dim=8, **rates)
    for steps in (1, 100):
        run = train(
            images=save(real, tmp_path / f"pictures{steps}"),
            out=tmp_path / f"run{steps}",
            steps=steps,
            log=lambda line: None,
            **options,
        )
        samples = run.sample(64)
        assert samples.shape == (64, *shape) and samples.dtype == np.uint8
        found.append(distance(samples, real))
    assert found[1] < 0.85 * found[0]
