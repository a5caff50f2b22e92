"""Other nets than those of preset mnist, for 28x28 images, that search.py tries in its place.

start3-deep     the preset: 28 -> 14 -> 7 -> 3, and another convolution, 3x3 with stride 1, at 7x7, in both
start3, start7  without that convolution; and with one halving less. start7-deep: that with the convolution
k5              kernels of 5 with TensorFlow's "same" padding, as most published programs for MNIST; 28 -> 14 -> 7
no-norm-d       the preset's D without BatchNorm, from He's weights
he, glorot      the preset's own nets from other first weights than N(0, 0.02²)
"""

from minigan.initializers import glorot_uniform, he, normal
from minigan.layers import Conv2d, ConvTranspose2d, Flatten, LeakyReLU, Linear, ReLU, Reshape, Tanh
from minigan.presets.frameworks import torch_norm

HALVE = dict(kernel_size=4, stride=2, padding=1)
HALVE_5 = dict(kernel_size=5, stride=2, padding="same")
KEEP = dict(kernel_size=3, padding=1)
SMALL = normal(0.02)


def generator(start=3, step=HALVE, deep=False, weights=SMALL):
    """-> a preset's function (width, z_dim, image_shape) -> layers.

    start  pixels of the smallest map
    """

    def layers(width, z_dim, image_shape):
        free = dict(bias=False, initializer=weights)
        c = (4 if start == 3 else 2) * width
        made = [Linear(start * start * c, **free), Reshape((start, start, c)), torch_norm(), ReLU()]
        if start == 3:
            made += [
                ConvTranspose2d(2 * width, **step, output_padding=(1, 1), **free),
                torch_norm(),
                ReLU(),
            ]
        if deep:
            made += [Conv2d(2 * width, **KEEP, **free), torch_norm(), ReLU()]
        made += [ConvTranspose2d(width, **step, **free), torch_norm(), ReLU()]
        return [*made, ConvTranspose2d(image_shape[2], **step, initializer=weights), Tanh()]

    return layers


def discriminator(start=3, step=HALVE, deep=False, weights=SMALL, norm=True):
    """-> a preset's function (width, image_shape) -> layers, the mirror of generator."""

    def layers(width, image_shape):
        def block(c, **options):
            if norm:
                return [
                    Conv2d(c, **options, bias=False, initializer=weights),
                    torch_norm(),
                    LeakyReLU(0.2),
                ]
            return [Conv2d(c, **options, initializer=weights), LeakyReLU(0.2)]

        made = [
            Conv2d(width, **step, initializer=weights),
            LeakyReLU(0.2),
            *block(2 * width, **step),
        ]
        if deep:
            made += block(2 * width, **KEEP)
        if start == 3:
            made += block(4 * width, **step)
        return [*made, Flatten(), Linear(1, initializer=weights)]

    return layers


def both(**options):
    return dict(generator=generator(**options), discriminator=discriminator(**options))


NETS = {  # name -> the fields of a Preset that it replaces
    "start3-deep": both(deep=True),
    "start3": both(),
    "start7": both(start=7),
    "start7-deep": both(start=7, deep=True),
    "k5": both(start=7, step=HALVE_5),
    "no-norm-d": dict(discriminator=discriminator(deep=True, weights=he(), norm=False)),
    "he": both(deep=True, weights=he()),
    "glorot": both(deep=True, weights=glorot_uniform()),
}
