"""Fredriksson's DCGAN for MNIST: no dense layer, BatchNorm from D's first layer on.

G  z -> 7x7 by a transposed convolution of kernel 7, then twice kernel 5, stride 2
D  its mirror image, to one logit by a convolution of kernel 7
Order G, then D on the same z. The published program never updated its running
statistics (a missing control dependency), so sampling takes those of the batch. It
shuffled once and kept the order in all epochs, and floored log p at 1e-12: here every
epoch is shuffled, and the loss takes logits.
Source: github.com/CarlFredriksson/dcgan_tensorflow, dcgan.py
"""

from minigan.gan import Rules
from minigan.layers import BatchNorm, Conv2d, ConvTranspose2d, Flatten, LeakyReLU, Reshape, Tanh
from minigan.presets import Preset


def norm():
    return BatchNorm(running_rate=0.01, eps=1e-3, unbiased=False, sampling="batch")


def generator(width, z_dim, image_shape):
    h, w, c = image_shape
    return [
        Reshape((1, 1, z_dim)),
        ConvTranspose2d(2 * width, kernel_size=(h // 4, w // 4), bias=False),
        norm(),
        LeakyReLU(0.2),
        ConvTranspose2d(width, kernel_size=5, stride=2, padding="same", bias=False),
        norm(),
        LeakyReLU(0.2),
        ConvTranspose2d(c, kernel_size=5, stride=2, padding="same"),
        Tanh(),
    ]


def discriminator(width, image_shape):
    h, w, _ = image_shape
    return [
        Conv2d(width, kernel_size=5, stride=2, padding="same", bias=False),
        norm(),
        LeakyReLU(0.2),
        Conv2d(2 * width, kernel_size=5, stride=2, padding="same", bias=False),
        norm(),
        LeakyReLU(0.2),
        Conv2d(1, kernel_size=(h // 4, w // 4)),
        Flatten(),
    ]


PRESETS = {
    "fredriksson-mnist": Preset(
        name="fredriksson-mnist",
        source="Fredriksson, dcgan_tensorflow",
        image_shape=(28, 28, 1),
        generator=generator,
        discriminator=discriminator,
        width=128,
        z="uniform",
        epochs=20,
        adam=dict(eps_hat=True),
        rules=Rules(first="G", same_z=True),
    )
}
