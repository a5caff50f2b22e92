"""BatchNorm with the activation after it, on the GPU: layers/batchnorm.py in CUDA kernels.

    forward    mean and variance of the rows, by strips; mean, 1/σ and the running statistics;
               out = activation(gain·x̂ + bias)
    backward   Σ g and Σ g·x̂, by strips, g = dy·activation'; dx. x̂ and activation' are recomputed
               from the input

Several processes sum their statistics up, and in the backward pass the means: parallel/nccl.py.
A batch may have several equal parts, each with its own statistics: joined_update.py.
"""

from typing import Any

from minigan.arrays import Array
from minigan.backends.gpu.backend import GpuBackend
from minigan.backends.gpu.kernels import Activation, strips
from minigan.backends.gpu.reductions import fold
from minigan.backends.workspace import Workspace
from minigan.layers import BatchNorm

GROUP = 32  # strips whose moments one thread folds


class Norm:
    """BatchNorm and the activation after it, over rows of c channels."""

    # the input, from which backward recomputes x̂; equal parts of the batch; rows in one, and with
    # those of other processes, 0 if the statistics were not the batch's; scale (parts, 3, c) as in
    # set_scale, gain, bias
    saved: tuple[Array, int, int, int, tuple[Any, ...]]

    def __init__(self, layer: BatchNorm, f: Activation, backend: GpuBackend, memory: Workspace):
        self.layer, self.backend, self.memory = layer, backend, memory
        self.c = layer.in_shape[-1]
        self.V = backend.kernels.width(self.c)
        get, (kind, self.a) = backend.kernels.get, f
        self.strip_moments = get("strip_moments", width=self.V)
        self.fold_moments, self.set_scale = get("fold_moments"), get("set_scale")
        self.frozen_scale, self.norm_gradients = get("frozen_scale"), get("norm_gradients")
        self.normalize = get("normalize", kind=kind, width=self.V)
        self.norm_sums = get("norm_sums", kind=kind, width=self.V)
        self.norm_backward = get("norm_backward", kind=kind, width=self.V)

    def forward(self, y: Array, out: Array, train: bool, parts: int) -> None:
        """out = activation(gain·x̂ + bias), x̂ of y; updates running statistics in training mode."""
        layer, c = self.layer, self.c
        is_batch = layer.uses_batch_statistics(len(y) // parts, train)
        parts = parts if is_batch else 1
        m, total = y.size // c // parts, 0
        own_scale = self.memory.get("scale", (parts, 3, c))
        running_mean, running_var = layer.running_mean, layer.running_var
        if is_batch:
            running = (running_mean, running_var) if layer.updates_running(train) else (None, None)
            total = self.backend.group.total(m)
            unbias = total / (total - 1) if layer.unbiased and total > 1 else 1.0
            constants = (layer.eps, layer.running_rate, unbias)
            moments = self.pooled(self.moments(y, parts, m), m, total)
            self.set_scale(c, moments, own_scale, *running, parts, total, c, *constants)
        else:
            self.frozen_scale(c, running_mean, running_var, own_scale, c, layer.eps)
        scale = (own_scale, layer.gain, layer.bias)
        self.saved = (y, parts, m, total, scale)
        self.normalize(y.size // self.V, y, *scale, out, parts, m, c, self.a)

    def moments(self, y: Array, parts: int, m: int) -> Array:
        """-> mean of each part's rows, sum of squares about it: (parts, 2, c) float64, scratch"""
        c, lanes = self.c, self.c // self.V
        strip, count = strips(m, parts * lanes)
        moments = self.backend.scratch("moments of strips", (parts, count, 2, c), "float64")
        self.strip_moments(parts * count * lanes, y, moments, parts, m, c, strip)
        parity = 0
        while count > 1:
            folds = -(-count // GROUP)
            folded = self.backend.scratch(f"moments {parity}", (parts, folds, 2, c), "float64")
            sizes = (parts, count, c, GROUP, strip, m)
            self.fold_moments(parts * folds * c, moments, folded, *sizes)
            moments, count, strip, parity = folded, folds, strip * GROUP, 1 - parity
        return moments

    def pooled(self, moments: Array, m: int, total: int) -> Array:
        """moments (parts, 1, 2, c) of m rows here -> of the total of rows on all processes"""
        group, (parts, *_, c) = self.backend.group, moments.shape
        if group.size == 1:
            return moments
        pooled = self.backend.scratch("pooled moments", moments.shape, "float64")
        pool_moments = self.backend.kernels.get("pool_moments")
        for about in (moments, pooled):
            pool_moments(parts * c, moments, about, pooled, parts, c, m, m / total)
            group.all_reduce(pooled)
        return pooled

    def backward(self, dy: Array, need_dx: bool, need_dw: bool) -> Array:
        """dy as the output -> dx as y, in the block's memory; dgain and dbias are added to."""
        (y, parts, m, total, scale), layer, c = self.saved, self.layer, self.c
        dgain, dbias = (layer.dgain, layer.dbias) if need_dw else (None, None)
        means, a = None, self.a
        if total or dgain is not None or dbias is not None:
            lanes = parts * (c // self.V)
            strip, count = strips(m, lanes)
            sums = self.backend.scratch("sums of strips", (parts, count, 2 * c))
            self.norm_sums(count * lanes, dy, y, *scale, sums, parts, m, c, strip, a)
            means = self.memory.get("means", (parts, 2 * c))
            fold(sums, means, self.backend)
            # dgain and dbias are summed over processes later, with all gradients
            self.norm_gradients(c, means, dgain, dbias, parts, total or m, c)
            if total:
                self.backend.group.all_reduce(means)
        dx = self.memory.get("g", dy.shape)
        if need_dx:
            means = means if total else None
            self.norm_backward(dy.size // self.V, dy, y, *scale, means, dx, parts, m, c, a)
        return dx
