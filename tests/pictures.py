"""Small data sets for tests: moved to tests/support/pictures.py."""

from tests.support.pictures import DIGITS, dataset, noise

__all__ = ["DIGITS", "dataset", "noise"]
