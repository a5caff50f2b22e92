"""Batch normalisation: every channel is brought to mean 0 and variance 1 over the batch.

With m values x_i of one channel in the batch (m = n, or n·h·w for images):

    mean  = 1/m Σ x_i
    var   = 1/m Σ (x_i - mean)²
    x̂_i   = (x_i - mean) / σ          σ = √(var + eps)
    y_i   = gain·x̂_i + bias

Backward. With g_i = dL/dy_i, dgain = Σ g_i·x̂_i and dbias = Σ g_i follow at once.
x_i reaches L by three ways: x̂_i itself, the mean, and the variance. Since
    ∂x̂_j/∂x_i = 1/σ·(δ_ij - 1/m - x̂_i·x̂_j/m)
(the 1/m from the mean; the last term from the variance, as ∂σ/∂x_i = x̂_i/m), summing over j gives

    dx_i = gain/σ · (g_i - 1/m Σ g_j - x̂_i·1/m Σ g_j·x̂_j)
         = gain/σ · (g_i - dbias/m - x̂_i·dgain/m)

So dx has mean 0 and, but for eps, no part along x̂: the two directions that normalising removed.
(With g = 1 everywhere Σ g·x̂ is 0, and a check passes without the last term: use random g.)

For sampling, running averages of mean and var stand in for the batch's own:
    running = (1 - running_rate)·running + running_rate·batch
Then the layer is affine, y = gain·(x - running_mean)/σ + bias, and dx_i = gain/σ·g_i.

x, y (n, c) or (n, h, w, c)    gain, bias, running_mean, running_var (c,)
Source: Ioffe & Szegedy 2015, arXiv:1502.03167; the derivation is our own
"""

from minigan.checks import expect_number
from minigan.errors import ConfigError, ShapeError
from minigan.initializers import Initializer, ones, zeros
from minigan.layers.base import Array, Backend, Generator, Layer, Shape, Store


def batchnorm_forward(
    x: Array,
    gain: Array | None,
    bias: Array | None,
    y: Array,
    x_hat: Array,
    mean: Array,
    var: Array,
    inv_std: Array,
    eps: float,
    backend: Backend,
) -> None:
    """Forward pass with the batch's own statistics.
    x               (m, c)           read only
    gain, bias      (c,) or None
    y, x_hat        (m, c)           written
    mean, var       (c,)             written; var is the biased one, 1/m
    inv_std         (c,)             written; 1/√(var + eps)
    """
    xp = backend.xp
    xp.mean(x, axis=0, out=mean)
    xp.subtract(x, mean, out=x_hat)
    xp.multiply(x_hat, x_hat, out=y)
    xp.mean(y, axis=0, out=var)
    set_inv_std(var, inv_std, eps, backend)
    xp.multiply(x_hat, inv_std, out=x_hat)
    scale_and_shift(x_hat, gain, bias, y, backend)


def batchnorm_frozen_forward(
    x: Array,
    gain: Array | None,
    bias: Array | None,
    y: Array,
    x_hat: Array,
    mean: Array,
    var: Array,
    inv_std: Array,
    eps: float,
    backend: Backend,
) -> None:
    """Forward pass with given statistics: as batchnorm_forward, but mean and var are read."""
    xp = backend.xp
    set_inv_std(var, inv_std, eps, backend)
    xp.subtract(x, mean, out=x_hat)
    xp.multiply(x_hat, inv_std, out=x_hat)
    scale_and_shift(x_hat, gain, bias, y, backend)


def batchnorm_backward(
    dy: Array,
    x_hat: Array,
    gain: Array | None,
    inv_std: Array,
    dgain: Array | None,
    dbias: Array | None,
    dx: Array | None,
    frozen: bool,
    backend: Backend,
) -> None:
    """Backward pass.
    dy            (m, c)          d(mean loss)/dy
    x_hat         (m, c)          from forward
    gain          (c,) or None
    inv_std       (c,)            from forward
    dgain, dbias  (c,)            added to; None: not wanted
    dx            (m, c)          written; None: not wanted
    frozen        the statistics were given, not the batch's: only dx = gain/σ·dy is left
    """
    xp, m = backend.xp, len(dy)
    sum_dy = backend.scratch("sum dy", inv_std.shape)
    sum_dy_x_hat = backend.scratch("sum dy x_hat", inv_std.shape)
    product = backend.scratch("dy x_hat", dy.shape) if dx is None else dx
    xp.sum(dy, axis=0, out=sum_dy)
    xp.multiply(dy, x_hat, out=product)
    xp.sum(product, axis=0, out=sum_dy_x_hat)
    if dgain is not None:
        xp.add(dgain, sum_dy_x_hat, out=dgain)
    if dbias is not None:
        xp.add(dbias, sum_dy, out=dbias)
    if dx is None:
        return
    if frozen:
        xp.multiply(dy, inv_std, out=dx)
    else:
        xp.multiply(sum_dy, 1.0 / m, out=sum_dy)
        xp.multiply(sum_dy_x_hat, 1.0 / m, out=sum_dy_x_hat)
        xp.multiply(x_hat, sum_dy_x_hat, out=dx)
        xp.subtract(dy, dx, out=dx)
        xp.subtract(dx, sum_dy, out=dx)
        xp.multiply(dx, inv_std, out=dx)
    if gain is not None:
        xp.multiply(dx, gain, out=dx)


def set_inv_std(var: Array, inv_std: Array, eps: float, backend: Backend) -> None:
    """inv_std = 1 / √(var + eps)"""
    xp = backend.xp
    xp.add(var, eps, out=inv_std)
    xp.sqrt(inv_std, out=inv_std)
    xp.divide(1.0, inv_std, out=inv_std)


def scale_and_shift(
    x_hat: Array, gain: Array | None, bias: Array | None, y: Array, backend: Backend
) -> None:
    """y = gain·x̂ + bias, with either left out where None"""
    xp = backend.xp
    if gain is not None:
        xp.multiply(x_hat, gain, out=y)
    else:
        y[...] = x_hat
    if bias is not None:
        xp.add(y, bias, out=y)


class BatchNorm(Layer):
    """BatchNorm(): vectors (n, c) or images (n, h, w, c), normalised by channel.

    gain, bias        trained scale and shift, each optional
    gain_initializer  of the gain; DCGAN's is normal(0.02, mean=1)
    running_rate      weight of the new batch in the running statistics, 0 < rate <= 1
                      (PyTorch calls this momentum; Keras' momentum is 1 - running_rate)
    eps               added to the variance
    unbiased          keep the running variance with 1/(m-1), as PyTorch, or with 1/m, as Keras
    sampling          what forward(train=False) normalises by: "running" statistics,
                      or the "batch"'s own (and the running ones stay as they are)
    Raises ShapeError for a batch of 1 where the batch's own statistics are taken.
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
        if sampling not in ("running", "batch"):
            raise ConfigError(f'BatchNorm: sampling must be "running" or "batch", got {sampling!r}')
        self.use_gain, self.use_bias = gain, bias
        self.gain_initializer = gain_initializer or ones()
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
        self.forward_op = backend.implementation(batchnorm_forward)
        self.frozen_forward_op = backend.implementation(batchnorm_frozen_forward)
        self.backward_op = backend.implementation(batchnorm_backward)
        return self.in_shape

    def forward(self, x: Array, train: bool = True) -> Array:
        channels = x.shape[-1]
        own_statistics = train or self.sampling == "batch"
        if own_statistics and len(x) == 1:
            raise ShapeError(
                f"{self.label}: a batch of 1 has no batch statistics: expected n of at least 2 here; "
                "use a larger batch, or forward(x, train=False) to take the running statistics"
            )
        self.frozen = not own_statistics
        y, x_hat = self.memory.get("y", x.shape), self.memory.get("x_hat", x.shape)
        self.inv_std = self.memory.get("inv_std", (channels,))
        rows = (
            x.reshape(-1, channels),
            self.gain,
            self.bias,
            y.reshape(-1, channels),
            x_hat.reshape(-1, channels),
        )
        if self.frozen:
            self.frozen_forward_op(
                *rows, self.running_mean, self.running_var, self.inv_std, self.eps, self.backend
            )
        else:
            mean, var = self.memory.get("mean", (channels,)), self.memory.get("var", (channels,))
            self.forward_op(*rows, mean, var, self.inv_std, self.eps, self.backend)
            if train:
                self.update_running(mean, var, m=x.size // channels)
        self.x_hat = x_hat
        return y

    def update_running(self, mean: Array, var: Array, m: int) -> None:
        """running += rate·(batch - running), in place; mean and var are used up."""
        xp = self.backend.xp
        if self.unbiased:
            xp.multiply(var, m / (m - 1), out=var)
        for running, batch in ((self.running_mean, mean), (self.running_var, var)):
            xp.subtract(batch, running, out=batch)
            xp.multiply(batch, self.running_rate, out=batch)
            xp.add(running, batch, out=running)

    def backward(self, dy: Array, need_dx: bool = True, need_dw: bool = True) -> Array | None:
        channels = dy.shape[-1]
        dx = self.memory.get("dx", dy.shape) if need_dx else None
        dgain, dbias = (self.dgain, self.dbias) if need_dw else (None, None)
        self.backward_op(
            dy.reshape(-1, channels),
            self.x_hat.reshape(-1, channels),
            self.gain,
            self.inv_std,
            dgain,
            dbias,
            dx if dx is None else dx.reshape(-1, channels),
            self.frozen,
            self.backend,
        )
        return dx

    def describe(self) -> str:
        return f"BatchNorm {self.in_shape[-1] if getattr(self, 'in_shape', ()) else '?'}"
