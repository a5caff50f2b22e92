"""minigan's own DCGAN for 28x28 digits: readable ones within two minutes on two CPU cores.

The paper's guidelines (strided convolutions, BatchNorm except at the image, ReLU in G,
LeakyReLU in D, tanh out). Kernels of 4 with stride 2 tile without overlap artefacts and
take 16 multiplications a pixel where kernels of 5 take 25.
Source: Radford et al. 2016, arXiv:1511.06434, scaled down
"""

from minigan.gan import Rules
from minigan.initializers import normal
from minigan.layers import BatchNorm, Conv2d, ConvTranspose2d, Flatten, LeakyReLU, Linear, ReLU, Reshape, Tanh
from minigan.presets import Preset

WEIGHTS = dict(bias=False, initializer=normal(0.02))  # BatchNorm's bias follows: one of their own would do nothing


def norm():
    return BatchNorm(gain_initializer=normal(0.02, mean=1.0))


def generator(width, z_dim, image_shape):
    h, w, c = image_shape
    return [
        Linear(h // 4 * (w // 4) * 2 * width, **WEIGHTS),
        Reshape((h // 4, w // 4, 2 * width)),
        norm(),
        ReLU(),
        ConvTranspose2d(width, kernel_size=4, stride=2, padding=1, **WEIGHTS),
        norm(),
        ReLU(),
        ConvTranspose2d(c, kernel_size=4, stride=2, padding=1, initializer=normal(0.02)),
        Tanh(),
    ]


def discriminator(width, image_shape):
    return [
        Conv2d(width, kernel_size=4, stride=2, padding=1, initializer=normal(0.02)),
        LeakyReLU(0.2),
        Conv2d(2 * width, kernel_size=4, stride=2, padding=1, **WEIGHTS),
        norm(),
        LeakyReLU(0.2),
        Flatten(),
        Linear(1, initializer=normal(0.02)),
    ]


PRESETS = {
    "mnist": Preset(
        name="mnist",
        source="minigan, after Radford et al. 2016",
        image_shape=(28, 28, 1),
        generator=generator,
        discriminator=discriminator,
        width=32,
        z_dim=64,
        epochs=4,
        lr_g=2e-3,
        lr_d=1e-3,
        rules=Rules(same_z=True),
    )
}
