"""Noise instead of a data set, and no waiting for the disk."""

import os

import pytest

from tests.support.pictures import noise
from tests.support.training_runs import open_game_module


@pytest.fixture(autouse=True)
def few_images(monkeypatch):
    """100 images: six batches of 16 and one of 4."""
    monkeypatch.setattr(open_game_module, "load_dataset", noise(100))


@pytest.fixture(autouse=True)
def fast_disk(monkeypatch):
    """A run flushes its files a dozen times, which takes longer than its steps."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
