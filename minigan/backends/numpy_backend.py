"""The NumPy backend: the definitions of `base.py` on the CPU."""

import numpy as np

from minigan.backends.base import Backend


class NumpyBackend(Backend):
    name = "numpy"

    def __init__(self, dtype="float32"):
        super().__init__(np, dtype)

    def fill_uniform(self, generator, out):
        generator.random(dtype=self.dtype, out=out)  # in place: nothing is allocated in a step

    def fill_normal(self, generator, out):
        generator.standard_normal(dtype=self.dtype, out=out)
