"""The DCGAN paper's own programs: faces at 64x64, and the conditional net behind its MNIST table.

64                 G: dense to 4x4x1024, then 512, 256, 128, image;  D: 128 to 1024, one logit
mnist-conditional  one-hot labels after z and every hidden vector, as planes after every map;
                   G ends in a sigmoid (pixels in [0, 1]); BatchNorm without gain and bias
64:svhn            32x32: the first of two nets whose weights were published. A map less, z from
                   N(0, 1). `minigan import` reads the weights
64:imagenet        32x32: the second one. Kernels of 3; between the layers that double or halve the
                   size are others that keep it
All other convolutions k5 s2, padded as in Theano: 2 pixels on each side; G's transposed
convolutions crop 2 before and 1 after. No layer has a bias. The programs use batch statistics for
sampling, too (here by request: frozen_statistics.py); an L2 penalty is added to the gradient of
every parameter. The programs that trained the two nets of 32x32 are not published: what their names
do not say is as for faces.

One player per batch, alternating: G on one, D on the next. So an epoch has half as many updates of
each as elsewhere. In the program Adam's beta1 itself decays by 1e-8 per step; that is left out. The
program shuffles MNIST, trains on 50,000 images and keeps the last 10,000 for validation; here the
first 50,000 images of the file are used.
Source: Radford et al. 2016, arXiv:1511.06434; github.com/Newmu/dcgan_code,
faces/train_uncond_dcgan.py and mnist/train_cond_dcgan.py
"""

from functools import partial
from math import prod

from minigan import layers as nn
from minigan.gan import Players, Result
from minigan.presets import Arguments, ImageShape, Layers, Preset
from minigan.presets.frameworks import WEIGHTS, torch_norm

DIGITS = 10
HALVE: Arguments = dict(kernel_size=5, stride=2, padding=2, **WEIGHTS)
DOUBLE: Arguments = dict(kernel_size=5, stride=2, padding=2, output_padding=1, **WEIGHTS)
KEEP: Arguments = dict(kernel_size=3, padding=1, **WEIGHTS)
HALVE_3: Arguments = dict(kernel_size=3, stride=2, padding=1, **WEIGHTS)
DOUBLE_3: Arguments = dict(**HALVE_3, output_padding=1)
NORM: Arguments = dict(eps=1e-8, unbiased=False, sampling="batch")
norm = partial(torch_norm, **NORM)
bare_norm = partial(nn.BatchNorm, gain=False, bias=False, **NORM)


def first_map(image_shape: ImageShape, width: int, multiple: int) -> Layers:
    """z -> a map of multiple * width channels, which is doubled until it is the image."""
    h, w, _ = image_shape
    shape = (h // (2 * multiple), w // (2 * multiple), multiple * width)
    return [nn.Linear(prod(shape), **WEIGHTS), norm(), nn.ReLU(), nn.Reshape(shape)]


def generator(
    width: int, z_dim: int, image_shape: ImageShape, multiples: tuple[int, ...] = (8, 4, 2, 1)
) -> Layers:
    layers = first_map(image_shape, width, multiples[0])
    for multiple in multiples[1:]:
        layers += [nn.ConvTranspose2d(multiple * width, **DOUBLE), norm(), nn.ReLU()]
    return [*layers, nn.ConvTranspose2d(image_shape[2], **DOUBLE), nn.Tanh()]


def discriminator(
    width: int, image_shape: ImageShape, multiples: tuple[int, ...] = (1, 2, 4, 8)
) -> Layers:
    layers = [nn.Conv2d(width, **HALVE), nn.LeakyReLU(0.2)]
    for multiple in multiples[1:]:
        layers += [nn.Conv2d(multiple * width, **HALVE), norm(), nn.LeakyReLU(0.2)]
    return [*layers, nn.Flatten(), nn.Linear(1, **WEIGHTS)]


def imagenet_generator(width: int, z_dim: int, image_shape: ImageShape) -> Layers:
    layers = first_map(image_shape, width, 4)
    for multiple in (4, 2, 1):
        kept = multiple * width // 2 if multiple > 1 else image_shape[2]
        layers += [nn.ConvTranspose2d(multiple * width, **DOUBLE_3), norm(), nn.ReLU()]
        layers += [nn.ConvTranspose2d(kept, **KEEP), norm(), nn.ReLU()]
    return [*layers[:-2], nn.Tanh()]


def imagenet_discriminator(width: int, image_shape: ImageShape) -> Layers:
    layers = [nn.Conv2d(width, **KEEP), nn.LeakyReLU(0.2)]
    for multiple in (1, 2, 4):
        layers += [nn.Conv2d(multiple * width, **HALVE_3), norm(), nn.LeakyReLU(0.2)]
        layers += [nn.Conv2d(2 * multiple * width, **KEEP), norm(), nn.LeakyReLU(0.2)]
    return [*layers[:-3], nn.Flatten(), nn.Linear(1, **WEIGHTS)]


def conditional_generator(width: int, z_dim: int, image_shape: ImageShape) -> Layers:
    h, w, c = image_shape
    h, w = h // 4, w // 4
    return [
        nn.AppendLabels(DIGITS), nn.Linear(16 * width, **WEIGHTS), bare_norm(), nn.ReLU(),
        nn.AppendLabels(DIGITS), nn.Linear(h * w * 2 * width, **WEIGHTS), bare_norm(), nn.ReLU(),
        nn.Reshape((h, w, 2 * width)),
        nn.AppendLabels(DIGITS), nn.ConvTranspose2d(width, **DOUBLE), bare_norm(), nn.ReLU(),
        nn.AppendLabels(DIGITS), nn.ConvTranspose2d(c, **DOUBLE), nn.Sigmoid(),
    ]  # fmt: skip


def conditional_discriminator(width: int, image_shape: ImageShape) -> Layers:
    return [
        nn.AppendLabels(DIGITS), nn.Conv2d(width, **HALVE), nn.LeakyReLU(0.2),
        nn.AppendLabels(DIGITS), nn.Conv2d(2 * width, **HALVE), bare_norm(), nn.LeakyReLU(0.2),
        nn.Flatten(),
        nn.AppendLabels(DIGITS), nn.Linear(16 * width, **WEIGHTS), bare_norm(), nn.LeakyReLU(0.2),
        nn.AppendLabels(DIGITS), nn.Linear(1, **WEIGHTS),
    ]  # fmt: skip


def alternating_round(players: Players) -> Result:
    """Two batches, one for each player: G steps on the first, D on the second."""
    x_real, labels = players.draw_images()
    x_fake = players.G.forward(players.draw_z(len(x_real)), labels=labels)
    of_generator = players.update_generator(x_fake, labels)
    x_real, labels = players.draw_images()
    x_fake = players.G.forward(players.draw_z(len(x_real)), labels=labels)
    return of_generator | players.update_discriminator(x_real, x_fake, labels)


COMMON: Arguments = dict(
    source="Radford et al. 2016, dcgan_code", z="uniform", round=alternating_round,
    images_per_round=2, z_per_round=(1, 1),
)  # fmt: skip

PRESETS = {
    "radford-64": Preset(
        name="radford-64", data="folder", image_shape=(64, 64, 3), generator=generator,
        discriminator=discriminator, width=128, epochs=25, settings=dict(l2=1e-5), grid=(14, 14),
        variants={
            "svhn": dict(
                data="svhn", image_shape=(32, 32, 3), width=64, z="normal", batch_size=64,
                generator=partial(generator, multiples=(4, 2, 1)),
                discriminator=partial(discriminator, multiples=(1, 2, 4)), lr_g=5e-4, lr_d=5e-4,
                epochs=200,
            ),
            "imagenet": dict(
                image_shape=(32, 32, 3), generator=imagenet_generator,
                discriminator=imagenet_discriminator, z_dim=256, epochs=30,
            ),
        },
        **COMMON,
    ),
    "radford-mnist-conditional": Preset(
        name="radford-mnist-conditional", data="mnist", image_shape=(28, 28, 1),
        generator=conditional_generator, discriminator=conditional_discriminator, width=64,
        epochs=200, settings=dict(l2=2.5e-5), decay=(100, 100), classes=DIGITS, pixel_min=0.0,
        limit=50_000, grid=(10, 10), **COMMON,
    ),
}  # fmt: skip
