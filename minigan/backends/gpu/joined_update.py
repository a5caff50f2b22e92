"""D's update on a GPU: real and fake images in one pass, half as many operations, each twice as large, which keeps a GPU busy.

BatchNorm still takes the statistics of each on its own, real before fake: cupy_norm.py. So the numbers are those of
update_discriminator in gan.py, which takes one batch after the other.
"""

from minigan.arrays.backend import Array
from minigan.backends.fusion import can_take_both
from minigan.backends.gpu.backend import CupyBackend
from minigan.backends.gpu.batchnorm import in_parts
from minigan.backends.gpu.blocks import Block
from minigan.gan import Rules, gradient_norm, loss_and_gradient, mean_probability
from minigan.gan import update_discriminator as definition
from minigan.layers import Sequential
from minigan.optimizers import Optimizer


def update_discriminator(
    D: Sequential,
    optimizer: Optimizer,
    x_real: Array,
    x_fake: Array,
    rules: Rules = Rules(),
    labels: Array | None = None,
) -> dict[str, Array]:
    """As update_discriminator in gan.py."""
    if rules.apart or not can_take_both(D, Block, x_real, x_fake, labels):
        return definition(D, optimizer, x_real, x_fake, rules, labels)
    n, backend = len(x_real), D.backend
    assert isinstance(backend, CupyBackend)
    x = side_by_side(D, "x", x_real, x_fake)
    D.zero_grads()
    with in_parts(backend, 2):
        logits = D.forward(
            x, labels=None if labels is None else side_by_side(D, "labels", labels, labels)
        )
    loss_real, d_real = loss_and_gradient(D, logits[:n], rules.real_target, rules)
    loss_fake, d_fake = loss_and_gradient(D, logits[n:], rules.fake_target, rules)
    result = {
        "loss_d_real": loss_real,
        "d_x": mean_probability(D, logits[:n]),
        "loss_d_fake": loss_fake,
    }
    result["d_gz"] = mean_probability(D, logits[n:])
    D.backward(side_by_side(D, "dlogits", d_real, d_fake), need_dx=False)
    optimizer.step()
    result["grad_norm_d"] = gradient_norm(D)
    return result


def side_by_side(D: Sequential, name: str, real: Array, fake: Array) -> Array:
    """-> real (n, ...) and fake (n, ...) in one array (2n, ...), in D's memory"""
    both = D.memory.get(f"real and fake {name}", (2 * len(real), *real.shape[1:]))
    both[: len(real)] = real
    both[len(real) :] = fake
    return both
