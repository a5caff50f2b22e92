"""Shibuya's four GANs in Keras: a dense one, and DCGANs for MNIST, SVHN and CelebA.

fnn     100 -> 128 -> 784 and 784 -> 128 -> 1, LeakyReLU 0.01
mnist   G: dense to 7x7x16, then two transposed convolutions;  D: two convolutions, dense 784
svhn    G: dense to 4x4x512, 256, 128, image;                  D: 64, 128, 256, one logit
celeba  the nets of svhn, weights from N(0, 0.02²); the face cut out of the aligned picture
All convolutions k5 s2 "same", with biases although BatchNorm follows.

The round is Keras' (keras_round.py), with G learning from the z that D saw. Real images are labeled
0.9. The data come in the order of the file, never shuffled.

The notebooks compile the stacked model before they freeze D, so that G's update also moves D, with
G's learning rate, toward calling fakes real. That explains losses up to 15, and why D needs ten
times G's rate. Here D is frozen, as its author meant; `--joint-update` restores the mistake, for
study. The MNIST notebook shows every pixel above 0 as white; here pictures are shown as they are.
Source: github.com/naokishibuya/deep-learning, gan_mnist.ipynb, dcgan_{mnist,svhn,celeba}.ipynb
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from minigan import layers as nn
from minigan.arrays import Array
from minigan.gan import CROSS_ENTROPY, Result, Stepper, gradient_norm
from minigan.initializers import Initializer, glorot_uniform, normal
from minigan.objective import Objective
from minigan.presets import Arguments, ImageShape, Layers, Preset
from minigan.presets.frameworks import KERAS_ADAM, KERAS_LIMIT, SAME, keras_norm
from minigan.presets.keras_round import keras_round


def fnn_generator(width: int, z_dim: int, image_shape: ImageShape) -> Layers:
    h, w, c = image_shape
    hidden = [nn.Linear(width), nn.LeakyReLU(0.01)]
    return [*hidden, nn.Linear(h * w * c), nn.Tanh(), nn.Reshape(image_shape)]


def fnn_discriminator(width: int, image_shape: ImageShape) -> Layers:
    return [nn.Flatten(), nn.Linear(width), nn.LeakyReLU(0.01), nn.Linear(1)]


def mnist_generator(width: int, z_dim: int, image_shape: ImageShape, slope: float) -> Layers:
    h, w, c = image_shape
    return [
        nn.Linear(h // 4 * (w // 4) * (width // 2)), nn.Reshape((h // 4, w // 4, width // 2)),
        keras_norm(), nn.LeakyReLU(slope),
        nn.ConvTranspose2d(width, **SAME), keras_norm(), nn.LeakyReLU(slope),
        nn.ConvTranspose2d(c, **SAME), nn.Tanh(),
    ]  # fmt: skip


def mnist_discriminator(width: int, image_shape: ImageShape, slope: float) -> Layers:
    h, w, _ = image_shape
    return [
        nn.Conv2d(width, **SAME), nn.LeakyReLU(slope),
        nn.Conv2d(width // 2, **SAME), keras_norm(), nn.LeakyReLU(slope),
        nn.Flatten(),
        nn.Linear(h // 4 * (w // 4) * (width // 2)), keras_norm(), nn.LeakyReLU(slope),
        nn.Linear(1),
    ]  # fmt: skip


def generator(width: int, z_dim: int, image_shape: ImageShape, initializer: Initializer) -> Layers:
    h, w, c = image_shape
    weights: Arguments = dict(initializer=initializer)
    return [
        nn.Linear(h // 8 * (w // 8) * 4 * width, **weights),
        nn.Reshape((h // 8, w // 8, 4 * width)), keras_norm(), nn.LeakyReLU(0.2),
        nn.ConvTranspose2d(2 * width, **SAME, **weights), keras_norm(), nn.LeakyReLU(0.2),
        nn.ConvTranspose2d(width, **SAME, **weights), keras_norm(), nn.LeakyReLU(0.2),
        nn.ConvTranspose2d(c, **SAME, **weights), nn.Tanh(),
    ]  # fmt: skip


def discriminator(width: int, image_shape: ImageShape, initializer: Initializer) -> Layers:
    weights: Arguments = dict(initializer=initializer)
    return [
        nn.Conv2d(width // 2, **SAME, **weights), nn.LeakyReLU(0.2),
        nn.Conv2d(width, **SAME, **weights), keras_norm(), nn.LeakyReLU(0.2),
        nn.Conv2d(2 * width, **SAME, **weights), keras_norm(), nn.LeakyReLU(0.2),
        nn.Flatten(), nn.Linear(1, **weights),
    ]  # fmt: skip


def update_jointly(
    G: nn.Sequential,
    D: nn.Sequential,
    optimizer: Stepper,
    x_fake: Array,
    labels: Array | None = None,
    objective: Objective = CROSS_ENTROPY,
    *,
    joint_optimizer: Stepper,
) -> Result:
    """G's update in a program that forgets to freeze D: D moves too, toward calling fakes real.

    As gan.update_generator, but D's gradients are used: joint_optimizer, a second optimizer of D,
    steps down L_G. (`--joint-update`)
    """
    logits = D.forward(x_fake, labels=labels)
    loss, dlogits = objective.of_generator(logits, D.backend)
    D.zero_grads()
    dx_fake = D.backward(dlogits)
    G.zero_grads()
    G.backward(dx_fake, need_dx=False)
    optimizer.step()
    joint_optimizer.step()
    return {"loss_g": loss, "grad_norm_g": gradient_norm(G)}


COMMON: Arguments = dict(
    settings=KERAS_ADAM, shuffle="never", drop_last=True, round=keras_round,
    objective=Objective(real_target=0.9, loss_limit=KERAS_LIMIT),
)  # fmt: skip
MNIST: Arguments = dict(
    data="mnist", image_shape=(28, 28, 1), lr_g=1e-4, lr_d=1e-3, beta1=0.9, epochs=100, **COMMON
)
COLOR: Arguments = dict(
    image_shape=(32, 32, 3), width=128, lr_g=1e-4, lr_d=1e-3, grid=(8, 10), **COMMON
)


def nets(
    generator: Callable[..., Layers], discriminator: Callable[..., Layers], **arguments: Any
) -> Arguments:
    """-> both functions with these arguments, as fields of a preset."""
    return dict(
        generator=partial(generator, **arguments), discriminator=partial(discriminator, **arguments)
    )


PRESETS = {
    "shibuya-fnn": Preset(
        name="shibuya-fnn", source="Shibuya, gan_mnist", generator=fnn_generator,
        discriminator=fnn_discriminator, width=128, batch_size=64, grid=(4, 5), **MNIST,
    ),
    "shibuya-mnist": Preset(
        name="shibuya-mnist", source="Shibuya, dcgan_mnist", width=32, grid=(4, 4),
        variants={
            "slope-0.01": {},
            # "losses oscillate more, images as good"
            "slope-0.2": nets(mnist_generator, mnist_discriminator, slope=0.2),
        },
        **nets(mnist_generator, mnist_discriminator, slope=0.01), **MNIST,
    ),
    "shibuya-svhn": Preset(
        name="shibuya-svhn", source="Shibuya, dcgan_svhn", data="svhn", epochs=25,
        variants={
            "T1": dict(lr_g=2e-4, lr_d=2e-4),  # "garbage images only", with the joint update
            "T2": {},  # the best of the three
            "T3": dict(beta1=0.9),  # worse than T2
        },
        **nets(generator, discriminator, initializer=glorot_uniform()), **COLOR,
    ),
    "shibuya-celeba": Preset(
        name="shibuya-celeba", source="Shibuya, dcgan_celeba", data="celeba", epochs=3,
        limit=201_599,  # 1,000 of the 202,599 were held out, drawn at random
        # 130x150 of the aligned 178x218, squashed: the program used a row number for a column
        fit="box:14,34,144,184",
        variants={
            "T1": dict(lr_g=2e-4, lr_d=2e-4),  # no faces
            "T2": {},  # the best of the four
            "T3": dict(beta1=0.9),  # not clear
            "T4": nets(generator, discriminator, initializer=normal(0.1)),  # garbage
        },
        **nets(generator, discriminator, initializer=normal(0.02)), **COLOR,
    ),
}  # fmt: skip
