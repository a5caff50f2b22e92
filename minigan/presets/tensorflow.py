"""The DCGAN of TensorFlow's tutorial, and an article's version of it for CIFAR-10.

mnist    G: dense to 7x7x256, then three transposed convolutions k5 of stride 1, 2, 2
         D: two convolutions k5 s2, Dropout 0.3, no BatchNorm. LeakyReLU has Keras' slope, 0.3
cifar10  a RECONSTRUCTION: the article gives z of 128, dense to 8x8x256, "several Deconv layers" to
         32x32x3, and the losses; kernels, optimizer, batch and epochs are those of the tutorial
         that it was copied from

Both gradients of a step are taken before either player moves. (The tutorial draws 256 z even for
the last batch of 96 images; here there are as many fakes as real images.)
Source: github.com/tensorflow/docs, tutorials/generative/dcgan.ipynb
"""

from minigan import layers as nn
from minigan.gan import Players, Result, add_gradients, gradient_norm, mean_probability
from minigan.presets import Arguments, ImageShape, Layers, Preset
from minigan.presets.frameworks import SAME, TF_KERAS_ADAM, keras_norm


def generator(width: int, z_dim: int, image_shape: ImageShape) -> Layers:
    h, w, c = image_shape
    h, w = h // 4, w // 4
    return [
        nn.Linear(h * w * 4 * width, bias=False), keras_norm(), nn.LeakyReLU(0.3),
        nn.Reshape((h, w, 4 * width)),
        nn.ConvTranspose2d(2 * width, kernel_size=5, padding="same", bias=False),
        keras_norm(), nn.LeakyReLU(0.3),
        nn.ConvTranspose2d(width, **SAME, bias=False), keras_norm(), nn.LeakyReLU(0.3),
        nn.ConvTranspose2d(c, **SAME, bias=False), nn.Tanh(),
    ]  # fmt: skip


def discriminator(width: int, image_shape: ImageShape) -> Layers:
    return [
        nn.Conv2d(width, **SAME), nn.LeakyReLU(0.3), nn.Dropout(0.3),
        nn.Conv2d(2 * width, **SAME), nn.LeakyReLU(0.3), nn.Dropout(0.3),
        nn.Flatten(), nn.Linear(1),
    ]  # fmt: skip


def simultaneous_round(players: Players) -> Result:
    """One step of each player; both gradients are taken before either moves.

    L_D and L_G (gan.py) share D's forward on the fakes.
    """
    G, D, objective = players.G, players.D, players.objective
    x_real, labels = players.draw_images()
    x_fake = G.forward(players.draw_z(len(x_real)), labels=labels)
    D.zero_grads()
    loss_real, d_x = add_gradients(D, x_real, labels, objective.of_real)
    logits = D.forward(x_fake, labels=labels)
    d_gz = mean_probability(D, logits)
    loss_fake, dlogits = objective.of_fake(logits, D.backend)
    D.backward(dlogits, need_dx=False)
    loss_g, dlogits = objective.of_generator(logits, D.backend)
    dx_fake = D.backward(dlogits, need_dw=False)  # the same forward, another loss
    G.zero_grads()
    G.backward(dx_fake, need_dx=False)

    players.optimizer_d.step()
    players.optimizer_g.step()
    result = {"loss_d_real": loss_real, "loss_d_fake": loss_fake, "loss_g": loss_g}
    norms = {"grad_norm_d": gradient_norm(D), "grad_norm_g": gradient_norm(G)}
    return {**result, "d_x": d_x, "d_gz": d_gz, **norms}


COMMON: Arguments = dict(
    generator=generator, discriminator=discriminator, width=64, batch_size=256, epochs=50,
    lr_g=1e-4, lr_d=1e-4, beta1=0.9, settings=TF_KERAS_ADAM, round=simultaneous_round,
    simultaneous=True, grid=(4, 4),
)  # fmt: skip

PRESETS = {
    "tensorflow-mnist": Preset(
        name="tensorflow-mnist", source="TensorFlow tutorial, dcgan", data="mnist",
        image_shape=(28, 28, 1), **COMMON,
    ),
    "tensorflow-cifar10": Preset(
        name="tensorflow-cifar10", source="article after TensorFlow's tutorial (reconstruction)",
        data="cifar10", image_shape=(32, 32, 3), z_dim=128, **COMMON,
    ),
}  # fmt: skip
