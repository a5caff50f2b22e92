"""D's update on a GPU: real and fake images in one pass.

Half as many operations, each twice as large, keep a GPU busier. BatchNorm still uses separate
statistics for each batch, real before fake: batchnorm.py. So the numbers are those of
update_discriminator in gan.py, which takes one batch after the other.
"""

from collections.abc import Sequence
from typing import Any

from minigan.arrays import Array
from minigan.backends.fusion import is_exactly, sees_samples_alone
from minigan.backends.gpu.backend import GpuBackend
from minigan.backends.gpu.blocks import Block
from minigan.backends.gpu.r1 import add_r1
from minigan.gan import CROSS_ENTROPY, Result, Stepper, gradient_norm, mean_probability
from minigan.gan import update_discriminator as definition
from minigan.layers import Sequential
from minigan.layers.sequential import backward_pass
from minigan.objective import Objective


def update_discriminator(
    D: Sequential,
    optimizer: Stepper,
    x_real: Array,
    x_fake: Array,
    labels: Array | None = None,
    objective: Objective = CROSS_ENTROPY,
) -> Result:
    """As update_discriminator in gan.py."""
    backend = D.backend
    assert isinstance(backend, GpuBackend)
    for x in (x_real, x_fake):
        backend.guard(x, D.in_shape, next(D.leaves()).label, "x")
    n = len(x_real)
    D.expect_labels(labels, n)
    one_by_one = not is_exactly(D, Sequential) or not sees_samples_alone(D.steps, Block)
    if len(x_fake) != n or one_by_one:
        return definition(D, optimizer, x_real, x_fake, labels, objective)
    with D.in_use:
        D.zero_grads()
        D.batch = None  # the layers save values of both batches
        labels = None if labels is None else join(backend, "labels", labels, labels)
        x = join(backend, "x", x_real, x_fake)
        logits = backend.copy_out(forward_joined(D.steps, x, labels), "y")
        loss_real, d_real = objective.of_real(logits[:n], backend)
        loss_fake, d_fake = objective.of_fake(logits[n:], backend)
        result = {"loss_d_real": loss_real, "d_x": mean_probability(D, logits[:n])}
        result |= {"loss_d_fake": loss_fake, "d_gz": mean_probability(D, logits[n:])}
        backward_pass(D.steps, join(backend, "dlogits", d_real, d_fake), False, True)
        if objective.r1:
            add_r1(D, x_real, None if labels is None else labels[:n], objective.r1)
    optimizer.step()
    return result | {"grad_norm_d": gradient_norm(D)}


def join(backend: GpuBackend, name: str, real: Array, fake: Array) -> Array:
    """-> real (n, ...) and fake (n, ...) in one array (2n, ...), in scratch memory"""
    both = backend.scratch(f"joined {name}", (2 * len(real), *real.shape[1:]))
    both[: len(real)] = real
    both[len(real) :] = fake
    return both


def forward_joined(steps: Sequence[Any], x: Array, labels: Array | None) -> Array:
    """x (2n, ...), two batches -> y: as forward_pass, with statistics of each batch."""
    for step in steps:
        if isinstance(step, Block):
            x = step.forward(x, True, parts=2)
        elif isinstance(step, Sequential):
            x = forward_joined(step.steps, x, labels)
        else:
            x = step.forward(x, True, labels) if step.takes_labels else step.forward(x, True)
    return x
