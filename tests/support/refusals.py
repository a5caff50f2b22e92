"""Errors that a user sees."""

import pytest

import minigan as mg


def refusal(call, *args, kind=mg.DataError, **options):
    """-> the one line of the error that `call` raises, which must be exactly of this kind."""
    with pytest.raises(mg.MiniganError) as caught:
        call(*args, **options)
    assert type(caught.value) is kind and "\n" not in str(caught.value), caught.value
    return str(caught.value)
