"""How exact a contender computes: the error of one convolution against float64, rather than the name of a setting.

TF32 keeps 10 bits of each factor: an error of some 3e-4. Float32 keeps 23: a few 1e-7. So a framework that takes TF32
where float32 was asked for is seen by three orders of magnitude.
"""

import numpy as np

from benchmarks.race import BenchmarkError
from minigan.errors import ConfigError

LIMITS = {"fp32": 1e-5, "tf32": 1e-3}  # of the error
AGREE = {"fp32": 1e-3, "tf32": 1e-2}  # by how much losses may differ at the first step, relatively


def expect_known(precision):
    """Raises ConfigError for a precision that nobody here computes in."""
    if precision not in LIMITS:
        raise ConfigError(f"--precision must be one of {', '.join(LIMITS)}, got {precision!r}")


def error_of(convolve):
    """-> |y - exact| / |exact|.

    convolve  function x (n, h, w, c_in), W (k, k, c_in, c_out), float32 on the host -> y (n, h_out, w_out, c_out) there;
              stride 1, no padding
    """
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4, 9, 9, 64), dtype=np.float32)
    W = rng.standard_normal((5, 5, 64, 128), dtype=np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(
        x.astype(np.float64), (5, 5), axis=(1, 2)
    )  # n, h, w, c, i, j
    exact = np.tensordot(windows, W.astype(np.float64), axes=((4, 5, 3), (0, 1, 2)))
    return float(np.linalg.norm(convolve(x, W) - exact) / np.linalg.norm(exact))


def expect(error, precision):
    """Raises BenchmarkError for a contender that is less exact than was asked for."""
    if not error <= LIMITS[precision]:
        raise BenchmarkError(
            f"does not compute in {precision}: a convolution is {error:.1e} off, more than {LIMITS[precision]:g}"
        )
