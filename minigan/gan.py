"""The game: a generator G against a discriminator D. The only file that knows both.

D is given images and says how sure it is that they are real; G makes images out of
noise z and is paid for D's mistakes. Each update below is one step for one player.
Logits are written D(x); σ is the sigmoid inside of the loss (losses.py).

Published systems agree on these updates and differ in their order, batches and targets:
that is what Rules holds.
Source: Goodfellow et al. 2014, arXiv:1406.2661; Radford et al. 2016, arXiv:1511.06434
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from minigan.backends import Array
from minigan.checks import expect_size
from minigan.errors import ConfigError
from minigan.layers import Sequential
from minigan.losses import bce_with_logits, mean_sigmoid
from minigan.optimizers import Optimizer, length


@dataclass(frozen=True)
class Rules:
    """In which order, on which batches and for which targets the two play."""

    first: str = (
        "D"  # who moves first in a round: "D", "G", or "both": neither sees the other's move
    )
    d_steps: int = 1  # updates of D in a round, each on a new batch
    real_target: float = 1.0  # what D should say of real images; 0.9 is one-sided label smoothing
    fake_target: float = 0.0  # what D should say of fakes
    generator_target: float = 1.0  # what G wants D to say of fakes
    running_statistics: bool = (
        False  # D's fakes from G in sampling mode (Keras' `predict`), not training mode
    )
    same_z: bool = False  # one z for the whole round; G's output then serves both players, while G stays as it is
    apart: bool = False  # D takes a step after the real images and another after the fakes (Keras' `train_on_batch`)
    own_batches: bool = (
        False  # G's update too takes a batch of its own: one player a batch, in turn
    )
    generator_batch: int = 1  # fakes in G's update, as a multiple of D's
    joint: bool = False  # G's update also moves D, to G's target and at G's rate: a bug to look at, see update_generator
    loss_limit: float | None = (
        None  # losses are reported from logits clipped to ±limit, as the published program clips them
    )

    def __post_init__(self) -> None:
        if self.first not in ("D", "G", "both"):
            raise ConfigError(f'Rules: first must be "D", "G" or "both", got {self.first!r}')
        for name in ("d_steps", "generator_batch"):
            expect_size(f"Rules: {name}", getattr(self, name))
        for name in ("real_target", "fake_target", "generator_target"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"Rules: {name} must be in [0, 1], got {getattr(self, name)!r}")
        others = (self.d_steps, self.generator_batch, self.apart, self.own_batches, self.joint)
        if self.first == "both" and others != (1, 1, False, False, False):
            raise ConfigError(
                'Rules: first="both" is one step of each on the same batch: leave the rest of the order out'
            )

    @property
    def batches(self) -> int:
        """-> real batches that a round takes."""
        return self.d_steps + self.own_batches

    @property
    def players(self) -> list[str]:
        """-> who moves, in order: "D", "G", or "both" at once."""
        players = ["D"] * self.d_steps
        return {"D": [*players, "G"], "G": ["G", *players], "both": ["both"]}[self.first]

    def fakes(self, player: str, n: int) -> int:
        """-> how many fakes an update takes beside n real images."""
        return n * (self.generator_batch if player == "G" else 1)

    def z_sizes(self, n: int) -> list[int]:
        """-> of each z that play_round draws, how many rows it has, where real batches have n."""
        sizes: list[int] = []
        for player in self.players:
            if not sizes or not self.same_z or sizes[-1] != self.fakes(player, n):
                sizes.append(self.fakes(player, n))
        return sizes


def update_discriminator(
    D: Sequential,
    optimizer: Optimizer,
    x_real: Array,
    x_fake: Array,
    rules: Rules = Rules(),
    labels: Array | None = None,
) -> dict[str, Array]:
    """One step of D down the gradient of

        L_D = mean BCE(σ(D(x_real)), real_target) + mean BCE(σ(D(x_fake)), fake_target)

    Two batches, one after the other: BatchNorm takes the statistics of each on its own. (In play_round a backend may play
    both at once: numpy_sides.py, cupy_pair.py.)
    With rules.apart two steps, one for each half of L_D.

    x_real  (n, h, w, c)   images in the range of G's output
    x_fake  (n, h, w, c)   G(z)
    labels  (n, classes)   of both, where D is conditional
    -> dict of scalars: loss_d_real, loss_d_fake, d_x and d_gz (mean probabilities), grad_norm_d (|dL_D/dθ| at the last step)
    """
    result = {}
    D.zero_grads()
    logits = D.forward(x_real, labels=labels)
    result["loss_d_real"], dlogits = loss_and_gradient(D, logits, rules.real_target, rules)
    result["d_x"] = mean_probability(D, logits)
    D.backward(dlogits, need_dx=False)  # nobody wants the image's gradient
    if rules.apart:
        optimizer.step()
        D.zero_grads()
    logits = D.forward(x_fake, labels=labels)
    result["loss_d_fake"], dlogits = loss_and_gradient(D, logits, rules.fake_target, rules)
    result["d_gz"] = mean_probability(D, logits)
    D.backward(dlogits, need_dx=False)  # gradients add up
    optimizer.step()
    result["grad_norm_d"] = gradient_norm(D)
    return result


def update_generator(
    G: Sequential,
    D: Sequential,
    optimizer: Optimizer,
    x_fake: Array,
    rules: Rules = Rules(),
    labels: Array | None = None,
    joint_optimizer: Optimizer | None = None,
) -> dict[str, Array]:
    """One step of G down the gradient of the non-saturating loss

        L_G = mean BCE(σ(D(G(z))), generator_target)

    The gradient goes through D to G: D's forward is run with its present weights, and
    its backward with need_dw=False, which leaves D's gradients bit for bit alone. D is not
    changed, but for its running statistics, as it is in training mode.

    x_fake  (n, h, w, c)     G(z), from G's last forward, since which G has not changed
    labels  (n, classes)     that G and D are told, where they are conditional
    joint_optimizer  D's second one, for rules.joint: D too is moved down L_G, that is, towards calling fakes
                     real. So it goes in a program that forgets to freeze D in G's update
    -> dict of scalars: loss_g, grad_norm_g
    Raises ConfigError: rules.joint without a joint_optimizer.
    """
    if not rules.joint:
        joint_optimizer = None  # the rules decide
    elif joint_optimizer is None:
        raise ConfigError(
            "update_generator: Rules(joint=True) also moves D: give joint_optimizer, a second optimizer of D"
        )
    logits = D.forward(x_fake, labels=labels)
    loss, dlogits = loss_and_gradient(D, logits, rules.generator_target, rules)
    if joint_optimizer is not None:
        D.zero_grads()
    dx_fake = D.backward(dlogits, need_dw=rules.joint)
    G.zero_grads()
    G.backward(dx_fake, need_dx=False)
    optimizer.step()
    if joint_optimizer is not None:
        joint_optimizer.step()
    return {"loss_g": loss, "grad_norm_g": gradient_norm(G)}


def update_both(
    G: Sequential,
    D: Sequential,
    optimizer_g: Optimizer,
    optimizer_d: Optimizer,
    x_real: Array,
    x_fake: Array,
    rules: Rules = Rules(),
    labels: Array | None = None,
) -> dict[str, Array]:
    """One step of each, both gradients taken before either moves: L_D and L_G share D's verdict on the fakes.

    x_real, x_fake, labels as in update_discriminator; x_fake from G's last forward
    -> dict of scalars: those of update_discriminator and of update_generator
    """
    D.zero_grads()
    logits = D.forward(x_real, labels=labels)
    loss_real, dlogits = loss_and_gradient(D, logits, rules.real_target, rules)
    d_x = mean_probability(D, logits)
    D.backward(dlogits, need_dx=False)

    logits = D.forward(x_fake, labels=labels)
    d_gz = mean_probability(D, logits)
    loss_fake, dlogits = loss_and_gradient(D, logits, rules.fake_target, rules)
    D.backward(dlogits, need_dx=False)
    loss_g, dlogits = loss_and_gradient(D, logits, rules.generator_target, rules)
    dx_fake = D.backward(dlogits, need_dw=False)  # the same forward, another loss
    G.zero_grads()
    G.backward(dx_fake, need_dx=False)

    optimizer_d.step()
    optimizer_g.step()
    norms = {"grad_norm_d": gradient_norm(D), "grad_norm_g": gradient_norm(G)}
    return {
        "loss_d_real": loss_real,
        "loss_d_fake": loss_fake,
        "loss_g": loss_g,
        "d_x": d_x,
        "d_gz": d_gz,
        **norms,
    }


def loss_and_gradient(
    D: Sequential, logits: Array, target: float, rules: Rules
) -> tuple[Array, Array]:
    """-> mean BCE of D's logits against the target, for the report; its gradient dlogits, exact in any case."""
    return bce_with_logits(logits, target, backend=D.backend, limit=rules.loss_limit)


def mean_probability(D: Sequential, logits: Array) -> Array:
    """-> mean of σ(logits): how sure D is that they are real."""
    return D.backend.implementation(mean_sigmoid)(logits, D.backend)


def gradient_norm(net: Sequential) -> Array:
    """-> Euclidean length of the gradient of all parameters together."""
    return net.backend.implementation(length)(net.ready().flat_grads, net.backend)


def play_round(
    G: Sequential,
    D: Sequential,
    optimizers: dict[str, Optimizer],
    draw_images: Callable[[], tuple[Array, Array | None]],
    draw_z: Callable[[int], Array],
    rules: Rules,
) -> dict[str, Any]:
    """One round: rules.d_steps updates of D and one of G, in the order of the rules.

    optimizers     "G", "D", and with rules.joint "D joint"
    draw_images()  -> next real batch (n, h, w, c), its labels (n, classes) or None
    draw_z(n)      -> z (n, z_dim)
    -> dict of scalars of both updates, and "images": how many real ones were drawn
    """
    players = rules.players
    result: dict[str, Any] = {}
    x_real, labels = draw_images()
    images, z, x_fake = len(x_real), None, None
    for i, player in enumerate(players):
        if i and (
            rules.own_batches or player == players[i - 1] == "D"
        ):  # each update of D has real images of its own
            x_real, labels = draw_images()
            images += len(x_real)
        n = rules.fakes(player, len(x_real))
        if z is None or not rules.same_z or len(z) != n:
            z, x_fake = draw_z(n), None
        if player == "D":
            if x_fake is None:
                x_fake = G.forward(z, train=not rules.running_statistics, labels=labels)
            result |= D.backend.implementation(update_discriminator)(
                D, optimizers["D"], x_real, x_fake, rules, labels
            )
            if rules.running_statistics:
                x_fake = None  # not what G learns from
            continue
        if x_fake is None:
            x_fake = G.forward(z, labels=labels)
        if player == "G":
            result |= update_generator(
                G, D, optimizers["G"], x_fake, rules, labels, optimizers.get("D joint")
            )
        else:
            result |= update_both(
                G, D, optimizers["G"], optimizers["D"], x_real, x_fake, rules, labels
            )
        x_fake = None  # G is another one now
    return result | {"images": images}
