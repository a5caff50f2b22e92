"""The game: a generator G against a discriminator D. The only file that knows both.

D is given images and says how sure it is that they are real; G makes images out of
noise z and is paid for D's mistakes. Each update below is one step for one player.
Logits are written D(x); σ is the sigmoid inside of the loss (losses.py).

Published systems agree on these two updates and differ in their order and targets:
that is what Rules holds.
Source: Goodfellow et al. 2014, arXiv:1406.2661; Radford et al. 2016, arXiv:1511.06434
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from minigan.backends import Array
from minigan.errors import ConfigError
from minigan.layers import Sequential
from minigan.losses import bce_with_logits
from minigan.optimizers import Optimizer


@dataclass(frozen=True)
class Rules:
    """In which order and for which targets the two play."""

    first: str = "D"  # who moves first in a round
    d_steps: int = 1  # updates of D in a round, each on a new batch
    real_target: float = 1.0  # what D should say of real images; 0.9 is one-sided label smoothing
    fake_target: float = 0.0  # what D should say of fakes
    generator_target: float = 1.0  # what G wants D to say of fakes
    running_statistics: bool = False  # D's fakes from G in sampling mode (Keras' `predict`), not training mode
    same_z: bool = False  # the second player plays on the first one's z

    def __post_init__(self):
        if self.first not in ("D", "G"):
            raise ConfigError(f'Rules: first must be "D" or "G", got {self.first!r}')
        if not isinstance(self.d_steps, int) or self.d_steps < 1:
            raise ConfigError(f"Rules: d_steps must be a whole number of at least 1, got {self.d_steps!r}")
        for name in ("real_target", "fake_target", "generator_target"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"Rules: {name} must be in [0, 1], got {getattr(self, name)!r}")


def update_discriminator(
    G: Sequential, D: Sequential, optimizer: Optimizer, x_real: Array, z: Array, *,
    real_target: float = 1.0, fake_target: float = 0.0, running_statistics: bool = False,
) -> dict[str, Array]:  # fmt: skip
    """One step of D down the gradient of

        L_D = mean BCE(σ(D(x_real)), real_target) + mean BCE(σ(D(G(z))), fake_target)

    Two batches, one after the other: BatchNorm takes the statistics of each on its own.
    G is not changed, but for its running statistics where it is in training mode.

    x_real  (n, h, w, c)   images in [-1, 1], of the nets' backend
    z       (n, z_dim)
    -> dict of scalars: loss_d_real, loss_d_fake, d_x and d_gz (mean probabilities)
    """
    x_fake = G.forward(z, train=not running_statistics)
    result = {}
    D.zero_grads()
    for x, target, loss_name, mean_name in (
        (x_real, real_target, "loss_d_real", "d_x"),
        (x_fake, fake_target, "loss_d_fake", "d_gz"),
    ):
        loss, dlogits, result[mean_name] = judge(D, x, target)
        D.backward(dlogits, need_dx=False)  # adds up over the two batches; nobody wants the image's gradient
        result[loss_name] = loss
    optimizer.step()
    return result


def update_generator(
    G: Sequential, D: Sequential, optimizer: Optimizer, z: Array, *, target: float = 1.0
) -> dict[str, Array]:
    """One step of G down the gradient of the non-saturating loss

        L_G = mean BCE(σ(D(G(z))), target)

    The gradient goes through D to G: D's forward is run with its present weights, and
    its backward with need_dw=False, which leaves D's gradients bit for bit alone. D is not
    changed, but for its running statistics, as it is in training mode.

    z  (n, z_dim)
    -> dict of scalars: loss_g
    """
    x_fake = G.forward(z, train=True)
    loss, dlogits, _ = judge(D, x_fake, target)
    dx_fake = D.backward(dlogits, need_dw=False)
    G.zero_grads()
    G.backward(dx_fake, need_dx=False)
    optimizer.step()
    return {"loss_g": loss}


def judge(D: Sequential, x: Array, target: float) -> tuple[Array, Array, Array]:
    """D's verdict on x -> mean loss against the target, dlogits, mean probability that x is real."""
    backend = D.backend
    xp = backend.xp
    logits = D.forward(x, train=True)
    loss, dlogits = bce_with_logits(logits, target, backend=backend)
    probability = backend.scratch("probability", logits.shape)  # σ(l) = (1 + tanh(l/2)) / 2
    xp.multiply(logits, 0.5, out=probability)
    xp.tanh(probability, out=probability)
    return loss, dlogits, 0.5 + 0.5 * xp.mean(probability)


def play_round(
    G: Sequential, D: Sequential, optimizer_g: Optimizer, optimizer_d: Optimizer,
    draw_images: Callable[[], Array], draw_z: Callable[[int], Array], rules: Rules,
) -> dict[str, Any]:  # fmt: skip
    """One round: rules.d_steps updates of D and one of G, in the order of the rules.

    draw_images()  -> next real batch (n, h, w, c)
    draw_z(n)      -> z (n, z_dim)
    -> dict of scalars of both updates, and "images": how many real ones were seen
    """
    players = ["D"] * rules.d_steps
    players = [*players, "G"] if rules.first == "D" else ["G", *players]
    result, z = {}, None
    x_real = draw_images()
    images, x_real_is_new = len(x_real), True
    for player in players:
        if player == "D" and not x_real_is_new:
            x_real = draw_images()
            images += len(x_real)
        if z is None or not rules.same_z or len(z) != len(x_real):
            z = draw_z(len(x_real))
        if player == "D":
            x_real_is_new = False
            result |= update_discriminator(
                G, D, optimizer_d, x_real, z,
                real_target=rules.real_target, fake_target=rules.fake_target,
                running_statistics=rules.running_statistics,
            )  # fmt: skip
        else:
            result |= update_generator(G, D, optimizer_g, z, target=rules.generator_target)
    return result | {"images": images}
