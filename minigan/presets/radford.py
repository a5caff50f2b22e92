"""The DCGAN paper's own programs: faces at 64x64, and the conditional net behind its MNIST table.

64                 G: dense to 4x4x1024, then 512, 256, 128, image;  D: 128 to 1024, one logit
mnist-conditional  one-hot labels after z and every hidden vector, as planes after every map;
                   G ends in a sigmoid (pixels in [0, 1]); BatchNorm without gain and bias
All convolutions k5 s2 without bias, padded as in Theano: 2 pixels on each side; G's transposed
convolutions crop 2 before and 1 after. The programs use batch statistics for sampling, too (here
by request: frozen_statistics.py); an L2 penalty is added to the gradient of every parameter.

One player per batch, alternating: G on one, D on the next. So an epoch has half as many updates of
each as elsewhere. In the program Adam's beta1 itself decays by 1e-8 per step; that is left out. The
program shuffles MNIST, trains on 50,000 images and keeps the last 10,000 for validation; here the
first 50,000 images of the file are used.
Source: Radford et al. 2016, arXiv:1511.06434; github.com/Newmu/dcgan_code,
faces/train_uncond_dcgan.py and mnist/train_cond_dcgan.py
"""

from minigan import layers as nn
from minigan.gan import Players, Result
from minigan.initializers import normal
from minigan.presets import Arguments, ImageShape, Layers, Preset
from minigan.presets.frameworks import WEIGHTS

DIGITS = 10
HALVE: Arguments = dict(kernel_size=5, stride=2, padding=2, **WEIGHTS)
DOUBLE: Arguments = dict(kernel_size=5, stride=2, padding=2, output_padding=1, **WEIGHTS)
NORM: Arguments = dict(eps=1e-8, unbiased=False, sampling="batch")


def norm() -> nn.BatchNorm:
    return nn.BatchNorm(gain_initializer=normal(0.02, mean=1.0), **NORM)


def bare_norm() -> nn.BatchNorm:
    return nn.BatchNorm(gain=False, bias=False, **NORM)


def generator(width: int, z_dim: int, image_shape: ImageShape) -> Layers:
    h, w, c = image_shape
    h, w = h // 16, w // 16
    first = nn.Linear(h * w * 8 * width, **WEIGHTS)
    layers = [first, norm(), nn.ReLU(), nn.Reshape((h, w, 8 * width))]
    for multiple in (4, 2, 1):
        layers += [nn.ConvTranspose2d(multiple * width, **DOUBLE), norm(), nn.ReLU()]
    return [*layers, nn.ConvTranspose2d(c, **DOUBLE), nn.Tanh()]


def discriminator(width: int, image_shape: ImageShape) -> Layers:
    layers = [nn.Conv2d(width, **HALVE), nn.LeakyReLU(0.2)]
    for multiple in (2, 4, 8):
        layers += [nn.Conv2d(multiple * width, **HALVE), norm(), nn.LeakyReLU(0.2)]
    return [*layers, nn.Flatten(), nn.Linear(1, **WEIGHTS)]


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
        counts=dict(G=(18_885_760, 34_560), D=(17_232_768, 3_584)), **COMMON,
    ),
    "radford-mnist-conditional": Preset(
        name="radford-mnist-conditional", data="mnist", image_shape=(28, 28, 1),
        generator=conditional_generator, discriminator=conditional_discriminator, width=64,
        epochs=200, settings=dict(l2=2.5e-5), decay=(100, 100), classes=DIGITS, pixel_min=0.0,
        limit=50_000, grid=(10, 10), counts=dict(G=(6_820_538, 14_720), D=(6_688_202, 2_304)),
        **COMMON,
    ),
}  # fmt: skip
