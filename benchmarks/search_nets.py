"""Other nets that search.py tries in place of those of minigan's own presets.

For 28x28 images, in place of those of preset mnist:

start3, start7  smallest maps of 3 or 7 pixels: 28 -> 14 -> 7 (-> 3)
...-deep        with another convolution, 3x3 with stride 1, at 7x7 in both nets; start3-deep is the
                preset
k5              kernels of 5 with TensorFlow's "same" padding, as in most published programs for
                MNIST; 28 -> 14 -> 7
no-norm-d       the preset's D without BatchNorm, from He's weights
he, glorot      the preset's nets from other first weights than N(0, 0.02²)

For color pictures, in place of those of color32 or image64, which have one convolution of 3x3 with
stride 1 in each net:

shallow, deep   none, or two of them
"""

from minigan import layers as nn
from minigan.initializers import glorot_uniform, he, normal
from minigan.presets import own
from minigan.presets.frameworks import WEIGHTS, torch_norm

HALVE = dict(kernel_size=4, stride=2, padding=1)
HALVE_5 = dict(kernel_size=5, stride=2, padding="same")
KEEP = dict(kernel_size=3, padding=1)
SMALL = normal(0.02)


def generator(start=3, step=HALVE, deep=False, weights=SMALL):
    """-> a preset's function (width, z_dim, image_shape) -> layers.

    start  pixels of the smallest map
    """

    def layers(width, z_dim, image_shape):
        def block(kind, c, **options):
            return [kind(c, **options, bias=False, initializer=weights), torch_norm(), nn.ReLU()]

        c = (4 if start == 3 else 2) * width
        first = block(nn.Linear, start * start * c)
        made = [first[0], nn.Reshape((start, start, c)), *first[1:]]
        if start == 3:
            made += block(nn.ConvTranspose2d, 2 * width, **step, output_padding=(1, 1))
        if deep:
            made += block(nn.Conv2d, 2 * width, **KEEP)
        made += block(nn.ConvTranspose2d, width, **step)
        return [*made, nn.ConvTranspose2d(image_shape[2], **step, initializer=weights), nn.Tanh()]

    return layers


def discriminator(start=3, step=HALVE, deep=False, weights=SMALL, norm=True):
    """-> a preset's function (width, image_shape) -> layers, the mirror of generator."""

    def layers(width, image_shape):
        def block(c, options, norm=norm):
            convolution = nn.Conv2d(c, **options, bias=not norm, initializer=weights)
            return [convolution, *([torch_norm()] if norm else []), nn.LeakyReLU(0.2)]

        made = block(width, step, norm=False) + block(2 * width, step)
        if deep:
            made += block(2 * width, KEEP)
        if start == 3:
            made += block(4 * width, step)
        return [*made, nn.Flatten(), nn.Linear(1, initializer=weights)]

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


def refined(make_layers, blocks, activation):
    """-> a preset's function with this number of blocks of a 3x3 convolution, instead of one."""

    def layers(*arguments, **options):
        made = make_layers(*arguments, **options)
        first = next(
            i
            for i, layer in enumerate(made)
            if isinstance(layer, nn.Conv2d)
            and layer.stride == (1, 1)
            and not isinstance(made[i - 1], nn.Upsample)
        )
        channels = made[first].channels
        made[first : first + 3] = [
            layer
            for _ in range(blocks)
            for layer in (nn.Conv2d(channels, **KEEP, **WEIGHTS), torch_norm(), activation())
        ]
        return made

    return layers


def both_refined(blocks):
    return dict(
        generator=refined(own.generator, blocks, nn.ReLU),
        discriminator=refined(own.discriminator, blocks, lambda: nn.LeakyReLU(0.2)),
    )


COLOR_NETS = {"shallow": both_refined(0), "deep": both_refined(2)}
