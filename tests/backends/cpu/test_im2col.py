"""The kernel for most convolutions: a column matrix and one product."""

import numpy as np
import pytest

from minigan.backends.cpu.im2col import Im2col, view
from tests.support.kernel_cases import check_kernel


@pytest.mark.parametrize("seed", range(20))
def test_any_geometry_gives_what_the_definition_gives(seed, monkeypatch):
    check_kernel(Im2col, seed, monkeypatch, times=4)


def test_a_whole_image_is_one_row_of_columns():
    """Then W is the large operand, and the batch is not cut."""
    geometry = ((7, 7, 8), (7, 7, 8, 5), (1, 1, 5), (1, 1), ((0, 0), (0, 0)))
    kernel = Im2col(*geometry)
    assert kernel.is_linear and kernel.images(4) >= 10**6
    x = np.random.default_rng(0).standard_normal((3, 7, 7, 8))
    assert np.shares_memory(kernel.read_x(x, None, None), x)


@pytest.mark.parametrize("c_out, images", ((16, 16), (256, 16), (512, 32)))
def test_a_chunk_has_as_many_rows_as_a_wide_W_has_columns(c_out, images):
    kernel = Im2col((8, 8, 256), (4, 4, 256, c_out), (4, 4, c_out), (2, 2), ((1, 1), (1, 1)))
    assert kernel.images(4) == images


def test_a_view_counts_in_numbers():
    array = np.arange(24.0).reshape(2, 3, 4)
    found = view(array, 5, (2, 3), (12, 2))
    assert found.tolist() == [[5, 7, 9], [17, 19, 21]] and np.shares_memory(found, array)
