"""The round of Keras GANs that call `predict` and `train_on_batch`.

`G.predict` makes the fakes for D: BatchNorm in G uses its running statistics, not the batch's.
`D.train_on_batch` is called twice: D takes one step on the real batch and another on the fakes.
`gan.train_on_batch` then moves G, through D, on a training-mode forward.
"""

from collections.abc import Callable

from minigan.arrays import Array
from minigan.gan import Players, Result, add_gradients, gradient_norm


def keras_round(players: Players, *, generator_batch: int | None = None) -> Result:
    """One round: D steps on real images, then on fakes of `predict`; then G steps.

    generator_batch  G learns from this many new batches of z; None: from the z that D saw
    """
    x_real, labels = players.draw_images()
    n = len(x_real)
    z = players.draw_z(n)
    x_fake = players.G.forward(z, train=False, labels=labels)
    loss_real, d_x = train_on_batch(players, x_real, labels, players.objective.of_real)
    loss_fake, d_gz = train_on_batch(players, x_fake, labels, players.objective.of_fake)
    result = {"loss_d_real": loss_real, "d_x": d_x, "loss_d_fake": loss_fake, "d_gz": d_gz}
    result["grad_norm_d"] = gradient_norm(players.D)  # of the step on the fakes
    if generator_batch is not None:
        z = players.draw_z(n * generator_batch)
    x_fake = players.G.forward(z, labels=labels)
    return result | players.update_generator(x_fake, labels)


def train_on_batch(
    players: Players, x: Array, labels: Array | None, mean_loss: Callable[..., tuple[Array, Array]]
) -> tuple[Array, Array]:
    """One step of D on one batch: half of gan.update_discriminator. -> loss, mean probability"""
    players.D.zero_grads()
    loss, mean = add_gradients(players.D, x, labels, mean_loss)
    players.optimizer_d.step()
    return loss, mean
