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
    same_z: bool = False  # one z for the whole round; G's output then serves both players, while G stays as it is

    def __post_init__(self):
        if self.first not in ("D", "G"):
            raise ConfigError(f'Rules: first must be "D" or "G", got {self.first!r}')
        if not isinstance(self.d_steps, int) or self.d_steps < 1:
            raise ConfigError(f"Rules: d_steps must be a whole number of at least 1, got {self.d_steps!r}")
        for name in ("real_target", "fake_target", "generator_target"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"Rules: {name} must be in [0, 1], got {getattr(self, name)!r}")


def update_discriminator(
    D: Sequential, optimizer: Optimizer, x_real: Array, x_fake: Array, *, real_target: float = 1.0, fake_target: float = 0.0
) -> dict[str, Array]:
    """One step of D down the gradient of

        L_D = mean BCE(σ(D(x_real)), real_target) + mean BCE(σ(D(x_fake)), fake_target)

    Two batches, one after the other: BatchNorm takes the statistics of each on its own.

    x_real  (n, h, w, c)   images in [-1, 1]
    x_fake  (n, h, w, c)   G(z)
    -> dict of scalars: loss_d_real, loss_d_fake, d_x and d_gz (mean probabilities)
    """
    result = {}
    D.zero_grads()
    for x, target, loss_name, mean_name in (
        (x_real, real_target, "loss_d_real", "d_x"),
        (x_fake, fake_target, "loss_d_fake", "d_gz"),
    ):
        result[loss_name], dlogits, result[mean_name] = judge(D, x, target)
        D.backward(dlogits, need_dx=False)  # adds up over the two batches; nobody wants the image's gradient
    optimizer.step()
    return result


def update_generator(
    G: Sequential, D: Sequential, optimizer: Optimizer, x_fake: Array, *, target: float = 1.0
) -> dict[str, Array]:
    """One step of G down the gradient of the non-saturating loss

        L_G = mean BCE(σ(D(G(z))), target)

    The gradient goes through D to G: D's forward is run with its present weights, and
    its backward with need_dw=False, which leaves D's gradients bit for bit alone. D is not
    changed, but for its running statistics, as it is in training mode.

    x_fake  (n, h, w, c)   G(z), from G's last forward, since which G has not changed
    -> dict of scalars: loss_g
    """
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
    result, images = {}, 0
    x_real = x_fake = z = None
    for i, player in enumerate(players):
        if i == 0 or player == players[i - 1] == "D":  # each update of D has real images of its own
            x_real = draw_images()
            images += len(x_real)
        if z is None or not rules.same_z or len(z) != len(x_real):
            z, x_fake = draw_z(len(x_real)), None
        if player == "D":
            if x_fake is None:
                x_fake = G.forward(z, train=not rules.running_statistics)
            targets = dict(real_target=rules.real_target, fake_target=rules.fake_target)
            result |= update_discriminator(D, optimizer_d, x_real, x_fake, **targets)
            if rules.running_statistics:
                x_fake = None  # not what G learns from
        else:
            if x_fake is None:
                x_fake = G.forward(z)
            result |= update_generator(G, D, optimizer_g, x_fake, target=rules.generator_target)
            x_fake = None  # G is another one now
    return result | {"images": images}
