"""DeZero: define-by-run on plain NumPy, channels-first. It cannot freeze D, so G's update computes D's dW too.

Its last release (0.0.13) still says `np.int`, which NumPy dropped: the name is given back here.
"""

import numpy as np

from benchmarks import nets
from benchmarks.contenders import NoTwin, need
from benchmarks.contenders.plan import needs_turning, plan, same_on_both_sides, turn
from benchmarks.machine import versions
from minigan import get_backend

np.int = int  # noqa: NPY001 - DeZero still asks for it
dezero = need("dezero")
F, L = dezero.functions, dezero.layers


class Operation(L.Layer):
    """One operation of plan.py with its parameters."""

    def __init__(self, op):
        super().__init__()
        self.op = op
        if op.kind in ("conv", "conv_transpose"):
            (self.pad, _), op.W = same_on_both_sides(op), op.W.transpose(3, 2, 0, 1)
        for name in ("W", "b", "gain", "bias"):
            array = getattr(op, name, None)
            setattr(
                self, name, None if array is None else dezero.Parameter(np.ascontiguousarray(array))
            )
        if op.kind == "norm":
            if self.gain is None or self.bias is None:
                raise NoTwin("BatchNorm without gain or bias has no twin here")
            self.mean, self.var = (
                np.zeros(op.in_shape[-1], np.float32),
                np.ones(op.in_shape[-1], np.float32),
            )

    def forward(self, x):
        op = self.op
        if op.kind == "linear":
            return F.linear(x, self.W, self.b)
        if op.kind == "conv":
            return F.conv2d(x, self.W, self.b, op.stride, self.pad)
        if op.kind == "conv_transpose":
            return F.deconv2d(x, self.W, self.b, op.stride, self.pad, outsize=op.out_shape[:2])
        if op.kind == "norm":
            return F.batch_nrom(x, self.gain, self.bias, self.mean, self.var, 1 - op.rate, op.eps)
        if op.kind == "reshape":
            h, w, c = op.shape
            return F.reshape(x, (len(x), c, h, w))
        if op.kind == "flatten":
            return F.flatten(x)
        if op.kind == "leaky_relu":
            return F.leaky_relu(x, op.slope)
        return {"relu": F.relu, "tanh": F.tanh, "sigmoid": F.sigmoid}[op.kind](x)


class Twin(L.Layer):
    """A minigan net's twin in DeZero."""

    def __init__(self, net, turned):
        super().__init__()
        self.chain = [Operation(op) for op in plan(net, turned, channels_first=True)]
        for i, operation in enumerate(self.chain):
            setattr(self, f"l{i}", operation)  # so that its parameters are found

    def forward(self, x):
        for operation in self.chain:
            x = operation(x)
        return x


class Bce(dezero.Function):
    """Mean binary cross-entropy on logits, as one operation of its own: DeZero's wants probabilities."""

    def __init__(self, target):
        super().__init__()
        self.target = target

    def forward(self, x):
        self.x = x
        return np.mean(
            np.maximum(x, 0) - x * self.target + np.log1p(np.exp(-np.abs(x))), dtype=x.dtype
        )

    def backward(self, gy):
        return dezero.Variable(
            gy.data * (1 / (1 + np.exp(-self.x)) - self.target) / np.float32(self.x.size)
        )


class Step:
    def __init__(self, preset, batch, width, image, device):
        self.nets = nets.build(preset, batch, get_backend("numpy"), width, image)
        self.turned = needs_turning([*self.nets.G.layers, *self.nets.D.layers])
        self.G, self.D = (Twin(net, self.turned) for net in (self.nets.G, self.nets.D))
        self.nets.G = self.nets.D = None
        adam = dezero.optimizers.Adam
        self.optimizer_g, self.optimizer_d = (
            adam(nets.RATE, nets.BETA1, 0.999, 1e-8).setup(net) for net in (self.G, self.D)
        )
        self.images = turn(self.nets.images(), self.turned).transpose(0, 3, 1, 2).copy()
        self.rng = np.random.default_rng(0)
        self.batch_statistics = any(
            each.op.kind == "norm" and each.op.sampling == "batch" for each in self.G.chain
        )

    def draw_z(self):
        shape = (self.nets.batch, self.nets.z_dim)
        if self.nets.z == "normal":
            return self.rng.standard_normal(shape, dtype=np.float32)
        return self.rng.random(shape, dtype=np.float32) * 2 - 1

    def play(self, z):
        fakes = self.G(z)
        self.D.cleargrads()
        loss_d_real = Bce(1)(self.D(self.images))
        loss_d_fake = Bce(0)(self.D(fakes.data))
        loss_d_real.backward()
        loss_d_fake.backward()
        self.optimizer_d.update()
        self.G.cleargrads()
        loss_g = Bce(1)(self.D(fakes))
        loss_g.backward()
        self.optimizer_g.update()
        return loss_d_real, loss_d_fake, loss_g

    def losses(self, steps):
        return [[float(loss.data) for loss in self.play(z)] for z in self.nets.noise(steps)]

    def run(self, times):
        for _ in range(times):
            self.play(self.draw_z())

    def pixels(self, z):
        with dezero.no_grad(), dezero.using_config("train", self.batch_statistics):
            images = self.G(z).data
        pictures = np.clip(np.rint((images + 1) * 127.5), 0, 255).astype(np.uint8)
        return np.ascontiguousarray(pictures.transpose(0, 2, 3, 1))

    def probes(self):
        return turn(self.pixels(self.nets.noise(1)[0]), self.turned).ravel()[:: nets.PROBE].tolist()

    def sample(self, times):
        for _ in range(times):
            self.pixels(self.draw_z())

    def versions(self):
        return versions("dezero", "numpy")
