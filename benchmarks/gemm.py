"""The limit: the rate of one large matrix product by the same backend's BLAS."""

import numpy as np

from minigan import get_backend

EDGE = 4096


class Gemm:
    def __init__(self, device, edge, precision="fp32"):
        self.backend = (
            get_backend("cupy", precision=precision) if device == "cuda" else get_backend("numpy")
        )
        rng = np.random.default_rng(0)
        self.a, self.b = (
            self.backend.asarray(rng.random((edge, edge), dtype=np.float32)) for _ in range(2)
        )
        self.c = self.backend.empty((edge, edge))

    def run(self, times):
        for _ in range(times):
            self.backend.gemm(self.a, self.b, out=self.c)
        self.backend.synchronize()


def rate(seconds):
    """Seconds of one product -> GFLOP/s."""
    return 2e-9 * EDGE**3 / seconds
