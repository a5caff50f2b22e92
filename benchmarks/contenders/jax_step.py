"""JAX: the whole step in one jitted function, weights and moments donated. Channels-last, XLA's own on a CPU.

Left to itself, JAX derives the dW of a transposed convolution as a convolution of dilated
images, which XLA runs 70 times slower than it must on a CPU: here it is the dW of the
convolution that is transposed, as in minigan's conv_transpose2d.py.
"""

from functools import partial

import numpy as np

from benchmarks import nets
from benchmarks.contenders import Missing, need
from benchmarks.contenders.plan import plan
from benchmarks.machine import versions
from benchmarks.precision import error_of
from minigan import get_backend

jax = need("jax")
jnp, lax = jax.numpy, jax.lax
NAMES = ("NHWC", "HWIO", "NHWC")
PRECISIONS = {
    "fp32": "highest",
    "tf32": "tensorfloat32",
}  # left to itself, JAX takes TF32 on GPUs that have it


def parameters(operations):
    """-> for each operation its trained arrays, by name."""
    found = []
    for op in operations:
        arrays = {name: getattr(op, name, None) for name in ("W", "b", "gain", "bias")}
        found.append(
            {name: jnp.asarray(array) for name, array in arrays.items() if array is not None}
        )
    return found


def statistics(operations):
    """-> for each operation its running mean and variance, where it has them."""
    return [
        (jnp.zeros(op.in_shape[-1]), jnp.ones(op.in_shape[-1])) if op.kind == "norm" else None
        for op in operations
    ]


def apply(op, p, s, x, train):
    """One operation of plan.py -> y, running statistics."""
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
    elif op.kind == "leaky_relu":
        x = jax.nn.leaky_relu(x, op.slope)
    else:
        x = {"relu": jax.nn.relu, "tanh": jnp.tanh, "sigmoid": jax.nn.sigmoid}[op.kind](x)
    return (x + p["b"] if "b" in p else x), s


def conv(x, W, stride, pads):
    return lax.conv_general_dilated(x, W, stride, pads, dimension_numbers=NAMES)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def conv_transpose(out_shape, stride, pads, x, W):
    """The dx of the convolution that it transposes."""
    y = jnp.zeros((len(x), *out_shape), x.dtype)  # only its shape is used
    return jax.vjp(lambda y: conv(y, W, stride, pads), y)[1](x)[0]


def conv_transpose_forward(out_shape, stride, pads, x, W):
    return conv_transpose(out_shape, stride, pads, x, W), (x, W)


def conv_transpose_backward(out_shape, stride, pads, kept, dy):
    x, W = kept
    dx, back = jax.vjp(lambda W: conv(dy, W, stride, pads), W)
    return dx, back(x)[0]


conv_transpose.defvjp(conv_transpose_forward, conv_transpose_backward)


def norm(op, p, s, x, train):
    axes = tuple(range(x.ndim - 1))
    mean, var = s
    if train or op.sampling == "batch":
        mean, var = x.mean(axes), x.var(axes)
        m = x.size // x.shape[-1]
        s = tuple(
            (1 - op.rate) * old + op.rate * new
            for old, new in zip(s, (mean, var * (m / (m - 1))), strict=True)
        )
    x = (x - mean) * (lax.rsqrt(var + op.eps) * p.get("gain", 1.0))
    return (x + p["bias"] if "bias" in p else x), s


def forward(operations, ps, ss, x, train=True):
    after = []
    for op, p, s in zip(operations, ps, ss, strict=True):
        x, new = apply(op, p, s, x, train)
        after.append(new)
    return x, after


def bce(logits, target):
    return jnp.mean(jax.nn.softplus(logits) - target * logits)


def adam(p, g, state):
    """-> new parameters, new (steps, m, v); in PyTorch's form."""
    t, m, v = state
    t = t + 1
    m = jax.tree.map(lambda m, g: nets.BETA1 * m + (1 - nets.BETA1) * g, m, g)
    v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, v, g)
    rate, root = nets.RATE / (1 - nets.BETA1**t), jnp.sqrt(1 - 0.999**t)
    p = jax.tree.map(lambda p, m, v: p - rate * m / (jnp.sqrt(v) / root + 1e-8), p, m, v)
    return p, (t, m, v)


def step(G, D, state, images, z):
    """-> new state, losses. The state: both nets' parameters, running statistics and moments."""
    (pg, sg, ag), (pd, sd, ad) = state

    def d_loss(pd, sd, fakes):
        real, sd = forward(D, pd, sd, images)
        fake, sd = forward(D, pd, sd, fakes)
        losses = bce(real, 1.0), bce(fake, 0.0)
        return sum(losses), (losses, sd)

    fakes, back, sg = jax.vjp(lambda pg: forward(G, pg, sg, z), pg, has_aux=True)
    (_, (losses, sd)), gradient = jax.value_and_grad(d_loss, has_aux=True)(pd, sd, fakes)
    pd, ad = adam(pd, gradient, ad)

    def g_loss(fakes):
        logits, after = forward(D, pd, sd, fakes)
        return bce(logits, 1.0), after

    (loss_g, sd), dfakes = jax.value_and_grad(g_loss, has_aux=True)(fakes)
    pg, ag = adam(pg, back(dfakes)[0], ag)
    return ((pg, sg, ag), (pd, sd, ad)), (*losses, loss_g)


class Step:
    def __init__(self, preset, batch, width, image, device, precision="fp32"):
        if device == "cuda" and jax.default_backend() != "gpu":
            raise Missing("this JAX sees no GPU: pip install 'jax[cuda13]'")
        jax.config.update("jax_default_matmul_precision", PRECISIONS[precision])
        self.nets = nets.build(preset, batch, get_backend("numpy"), width, image)
        G, D = plan(self.nets.G), plan(self.nets.D)
        self.nets.G = self.nets.D = None
        self.state = tuple(self.player(operations) for operations in (G, D))
        self.images, self.key = jnp.asarray(self.nets.images()), jax.random.key(0)
        self.step = jax.jit(partial(step, G, D), donate_argnums=0)
        self.draw_z = jax.jit(self.draw)
        self.pixels = jax.jit(partial(pixels, G))

    @staticmethod
    def player(operations):
        p = parameters(operations)
        zeros = jax.tree.map(jnp.zeros_like, p)
        return (
            p,
            statistics(operations),
            (jnp.zeros((), np.int32), zeros, jax.tree.map(jnp.copy, zeros)),
        )

    def draw(self, key):
        key, used = jax.random.split(key)
        shape = (self.nets.batch, self.nets.z_dim)
        z = (
            jax.random.normal(used, shape)
            if self.nets.z == "normal"
            else jax.random.uniform(used, shape, minval=-1.0)
        )
        return key, z

    def play(self, z):
        self.state, losses = self.step(self.state, self.images, z)
        return losses

    def losses(self, steps):
        return [[float(loss) for loss in self.play(jnp.asarray(z))] for z in self.nets.noise(steps)]

    def run(self, times):
        self.launch(times)
        self.wait()

    def launch(self, times):
        for _ in range(times):
            self.key, z = self.draw_z(self.key)
            self.play(z)

    def wait(self):
        jax.block_until_ready(self.state)

    def mark(self):
        return None  # JAX shows no events of the device's queue

    def conv_error(self):
        return error_of(
            lambda x, W: np.asarray(jax.jit(conv, static_argnums=(2, 3))(x, W, (1, 1), "VALID"))
        )

    def sample(self, times):
        for _ in range(times):
            self.key, z = self.draw_z(self.key)
            np.asarray(self.pixels(*self.state[0][:2], z))

    def probes(self):
        pictures = self.pixels(*self.state[0][:2], jnp.asarray(self.nets.noise(1)[0]))
        return np.asarray(pictures).ravel()[:: nets.PROBE].tolist()

    def versions(self):
        return versions("jax", "jaxlib")


def pixels(G, p, s, z):
    images, _ = forward(G, p, s, z, train=False)
    return jnp.clip(jnp.round((images + 1) * 127.5), 0, 255).astype(jnp.uint8)
