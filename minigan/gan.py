"""The game: a generator G against a discriminator D. The only file that knows both.

D sees images and says how sure it is that they are real. G makes images from noise z and is
rewarded when D is fooled. Each update below is one step of one player. D(x) denotes a
logit, and σ is the sigmoid. The loss is cross-entropy or another one: objective.py.

Published systems agree on these updates and differ in their order, their batches and their targets:
each has its own round in presets/.
Source: Goodfellow et al. 2014, arXiv:1406.2661; Radford et al. 2016, arXiv:1511.06434
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from minigan.arrays import Array
from minigan.checks import ignore_float_errors
from minigan.layers import Sequential
from minigan.losses import mean_sigmoid
from minigan.objective import Objective
from minigan.optimizers import l2_norm
from minigan.r1 import add_r1

LOSSES = ("loss_d_real", "loss_d_fake", "loss_g", "d_x", "d_gz")
MEASURED = (*LOSSES, "grad_norm_d", "grad_norm_g")  # names of the values that a round returns
CROSS_ENTROPY = Objective()

Result = dict[str, Array]  # name -> scalar of the backend


class Stepper(Protocol):
    """The part of an optimizer that an update uses."""

    def step(self) -> None: ...


@ignore_float_errors
def update_discriminator(
    D: Sequential,
    optimizer: Stepper,
    x_real: Array,
    x_fake: Array,
    labels: Array | None = None,
    objective: Objective = CROSS_ENTROPY,
) -> Result:
    """One step of D down the gradient of

        L_D = mean loss(D(x_real), real_target) + mean loss(D(x_fake), fake_target) + R1

    Two batches, one after the other: BatchNorm uses separate statistics for each.

    x_real     (n, h, w, c)   images in the range of G's output
    x_fake     (n, h, w, c)   G(z)
    labels     (n, classes)   of both, if D is conditional
    objective  the loss, its targets, and the weight of R1 (r1.py)
    -> loss_d_real, loss_d_fake, d_x and d_gz (means of σ(D), probabilities with bce only),
       grad_norm_d = |dL_D/dθ|
    Fast version: backends/gpu/joined_update.py
    """
    D.zero_grads()
    loss_real, d_x = add_gradients(D, x_real, labels, objective.of_real)
    loss_fake, d_gz = add_gradients(D, x_fake, labels, objective.of_fake)
    if objective.r1:
        D.backend.operation_for(add_r1)(D, x_real, labels, objective.r1)
    optimizer.step()
    result = {"loss_d_real": loss_real, "d_x": d_x, "loss_d_fake": loss_fake, "d_gz": d_gz}
    return result | {"grad_norm_d": gradient_norm(D)}


def add_gradients(
    D: Sequential, x: Array, labels: Array | None, mean_loss: Callable[..., tuple[Array, Array]]
) -> tuple[Array, Array]:
    """Add the gradient of mean_loss(D(x)) to D's gradients -> mean loss, mean probability."""
    logits = D.forward(x, labels=labels)
    loss, dlogits = mean_loss(logits, D.backend)
    mean = mean_probability(D, logits)
    D.backward(dlogits, need_dx=False)  # the image's gradient is not needed
    return loss, mean


@ignore_float_errors
def update_generator(
    G: Sequential,
    D: Sequential,
    optimizer: Stepper,
    x_fake: Array,
    labels: Array | None = None,
    objective: Objective = CROSS_ENTROPY,
) -> Result:
    """One step of G down the gradient of the non-saturating loss

        L_G = mean loss(D(G(z)), 1)     with the hinge loss -mean D(G(z)): objective.py

    The gradient goes through D to G: D's forward runs with its current weights, and its backward
    with need_dw=False, which leaves D's gradients unchanged, bit for bit. D's parameters do not
    change; its buffers do, as in any forward in training.

    x_fake     (n, h, w, c)   G(z), from G's last forward; G has not changed since
    labels     (n, classes)   that G and D received, if they are conditional
    objective  the loss
    -> loss_g, grad_norm_g
    """
    logits = D.forward(x_fake, labels=labels)
    loss, dlogits = objective.of_generator(logits, D.backend)
    dx_fake = D.backward(dlogits, need_dw=False)
    G.zero_grads()
    G.backward(dx_fake, need_dx=False)
    optimizer.step()
    return {"loss_g": loss, "grad_norm_g": gradient_norm(G)}


def mean_probability(D: Sequential, logits: Array) -> Array:
    """-> mean of σ(logits): how sure D is that they are real."""
    return D.backend.operation_for(mean_sigmoid)(logits, D.backend)


def gradient_norm(net: Sequential) -> Array:
    """-> Euclidean norm of the gradient of all parameters together."""
    return net.backend.operation_for(l2_norm)(net.ready().flat_grads, net.backend)


@dataclass
class Players:
    """Both players, and the sources of a round's images and noise.

    draw_images()  -> the next real batch (n, h, w, c), its labels (n, classes) or None
    draw_z(n)      -> z (n, z_dim)
    """

    G: Sequential
    D: Sequential
    optimizer_g: Stepper
    optimizer_d: Stepper
    draw_images: Callable[[], tuple[Array, Array | None]]
    draw_z: Callable[[int], Array]
    generator_update: Callable[..., Result] = update_generator
    objective: Objective = CROSS_ENTROPY

    def update_discriminator(
        self, x_real: Array, x_fake: Array, labels: Array | None = None
    ) -> Result:
        """One step of D; the backend may have a faster version of it."""
        update = self.D.backend.operation_for(update_discriminator)
        return update(self.D, self.optimizer_d, x_real, x_fake, labels, self.objective)

    def update_generator(self, x_fake: Array, labels: Array | None = None) -> Result:
        """One step of G."""
        update, objective = self.generator_update, self.objective
        return update(self.G, self.D, self.optimizer_g, x_fake, labels, objective)


def plain_round(players: Players) -> Result:
    """One round: D learns from a real batch and a batch of fakes; G from the same fakes.

    -> the values named in MEASURED
    """
    x_real, labels = players.draw_images()
    z = players.draw_z(len(x_real))
    x_fake = players.G.forward(z, labels=labels)
    of_discriminator = players.update_discriminator(x_real, x_fake, labels)
    return of_discriminator | players.update_generator(x_fake, labels)


def more_discriminator_steps(
    players: Players, *, steps: int, then: Callable[..., Result], **options: int
) -> Result:
    """A round after further updates of D, each on a new real batch and new fakes.

    Goodfellow et al. 2014, algorithm 1, with k = steps + 1.
    """
    for _ in range(steps):
        x_real, labels = players.draw_images()
        x_fake = players.G.forward(players.draw_z(len(x_real)), labels=labels)
        players.update_discriminator(x_real, x_fake, labels)
    return then(players, **options)
