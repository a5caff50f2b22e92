"""The slow and long forms of tests that come in two sizes."""

import pytest


def slow(value):
    """-> a parameter that only runs with -m slow."""
    return pytest.param(value, marks=pytest.mark.slow)


def long_form(option):
    """-> a parameter that only runs with -m long: as many as the option says, see conftest.py."""
    return pytest.param(option, marks=[pytest.mark.long, pytest.mark.slow])
