"""JAX: the whole step in one jitted function, weights and moments donated; channels-last.

By default JAX derives the dW of a transposed convolution as a convolution of dilated images, which
XLA runs 70 times slower than necessary on a CPU. Here it is the dW of the convolution that is
transposed, as in minigan's conv_transpose2d.py.
"""

from functools import partial

import numpy as np

from benchmarks import nets
from benchmarks.contenders import Missing, need
from benchmarks.contenders.contender import Contender
from benchmarks.contenders.operations import operations_of

jax = need("jax")
jnp, lax = jax.numpy, jax.lax
LAYOUT = ("NHWC", "HWIO", "NHWC")
PRECISIONS = {"fp32": "highest", "tf32": "tensorfloat32"}  # its default on a GPU is TF32


def player(operations):
    """-> what a step changes: parameters, running mean and variance, (steps, m, v) of Adam."""
    parameters, statistics = [], []
    for op in operations:
        arrays = {name: getattr(op, name, None) for name in ("W", "b", "gain", "bias")}
        trained = {name: jnp.asarray(a) for name, a in arrays.items() if a is not None}
        parameters.append(trained)
        channels, is_norm = op.in_shape[-1], op.kind == "norm"
        statistics.append((jnp.zeros(channels), jnp.ones(channels)) if is_norm else None)
    m, v = (jax.tree.map(jnp.zeros_like, parameters) for _ in range(2))
    return parameters, statistics, (jnp.zeros((), np.int32), m, v)


def apply(op, p, s, x, train):
    """One operation of operations.py -> y, running statistics."""
    if op.kind == "linear":
        x = x @ p["W"]
    elif op.kind == "conv":
        x = conv(x, p["W"], op.stride, op.pads)
    elif op.kind == "conv_transpose":
        x = conv_transpose(op.out_shape, op.stride, op.pads, x, p["W"])
    elif op.kind == "norm":
        x, s = norm(op, p, s, x, train)
    elif op.kind == "reshape":
        x = x.reshape(-1, *op.shape)
    elif op.kind == "flatten":
        x = x.reshape(len(x), -1)
    elif op.kind == "upsample":
        x = jnp.repeat(jnp.repeat(x, op.scale, 1), op.scale, 2)
    elif op.kind == "leaky_relu":
        x = jax.nn.leaky_relu(x, op.slope)
    else:
        x = {"relu": jax.nn.relu, "tanh": jnp.tanh, "sigmoid": jax.nn.sigmoid}[op.kind](x)
    return (x + p["b"] if "b" in p else x), s


def conv(x, W, stride, pads):
    return lax.conv_general_dilated(x, W, stride, pads, dimension_numbers=LAYOUT)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def conv_transpose(out_shape, stride, pads, x, W):
    """The dx of the convolution that it transposes."""
    y = jnp.zeros((len(x), *out_shape), x.dtype)  # only its shape is used
    return jax.vjp(lambda y: conv(y, W, stride, pads), y)[1](x)[0]


def conv_transpose_forward(out_shape, stride, pads, x, W):
    return conv_transpose(out_shape, stride, pads, x, W), (x, W)


def conv_transpose_backward(out_shape, stride, pads, saved, dy):
    x, W = saved
    dx, backward = jax.vjp(lambda W: conv(dy, W, stride, pads), W)
    return dx, backward(x)[0]


conv_transpose.defvjp(conv_transpose_forward, conv_transpose_backward)


def norm(op, p, s, x, train):
    """-> y, running statistics."""
    axes, (mean, var) = tuple(range(x.ndim - 1)), s
    if train or op.sampling == "batch":
        mean, var = x.mean(axes), x.var(axes)
        m = x.size // x.shape[-1]
        new = (mean, var * (m / (m - 1)))
        s = tuple((1 - op.rate) * a + op.rate * b for a, b in zip(s, new, strict=True))
    x = (x - mean) * (lax.rsqrt(var + op.eps) * p.get("gain", 1.0))
    return (x + p["bias"] if "bias" in p else x), s


def forward(operations, ps, ss, x, train=True):
    """-> output, running statistics after it."""
    after = []
    for op, p, s in zip(operations, ps, ss, strict=True):
        x, new = apply(op, p, s, x, train)
        after.append(new)
    return x, after


def bce(logits, target):
    return jnp.mean(jax.nn.softplus(logits) - target * logits)


def adam(p, g, state):
    """-> new parameters, new (steps, m, v); epsilon as in PyTorch."""
    t, m, v = state
    t = t + 1
    m = jax.tree.map(lambda m, g: nets.BETA1 * m + (1 - nets.BETA1) * g, m, g)
    v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, v, g)
    rate, root = nets.RATE / (1 - nets.BETA1**t), jnp.sqrt(1 - 0.999**t)
    p = jax.tree.map(lambda p, m, v: p - rate * m / (jnp.sqrt(v) / root + 1e-8), p, m, v)
    return p, (t, m, v)


def step(G, D, state, images, z):
    """-> new state of both players, losses."""
    (pg, sg, ag), (pd, sd, ad) = state

    def d_loss(pd, sd, fakes):
        real, sd = forward(D, pd, sd, images)
        fake, sd = forward(D, pd, sd, fakes)
        losses = bce(real, 1.0), bce(fake, 0.0)
        return sum(losses), (losses, sd)

    fakes, backward, sg = jax.vjp(lambda pg: forward(G, pg, sg, z), pg, has_aux=True)
    (_, (losses, sd)), gradient = jax.value_and_grad(d_loss, has_aux=True)(pd, sd, fakes)
    pd, ad = adam(pd, gradient, ad)

    def g_loss(fakes):
        logits, after = forward(D, pd, sd, fakes)
        return bce(logits, 1.0), after

    (loss_g, sd), dfakes = jax.value_and_grad(g_loss, has_aux=True)(fakes)
    pg, ag = adam(pg, backward(dfakes)[0], ag)
    return ((pg, sg, ag), (pd, sd, ad)), (*losses, loss_g)


def sampled(G, p, s, z):
    images, _ = forward(G, p, s, z, train=False)
    return jnp.clip(jnp.round((images + 1) * 127.5), 0, 255).astype(jnp.uint8)


class Step(Contender):
    packages = ("jax", "jaxlib")

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        if self.device == "cuda" and jax.default_backend() != "gpu":
            raise Missing("this JAX sees no GPU: pip install 'jax[cuda13]'")
        jax.config.update("jax_default_matmul_precision", PRECISIONS[self.precision])
        G, D = map(operations_of, self.nets.take())
        self.state = player(G), player(D)
        self.images, self.key = jnp.asarray(self.nets.images()), jax.random.key(0)
        self.step = jax.jit(partial(step, G, D), donate_argnums=0)
        self.draw_z = jax.jit(self.drawn)
        self.sampled = jax.jit(partial(sampled, G))

    def drawn(self, key):
        """-> the next key, z."""
        key, used = jax.random.split(key)
        shape = (self.nets.batch, self.nets.z_dim)
        if self.nets.z == "normal":
            return key, jax.random.normal(used, shape)
        return key, jax.random.uniform(used, shape, minval=-1.0)

    def draw(self):
        self.key, z = self.draw_z(self.key)
        return z

    def upload(self, z):
        return jnp.asarray(z)

    def play(self, z):
        self.state, losses = self.step(self.state, self.images, z)
        return losses

    def wait(self):
        jax.block_until_ready(self.state)

    def convolve(self, x, W):
        return np.asarray(jax.jit(conv, static_argnums=(2, 3))(x, W, (1, 1), "VALID"))

    def pixels(self, z):
        parameters, statistics, _ = self.state[0]
        return np.asarray(self.sampled(parameters, statistics, z))
