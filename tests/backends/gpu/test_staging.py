"""The staging buffer of a GPU: pinned memory, and no waiting."""

import numpy as np
import pytest

import minigan as mg


@pytest.mark.parametrize("dtype", (None, np.int32))
def test_rows_arrive_whatever_is_written_next(dtype, make_cupy):
    backend = make_cupy()
    buffer = backend.staging_buffer((5, 2), dtype)
    for n in (5, 3, 5, 1, 5):
        rows = np.random.default_rng(n).integers(0, 9, (n, 2))
        buffer.host_rows(n)[...] = rows
        x = buffer.upload()
        buffer.host_rows(5)[...] = -1  # the next rows, before anybody has read these
        np.testing.assert_array_equal(backend.to_host(x), rows)
        assert x.dtype == (dtype or np.float32) and x.shape == (n, 2)


def test_uploads_neither_wait_nor_use_pageable_memory(stand_in):
    buffer, counts = mg.get_backend("cupy").staging_buffer((3, 2)), stand_in.device.counts
    counts.clear()
    for i in range(8):
        buffer.host_rows(3)[...] = i
        buffer.upload()
    assert counts["uploads"] == 8
    assert counts["pageable uploads"] == counts["synchronizations"] == counts["allocations"] == 0


def test_the_next_rows_go_to_the_other_half(make_cupy):
    """So that the host can write while the GPU copies."""
    buffer = make_cupy().staging_buffer((3, 2))
    halves = []
    for _ in range(4):
        halves.append(buffer.host_rows(3))
        buffer.upload()
    assert not np.shares_memory(halves[0], halves[1])
    assert np.shares_memory(halves[0], halves[2]) and np.shares_memory(halves[1], halves[3])


def test_the_stand_in_finds_pinned_memory_that_is_written_too_early(stand_in):
    backend = mg.get_backend("cupy")
    buffer = backend.staging_buffer((3, 2))
    buffer.host_rows(3)[...] = 1
    buffer.upload()
    buffer.halves[buffer.slot][0] = 2  # without waiting
    with pytest.raises(AssertionError, match="pinned memory was written"):
        backend.synchronize()
    assert stand_in.device.in_flight == {}
