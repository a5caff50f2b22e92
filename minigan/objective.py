"""What the players of a GAN minimize: one of three losses, and D's targets.

D gives each image a logit l. Its target t is 1 for real images and 0 for fakes, or softer. G wants
its fakes to be taken for real.

bce     Binary cross-entropy: losses.py. For G, the non-saturating form: target 1 for its fakes.

lsgan   Least squares, as in a regression on the target:

            loss = (l - t)²/2                    dloss/dl = l - t

        Cross-entropy is almost flat where l is far on the right side of t. Here even a fake that D
        firmly takes for real has a gradient, back toward the target. G: the same with target 1.
        Source: Mao et al. 2017, arXiv:1611.04076, equation 2 with a = 0, b = c = 1

hinge   As in a support vector machine: once a logit is beyond the margin, 1 or -1, it costs
        nothing and has no gradient, so D spends its weights on the images that it confuses.

            real    max(0, 1 - l)                dloss/dl = -1 where l < 1, else 0
            fake    max(0, 1 + l)                dloss/dl =  1 where l > -1, else 0
            G       -l, without a margin         dloss/dl = -1

        A softer target weighs both: t·max(0, 1 - l) + (1 - t)·max(0, 1 + l).
        Source: Lim & Ye 2017, arXiv:1705.02894; Miyato et al. 2018, arXiv:1802.05957

The mean over the batch puts 1/n before each gradient, here and nowhere else.
Fast versions: backends/cpu/losses.py, backends/gpu/losses.py
"""

from dataclasses import dataclass

from minigan.arrays import Array, Backend
from minigan.checks import expect_choice, expect_number, ignore_float_errors
from minigan.losses import Loss, Target, bce_with_logits, expect_target

GAN_LOSSES = ("bce", "lsgan", "hinge")


@ignore_float_errors
def least_squares(logits: Array, target: Target, *, backend: Backend | None = None) -> Loss:
    """Half the mean squared error of logits (n, 1) -> mean loss, dlogits. As bce_with_logits."""
    backend, target = expect_target("least_squares", logits, target, backend)
    return backend.operation_for(mean_least_squares)(logits, target, backend)


def mean_least_squares(logits: Array, target: Target, backend: Backend) -> Loss:
    """The arithmetic of least_squares."""
    error = logits - target
    return 0.5 * backend.xp.mean(error * error), error * (1.0 / logits.size)


@ignore_float_errors
def hinge(logits: Array, target: Target, *, backend: Backend | None = None) -> Loss:
    """Mean hinge loss of D's logits (n, 1) -> mean loss, dlogits. As bce_with_logits."""
    backend, target = expect_target("hinge", logits, target, backend)
    return backend.operation_for(mean_hinge)(logits, target, backend)


def mean_hinge(logits: Array, target: Target, backend: Backend) -> Loss:
    """The arithmetic of hinge."""
    xp = backend.xp
    real, fake = xp.maximum(1 - logits, 0), xp.maximum(1 + logits, 0)
    loss = xp.mean(real * target + fake * (1 - target))
    # the sign of a hinge is 1 inside the margin and 0 beyond it
    return loss, (xp.sign(fake) * (1 - target) - xp.sign(real) * target) * (1.0 / logits.size)


def mean_negative(logits: Array, backend: Backend) -> Loss:
    """-> -mean of the logits and its gradient: G's part of the hinge loss."""
    return -backend.xp.mean(logits), backend.xp.full_like(logits, -1.0 / logits.size)


@dataclass(frozen=True)
class Objective:
    """The loss of both players. Each method: logits (n, 1) -> mean loss, dlogits."""

    loss: str = "bce"  # one of GAN_LOSSES
    real_target: float = 1.0  # 0.9 is one-sided label smoothing
    fake_target: float = 0.0
    loss_limit: float | None = None  # report bce of logits clipped to ±limit, as programs clip them
    r1: float = 0.0  # γ of R1, which D pays too: r1.py

    def __post_init__(self) -> None:
        """Raises ConfigError."""
        expect_choice("Objective: loss", self.loss, GAN_LOSSES)
        for name in ("real_target", "fake_target"):
            expect_number(f"Objective: {name}", getattr(self, name), "[0, 1]")
        expect_number("Objective: r1", self.r1, "[0, 1e6]")
        if self.loss_limit is not None:
            expect_number("Objective: loss_limit", self.loss_limit, "(0, inf)")

    def of_real(self, logits: Array, backend: Backend) -> Loss:
        return self.to_target(logits, self.real_target, backend)

    def of_fake(self, logits: Array, backend: Backend) -> Loss:
        return self.to_target(logits, self.fake_target, backend)

    def of_generator(self, logits: Array, backend: Backend) -> Loss:
        if self.loss == "hinge":
            return backend.operation_for(mean_negative)(logits, backend)
        return self.to_target(logits, 1.0, backend)

    def to_target(self, logits: Array, target: float, backend: Backend) -> Loss:
        if self.loss == "bce":
            return bce_with_logits(logits, target, backend=backend, limit=self.loss_limit)
        return (least_squares if self.loss == "lsgan" else hinge)(logits, target, backend=backend)
