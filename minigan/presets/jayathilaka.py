"""Jayathilaka's dense GAN with BatchNorm for 28x28 faces, trained with three optimizers.

G: 100 -> 256 -> 512 -> 1024 -> 28x28x3, BatchNorm after each activation
D: 2352 -> 512 -> 256 -> 1
The first 5,000 pictures of CelebA, their middle 108x108 pixels. The round is Keras'
(keras_round.py): D steps on 16 real images and on 16 fakes, G on 32 new z. An iteration is a step,
and there were 5,000.

The program's curve "Discriminator Loss - Fake" shows D's accuracy, and its pictures have 0.8 of
their contrast; both are correct here. It shares one Adam, and so one step count for the bias
correction, between both players; here each player has its own.
Source: github.com/miranthajayatilake/GANwKeras, keras_gan.py
"""

from minigan.layers import Flatten, LeakyReLU, Linear, Reshape, Tanh
from minigan.objective import Objective
from minigan.presets import ImageShape, Layers, Preset
from minigan.presets.frameworks import KERAS_ADAM, KERAS_LIMIT, keras_norm
from minigan.presets.keras_round import keras_round


def generator(width: int, z_dim: int, image_shape: ImageShape) -> Layers:
    h, w, c = image_shape
    layers = []
    for multiple in (1, 2, 4):
        layers += [Linear(multiple * width), LeakyReLU(0.2), keras_norm(momentum=0.8)]
    return [*layers, Linear(h * w * c), Tanh(), Reshape(image_shape)]


def discriminator(width: int, image_shape: ImageShape) -> Layers:
    return [Flatten(), Linear(2 * width), LeakyReLU(0.2), Linear(width), LeakyReLU(0.2), Linear(1)]


PRESETS = {
    "jayathilaka-faces": Preset(
        name="jayathilaka-faces", source="Jayathilaka, GANwKeras", data="celeba",
        image_shape=(28, 28, 3), generator=generator, discriminator=discriminator, width=256,
        batch_size=16, epochs=16,  # 5,008 iterations of 16 images
        round=keras_round, z_per_round=(1, 2),
        round_options=dict(generator_batch=2), objective=Objective(loss_limit=KERAS_LIMIT),
        limit=5000, fit="centre:108", grid=(5, 5), settings=KERAS_ADAM,
        variants={
            "adam": {},  # "yields the best looking results"
            "rmsprop": dict(optimizer="RMSprop", beta1=None, settings=dict(rho=0.9, eps=1e-8)),
            "sgd": dict(
                optimizer="SGD", lr_g=0.01, lr_d=0.01, beta1=None, settings=dict(momentum=0.5),
            ),
        },
    ),
}  # fmt: skip
