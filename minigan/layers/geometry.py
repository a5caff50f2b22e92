"""Sizes of convolutions: kernel, stride and padding -> output size.

Along one axis, a convolution with kernel k, stride s and `before` + `after` pixels of padding has

    (size + before + after - k) // s + 1

windows in `size` pixels. Padding may be given as
    "valid"                          none
    "same"                           TensorFlow's: the output is ⌈size / s⌉; an odd pixel goes after
    p                                p on every side
    ((top, bottom), (left, right))   each side separately
Source: Dumoulin & Visin 2016, arXiv:1603.07285
"""

from typing import Any

from minigan.arrays import Padding, Pair, Shape
from minigan.checks import expect_size
from minigan.errors import ConfigError, ShapeError

AXES = ("height", "width")


def expect_pair(label: str, name: str, value: Any, least: int = 1) -> Pair:
    """int or (vertical, horizontal) -> the pair; raises ConfigError."""
    values = value if isinstance(value, (tuple, list)) else (value, value)
    if len(values) != 2:
        raise ConfigError(
            f"{label}: {name} must be a number or a pair (vertical, horizontal), got {value!r}"
        )
    vertical, horizontal = (expect_size(f"{label}: {name}", v, least) for v in values)
    return vertical, horizontal


def expect_padding(label: str, padding: Any, kernel: Pair) -> str | Padding:
    """-> "valid", "same" or ((top, bottom), (left, right)), whole numbers; raises ConfigError."""
    if isinstance(padding, str):
        if padding not in ("valid", "same"):
            raise ConfigError(
                f'{label}: padding must be "valid", "same", a number or '
                f"((top, bottom), (left, right)), got {padding!r}"
            )
        return padding
    if not isinstance(padding, (tuple, list)):
        padding = ((padding, padding), (padding, padding))
    if [len(side) if isinstance(side, (tuple, list)) else 0 for side in padding] != [2, 2]:
        raise ConfigError(
            f"{label}: padding must be a number or ((top, bottom), (left, right)), got {padding!r}"
        )
    vertical, horizontal = (expect_pair(label, "padding", side, least=0) for side in padding)
    pads = vertical, horizontal
    for (before, after), k, axis in zip(pads, kernel, AXES, strict=True):
        if max(before, after) >= k:
            raise ConfigError(
                f"{label}: padding {max(before, after)} must be smaller than the kernel, "
                f"{k} in {axis}: a window would see only padding"
            )
    return pads


def expect_image(label: str, in_shape: Shape) -> tuple[int, int, int]:
    """-> h, w, c; raises ShapeError unless in_shape is that of an image."""
    if len(in_shape) != 3:
        raise ShapeError(
            f"{label}: expected an image (h, w, c), got {tuple(in_shape)}: "
            "put Reshape((h, w, c)) before it"
        )
    h, w, c = in_shape
    return h, w, c


def conv_sizes(
    label: str, sizes: Pair, kernel: Pair, stride: Pair, padding: str | Padding
) -> tuple[Pair, Padding]:
    """Convolution of an image (h, w) -> (h_out, w_out), ((top, bottom), (left, right)).

    Raises ShapeError if no window fits.
    """
    outs, pads = [], []
    for axis, (size, k, s) in enumerate(zip(sizes, kernel, stride, strict=True)):
        if padding == "same":
            total = max((-(-size // s) - 1) * s + k - size, 0)
            before, after = total // 2, total - total // 2
        else:
            before, after = (0, 0) if isinstance(padding, str) else padding[axis]
        if size + before + after < k:
            raise ShapeError(
                f"{label}: kernel {k} does not fit {AXES[axis]} {size} with padding "
                f"{before}+{after}: take a smaller kernel or more padding"
            )
        outs.append((size + before + after - k) // s + 1)
        pads.append((before, after))
    return (outs[0], outs[1]), (pads[0], pads[1])


def conv_transpose_sizes(
    label: str, sizes: Pair, kernel: Pair, stride: Pair, padding: str | Padding, extra: Pair
) -> tuple[Pair, Padding]:
    """Transposed convolution of an image (h, w) -> (h_out, w_out), pads of the convolution.

    If the stride does not divide them, several sizes convolve to the same (h, w). The transposed
    convolution takes the smallest, plus `extra` (output_padding); "same" takes size * s.
    Raises ShapeError if the result would be empty.
    """
    outs = []
    for axis, (size, k, s) in enumerate(zip(sizes, kernel, stride, strict=True)):
        if padding == "same":
            out = size * s
        else:
            before, after = (0, 0) if isinstance(padding, str) else padding[axis]
            out = (size - 1) * s + k - before - after + extra[axis]
        if out < 1:
            raise ShapeError(
                f"{label}: padding {before}+{after} leaves nothing of {AXES[axis]} {size}: "
                f"(size - 1) * stride + kernel - padding is {out}; take less padding"
            )
        outs.append(out)
    y_sizes = outs[0], outs[1]
    return y_sizes, conv_sizes(label, y_sizes, kernel, stride, padding)[1]
