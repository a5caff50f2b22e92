"""Names and numbers of classes."""

import pytest

import minigan as mg
from minigan.data.base import are_names, class_number


def test_a_name_comes_before_a_number():
    animals, numbers = ("cat", "dog", "1"), tuple(str(i) for i in range(1, 11))
    assert [class_number("--label", label, animals) for label in ("dog", "0", "1")] == [1, 0, 2]
    assert [class_number("--label", label, numbers) for label in ("10", "9", "0")] == [9, 8, 0]


def test_a_name_is_what_the_locale_could_not_decode():
    """Of the folders "é" and "a, new line", given in an ascii locale."""
    for label in ("é", "\udcc3\udca9", "a\n"):
        assert class_number("--label", label, ("é", "b", "a\\n")) == (2 if "a" in label else 0)


@pytest.mark.parametrize("label", ("2", "-1", "cow", "", "1.0", "١", "9" * 5000))
def test_what_is_no_class(label):
    with pytest.raises(mg.ConfigError, match=r"^--label must be in 0 .. 1, or a name: cat, dog"):
        class_number("--label", label, ("cat", "dog"))


def test_digits_are_numbers_and_no_names():
    assert not are_names(()) and not are_names(tuple("0123"))
    assert are_names(tuple("123")) and are_names(("cat", "dog"))
