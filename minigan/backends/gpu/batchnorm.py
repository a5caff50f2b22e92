"""BatchNorm with the activation behind it, on the GPU: layers/batchnorm.py with the kernels of kernels.cu.

    forward    the rows' mean and variance, by strips; mean, 1/σ and the running statistics; out = activation(gain·x̂ + bias)
    backward   Σ g and Σ g·x̂, by strips, g = dy·activation'; dx. x̂ and activation' are made anew from the input

A batch may have several equal parts (in_parts), each with statistics of its own: D sees real and fake images at once.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from minigan.arrays.backend import Array, Workspace
from minigan.backends.gpu.backend import CupyBackend
from minigan.backends.gpu.convolution import Activation
from minigan.backends.gpu.kernels import strips
from minigan.backends.gpu.reductions import fold_each
from minigan.layers import BatchNorm

GROUP = 32  # strips whose moments one thread folds


@contextmanager
def in_parts(backend: CupyBackend, parts: int) -> Iterator[None]:
    """with in_parts(backend, 2): BatchNorm sees a batch as two equal ones, one after the other."""
    backend.parts = parts
    try:
        yield
    finally:
        backend.parts = 1


class Norm:
    """BatchNorm and the activation behind it, over rows of c channels."""

    y: Array  # what was normalised; backward makes x̂ anew from it
    parts: int  # of the batch, each with statistics of its own
    m: int  # rows in one
    frozen: bool  # the running statistics were taken, not the batch's

    def __init__(
        self, layer: BatchNorm, activation: Activation, backend: CupyBackend, memory: Workspace
    ):
        self.layer, self.activation, self.backend, self.memory = layer, activation, backend, memory
        self.c = layer.in_shape[-1]
        self.V = backend.kernels.width(self.c)
        get, kind = backend.kernels.get, activation[0]
        self.strip_moments = get("strip_moments", width=self.V)
        self.fold_moments, self.set_scale, self.frozen_scale = (
            get("fold_moments"),
            get("set_scale"),
            get("frozen_scale"),
        )
        self.normalise = get("normalise", activation=kind, width=self.V)
        self.norm_sums, self.norm_backward = (
            get(name, activation=kind, width=self.V) for name in ("norm_sums", "norm_backward")
        )
        self.norm_gradients = get("norm_gradients")

    def forward(self, y: Array, out: Array, train: bool) -> None:
        """out = activation(gain·x̂ + bias), with x̂ of y, and the running statistics moved in training mode"""
        layer, c = self.layer, self.c
        self.frozen, self.y = not (train or layer.sampling == "batch"), y
        self.parts = parts = 1 if self.frozen else self.backend.parts
        self.m = m = y.size // c // parts
        mean, inv_std = self.memory.get("mean", (parts, c)), self.memory.get("inv_std", (parts, c))
        if self.frozen:
            self.frozen_scale(c, layer.running_mean, layer.running_var, mean, inv_std, c, layer.eps)
        else:
            if len(y) == parts:
                layer.forward(
                    self.backend.empty((1, *layer.in_shape))
                )  # raises: one sample has no statistics
            running = (layer.running_mean, layer.running_var) if train else (None, None)
            unbias = m / (m - 1) if layer.unbiased and m > 1 else 1.0
            self.set_scale(
                c,
                self.moments(y),
                mean,
                inv_std,
                *running,
                parts,
                m,
                c,
                layer.eps,
                layer.running_rate,
                unbias,
            )
        self.scale = (mean, inv_std, layer.gain, layer.bias)
        self.normalise(y.size // self.V, y, *self.scale, out, parts, m, c, self.activation[1])

    def moments(self, y: Array) -> Array:
        """-> mean, and sum of squares about it, of the rows of each part of y: (parts, 2, c), in scratch memory"""
        c, lanes, parts, m = self.c, self.c // self.V, self.parts, self.m
        strip, count = strips(m, parts * lanes)
        moments = self.backend.scratch("moments of strips", (parts, count, 2, c))
        self.strip_moments(parts * count * lanes, y, moments, parts, m, c, strip)
        turn = 0
        while count > 1:
            folds = -(-count // GROUP)
            folded = self.backend.scratch(f"moments {turn % 2}", (parts, folds, 2, c))
            self.fold_moments(parts * folds * c, moments, folded, parts, count, c, GROUP, strip, m)
            moments, count, strip, turn = folded, folds, strip * GROUP, turn + 1
        return moments

    def backward(self, dy: Array, need_dx: bool, need_dw: bool) -> Array:
        """dy as the output -> dx as y, in the block's memory; dgain and dbias are added to"""
        layer, backend, c, parts, m = self.layer, self.backend, self.c, self.parts, self.m
        dgain, dbias = (layer.dgain, layer.dbias) if need_dw else (None, None)
        means, a = None, self.activation[1]
        if not self.frozen or dgain is not None or dbias is not None:
            lanes = parts * (c // self.V)
            strip, count = strips(m, lanes)
            sums = backend.scratch("sums of strips", (parts, count, 2 * c))
            self.norm_sums(count * lanes, dy, self.y, *self.scale, sums, parts, m, c, strip, a)
            means = self.memory.get("means", (parts, 2 * c))
            fold_each(sums, means, backend)
            self.norm_gradients(c, means, dgain, dbias, parts, m, c)
        dx = self.memory.get("g", dy.shape)
        if need_dx:
            self.norm_backward(
                dy.size // self.V,
                dy,
                self.y,
                *self.scale,
                None if self.frozen else means,
                dx,
                parts,
                m,
                c,
                a,
            )
        return dx
