"""Philox4x32-10: its published test vectors, streams, and the distributions."""

import numpy as np
import pytest

import minigan as mg
from minigan.arrays.philox import numbers, words

VECTORS = (  # counter, key, result: kat_vectors of Salmon et al.'s Random123
    ((0, 0, 0, 0), 0, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, 0xFFFFFFFF_FFFFFFFF, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        0x299F31D0_A4093822,
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
)


@pytest.mark.parametrize("counter, key, result", VECTORS)
def test_published_vectors(counter, key, result):
    found = words([np.array([word], np.uint64) for word in counter], key)
    assert tuple(map(int, found[0])) == result


@pytest.mark.parametrize("dtype", ("float32", "float64"))
def test_each_call_draws_other_numbers_and_steps_may_be_set(dtype, make_backend):
    backend = make_backend(dtype)

    def draw(generator, size=7):
        out = backend.xp.empty(size, backend.dtype)
        generator.uniform(out)
        assert out.dtype == dtype
        return backend.to_host(out).copy()

    philox = backend.philox(seed=5)
    first, second = draw(philox), draw(philox)
    assert philox.steps == 2 and not np.any(first == second)
    philox.steps = 1
    np.testing.assert_array_equal(draw(philox), second)
    again = backend.philox(seed=5)
    np.testing.assert_array_equal(draw(again), first)
    for other in (backend.philox(seed=6), backend.philox(seed=5, stream=1)):
        assert not np.any(draw(other) == first)
    np.testing.assert_array_equal(draw(backend.philox(seed=5), 3), first[:3])


def test_all_backends_draw_the_same_numbers(make_backend):
    for dtype in ("float32", "float64"):
        plain, other = mg.get_backend("plain", dtype=dtype), make_backend(dtype)
        for method, rtol in (("uniform", 0), ("normal", 1e-6 if dtype == "float32" else 1e-12)):
            found = []
            for backend in (plain, other):
                out = backend.xp.empty((5, 3), backend.dtype)
                getattr(backend.philox(2**40 + 1, stream=3), method)(out)
                found.append(backend.to_host(out))
            np.testing.assert_allclose(found[1], found[0], rtol=rtol)


@pytest.mark.parametrize("dtype", ("float32", "float64"))
def test_distributions(dtype):
    n = 200_000
    uniform = numbers(n, 1, 0, 0, dtype, normal=False).astype(float)
    assert uniform.min() >= 0 and uniform.max() < 1
    counts, _ = np.histogram(uniform, 20, (0, 1))
    assert np.abs(counts - n / 20).max() < 5 * (n / 20) ** 0.5
    normal = numbers(n, 1, 0, 0, dtype, normal=True).astype(float)
    assert abs(normal.mean()) < 5 / n**0.5 and abs(normal.std() - 1) < 5 / (2 * n) ** 0.5
    assert abs(np.mean(np.abs(normal) < 1) - 0.6827) < 0.006
    assert abs(np.corrcoef(normal[::2], normal[1::2])[0, 1]) < 5 / (n / 2) ** 0.5


@pytest.mark.parametrize("mistake", (dict(seed=-1), dict(seed=2**64), dict(seed=0, stream=-1)))
def test_out_of_range(mistake):
    with pytest.raises(mg.ConfigError, match=r"^philox: "):
        mg.get_backend("plain").philox(**mistake)
