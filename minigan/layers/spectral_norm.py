"""Spectral normalization: a layer whose weights are divided by the most that they can stretch x.

A linear layer y = x·M stretches x by at most σ, the largest singular value of M. With M/σ in every
linear layer, D cannot change faster than x does, so its gradient, which is all that G learns from,
stays bounded. For a convolution M is W seen as (k·k·c_in, c_out), as in conv2d.py: σ is the bound
of one window. A pixel lies in up to m windows, so x is stretched by at most √m, 2 for k4 s2.

σ by power iteration. For any u, repeating u <- Mᵀ·M·u, scaled to length 1, turns u toward the
direction in which M stretches most; then σ = |M·u|. W changes little from step to step. So u is
kept, and one iteration for each forward pass in training is enough.

Backward, with u, the right singular vector, held fixed: let v = M·u/σ, the left one, and M̄ = M/σ.

    σ = vᵀ·M·u              dσ = <dM, v·uᵀ>
    dL = <G, d(M/σ)>        G = dL/dM̄
       = <G, dM>/σ - <G, M>/σ²·dσ
    dL/dM = (G - <G, M̄>·v·uᵀ) / σ

So a step along M itself has no effect, as it should: M̄ does not depend on the size of M. Once u has
converged, moving it would add nothing: σ is largest at u, so it does not change to first order.
Before, this is the gradient for the u at hand: check_gradients needs train=False.

W as the layer's;  u (columns of M,)  a buffer;  v (rows of M,)
Source: Miyato et al. 2018, arXiv:1802.05957, algorithm 1 and equation 12
Fast version: backends/steps.py
"""

from typing import Any

import numpy as np

from minigan.errors import ConfigError, StateError
from minigan.layers.base import Array, Backend, Generator, Layer, Shape, Store
from minigan.layers.conv2d import Conv2d
from minigan.layers.conv_transpose2d import ConvTranspose2d
from minigan.layers.linear import Linear

TINY = 1e-12  # instead of 0, below a fraction
START = 15  # power iterations before the first step

Saved = tuple[Array, Array, Array]  # u, v, σ


def spectral_norm_forward(W: Array, u: Array, train: bool, xp: Any) -> tuple[Array, Saved]:
    """-> W̄ = W/σ, as W; saved. In training u takes one power iteration first, in place."""
    M = W.reshape(-1, W.shape[-1])
    if train:
        u[...] = unit(unit(M @ u, xp) @ M, xp)
    v = M @ u
    sigma = xp.maximum(xp.sqrt(v @ v), TINY)
    return W / sigma, (u, v / sigma, sigma)


def spectral_norm_backward(dW_bar: Array, W_bar: Array, saved: Saved) -> Array:
    """dL/dW̄ -> dL/dW, both as W."""
    u, v, sigma = saved
    along = (dW_bar * W_bar).sum()
    return (dW_bar - along * (v[:, None] * u).reshape(W_bar.shape)) / sigma


def unit(x: Array, xp: Any) -> Array:
    """-> the vector x, scaled to length 1."""
    return x / xp.maximum(xp.sqrt(x @ x), TINY)


class SpectralNorm(Layer):
    """SpectralNorm(Conv2d(64, 4, 2, 1)): the layer, with its W divided by σ.

    W, dW          the parameter and its gradient; layer.W and layer.dW are W̄ and its gradient
    u              a buffer: saved with the network, updated by forward(train=True)
    Raises ConfigError for a layer without such weights.
    """

    W: Array
    dW: Array
    u: Array

    def __init__(self, layer: Layer):
        if not isinstance(layer, (Conv2d, ConvTranspose2d, Linear)):
            raise ConfigError(
                f"SpectralNorm wraps Conv2d, ConvTranspose2d or Linear, got {layer!r}"
            )
        self.layer = layer

    def setup(self, in_shape: Shape, *, backend: Backend, rng: Generator, store: Store) -> Shape:
        super().setup(in_shape, backend=backend, rng=rng, store=store)
        layer, before = self.layer, len(store.declared)
        if layer.container not in (None, self):
            raise StateError(f"{self.label}: the layer belongs to another one: make a new one")
        layer.container = self
        layer.path, layer.has_parameters, layer.held = self.path, True, {}
        layer.out_shape = layer.setup(in_shape, backend=backend, rng=rng, store=store)
        columns = in_shape[-1] if isinstance(layer, ConvTranspose2d) else layer.out_shape[-1]
        u = unit(rng.standard_normal(columns), np)
        for i, (_, name, full_name, values) in enumerate(store.declared[before:], before):
            if name == "W":  # the parameter is this layer's
                store.declared[i] = (self, name, full_name, values)
                layer.W, layer.dW = (backend.asarray(np.zeros(values.shape)) for _ in "WW")
                M = values.reshape(-1, columns)
                for _ in range(START):
                    u = unit(unit(M @ u, np) @ M, np)
        if not u.any():
            raise ConfigError(f"{self.label}: W is 0, so it has no norm: initialize it otherwise")
        store.buffer(self, "u", u.shape, u)
        return layer.out_shape

    def forward(self, x: Array, train: bool = True) -> Array:
        layer, xp = self.layer, self.backend.xp
        layer.W[...], self.saved = spectral_norm_forward(self.W, self.u, train, xp)
        return layer.forward(x, train)

    def backward(self, dy: Array, need_dx: bool = True, need_dw: bool = True) -> Array | None:
        layer = self.layer
        layer.dW.fill(0)
        dx = layer.backward(dy, need_dx, need_dw)
        if need_dw:
            self.dW += spectral_norm_backward(layer.dW, layer.W, self.saved)
        return dx

    def describe(self) -> str:
        return f"SpectralNorm {self.layer.describe()}"


def unwrapped(layer: Layer) -> Layer:
    """-> the layer within a SpectralNorm; any other layer itself."""
    return layer.layer if isinstance(layer, SpectralNorm) else layer
