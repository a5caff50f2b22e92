"""The round of Keras GANs that call `predict` and `train_on_batch`.

`G.predict` gives the fakes for D: they come from G's running statistics, not from the batch's.
`D.train_on_batch` is called twice: D takes one step on the real batch and another on the fakes.
`gan.train_on_batch` then moves G, through D, on a training-mode forward.
"""

from minigan.arrays import Array
from minigan.gan import Players, Result, gradient_norm, mean_probability
from minigan.losses import bce_with_logits


def keras_round(
    players: Players,
    *,
    real_target: float = 1.0,
    loss_limit: float | None = None,
    generator_batch: int | None = None,
) -> Result:
    """One round: D steps on real images, then on fakes of `predict`; then G steps.

    generator_batch  G learns from new z, this many times as many; None: from the z that D saw
    """
    x_real, labels = players.draw_images()
    n = len(x_real)
    z = players.draw_z(n)
    x_fake = players.G.forward(z, train=False, labels=labels)
    result = train_on_batch(players, x_real, labels, real_target, loss_limit, "loss_d_real", "d_x")
    result |= train_on_batch(players, x_fake, labels, 0.0, loss_limit, "loss_d_fake", "d_gz")
    if generator_batch is not None:
        z = players.draw_z(n * generator_batch)
    x_fake = players.G.forward(z, labels=labels)
    return result | players.update_generator(x_fake, labels, loss_limit=loss_limit)


def train_on_batch(
    players: Players,
    x: Array,
    labels: Array | None,
    target: float,
    loss_limit: float | None,
    loss_name: str,
    mean_name: str,
) -> Result:
    """One step of D on one batch: half of gan.update_discriminator."""
    D = players.D
    D.zero_grads()
    logits = D.forward(x, labels=labels)
    loss, dlogits = bce_with_logits(logits, target, backend=D.backend, limit=loss_limit)
    mean = mean_probability(D, logits)
    D.backward(dlogits, need_dx=False)
    players.optimizer_d.step()
    return {loss_name: loss, mean_name: mean, "grad_norm_d": gradient_norm(D)}
