"""Do contenders play the same game, and as exactly? Checked before any clock starts.

Losses of the first steps, from the same weights and the same z; sampled images likewise. And the
error of one convolution against float64, since the name of a setting proves nothing: TF32 keeps 10
bits of each factor, an error of about 3e-4; float32 keeps 23, a few 1e-7.
"""

import numpy as np

from benchmarks.interleaved import BenchmarkError

STEPS = 3  # whose losses are compared
LOSSES = {"fp32": 1e-3, "tf32": 1e-2}  # largest relative difference at the first step
PIXELS = 2  # of 255: largest difference of sampled images
ERRORS = {"fp32": 1e-5, "tf32": 1e-3}  # largest error of a convolution


def differences(theirs, ours):
    """Losses of the first steps -> the largest relative difference at each step."""
    theirs, ours = np.array(theirs), np.array(ours)
    return (np.abs(theirs - ours) / np.abs(ours)).max(axis=1).tolist()


def expect_same_losses(theirs, ours, precision="fp32"):
    """Raises BenchmarkError if the losses differ at the first step."""
    if not differences(theirs, ours)[0] <= LOSSES[precision]:
        raise BenchmarkError(
            f"disagrees with minigan at the first step: losses {theirs[0]} and {ours[0]}, "
            f"more than {LOSSES[precision]:g} apart"
        )


def expect_same_images(theirs, ours):
    """theirs, ours: some pixels of sampled images. Raises BenchmarkError if they differ."""
    off = max(abs(a - b) for a, b in zip(theirs, ours, strict=True))
    if off > PIXELS:
        raise BenchmarkError(f"samples other images than minigan, {off} of 255 off")


def error_of(convolve):
    """-> |y - exact| / |exact|.

    convolve  x (n, h, w, c_in), W (k, k, c_in, c_out) -> y (n, h_out, w_out, c_out); float32 on
              the host, stride 1, no padding
    """
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4, 9, 9, 64), dtype=np.float32)
    W = rng.standard_normal((5, 5, 64, 128), dtype=np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(x.astype(np.float64), (5, 5), axis=(1, 2))
    exact = np.einsum("nhwcij,ijco->nhwo", windows, W.astype(np.float64), optimize=True)
    return float(np.linalg.norm(convolve(x, W) - exact) / np.linalg.norm(exact))


def expect_precision(error, precision):
    """Raises BenchmarkError if a contender is less exact than requested."""
    if not error <= ERRORS[precision]:
        raise BenchmarkError(
            f"does not compute in {precision}: a convolution is {error:.1e} off, "
            f"more than {ERRORS[precision]:g}"
        )
