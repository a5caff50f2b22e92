"""The average of a generator's weights over its steps: what is drawn from, while the game goes on with the weights themselves.

Two players who chase each other do not come to rest: G circles about the place where it would be good. The mean of where
it has been is nearer to that place than where it is now, and costs a pass over the weights.

    a_t = β·a_(t-1) + (1 - β)·θ_t,  a_0 = 0          θ_t: weights after step t; a step counts less by β with each one after it
    ā_t = a_t / (1 - β^t)                            without the share of the start at 0, as in Adam
        = ā_(t-1) + (1 - β) / (1 - β^t) · (θ_t - ā_(t-1))

ā_1 = θ_1, and then about 1 / (1 - β) steps are in the mean, or all while there are fewer. The running statistics of BatchNorm are
averaged in the same way.
Source: Yazıcı et al. 2019, arXiv:1806.04498; Karras et al. 2018, arXiv:1710.10196
"""

from minigan.backends import Array, Backend
from minigan.layers import Sequential


def approach(mean: Array, new: Array, share: float, backend: Backend) -> None:
    """mean += share·(new - mean), arrays of one shape."""
    change = backend.scratch("average", mean.shape)
    backend.xp.subtract(new, mean, out=change)
    backend.xp.multiply(change, share, out=change)
    backend.xp.add(mean, change, out=mean)


class Average:
    """Average(net, source, decay): `net`, of the same layers as `source`, holds the average of its parameters and buffers.

    decay  β in [0, 1)
    steps  that are in the average; part of a checkpoint
    """

    def __init__(self, net: Sequential, source: Sequential, decay: float):
        self.net, self.source, self.decay = net, source, decay
        self.steps = 0
        self.approach = net.ready().backend.implementation(approach)

    def update(self) -> None:
        """Take the weights of now in: once after each step of the source's optimizer."""
        self.steps += 1
        share = (1.0 - self.decay) / (1.0 - self.decay**self.steps)
        mean, new = self.net.ready(), self.source.ready()
        pairs = [
            (mean.flat_params, new.flat_params),
            *((mean.buffers[name], new.buffers[name]) for name in mean.buffers),
        ]
        for a, x in pairs:
            self.approach(a, x, share, mean.backend)
        mean.version += 1
