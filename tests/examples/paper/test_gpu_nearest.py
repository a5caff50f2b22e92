"""Nearest neighbors on the GPU: exact, with ties, against the definition."""

import numpy as np
import pytest

from tests.support.gpu_cases import check_nearest, gpu_nearest

LARGEST = gpu_nearest.LARGEST


@pytest.mark.parametrize("levels", (256, 2))  # with two gray levels there are many ties
@pytest.mark.parametrize("d", (3, LARGEST))  # the last is the most that float32 can do
def test_distances_indices_and_ties_are_the_definitions(d, levels, make_cupy, monkeypatch):
    check_nearest(d, levels, make_cupy, monkeypatch)


def test_what_it_cannot_do_exactly_is_left_to_the_definition(make_cupy):
    assert LARGEST == 1024
    queries = np.zeros((2, LARGEST + 1), np.uint8)
    can_take = gpu_nearest.DeviceNearest.can_take
    assert can_take(queries[:, 1:], make_cupy())
    assert not can_take(queries, make_cupy())
    assert not can_take(queries[:, 1:].astype(np.float32), make_cupy())
    assert not can_take(queries[:, 1:], make_cupy(precision="tf32"))
