"""DeZero: define-by-run on plain NumPy, channels-first. It cannot freeze D: G's update computes dW.

Its last release (0.0.13) uses `np.int`, which NumPy has removed: the name is restored here.
"""

import numpy as np

from benchmarks import nets
from benchmarks.contenders import NoTwin, need
from benchmarks.contenders.contender import Contender
from benchmarks.contenders.operations import (
    CONVOLUTIONS,
    needs_rotation,
    operations_of,
    rotate,
    samples_by_batch,
    symmetric_padding,
)

np.int = int  # noqa: NPY001 - DeZero uses it
dezero = need("dezero")
F, L = dezero.functions, dezero.layers


class Operation(L.Layer):
    """One operation of operations.py with its parameters."""

    def __init__(self, op):
        super().__init__()
        self.op = op
        if op.kind in CONVOLUTIONS:
            (self.pad, _), op.W = symmetric_padding(op), op.W.transpose(3, 2, 0, 1)
        for name in ("W", "b", "gain", "bias"):
            array = getattr(op, name, None)
            parameter = None if array is None else dezero.Parameter(np.ascontiguousarray(array))
            setattr(self, name, parameter)
        if op.kind == "norm":
            if self.gain is None or self.bias is None:
                raise NoTwin("BatchNorm without gain or bias has no twin here")
            channels = op.in_shape[-1]
            self.mean, self.var = np.zeros(channels, np.float32), np.ones(channels, np.float32)

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
        if op.kind == "upsample":
            (h, w, c), s = op.in_shape, op.scale
            squares = F.broadcast_to(F.reshape(x, (-1, c, h, 1, w, 1)), (len(x), c, h, s, w, s))
            return F.reshape(squares, (len(x), c, h * s, w * s))
        if op.kind == "leaky_relu":
            return F.leaky_relu(x, op.slope)
        return {"relu": F.relu, "tanh": F.tanh, "sigmoid": F.sigmoid}[op.kind](x)


class Twin(L.Layer):
    """A minigan net's twin in DeZero."""

    def __init__(self, net, rotated):
        super().__init__()
        self.chain = [Operation(op) for op in operations_of(net, rotated, channels_first=True)]
        for i, operation in enumerate(self.chain):
            setattr(self, f"l{i}", operation)  # so that its parameters are found

    def forward(self, x):
        for operation in self.chain:
            x = operation(x)
        return x


class Bce(dezero.Function):
    """Mean binary cross-entropy on logits as one operation: DeZero's takes probabilities."""

    def __init__(self, target):
        super().__init__()
        self.target = target

    def forward(self, x):
        self.x = x
        losses = np.maximum(x, 0) - x * self.target + np.log1p(np.exp(-np.abs(x)))
        return np.mean(losses, dtype=x.dtype)

    def backward(self, gy):
        dx = (1 / (1 + np.exp(-self.x)) - self.target) / np.float32(self.x.size)
        return dezero.Variable(gy.data * dx)


class Step(Contender):
    packages = ("dezero", "numpy")

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        G, D = self.nets.take()
        self.rotated = needs_rotation([*G.layers, *D.layers])
        self.G, self.D = Twin(G, self.rotated), Twin(D, self.rotated)
        self.optimizer_g, self.optimizer_d = (
            dezero.optimizers.Adam(nets.RATE, nets.BETA1, 0.999, 1e-8).setup(net)
            for net in (self.G, self.D)
        )
        self.images = rotate(self.nets.images(), self.rotated).transpose(0, 3, 1, 2).copy()
        self.rng = np.random.default_rng(0)
        self.by_batch = samples_by_batch(each.op for each in self.G.chain)

    def draw(self):
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

    def read(self, loss):
        return float(loss.data)

    def pixels(self, z):
        with dezero.no_grad(), dezero.using_config("train", self.by_batch):
            images = self.G(z).data
        pixels = np.clip(np.rint((images + 1) * 127.5), 0, 255).astype(np.uint8)
        return np.ascontiguousarray(pixels.transpose(0, 2, 3, 1))
