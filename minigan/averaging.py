"""Weight averaging (EMA): images are drawn from an average of the generator's recent weights.

Two networks trained against each other do not settle: G's weights circle around a good point. Their
mean is closer to that point than the current weights are, and costs one pass over the weights.
Training itself continues with the current weights.

    a_t = β·a_(t-1) + (1 - β)·θ_t,  a_0 = 0      θ_t: weights after step t
    ā_t = a_t / (1 - β^t)                        corrected for the start at 0, as in Adam
        = ā_(t-1) + (1 - β) / (1 - β^t) · (θ_t - ā_(t-1))

ā_1 = θ_1. Later the mean covers about the last 1 / (1 - β) steps, or all steps if there are fewer.
The running statistics of BatchNorm are averaged in the same way. u of SpectralNorm is copied: the
mean of vectors of length 1 is shorter.
Source: Yazıcı et al. 2019, arXiv:1806.04498; Karras et al. 2018, arXiv:1710.10196
Fast versions: backends/cpu/optimizers.py, backends/gpu/step_state.py
"""

from minigan.arrays import Array, Backend
from minigan.checks import expect_number, ignore_float_errors
from minigan.copying import Copyable
from minigan.layers import Sequential, SpectralNorm


def ema_update(mean: Array, new: Array, weight: float, backend: Backend) -> None:
    """mean += weight·(new - mean), for arrays of the same shape."""
    mean += (new - mean) * weight


class Average(Copyable):
    """Average(net, source, decay): `net` holds the average of `source`, a net of the same layers.

    decay  β in [0, 1)
    steps  number of steps in the average; saved in checkpoints
    Raises ConfigError.
    """

    def __init__(self, net: Sequential, source: Sequential, decay: float):
        self.net, self.source, self.steps = net, source, 0
        self.decay = expect_number("Average: decay", decay, "[0, 1)")

    @ignore_float_errors
    def update(self) -> None:
        """Include the current weights: call it after each step of the source's optimizer."""
        self.steps += 1
        weight = (1.0 - self.decay) / (1.0 - self.decay**self.steps)
        mean, new = self.net.ready(), self.source.ready()
        pairs = [(mean.flat_params, new.flat_params)]
        pairs += [(mean.buffers[name], new.buffers[name]) for name in mean.buffers]
        update = mean.backend.operation_for(ema_update)
        for a, x in pairs:
            if a.size:  # a net may have no parameters
                update(a, x, weight, mean.backend)
        for layer, original in zip(self.net.leaves(), self.source.leaves(), strict=True):
            if isinstance(layer, SpectralNorm) and isinstance(original, SpectralNorm):
                layer.u[...] = original.u
        mean.version += 1
