"""im2col and col2im turn a convolution into a matrix product, and back.

A convolution looks at an image through a window of k_h x k_w pixels, at every s-th place. im2col
copies each window into one row:

    cols[n, p, q, i, j] = x[n, p·s_h + i - top, q·s_w + j - left]        0 outside the image

p, q index the windows; i, j the pixels within one. As a matrix, cols has one window per row. Then
"every window times the same weights" is one matrix product: layers/conv2d.py.

im2col is linear in x: it only copies. So there is a matrix M of zeros and ones with cols = M·x, and
the chain rule sends the gradient of cols back through its transpose, dx = Mᵀ·dcols. That is col2im.
A pixel was copied into every window that covers it; its gradient is the sum over those copies:

    im2col   cols[window] =  pixel
    col2im   pixel       += cols[window]

col2im is the adjoint of im2col, not its inverse: <im2col(x), c> == <x, col2im(c)> for every x and
c; the tests check this. col2im(im2col(x)) counts each pixel as often as windows cover it.

Source: Chellapilla et al. 2006; Dumoulin & Visin 2016, arXiv:1603.07285
Fast versions: backends/cpu/im2col.py, backends/gpu/kernels.cu
"""

from typing import Any

from minigan.arrays.types import Array, Padding, Pair, Shape


def im2col(x: Array, kernel: Pair, stride: Pair, padding: Padding, xp: Any) -> Array:
    """Copy the window under each output pixel into a row.

    x        (n, h, w, c)
    padding  ((top, bottom), (left, right)), pixels that read as 0
    xp       the array module, numpy or cupy
    -> cols  (n, h_out, w_out, k_h, k_w, c)
    """
    (k_h, k_w), (s_h, s_w) = kernel, stride
    padded = xp.pad(x, ((0, 0), *padding, (0, 0)))
    h_out = (padded.shape[1] - k_h) // s_h + 1
    w_out = (padded.shape[2] - k_w) // s_w + 1
    cols = xp.empty((len(x), h_out, w_out, k_h, k_w, x.shape[3]), x.dtype)
    for i in range(k_h):
        for j in range(k_w):
            cols[:, :, :, i, j] = padded[:, i:, j:][:, : s_h * h_out : s_h, : s_w * w_out : s_w]
    return cols


def col2im(cols: Array, x_shape: Shape, stride: Pair, padding: Padding, xp: Any) -> Array:
    """Add each row back into its window: the transpose of im2col.

    cols     (n, h_out, w_out, k_h, k_w, c)
    x_shape  (n, h, w, c) of the image passed to im2col
    -> x     (n, h, w, c), each pixel the sum of its copies
    """
    (n, h, w, c), (s_h, s_w), ((top, bottom), (left, right)) = x_shape, stride, padding
    _, h_out, w_out, k_h, k_w, _ = cols.shape
    padded = xp.zeros((n, top + h + bottom, left + w + right, c), cols.dtype)
    for i in range(k_h):
        for j in range(k_w):
            padded[:, i:, j:][:, : s_h * h_out : s_h, : s_w * w_out : s_w] += cols[:, :, :, i, j]
    return padded[:, top : top + h, left : left + w]
