"""Fredriksson's two GANs for MNIST: a dense one as the baseline, and a DCGAN without a dense layer.

fnn    100 -> 128 -> 784 and 784 -> 128 -> 1, ReLU
mnist  G: z -> 7x7 by a transposed convolution of kernel 7, then twice kernel 5, stride 2
       D: its mirror image, to one logit by a convolution of kernel 7; BatchNorm after all layers
       but the last of each
G moves first, then D on the same z. The images are shuffled once; the order stays for all epochs.

The published program never updated its running statistics (a missing control dependency), so it
samples with those of the batch (here by request: frozen_statistics.py). It floors log p at
log 1e-12, so its reported losses end at 27.6.
Source: github.com/CarlFredriksson/dcgan_tensorflow, gan.py and dcgan.py
"""

from math import log

from minigan import layers as nn
from minigan.gan import Players, Result
from minigan.objective import Objective
from minigan.presets import Arguments, ImageShape, Layers, Preset
from minigan.presets.frameworks import KERAS_ADAM, SAME


def norm() -> nn.BatchNorm:
    return nn.BatchNorm(running_rate=0.01, eps=1e-3, unbiased=False, sampling="batch")


def fnn_generator(width: int, z_dim: int, image_shape: ImageShape) -> Layers:
    h, w, c = image_shape
    return [nn.Linear(width), nn.ReLU(), nn.Linear(h * w * c), nn.Tanh(), nn.Reshape(image_shape)]


def fnn_discriminator(width: int, image_shape: ImageShape) -> Layers:
    return [nn.Flatten(), nn.Linear(width), nn.ReLU(), nn.Linear(1)]


def generator(width: int, z_dim: int, image_shape: ImageShape) -> Layers:
    h, w, c = image_shape
    first: Arguments = dict(kernel_size=(h // 4, w // 4), bias=False)
    return [
        nn.Reshape((1, 1, z_dim)),
        nn.ConvTranspose2d(2 * width, **first), norm(), nn.LeakyReLU(0.2),
        nn.ConvTranspose2d(width, **SAME, bias=False), norm(), nn.LeakyReLU(0.2),
        nn.ConvTranspose2d(c, **SAME), nn.Tanh(),
    ]  # fmt: skip


def discriminator(width: int, image_shape: ImageShape) -> Layers:
    h, w, _ = image_shape
    return [
        nn.Conv2d(width, **SAME, bias=False), norm(), nn.LeakyReLU(0.2),
        nn.Conv2d(2 * width, **SAME, bias=False), norm(), nn.LeakyReLU(0.2),
        nn.Conv2d(1, kernel_size=(h // 4, w // 4)), nn.Flatten(),
    ]  # fmt: skip


def generator_first_round(players: Players) -> Result:
    """One round: G steps, then D, on the same z."""
    G = players.G
    x_real, labels = players.draw_images()
    z = players.draw_z(len(x_real))
    of_generator = players.update_generator(G.forward(z, labels=labels), labels)
    x_fake = G.forward(z, labels=labels)  # of the G that has just moved
    return of_generator | players.update_discriminator(x_real, x_fake, labels)


COMMON: Arguments = dict(
    source="Fredriksson, dcgan_tensorflow", data="mnist", image_shape=(28, 28, 1), width=128,
    z="uniform", settings=KERAS_ADAM, round=generator_first_round, shuffle="once", grid=(10, 10),
    objective=Objective(loss_limit=-log(1e-12)),  # the program floors log p
)  # fmt: skip

PRESETS = {
    "fredriksson-fnn": Preset(
        name="fredriksson-fnn", generator=fnn_generator, discriminator=fnn_discriminator,
        epochs=100, **COMMON,
    ),
    "fredriksson-mnist": Preset(
        name="fredriksson-mnist", generator=generator, discriminator=discriminator, epochs=20,
        **COMMON,
    ),
}  # fmt: skip
