"""A net of minigan as a list of plain operations with arrays: what every twin is built from.

Two things differ between frameworks, and both are settled here, before any clock starts:

Layout. minigan is channels-last. A framework that is channels-first takes vectors that are
reshaped into images in another order, so the columns of the Linear before are put in its order.

The odd pixel. With padding "same", minigan (as TensorFlow) puts it after; PyTorch and DeZero
can put it only before. Padding by hand would cost them a copy of every image. So their twins
of such nets work on pictures turned by 180 degrees: kernels, real images and the order of pixels
are turned once, here, and the losses are those of the same net.
"""

from types import SimpleNamespace

import numpy as np

from benchmarks.contenders import NoTwin
from minigan.layers import (
    BatchNorm,
    Conv2d,
    ConvTranspose2d,
    Flatten,
    LeakyReLU,
    Linear,
    ReLU,
    Reshape,
    Sigmoid,
    Tanh,
)


def plan(net, turned=False, channels_first=False):
    """Sequential that is set up -> operations, in order, each with `kind` and arrays of its own.

    turned          pictures are turned by 180 degrees
    channels_first  how vectors are laid out that become images, or come from them
    """
    orders = vector_orders(net.layers, turned, channels_first)
    operations = [
        operation(layer, order, turned) for layer, order in zip(net.layers, orders, strict=True)
    ]
    for op, before in zip(operations[1:], orders, strict=False):
        if op.kind == "linear" and before is not None:  # it reads a vector in that order
            op.W = np.ascontiguousarray(op.W[before])
    return operations


def turn(images, turned=True):
    """(..., h, w, c) -> turned by 180 degrees; or as they are, for a twin that works on those."""
    return images[..., ::-1, ::-1, :].copy() if turned else images


def needs_turning(layers):
    """-> must a twin that knows one padding for both sides work on turned pictures? Raises NoTwin where that does not help."""
    layers = [layer for layer in layers if isinstance(layer, (Conv2d, ConvTranspose2d))]
    for turned in (False, True):
        try:
            for layer in layers:
                same_on_both_sides(operation(layer, None, turned))
        except NoTwin as error:
            trouble = error
        else:
            return turned
    raise trouble


def vector_orders(layers, turned, channels_first):
    """-> for each layer the order of its output, where that is a vector of pixels; else None."""
    orders = [None] * len(layers)
    for i, layer in enumerate(layers):
        if isinstance(layer, Flatten):
            order = pixel_order(layer.in_shape, turned, channels_first)
            steps = range(i, len(layers))  # on to the next Linear, which reads it
        elif isinstance(layer, Reshape) and layer.shape[:2] != (1, 1):
            order = pixel_order(layer.shape, turned, channels_first)
            steps = range(i - 1, -1, -1)  # back to the Linear that wrote it
        else:
            continue
        for j in steps:
            if isinstance(layer, Flatten) and isinstance(layers[j], Linear):
                break
            orders[j] = order
            if isinstance(layers[j], Linear):
                break
        else:
            if not isinstance(layer, Flatten):
                raise NoTwin(f"{layer.label}: pixels of z itself have no twin")
    return orders


def pixel_order(shape, turned, channels_first):
    """-> index of the numbers of an (h, w, c) image in a framework's order."""
    index = np.arange(np.prod(shape)).reshape(shape)
    if turned:
        index = turn(index)
    return (index.transpose(2, 0, 1) if channels_first else index).ravel()


def operation(layer, order, turned):
    """-> one operation; `order` is that of its output, None where that is not a vector of pixels."""
    op = SimpleNamespace(in_shape=layer.in_shape, out_shape=layer.out_shape)
    columns = slice(None) if order is None else order
    if isinstance(layer, (Conv2d, ConvTranspose2d)):
        op.kind = "conv" if isinstance(layer, Conv2d) else "conv_transpose"
        op.W = layer.W[::-1, ::-1] if turned else layer.W
        op.W, op.b, op.stride, op.kernel = (
            op.W.copy(),
            copy(layer.b),
            layer.stride,
            layer.kernel_size,
        )
        op.pads = reached(op, layer.pads)
        op.pads = tuple(pad[::-1] for pad in op.pads) if turned else op.pads
    elif isinstance(layer, Linear):
        op.kind = "linear"
        op.W, op.b = layer.W[:, columns].copy(), copy(layer.b, columns)
    elif isinstance(layer, BatchNorm):
        op.kind, op.eps, op.rate, op.sampling = (
            "norm",
            layer.eps,
            layer.running_rate,
            layer.sampling,
        )
        op.gain, op.bias = copy(layer.gain, columns), copy(layer.bias, columns)
    elif isinstance(layer, (ReLU, Tanh, Sigmoid)):
        op.kind = type(layer).__name__.lower()
    elif isinstance(layer, LeakyReLU):
        op.kind, op.slope = "leaky_relu", layer.slope
    elif isinstance(layer, Flatten):
        op.kind = "flatten"
    elif isinstance(layer, Reshape):
        op.kind, op.shape = "reshape", layer.shape
    else:
        raise NoTwin(f"{layer.label} has no twin")
    return op


def reached(op, pads):
    """-> the padding that windows come to: they may leave some of it after the last pixel, or that pixel itself (less than 0)."""
    small, large = (op.out_shape, op.in_shape) if op.kind == "conv" else (op.in_shape, op.out_shape)
    spans = [(n - 1) * s + k for n, s, k in zip(small[:2], op.stride, op.kernel, strict=True)]
    return tuple(
        (before, span - n - before)
        for (before, _), span, n in zip(pads, spans, large[:2], strict=True)
    )


def copy(array, index=slice(None)):
    return None if array is None else array[index].copy()


def affine(norm):
    """-> has a BatchNorm gain and bias? Raises NoTwin where it has one of the two, which others do not know."""
    if (norm.gain is None) != (norm.bias is None):
        raise NoTwin("BatchNorm with a gain or a bias alone has no twin")
    return norm.gain is not None


def same_on_both_sides(op):
    """Padding of an operation in the frameworks that know one number a direction only.

    -> (p_h, p_w), (extra_h, extra_w): extra is a transposed convolution's output_padding.
    What a convolution's windows do not reach after the last pixel costs nothing and changes nothing.
    Raises NoTwin where the padding before is smaller than the one after.
    """
    padding, extra = [], []
    for axis in (0, 1):
        (before, _), k, s = op.pads[axis], op.kernel[axis], op.stride[axis]
        size_in, size_out = op.in_shape[axis], op.out_shape[axis]
        if op.kind == "conv":
            fits, more = (size_in + 2 * before - k) // s + 1 == size_out, 0
        else:
            more = size_out - ((size_in - 1) * s + k - 2 * before)
            fits = 0 <= more < s
        if before < 0 or not fits:
            raise NoTwin(
                f"padding {op.pads} of {op.kind} k{op.kernel} s{op.stride} has no twin here"
            )
        padding.append(before)
        extra.append(more)
    return tuple(padding), tuple(extra)
