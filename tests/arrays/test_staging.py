"""Staging buffers: the host writes rows, the step reads the same memory every time."""

import numpy as np
import pytest


@pytest.mark.parametrize("dtype", (None, np.int32))
def test_rows_arrive_in_the_same_memory(dtype, make_backend):
    backend = make_backend("float32")
    buffer = backend.staging_buffer((5, 2), dtype)
    assert buffer.array.dtype == (dtype or np.float32) and buffer.array.shape == (5, 2)
    for n in (5, 3, 5, 1):
        rows = np.random.default_rng(n).integers(0, 9, (n, 2))
        host = buffer.host_rows(n)
        assert isinstance(host, np.ndarray) and host.shape == (n, 2)
        host[...] = rows
        x = buffer.upload()
        assert backend.is_array(x) and x.dtype == buffer.array.dtype
        np.testing.assert_array_equal(backend.to_host(x), rows)
        np.testing.assert_array_equal(backend.to_host(buffer.array)[:n], rows)


def test_many_uploads_in_a_row(make_backend):
    """What was uploaded stays until it is written again; copies may still be under way."""
    backend = make_backend("float32")
    buffers = [backend.staging_buffer((4, 3)) for _ in range(2)]
    for step in range(6):
        for i, buffer in enumerate(buffers):
            buffer.host_rows(4)[...] = 10 * step + i
            buffer.upload()
        for i, buffer in enumerate(buffers):
            assert np.all(backend.to_host(buffer.array) == 10 * step + i)
