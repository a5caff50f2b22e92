"""Programs of examples/paper on few images; on a rank: python rank_paper.py NAME words...

mnist_table     300 images of noise, small batches and few measurements
features_table  waves
"""

import os
import sys

import numpy as np
import pytest

from minigan.cli.main import answer
from minigan.evaluation import reference_images
from tests.support import waves
from tests.support.pictures import noise
from tests.support.programs import load_program
from tests.support.training_runs import open_game_module


def small_mnist_table(patch):
    """-> the module."""
    module = load_program("paper/mnist_table")
    train = module.train

    def train_few(config, **options):
        few = {} if "resume" in options else {"dataset": "strokes", "batch_size": 50}
        return train({**config, **few}, **options)

    def digits(count):
        rng = np.random.default_rng(count)
        images = rng.integers(0, 256, (count, 28, 28, 1), dtype=np.uint8)
        return images, rng.integers(0, 10, count)

    sets = {"test": digits(100), "train": digits(400)}
    patch.setattr(module, "train", train_few)
    patch.setattr(open_game_module, "load_dataset", noise(300))
    patch.setattr(module, "load_mnist", lambda *_, split="train": sets[split])
    patch.setattr(module, "AFTER_EPOCH", 60)
    patch.setattr(module, "CHUNK", 1024)
    patch.setattr(module, "draw", lambda table, path: None)
    return module


def small_features_table(patch):
    """-> the module."""
    patch.setattr(open_game_module, "load_dataset", waves.load)
    patch.setattr(reference_images, "MIN_TEST", 50)
    module = load_program("paper/features_table")
    patch.setattr(module, "CHUNK", 50)
    return module


if __name__ == "__main__":
    name, *words = sys.argv[1:]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        module = globals()[f"small_{name}"](patch)
        sys.exit(answer(name, lambda: getattr(module, name)(words), True))
