"""Batch normalization: every channel gets mean 0 and variance 1 over the batch.

With m values x_i of one channel in the batch (m = n, or n·h·w for images):

    mean  = 1/m Σ x_i
    var   = 1/m Σ (x_i - mean)²
    x̂_i   = (x_i - mean) / σ          σ = √(var + eps)
    y_i   = gain·x̂_i + bias

Backward. With g_i = dL/dy_i, dgain = Σ g_i·x̂_i and dbias = Σ g_i follow at once.
x_i affects L along three paths: x̂_i itself, the mean, and the variance. Since
    ∂x̂_j/∂x_i = 1/σ·(δ_ij - 1/m - x̂_i·x̂_j/m)
(the 1/m from the mean; the last term from the variance, as ∂σ/∂x_i = x̂_i/m), summing over j gives

    dx_i = gain/σ · (g_i - 1/m Σ g_j - x̂_i·1/m Σ g_j·x̂_j)
         = gain/σ · (g_i - dbias/m - x̂_i·dgain/m)

So dx has mean 0 and, apart from eps, no component along x̂: normalizing removed these two
directions. (With g = 1 everywhere Σ g·x̂ is 0, and a check passes without the last term: use a
random g.)

For sampling, running averages of mean and var replace the batch's own:
    running = (1 - running_rate)·running + running_rate·batch
Then the layer is affine, y = gain·(x - running_mean)/σ + bias, and dx_i = gain/σ·g_i.

x, y (n, c) or (n, h, w, c)    gain, bias, running_mean, running_var (c,)
Source: Ioffe & Szegedy 2015, arXiv:1502.03167; the derivation is our own
Fast versions: backends/cpu/blocks.py, backends/gpu/batchnorm.py
"""

from typing import Any, NamedTuple

from minigan.checks import expect_choice, expect_number
from minigan.errors import ShapeError
from minigan.initializers import Initializer, ones, zeros
from minigan.layers.base import Array, Backend, Generator, Layer, Shape, Store


class Saved(NamedTuple):
    """Values that the backward pass needs from the forward pass."""

    x_hat: Array  # as x
    inv_std: Array  # (c,), 1/σ
    is_batch: bool  # were the statistics the batch's own?


def batch_statistics(x: Array) -> tuple[Array, Array]:
    """x (..., c) -> mean and biased variance (1/m) of each channel (c,), in float64.

    NumPy adds row after row, and float32 rounds each of these sums to 7 digits: the mean of a
    million numbers 100.3 would be 101.3. Float64 has 16 digits.
    """
    axes = tuple(range(x.ndim - 1))
    mean = x.mean(axis=axes, dtype="float64")
    centered = x - mean
    return mean, (centered * centered).mean(axis=axes)


def batchnorm_forward(
    x: Array,
    gain: Array | None,
    bias: Array | None,
    mean: Array,
    var: Array,
    eps: float,
    is_batch: bool,
    xp: Any,
) -> tuple[Array, Saved]:
    """Forward pass.

    x           (n, ..., c)     read only
    gain, bias  (c,) or None
    mean, var   (c,)            of the batch, from batch_statistics, or running ones
    -> y        as x; saved
    """
    inv_std = 1.0 / xp.sqrt(var + eps)
    x_hat = ((x - mean) * inv_std).astype(x.dtype)
    y = x_hat if gain is None else x_hat * gain
    return y if bias is None else y + bias, Saved(x_hat, inv_std, is_batch)


def batchnorm_backward(
    dy: Array,
    saved: Saved,
    gain: Array | None,
    dgain: Array | None,
    dbias: Array | None,
    need_dx: bool,
) -> Array | None:
    """Backward pass.

    dy            (n, ..., c)     d(mean loss)/dy
    saved                         from batchnorm_forward
    gain          (c,) or None
    dgain, dbias  (c,)            added to, unless None
    -> dx         as dy, or None; gain/σ·dy if the statistics were not the batch's
    """
    x_hat, inv_std, is_batch = saved
    axes = tuple(range(dy.ndim - 1))
    sum_dy = dy.sum(axis=axes, dtype="float64")  # as in batch_statistics
    sum_dy_x_hat = (dy * x_hat).sum(axis=axes, dtype="float64")
    if dgain is not None:
        dgain += sum_dy_x_hat
    if dbias is not None:
        dbias += sum_dy
    if not need_dx:
        return None
    dx = dy
    if is_batch:
        m = dy.size // dy.shape[-1]
        dx = dy - sum_dy / m - x_hat * (sum_dy_x_hat / m)
    return (dx * (inv_std if gain is None else gain * inv_std)).astype(dy.dtype)


class BatchNorm(Layer):
    """BatchNorm(): vectors (n, c) or images (n, h, w, c), normalized by channel.

    gain, bias        trained scale and shift, each optional
    gain_initializer  of the gain; DCGAN's is normal(0.02, mean=1)
    running_rate      weight of the new batch in the running statistics, 0 < rate <= 1
                      (PyTorch calls this momentum; Keras' momentum is 1 - running_rate)
    eps               added to the variance
    unbiased          keep the running variance with 1/(m-1), as in PyTorch, or 1/m, as in Keras
    sampling          statistics that forward(train=False) normalizes by: the "running" ones, or
                      the "batch"'s own (the running ones then do not change), so that a sample
                      depends on its batch: see frozen_statistics.py for one that does not
    Raises ShapeError for a batch of 1 if its own statistics are needed.
    """

    gain: Array | None
    dgain: Array | None
    bias: Array | None
    dbias: Array | None
    running_mean: Array
    running_var: Array

    def __init__(
        self,
        *,
        gain: bool = True,
        bias: bool = True,
        gain_initializer: Initializer | None = None,
        running_rate: float = 0.1,
        eps: float = 1e-5,
        unbiased: bool = True,
        sampling: str = "running",
    ):
        self.running_rate = expect_number("BatchNorm: running_rate", running_rate, "(0, 1]")
        self.eps = expect_number("BatchNorm: eps", eps, "(0, 1)")
        expect_choice("BatchNorm: sampling", sampling, ("running", "batch"))
        self.use_gain, self.use_bias = gain, bias
        self.gain_initializer = ones() if gain_initializer is None else gain_initializer
        self.unbiased, self.sampling = unbiased, sampling

    def setup(self, in_shape: Shape, *, backend: Backend, rng: Generator, store: Store) -> Shape:
        super().setup(in_shape, backend=backend, rng=rng, store=store)
        if len(in_shape) not in (1, 3):
            raise ShapeError(
                f"{self.label}: expected vectors (c,) or images (h, w, c), got {tuple(in_shape)}"
            )
        channels = (in_shape[-1],)
        self.gain = self.bias = self.dgain = self.dbias = None
        if self.use_gain:
            store.parameter(self, "gain", channels, self.gain_initializer)
        if self.use_bias:
            store.parameter(self, "bias", channels, zeros())
        store.buffer(self, "running_mean", channels, 0.0)
        store.buffer(self, "running_var", channels, 1.0)
        return self.in_shape

    def forward(self, x: Array, train: bool = True) -> Array:
        is_batch = self.uses_batch_statistics(len(x), train)
        mean, var = batch_statistics(x) if is_batch else (self.running_mean, self.running_var)
        y, self.saved = batchnorm_forward(
            x, self.gain, self.bias, mean, var, self.eps, is_batch, self.backend.xp
        )
        if self.updates_running(train):
            self.update_running(mean, var, m=x.size // x.shape[-1])
        return y

    def uses_batch_statistics(self, n: int, train: bool) -> bool:
        """Does a forward pass normalize by the batch's own statistics? Not possible with n = 1."""
        is_batch = train or self.sampling != "running"
        if is_batch and n == 1:
            other = "or forward(x, train=False) for the running statistics"
            if self.sampling != "running":
                other = "or freeze statistics before: minigan/frozen_statistics.py"
            raise ShapeError(
                f"{self.label}: a batch of 1 has no batch statistics: expected n of at least 2; "
                f"use a larger batch, {other}"
            )
        return is_batch

    def updates_running(self, train: bool) -> bool:
        """Does a forward pass update them? While they are measured, in sampling mode too."""
        return train or self.sampling == "measure"  # set by frozen_statistics.py

    def update_running(self, mean: Array, var: Array, m: int) -> None:
        """running += rate·(batch - running), in place; m is the number of values per channel."""
        if self.unbiased:
            var = var * (m / (m - 1))
        self.running_mean += (mean - self.running_mean) * self.running_rate
        self.running_var += (var - self.running_var) * self.running_rate

    def backward(self, dy: Array, need_dx: bool = True, need_dw: bool = True) -> Array | None:
        dgain, dbias = (self.dgain, self.dbias) if need_dw else (None, None)
        return batchnorm_backward(dy, self.saved, self.gain, dgain, dbias, need_dx)

    def describe(self) -> str:
        return f"BatchNorm {self.in_shape[-1] if getattr(self, 'in_shape', ()) else '?'}"
