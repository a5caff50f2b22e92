"""minigan's own DCGANs: one pair of nets that fits images of any size, at three sizes.

The paper's guidelines: strided convolutions, BatchNorm except at the image, ReLU in G, LeakyReLU in
D, tanh at the output. Kernels of 4 with stride 2 tile without overlap artifacts, and take 16
multiplications per pixel; kernels of 5 take 25. In color32 and image64 D pays R1 (../r1.py), and so
has no BatchNorm (../training/switches.py): G then keeps its variety.

D halves the image while at least 3 pixels are left on the shorter side; G doubles it as often:

    28 -> 14 -> 7 -> 3      32 -> 16 -> 8 -> 4      64 -> 32 -> 16 -> 8 -> 4
    75 -> 37 -> 18 -> 9 -> 4

D rounds half of an odd size down: the last pixel is still seen, the padding after it is not. G gets
the odd size back by output_padding, or by one more row of padding after Upsample. Every halving
doubles the channels, up to 8 times the width. Both nets have one more convolution, 3x3 with stride
1, at the map before the smallest, if that is not the image itself. In color32 and image64 G doubles
a map by repeating pixels, with a convolution of kernel 3 after it (`upsample`): layers/upsample.py
says why.

With `classes` both nets get the class too, as in Mirza & Osindero 2014: G beside z and, with
two halvings or more, at its smallest map, D at the 3x3 convolution, or at the image if it has none.

mnist    digits within two minutes on two CPU cores, with hyperparameters found by search
         (benchmarks/search.py): narrow nets, small batches, large steps, and the average
         of G's weights over some 500 of them
color32  color pictures of 32x32: CIFAR-10, SVHN
image64  a folder of any pictures, at 64x64; both with numbers of a search. Of 50,000 pictures, the
         25 and 12 epochs take 12 to 13 minutes
Source: Radford et al. 2016, arXiv:1511.06434, scaled down
"""

from itertools import pairwise
from typing import Any

from minigan import layers as nn
from minigan.arrays import Pair
from minigan.errors import ShapeError
from minigan.initializers import normal
from minigan.objective import Objective
from minigan.presets import Arguments, ImageShape, Layers, Preset
from minigan.presets.frameworks import WEIGHTS, torch_norm

SMALLEST = 3  # pixels on the shorter side of the smallest map
HALVE: Arguments = dict(kernel_size=4, stride=2, padding=1)
KEEP: Arguments = dict(kernel_size=3, padding=1)


def pyramid(image_shape: ImageShape) -> tuple[list[Pair], list[int]]:
    """-> sizes (h, w) of the maps, the image first; multiples of the width, for those after it.

    Raises ShapeError for an image that is too small to be halved once.
    """
    h, w, _ = image_shape
    if min(h, w) < 2 * SMALLEST:
        nearest = "x".join(str(max(size, 2 * SMALLEST)) for size in (h, w))
        raise ShapeError(
            f"D.0 (Conv2d k4 s2 p1): halves {h}x{w} to {h // 2}x{w // 2}, and fewer than "
            f"{SMALLEST} pixels are too few to grow an image from: the nearest size is {nearest}"
        )
    sizes = [(h, w)]
    while min(sizes[-1]) >= 2 * SMALLEST:
        sizes.append((sizes[-1][0] // 2, sizes[-1][1] // 2))
    return sizes, [min(2**i, 8) for i in range(len(sizes) - 1)]


def double(channels: int, h: int, w: int, upsample: bool, **arguments: Any) -> Layers:
    """-> layers that double a map to (h, w), as large as before HALVE; an odd size is one more."""
    if upsample:
        padding = ((1, 1 + h % 2), (1, 1 + w % 2))
        return [nn.Upsample(2), nn.Conv2d(channels, kernel_size=3, padding=padding, **arguments)]
    return [nn.ConvTranspose2d(channels, **HALVE, output_padding=(h % 2, w % 2), **arguments)]


def labels(classes: int) -> Layers:
    return [nn.AppendLabels(classes)] if classes else []


def generator(
    width: int, z_dim: int, image_shape: ImageShape, upsample: bool = False, classes: int = 0
) -> Layers:
    sizes, multiples = pyramid(image_shape)
    (h, w), channels = sizes[-1], multiples[-1] * width
    layers = [*labels(classes), nn.Linear(h * w * channels, **WEIGHTS)]
    layers.append(nn.Reshape((h, w, channels)))
    for i, ((h, w), multiple) in enumerate(zip(sizes[-2:0:-1], multiples[-2::-1], strict=True)):
        layers += [torch_norm(), nn.ReLU(), *labels(0 if i else classes)]
        layers += double(multiple * width, h, w, upsample, **WEIGHTS)
        if i == 0:  # the map before the smallest
            layers += [torch_norm(), nn.ReLU(), nn.Conv2d(multiple * width, **KEEP, **WEIGHTS)]
    image = double(image_shape[2], *sizes[0], upsample, initializer=normal(0.02))
    return [*layers, torch_norm(), nn.ReLU(), *image, nn.Tanh()]


def discriminator(width: int, image_shape: ImageShape, classes: int = 0) -> Layers:
    _, multiples = pyramid(image_shape)
    layers = labels(0 if multiples[1:] else classes)
    layers += [nn.Conv2d(width, **HALVE, initializer=normal(0.02)), nn.LeakyReLU(0.2)]
    for i, (before, multiple) in enumerate(pairwise(multiples), start=2):
        if i == len(multiples):  # before the last halving
            layers += [*labels(classes), nn.Conv2d(before * width, **KEEP, **WEIGHTS)]
            layers += [torch_norm(), nn.LeakyReLU(0.2)]
        layers += [nn.Conv2d(multiple * width, **HALVE, **WEIGHTS), torch_norm(), nn.LeakyReLU(0.2)]
    return [*layers, nn.Flatten(), nn.Linear(1, initializer=normal(0.02))]


COMMON: Arguments = dict(
    source="minigan, after Radford et al. 2016", generator=generator, discriminator=discriminator,
    any_size=True, z_dim=64, batch_size=64, beta1=0.0,
)  # fmt: skip

PRESETS = {
    "mnist": Preset(
        **COMMON, name="mnist", data="mnist", image_shape=(28, 28, 1), width=16, epochs=4,
        lr_g=8e-3, lr_d=4e-3, ema=0.998,
    ),
    "color32": Preset(
        **COMMON, name="color32", data="cifar10", image_shape=(32, 32, 3), width=24, epochs=25,
        lr_g=5e-4, lr_d=1e-3, lr_decay=5000, ema=0.998, upsample="nearest",
        objective=Objective(r1=0.3),
    ),
    "image64": Preset(
        **COMMON, name="image64", data="folder", image_shape=(64, 64, 3), width=16, epochs=12,
        lr_g=2.5e-4, lr_d=5e-4, ema=0.998, upsample="nearest", objective=Objective(r1=0.3),
    ),
}  # fmt: skip
