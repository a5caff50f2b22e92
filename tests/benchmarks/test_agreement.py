"""Contenders that play another game, or less exactly, are found before they are timed."""

import numpy as np
import pytest

from benchmarks import agreement
from benchmarks.interleaved import BenchmarkError


def convolve_in(dtype, bits=None):
    """-> a convolution; with `bits` its factors are rounded, as TF32 keeps 10."""

    def rounded(a):
        scale = 2.0 ** np.floor(np.log2(np.abs(a) + 1e-30)) / 2.0**bits
        return np.round(a / scale) * scale

    def convolve(x, W):
        if bits is not None:
            x, W = rounded(x), rounded(W)
        shape = W.shape[:2]
        windows = np.lib.stride_tricks.sliding_window_view(x.astype(dtype), shape, axis=(1, 2))
        return np.tensordot(windows, W.astype(dtype), axes=((4, 5, 3), (0, 1, 2)))

    return convolve


def test_precision_shows_in_the_error_of_a_convolution():
    single = agreement.error_of(convolve_in(np.float32))
    tf32 = agreement.error_of(convolve_in(np.float32, bits=10))
    assert 1e-8 < single < 2e-6 and 1e-4 < tf32 < 6e-4
    agreement.expect_precision(single, "fp32")
    agreement.expect_precision(tf32, "tf32")
    message = r"^does not compute in fp32: a convolution is .*e-04 off, more than 1e-05$"
    with pytest.raises(BenchmarkError, match=message):
        agreement.expect_precision(tf32, "fp32")
    with pytest.raises(BenchmarkError, match="nan off"):
        agreement.expect_precision(float("nan"), "tf32")


def test_losses_must_agree_at_the_first_step():
    ours, theirs = [[0.7, 0.7, 0.7], [0.6, 0.6, 0.6]], [[0.7, 0.7, 0.705], [0.6, 0.6, 0.9]]
    assert agreement.differences(theirs, ours) == pytest.approx([0.005 / 0.7, 0.5])
    agreement.expect_same_losses(theirs, ours, "tf32")
    with pytest.raises(BenchmarkError, match=r"^disagrees with minigan at the first step: losses"):
        agreement.expect_same_losses(theirs, ours)
    with pytest.raises(BenchmarkError):
        agreement.expect_same_losses([[float("nan")] * 3], ours[:1])


def test_sampled_images_must_agree():
    agreement.expect_same_images([1, 2, 3], [1, 4, 3])
    with pytest.raises(BenchmarkError, match=r"^samples other images than minigan, 3 of 255 off$"):
        agreement.expect_same_images([1, 2, 3], [1, 5, 3])
