"""A trained classifier, and copies of its file that a test may change."""

import shutil

import pytest

import minigan as mg
from minigan.evaluation import get_classifier
from tests.support import squares


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """-> a cache folder with the classifier of the squares."""
    cache = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        squares.make_small(patch, cache)
        get_classifier(squares.reference(), mg.get_backend("numpy"), log=lambda line: None)
    return cache


@pytest.fixture
def cache(tmp_path, monkeypatch, trained):
    """-> a copy of that folder, in use during the test."""
    folder = shutil.copytree(trained, tmp_path / "cache")
    squares.make_small(monkeypatch, folder)
    return folder
