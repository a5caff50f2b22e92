"""A net of minigan as a list of plain operations with arrays: what every twin is built from.

Two differences between frameworks are settled here, before any clock starts:

Layout. minigan is channels-last. A framework that is channels-first takes vectors that become
images in another order, so the columns of the Linear before them are put into its order.

The odd pixel. With padding "same" minigan (like TensorFlow) puts it after the image; PyTorch and
DeZero can put it only before. Padding by hand would cost them a copy of every image. So their twins
of such nets work on images rotated by 180 degrees: kernels, real images and the order of pixels are
rotated once, here, and the losses are those of the same net.
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
    Upsample,
)

KINDS = {
    Conv2d: "conv", ConvTranspose2d: "conv_transpose", Linear: "linear", BatchNorm: "norm",
    ReLU: "relu", Tanh: "tanh", Sigmoid: "sigmoid", LeakyReLU: "leaky_relu", Flatten: "flatten",
    Reshape: "reshape", Upsample: "upsample",
}  # fmt: skip
CONVOLUTIONS = ("conv", "conv_transpose")


def operations_of(net, rotated=False, channels_first=False):
    """Sequential that is set up -> operations, in order, each with `kind` and its own arrays.

    rotated         images are rotated by 180 degrees
    channels_first  the layout of vectors that become images, or come from them
    """
    orders = vector_orders(net.layers, rotated, channels_first)
    pairs = zip(net.layers, orders, strict=True)
    operations = [operation(layer, order, rotated) for layer, order in pairs]
    for op, order_before in zip(operations[1:], orders, strict=False):
        if op.kind == "linear" and order_before is not None:  # it reads a vector in that order
            op.W = np.ascontiguousarray(op.W[order_before])
    return operations


def rotate(images, rotated=True):
    """(..., h, w, c) -> rotated by 180 degrees; unchanged if not `rotated`."""
    return images[..., ::-1, ::-1, :].copy() if rotated else images


def needs_rotation(layers):
    """-> must a twin with one padding for both sides rotate images? Raises NoTwin if that fails."""
    convolutions = [layer for layer in layers if isinstance(layer, (Conv2d, ConvTranspose2d))]
    for rotated in (False, True):
        try:
            for layer in convolutions:
                symmetric_padding(operation(layer, None, rotated))
        except NoTwin:
            if rotated:
                raise
        else:
            return rotated
    raise AssertionError


def vector_orders(layers, rotated, channels_first):
    """-> for each layer the order of its output if that is a vector of pixels, else None."""
    orders = [None] * len(layers)
    for i, layer in enumerate(layers):
        if isinstance(layer, Flatten):
            order = pixel_order(layer.in_shape, rotated, channels_first)
            for j in range(i, len(layers)):  # forward to the Linear that reads it
                if isinstance(layers[j], Linear):
                    break
                orders[j] = order
        elif isinstance(layer, Reshape) and layer.shape[:2] != (1, 1):
            order = pixel_order(layer.shape, rotated, channels_first)
            for j in range(i - 1, -1, -1):  # back to the Linear that wrote it
                orders[j] = order
                if isinstance(layers[j], Linear):
                    break
            else:
                raise NoTwin(f"{layer.label}: a z that is an image itself has no twin")
    return orders


def pixel_order(shape, rotated, channels_first):
    """-> index of the numbers of an (h, w, c) image in a framework's order."""
    index = rotate(np.arange(np.prod(shape)).reshape(shape), rotated)
    return (index.transpose(2, 0, 1) if channels_first else index).ravel()


def operation(layer, order, rotated):
    """-> one operation; `order` is that of its output, None if that is not a vector of pixels."""
    kind = KINDS.get(type(layer))
    if kind is None:
        raise NoTwin(f"{layer.label} has no twin")
    op = SimpleNamespace(kind=kind, in_shape=layer.in_shape, out_shape=layer.out_shape)
    columns = slice(None) if order is None else order

    def copy(array):
        return None if array is None else array[..., columns].copy()

    if kind in CONVOLUTIONS:
        op.W = (layer.W[::-1, ::-1] if rotated else layer.W).copy()
        op.b, op.stride, op.kernel = copy(layer.b), layer.stride, layer.kernel_size
        pads = reached_padding(op, layer.pads)
        op.pads = tuple(pad[::-1] for pad in pads) if rotated else pads
    elif kind == "linear":
        op.W, op.b = copy(layer.W), copy(layer.b)
    elif kind == "norm":
        op.eps, op.rate, op.sampling = layer.eps, layer.running_rate, layer.sampling
        op.gain, op.bias = copy(layer.gain), copy(layer.bias)
    elif kind == "leaky_relu":
        op.slope = layer.slope
    elif kind == "reshape":
        op.shape = layer.shape
    elif kind == "upsample":
        op.scale = layer.scale
    return op


def reached_padding(op, pads):
    """-> the padding that windows reach; after the image it may be less than given, or below 0."""
    small, large = (op.out_shape, op.in_shape) if op.kind == "conv" else (op.in_shape, op.out_shape)
    spans = [(n - 1) * s + k for n, s, k in zip(small[:2], op.stride, op.kernel, strict=True)]
    axes = zip(pads, spans, large[:2], strict=True)
    return tuple((before, span - n - before) for (before, _), span, n in axes)


def has_gain_and_bias(op):
    """Of a "norm". Raises NoTwin if it has only one of them: other frameworks have both or none."""
    if (op.gain is None) != (op.bias is None):
        raise NoTwin("BatchNorm with only a gain or only a bias has no twin")
    return op.gain is not None


def samples_by_batch(operations):
    """-> does sampling use the batch's own statistics?"""
    return any(op.kind == "norm" and op.sampling == "batch" for op in operations)


def symmetric_padding(op):
    """Padding of a convolution in frameworks that take one number for each direction.

    -> (p_h, p_w), (extra_h, extra_w): extra is a transposed convolution's output_padding.
    Pixels after the image that no window reaches cost and change nothing.
    Raises NoTwin if there is less padding before the image than after it.
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
