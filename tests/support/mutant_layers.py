"""Layers with one mistake in their backward pass, and the same layers without it.

Every mistake has been made before, somewhere.
"""

import numpy as np

import minigan as mg

IMAGE = (7, 6, 3)


class Altered(mg.Layer):
    """A layer whose backward is followed by a change of what it returned or added.

    change(layer, dy, dx, before) -> dx; before: copies of the gradients as they were
    """

    def __init__(self, layer, change):
        self.layer, self.change = layer, change

    def setup(self, in_shape, *, backend, rng, store):
        super().setup(in_shape, backend=backend, rng=rng, store=store)
        self.layer.out_shape = self.layer.setup(in_shape, backend=backend, rng=rng, store=store)
        return self.layer.out_shape

    def forward(self, x, train=True):
        return self.layer.forward(x, train)

    def backward(self, dy, need_dx=True, need_dw=True):
        before = {
            name: getattr(self.layer, name).copy()
            for name in ("dW", "db")
            if getattr(self.layer, name, None) is not None
        }
        dx = self.layer.backward(dy, need_dx=need_dx, need_dw=need_dw)
        dx = self.change(self.layer, dy, dx, before)
        if not need_dw:  # the mistake under test is another one
            for name, gradient in before.items():
                getattr(self.layer, name)[...] = gradient
        return dx


def nothing(layer, dy, dx, before):
    return dx


def kernel_flipped_in_dW(layer, dy, dx, before):
    layer.dW[...] = before["dW"] + (layer.dW - before["dW"])[::-1, ::-1]
    return dx


def height_and_width_exchanged_in_dW(layer, dy, dx, before):
    layer.dW[...] = before["dW"] + (layer.dW - before["dW"]).swapaxes(0, 1)
    return dx


def channels_exchanged_in_dW(layer, dy, dx, before):
    layer.dW[...] = before["dW"] + (layer.dW - before["dW"]).swapaxes(-1, -2)
    return dx


def bias_gradient_forgotten(layer, dy, dx, before):
    layer.db[...] = before["db"]
    return dx


def weight_gradient_set_not_added(layer, dy, dx, before):
    layer.dW[...] = layer.dW - before["dW"]
    return dx


def bias_gradient_set_not_added(layer, dy, dx, before):
    layer.db[...] = layer.db - before["db"]
    return dx


def kernel_flipped_in_dx(layer, dy, dx, before):
    W = layer.W.copy()
    layer.W[...] = W[::-1, ::-1]
    dx = layer.backward(dy, need_dx=True, need_dw=False)
    layer.W[...] = W
    return dx


def stride_ignored_in_dx(layer, dy, dx, before):
    """As if output o had seen the pixels from o on, not from o * stride on; without padding."""
    dx[...] = 0
    _, h_out, w_out, _ = dy.shape
    for i, j in np.ndindex(*layer.W.shape[:2]):
        dx[:, i : i + h_out, j : j + w_out] += dy @ layer.W[i, j].T
    return dx


def from_half_to_one_and_a_half(rng, shape, fan_in, fan_out):
    return rng.uniform(0.5, 1.5, shape)


class BatchNormByHand(mg.Layer):
    """BatchNorm in training mode, with the terms of its dx named.

    dx = gain / std * (dy - mean(dy) - x_hat * mean(dy * x_hat))
    """

    def __init__(self, mean_term=True, x_hat_term=True, any_dx=True):
        self.mean_term, self.x_hat_term, self.any_dx = mean_term, x_hat_term, any_dx

    def setup(self, in_shape, *, backend, rng, store):
        super().setup(in_shape, backend=backend, rng=rng, store=store)
        for name in ("gain", "bias"):
            store.parameter(self, name, in_shape[-1:], from_half_to_one_and_a_half)
        return in_shape

    def forward(self, x, train=True):
        self.axes = tuple(range(x.ndim - 1))
        self.std = np.sqrt(x.var(axis=self.axes) + 1e-5)
        self.x_hat = (x - x.mean(axis=self.axes)) / self.std
        return self.gain * self.x_hat + self.bias

    def backward(self, dy, need_dx=True, need_dw=True):
        if need_dw:
            self.dgain += (dy * self.x_hat).sum(axis=self.axes)
            self.dbias += dy.sum(axis=self.axes)
        dx = dy.copy()
        if self.mean_term:
            dx -= dy.mean(axis=self.axes)
        if self.x_hat_term:
            dx -= self.x_hat * (dy * self.x_hat).mean(axis=self.axes)
        return dx * self.gain / self.std * self.any_dx


class ElementWise(mg.Layer):
    """y = function(x), dx = dy * slope(x, y)."""

    def __init__(self, function, slope):
        self.function, self.slope = function, slope

    def forward(self, x, train=True):
        self.x, self.y = x, self.function(x)
        return self.y

    def backward(self, dy, need_dx=True, need_dw=True):
        return dy * self.slope(self.x, self.y)


class MeanLoss(mg.Layer):
    """The mean loss of the batch as an output, once for each sample: (n, 1) -> (n, 1)."""

    def __init__(self, change=lambda dlogits: dlogits):
        self.change = change

    def setup(self, in_shape, *, backend, rng, store):
        super().setup(in_shape, backend=backend, rng=rng, store=store)
        return (1,)

    def forward(self, x, train=True):
        loss, dlogits = mg.bce_with_logits(x, 0.9)
        self.dlogits = self.change(dlogits)
        return np.full((len(x), 1), float(loss))

    def backward(self, dy, need_dx=True, need_dw=True):
        return self.dlogits * dy.sum()


def leaky(x):
    return np.where(x > 0, x, 0.2 * x)


def linear(change):
    return Altered(mg.Linear(4), change)


def conv(change):
    return Altered(mg.Conv2d(3, 3, 2), change)


def conv_transpose(change):
    return Altered(mg.ConvTranspose2d(3, 3, 2, 1), change)


SOUND = {  # name -> layer, in_shape
    "linear": (lambda: linear(nothing), (4,)),
    "conv": (lambda: conv(nothing), IMAGE),
    "conv transpose": (lambda: conv_transpose(nothing), IMAGE),
    "batchnorm by hand": (BatchNormByHand, IMAGE),
    "batchnorm by hand, vectors": (BatchNormByHand, (4,)),
    "batchnorm": (mg.BatchNorm, IMAGE),
    "leaky relu": (lambda: ElementWise(leaky, lambda x, y: np.where(x > 0, 1.0, 0.2)), IMAGE),
    "tanh": (lambda: ElementWise(np.tanh, lambda x, y: 1 - y * y), IMAGE),
    "mean loss": (MeanLoss, (1,)),
}

MUTANTS = {  # the mistake -> layer, in_shape, the only array to blame
    "conv: kernel flipped in dW": (lambda: conv(kernel_flipped_in_dW), IMAGE, "0.W"),
    "conv: h and w exchanged in dW": (lambda: conv(height_and_width_exchanged_in_dW), IMAGE, "0.W"),
    "conv: channels exchanged in dW": (lambda: conv(channels_exchanged_in_dW), IMAGE, "0.W"),
    "conv: bias forgotten": (lambda: conv(bias_gradient_forgotten), IMAGE, "0.b"),
    "conv: dW set, not added": (lambda: conv(weight_gradient_set_not_added), IMAGE, "0.W"),
    "conv: db set, not added": (lambda: conv(bias_gradient_set_not_added), IMAGE, "0.b"),
    "conv: kernel flipped in dx": (lambda: conv(kernel_flipped_in_dx), IMAGE, "x"),
    "conv: stride ignored in dx": (lambda: conv(stride_ignored_in_dx), IMAGE, "x"),
    "conv transpose: kernel flipped in dx": (
        lambda: conv_transpose(kernel_flipped_in_dx),
        IMAGE,
        "x",
    ),
    "conv transpose: kernel flipped in dW": (
        lambda: conv_transpose(kernel_flipped_in_dW),
        IMAGE,
        "0.W",
    ),
    "conv transpose: bias forgotten": (
        lambda: conv_transpose(bias_gradient_forgotten),
        IMAGE,
        "0.b",
    ),
    "linear: dW transposed": (lambda: linear(channels_exchanged_in_dW), (4,), "0.W"),
    "linear: bias forgotten": (lambda: linear(bias_gradient_forgotten), (4,), "0.b"),
    "linear: dW set, not added": (lambda: linear(weight_gradient_set_not_added), (4,), "0.W"),
    "batchnorm: no x-hat term": (lambda: BatchNormByHand(x_hat_term=False), IMAGE, "x"),
    "batchnorm: no mean term": (lambda: BatchNormByHand(mean_term=False), IMAGE, "x"),
    "batchnorm: neither": (lambda: BatchNormByHand(False, False), IMAGE, "x"),
    "batchnorm: no x-hat term, vectors": (lambda: BatchNormByHand(x_hat_term=False), (4,), "x"),
    "batchnorm: dx always 0": (lambda: BatchNormByHand(any_dx=False), IMAGE, "x"),
    "leaky relu: slope 0 in backward": (
        lambda: ElementWise(leaky, lambda x, y: np.where(x > 0, 1.0, 0.0)),
        IMAGE,
        "x",
    ),
    "leaky relu: slope 1 in backward": (
        lambda: ElementWise(leaky, lambda x, y: np.ones_like(x)),
        IMAGE,
        "x",
    ),
    "tanh: derivative from x": (lambda: ElementWise(np.tanh, lambda x, y: 1 - x * x), IMAGE, "x"),
    "mean loss: no 1/n": (lambda: MeanLoss(lambda dlogits: dlogits * len(dlogits)), (1,), "x"),
    "mean loss: 1/n twice": (lambda: MeanLoss(lambda dlogits: dlogits / len(dlogits)), (1,), "x"),
}
