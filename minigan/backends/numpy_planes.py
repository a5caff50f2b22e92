"""Convolution of images of one to four channels: where a pixel is too short a run to copy.

A window's row of a grey image has k numbers: copying columns in runs of five is slower
than multiplying them. Here the columns are laid out the other way round, one row for each
(i, j, c), so that a run goes over the pixels of the whole chunk instead.

With stride s, x is first sorted into s·s planes, plane (a, b) holding the pixels
(s·u + a, s·v + b). A kernel position (i, j) then reads one plane, shifted by (i//s, j//s)
places; and in a plane laid out as one line of n·u·v numbers, shifting is only starting
later. So each row of the column matrix is one copy, and in `transpose` one addition.

The price: every place of the plane counts as an output pixel, and those at its right and
lower edge (⌈k/s⌉ - 1 of them, whose windows run over into the next line) are computed in
vain. They are cropped from y; in reading y they stand as zeros, and so add nothing.
Shown by: benchmarks/layers.py
"""

import numpy as np

from minigan.backends.numpy_columns import CACHE, view


class Planes:
    """One geometry, and the three products as in numpy_columns.py."""

    def __init__(self, x_shape, W_shape, y_shape, stride, padding):
        self.x_shape, self.W_shape, self.y_shape, self.stride, self.padding = x_shape, W_shape, y_shape, stride, padding
        (k_h, k_w, c_in, _), (s_h, s_w) = W_shape, stride
        self.u, self.v = y_shape[0] + -(-k_h // s_h) - 1, y_shape[1] + -(-k_w // s_w) - 1  # places in a plane
        self.overrun = (-(-k_h // s_h) - 1) * self.v + -(-k_w // s_w) - 1  # the largest shift
        self.window = k_h * k_w * c_in
        (h, w, _), ((top, _), (left, _)) = x_shape, padding
        self.h, self.w = min(h, s_h * self.u - top), min(w, s_w * self.v - left)  # pixels that any window reads

    def images(self, itemsize):
        return max(1, CACHE // (self.u * self.v * (self.window + 2 * self.y_shape[2]) * itemsize))

    def prepare(self, W, memory, team):
        return W.reshape(self.window, -1)

    def read_x(self, x, desk):
        """-> columns of x, one row for each (i, j, c): (k_h·k_w·c_in, n·u·v)"""
        (top, _), (left, _) = self.padding
        image, planes = self.image_and_planes(len(x), x.dtype, desk)
        image.fill(0)
        image[:, top : top + self.h, left : left + self.w] = x[:, : self.h, : self.w]
        self.sorted_into_planes(image)[...], planes[..., -self.overrun - 1 :] = self.places(planes, len(x)), 0
        return planes

    # -- the two layouts of x --------------------------------------------------------
