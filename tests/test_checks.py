"""Arguments that must be numbers in a range, and names that are almost right."""

from math import inf, nan

import numpy as np
import pytest

import minigan as mg
from minigan.checks import did_you_mean, expect_choice, expect_number, expect_size


@pytest.mark.parametrize("value", (1, 7, np.int64(3), 2**31 - 1))
def test_sizes(value):
    found = expect_size("x", value)
    assert found == value and type(found) is int


@pytest.mark.parametrize("value", (0, -1, 1.0, "3", None, True, nan, 2**31, np.ones(2, int)))
def test_what_is_no_size(value):
    limit = " and at most 2147483647" if repr(value) == "2147483648" else ""
    with pytest.raises(mg.ConfigError) as caught:
        expect_size("Conv2d: stride", value)
    expected = f"Conv2d: stride must be a whole number of at least 1{limit}, got {value!r}"
    assert str(caught.value) == expected


@pytest.mark.parametrize(
    "allowed, inside, outside",
    (
        ("[0, 1)", (0, 0.5, np.float32(0.25)), (-1e-9, 1, nan, "0", None, True)),
        ("(0, 1]", (1e-9, 1), (0, 1.1, inf)),
        ("[0, inf)", (0, 10**300), (-1, inf, 10**400)),
    ),
)
def test_numbers_in_an_interval(allowed, inside, outside):
    for value in inside:
        assert expect_number("x", value, allowed) == float(value)
    for value in outside:
        with pytest.raises(mg.ConfigError, match=r"^x must be (at least|above) 0.*, got "):
            expect_number("x", value, allowed)


def test_an_interval_in_words():
    for allowed, words in (
        ("[0, 1)", "at least 0 and below 1"),
        ("(0, 1]", "above 0 and at most 1"),
        ("[0, inf)", "at least 0"),
    ):
        with pytest.raises(mg.ConfigError, match=f"x must be {words}, got -1"):
            expect_number("x", -1, allowed)


def test_a_name_that_is_almost_right():
    assert did_you_mean("mnits", ["mnist", "cifar10"]) == ": did you mean mnist?"
    assert did_you_mean("zebra", ["mnist", "cifar10"]) == ""


def test_a_choice_names_the_nearest_one():
    for value, hint in (("numpie", ": did you mean numpy?"), ("x", ""), (None, ""), ([], "")):
        with pytest.raises(mg.ConfigError) as caught:
            expect_choice("backend", value, ("plain", "numpy"))
        assert str(caught.value) == f"backend must be one of plain, numpy, got {value!r}{hint}"
    assert expect_choice("backend", "numpy", ("plain", "numpy")) is None
    with pytest.raises(mg.ConfigError, match=r"did you mean numpy\?$"):
        mg.get_backend("numpie")
