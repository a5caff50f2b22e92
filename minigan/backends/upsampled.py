"""Upsample and a convolution of stride 1 as one transposed convolution: fewer products.

Upsample repeats each pixel s times, so some taps of the convolution after it read the same pixel.
Add up these taps first. Along one axis, with x the small image and K the k taps:

    y[o] = Σ_t K[t]·x[(o + t - top) // s]        t = 0..k-1, zeros outside
         = Σ K[t]·x[i]                           over all t, i, r with o + t - top = s·i + r, r < s

So pixel i reaches o = s·i + (r + k-1 - t) - (k-1 - top): a transposed convolution of stride s, with
k-1 - top cropped in front, whose tap number j is

    W[j] = Σ K[t]    over all r + k-1 - t = j      j = 0..k+s-2

W is K, flipped, laid down s times, one place further each time. For k = 3, s = 2 it has 4 taps, and
each pixel of y takes 2 of them along each axis: 4 products instead of 9. The upsampled image is
never made. The gradient of K gathers what W has spread.

The layers remain the definition of all this: layers/upsample.py, layers/conv2d.py.
Shown by: benchmarks/ablation.py --preset color32
"""

from collections.abc import Iterator
from itertools import product

from minigan.arrays import Array, Padding
from minigan.backends.steps import StepAround
from minigan.backends.workspace import FastBackend, Workspace
from minigan.layers import Conv2d, ConvTranspose2d, Upsample


class UpsampledConv2d(ConvTranspose2d):
    """The transposed convolution that does what both layers do. Its W and dW are not parameters."""

    def __init__(self, upsample: Upsample, conv: Conv2d, pads: Padding, backend: FastBackend):
        self.conv, s = conv, upsample.scale
        sizes = (conv.kernel_size[0] + s - 1, conv.kernel_size[1] + s - 1)
        super().__init__(conv.channels, sizes, s, bias=conv.use_bias)
        self.in_shape, self.out_shape, self.pads = upsample.in_shape, conv.out_shape, pads
        self.has_parameters, self.path = True, conv.path
        memory, shape = Workspace(backend), (*sizes, conv.channels, upsample.in_shape[2])
        self.W, self.dW = (memory.get(name, shape) for name in ("W", "dW"))

    def places(self, of_taps: Array) -> Iterator[Array]:
        """W or dW -> yields its part at each of the s·s places where the flipped K lies."""
        k_h, k_w = self.conv.kernel_size
        for i, j in product(*map(range, self.stride)):
            yield of_taps[i : i + k_h, j : j + k_w]


class UpsampledStep(StepAround):
    """Upsample and a convolution, around the block that contains the transposed convolution."""

    def forward(self, x: Array, train: bool) -> Array:
        layer, conv, xp = self.layer, self.layer.conv, self.xp
        layer.b, layer.db = conv.b, conv.db  # now: they are made after the steps
        xp.copyto(layer.W, 0)
        for part in layer.places(layer.W):
            xp.add(part, flipped(conv.W), out=part)
        return self.steps[0].forward(x, train)

    def backward(self, dy: Array, need_dx: bool, need_dw: bool) -> Array | None:
        layer, dK = self.layer, flipped(self.layer.conv.dW)
        self.xp.copyto(layer.dW, 0)
        dx = self.steps[0].backward(dy, need_dx, need_dw)
        for part in layer.places(layer.dW) if need_dw else ():
            self.xp.add(dK, part, out=dK)
        return dx


def flipped(K: Array) -> Array:
    """Taps of a convolution (k_h, k_w, c_in, c_out) -> as W has them, (k_h, k_w, c_out, c_in)."""
    return K[::-1, ::-1].transpose(0, 1, 3, 2)
