"""A third opinion: every operation as the sum that defines it, one index at a time.

Plain loops over every index in float64: no im2col, no GEMM, no trick shared with the library. They
are slow on purpose: each function can be checked against its formula by reading it once. Layout as
in the library: images (n, h, w, c), Conv2d W (kh, kw, c_in, c_out), ConvTranspose2d W
(kh, kw, c_out, c_in), Linear W (in, out).

A size along one axis is called `size_in` or `size_out`, `k` is the kernel, `s` the stride, `before`
the padding at the start of that axis. Convolution follows from one relation between an input
position i, an output position o and a tap t of the kernel:    i = o * s + t - before.
"""

import math

import numpy as np


def pair(value):
    """An int or a pair -> (vertical, horizontal)."""
    return (value, value) if isinstance(value, int) else tuple(value)


def same_padding(size_in, k, s):
    """TensorFlow's "same" for one axis -> (before, after, size_out).

    Why: size_out = ceil(size_in / s), whatever k is; the padding is what the last window lacks, and
         the odd pixel comes after.
    """
    size_out = -(-size_in // s)
    total = max((size_out - 1) * s + k - size_in, 0)
    return total // 2, total - total // 2, size_out


def explicit_padding(padding):
    """ "valid", an int or ((top, bottom), (left, right)) -> ((top, bottom), (left, right))."""
    if padding == "valid":
        return (0, 0), (0, 0)
    if isinstance(padding, int):
        return (padding, padding), (padding, padding)
    (top, bottom), (left, right) = padding
    return (top, bottom), (left, right)


def conv2d_geometry(image, kernel, stride, padding):
    """Padding and output size of a convolution.

    image, kernel, stride   (vertical, horizontal)
    -> ((top, bottom), (left, right)), (h_out, w_out)
    """
    if padding == "same":
        axes = [same_padding(*axis) for axis in zip(image, kernel, stride, strict=True)]
        return tuple((before, after) for before, after, _ in axes), tuple(
            size_out for _, _, size_out in axes
        )
    pads = explicit_padding(padding)
    sizes = tuple(
        (size + before + after - k) // s + 1
        for size, (before, after), k, s in zip(image, pads, kernel, stride, strict=True)
    )
    return pads, sizes


def conv_transpose2d_geometry(image, kernel, stride, padding, output_padding=0):
    """Padding (what is cropped from the full map) and output size of a transposed convolution.

    -> ((top, bottom), (left, right)), (h_out, w_out)
    Why: "same" is the transpose of the same-padded convolution that maps size * s to size.
    """
    if padding == "same":
        sizes = tuple(size * s for size, s in zip(image, stride, strict=True))
        pads, back = conv2d_geometry(sizes, kernel, stride, "same")
        assert back == tuple(image)
        return pads, sizes
    pads = explicit_padding(padding)
    sizes = tuple(
        (size - 1) * s + k - before - after + extra
        for size, s, k, (before, after), extra in zip(
            image, stride, kernel, pads, pair(output_padding), strict=True
        )
    )
    return pads, sizes


def touching(size_in, size_out, k, s, before):
    """All (i, o, t) with i = o * s + t - before inside the image, along one axis."""
    return [
        (o * s + t - before, o, t)
        for o in range(size_out)
        for t in range(k)
        if 0 <= o * s + t - before < size_in
    ]


def meetings(x_shape, y_shape, W_shape, stride, pads):
    """Every product in a convolution from x to y.

    x_shape (n, h, w, c_in)   y_shape (n, h_out, w_out, c_out)   W_shape (kh, kw, c_in, c_out)
    -> indices (x index, y index, W index), one for each multiplication in y = conv(x, W)
    """
    n, h, w, c_in = x_shape
    _, h_out, w_out, c_out = y_shape
    rows = touching(h, h_out, W_shape[0], stride[0], pads[0][0])
    columns = touching(w, w_out, W_shape[1], stride[1], pads[1][0])
    for image in range(n):
        for row, out_row, tap_row in rows:
            for column, out_column, tap_column in columns:
                for a in range(c_in):
                    for b in range(c_out):
                        yield (
                            (image, row, column, a),
                            (image, out_row, out_column, b),
                            (tap_row, tap_column, a, b),
                        )


def bias_gradient(dy):
    """dy (..., c) -> db (c,): the bias is added at every pixel, so db is the sum of all dy."""
    db = np.zeros(dy.shape[-1])
    for place in np.ndindex(*dy.shape):
        db[place[-1]] += dy[place]
    return db


def conv2d_forward(x, W, b, stride, padding):
    """2-D convolution (cross-correlation: the kernel is not flipped).

    x   (n, h, w, c_in)
    W   (kh, kw, c_in, c_out)
    b   (c_out,) or None
    -> y (n, h_out, w_out, c_out)
    """
    stride = pair(stride)
    pads, (h_out, w_out) = conv2d_geometry(x.shape[1:3], W.shape[:2], stride, padding)
    y = np.zeros((x.shape[0], h_out, w_out, W.shape[3]))
    for at_x, at_y, at_W in meetings(x.shape, y.shape, W.shape, stride, pads):
        y[at_y] += x[at_x] * W[at_W]
    if b is not None:
        for place in np.ndindex(*y.shape):
            y[place] += b[place[-1]]
    return y


def conv2d_backward(dy, x, W, stride, padding):
    """Gradients of a convolution, product rule applied to each multiplication of the forward.

    -> dx (n, h, w, c_in), dW (kh, kw, c_in, c_out), db (c_out,)
    """
    stride = pair(stride)
    pads, _ = conv2d_geometry(x.shape[1:3], W.shape[:2], stride, padding)
    dx, dW = np.zeros(x.shape), np.zeros(W.shape)
    for at_x, at_y, at_W in meetings(x.shape, dy.shape, W.shape, stride, pads):
        dx[at_x] += dy[at_y] * W[at_W]
        dW[at_W] += dy[at_y] * x[at_x]
    return dx, dW, bias_gradient(dy)


def conv_transpose2d_forward(x, W, b, stride, padding, output_padding=0):
    """Transposed convolution: each pixel of x stamps a scaled kernel into y.

    x   (n, h, w, c_in)
    W   (kh, kw, c_out, c_in)    the weight of the convolution from y's shape to x's
    -> y (n, h_out, w_out, c_out)
    Why: the convolution from large to small has i = o * s + t - before with i in the large map.
         Here the large map is y, so the same products occur with the roles exchanged.
    """
    stride = pair(stride)
    pads, (h_out, w_out) = conv_transpose2d_geometry(
        x.shape[1:3], W.shape[:2], stride, padding, output_padding
    )
    y = np.zeros((x.shape[0], h_out, w_out, W.shape[2]))
    for at_y, at_x, at_W in meetings(y.shape, x.shape, W.shape, stride, pads):
        y[at_y] += x[at_x] * W[at_W]
    if b is not None:
        for place in np.ndindex(*y.shape):
            y[place] += b[place[-1]]
    return y


def conv_transpose2d_backward(dy, x, W, stride, padding, output_padding=0):
    """Gradients of a transposed convolution.

    -> dx (n, h, w, c_in), dW (kh, kw, c_out, c_in), db (c_out,)
    """
    stride = pair(stride)
    pads, _ = conv_transpose2d_geometry(x.shape[1:3], W.shape[:2], stride, padding, output_padding)
    dx, dW = np.zeros(x.shape), np.zeros(W.shape)
    for at_y, at_x, at_W in meetings(dy.shape, x.shape, W.shape, stride, pads):
        dx[at_x] += dy[at_y] * W[at_W]
        dW[at_W] += dy[at_y] * x[at_x]
    return dx, dW, bias_gradient(dy)


def linear_forward(x, W, b):
    """x (n, c_in), W (c_in, c_out), b (c_out,) or None -> y (n, c_out)."""
    y = np.zeros((x.shape[0], W.shape[1]))
    for row, out in np.ndindex(*y.shape):
        y[row, out] = sum(x[row, a] * W[a, out] for a in range(W.shape[0])) + (
            0.0 if b is None else b[out]
        )
    return y


def linear_backward(dy, x, W):
    """-> dx (n, c_in), dW (c_in, c_out), db (c_out,)."""
    dx, dW = np.zeros(x.shape), np.zeros(W.shape)
    for row in range(x.shape[0]):
        for a, out in np.ndindex(*W.shape):
            dx[row, a] += dy[row, out] * W[a, out]
            dW[a, out] += dy[row, out] * x[row, a]
    return dx, dW, bias_gradient(dy)


def batch_statistics(values):
    """The m values of one channel -> (mean, biased variance)."""
    m = len(values)
    mean = sum(values) / m
    return mean, sum((value - mean) ** 2 for value in values) / m


def batchnorm_forward(x, gain, bias, eps):
    """Batch normalization with the statistics of this batch, one channel after the other.

    x           (..., c)      all axes but the last are the batch, m values for a channel
    gain, bias  (c,) or None  (1 and 0)
    -> y (..., c), mean (c,), var (c,) biased
    Source: Ioffe & Szegedy 2015, arXiv:1502.03167, algorithm 1
    """
    flat = x.reshape(-1, x.shape[-1])
    m, channels = flat.shape
    y, means, variances = np.zeros(flat.shape), np.zeros(channels), np.zeros(channels)
    for c in range(channels):
        mean, var = batch_statistics([flat[i, c] for i in range(m)])
        means[c], variances[c] = mean, var
        for i in range(m):
            x_hat = (flat[i, c] - mean) / math.sqrt(var + eps)
            y[i, c] = (1.0 if gain is None else gain[c]) * x_hat + (
                0.0 if bias is None else bias[c]
            )
    return y.reshape(x.shape), means, variances


def batchnorm_backward(dy, x, gain, eps):
    """Gradients of batch normalization from the whole Jacobian, built element by element.

    -> dx (..., c), dgain (c,), dbias (c,)
    Why: with d = x - mean and std = sqrt(var + eps), and [i = j] one where i is j,
             d mean    / dx_j = 1 / m
             d d_i     / dx_j = [i = j] - 1 / m
             d var     / dx_j = 2 d_j / m              (through the mean: -2/m² * sum of d = 0)
             d std     / dx_j = d_j / (m * std)
             d x_hat_i / dx_j = ([i = j] - 1 / m) / std - d_i * d_j / (m * std³)
         and dx_j = sum over i of dy_i * gain * d x_hat_i / dx_j.
    """
    flat, flat_dy = x.reshape(-1, x.shape[-1]), dy.reshape(-1, x.shape[-1])
    m, channels = flat.shape
    dx, dgain, dbias = np.zeros(flat.shape), np.zeros(channels), np.zeros(channels)
    for c in range(channels):
        mean, var = batch_statistics([flat[i, c] for i in range(m)])
        std = math.sqrt(var + eps)
        scale = 1.0 if gain is None else gain[c]
        d = [flat[i, c] - mean for i in range(m)]
        for i in range(m):
            dgain[c] += flat_dy[i, c] * d[i] / std
            dbias[c] += flat_dy[i, c]
            for j in range(m):
                jacobian = ((1.0 if i == j else 0.0) - 1.0 / m) / std - d[i] * d[j] / (m * std**3)
                dx[j, c] += flat_dy[i, c] * scale * jacobian
    return dx.reshape(x.shape), dgain, dbias


def batchnorm_running(running, batch, rate):
    """Moving average; rate is the weight of the new batch."""
    return (1.0 - rate) * running + rate * batch


def batchnorm_inference(x, gain, bias, running_mean, running_var, eps):
    """Batch normalization with fixed statistics: one affine map for each channel."""
    y = np.zeros(x.shape)
    for place in np.ndindex(*x.shape):
        c = place[-1]
        x_hat = (x[place] - running_mean[c]) / math.sqrt(running_var[c] + eps)
        y[place] = (1.0 if gain is None else gain[c]) * x_hat + (0.0 if bias is None else bias[c])
    return y


def bce_with_logits(logits, target):
    """Binary cross-entropy straight from its definition; for logits of moderate size only.

    logits  any shape          target  a number or an array of that shape, in [0, 1]
    -> mean loss, dlogits (same shape)
    Why: p = sigmoid(logit), loss = -target * log p - (1 - target) * log(1 - p),
         dloss/dlogit = (p - target) / count
    """
    target = np.broadcast_to(target, logits.shape)
    loss, dlogits = 0.0, np.zeros(logits.shape)
    for place in np.ndindex(*logits.shape):
        p = 1.0 / (1.0 + math.exp(-logits[place]))
        loss += -target[place] * math.log(p) - (1.0 - target[place]) * math.log(1.0 - p)
        dlogits[place] = (p - target[place]) / logits.size
    return loss / logits.size, dlogits


ACTIVATIONS = {  # name: (value at x, slope at x)
    "relu": (lambda x: x if x > 0 else 0.0, lambda x: 1.0 if x > 0 else 0.0),
    "leaky 0.2": (lambda x: x if x > 0 else 0.2 * x, lambda x: 1.0 if x > 0 else 0.2),
    "tanh": (math.tanh, lambda x: 1.0 / math.cosh(x) ** 2),
    "sigmoid": (
        lambda x: 1.0 / (1.0 + math.exp(-x)),
        lambda x: math.exp(-x) / (1.0 + math.exp(-x)) ** 2,
    ),
}


def activation(name, x, dy):
    """-> y, dx of an element-wise function, from x."""
    value, slope = ACTIVATIONS[name]
    y, dx = np.zeros(x.shape), np.zeros(x.shape)
    for place in np.ndindex(*x.shape):
        y[place] = value(x[place])
        dx[place] = dy[place] * slope(x[place])
    return y, dx
