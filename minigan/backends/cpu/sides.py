"""D's update by several processes: one half of them take the real images, the other half the fakes.

As in numpy_crew.py each process could take its rows of both batches, one batch after the other. But BatchNorm takes the statistics
of each batch on its own. Two processes with a batch each need not meet for them, which spares D's update 14 of 19 meetings in the
preset mnist, and what is done once a pass, whatever its rows, is done once and not twice: filters in Winograd's domain, sums of dW.

    before    rows of G change hands, by way of memory that all share
    after     losses, and the statistics of both batches for BatchNorm's running ones, real before fake
    then      gradients are added up, as ever

With four processes, two share a batch, and so on. An odd number plays the definition, and so does everyone where the rows of a batch
do not divide by the number of processes, are too many for the memory, or D has layers of one's own.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from minigan.arrays.backend import Array
from minigan.backends.cpu.backend import NumpyBackend
from minigan.backends.cpu.blocks import Block
from minigan.backends.cpu.crew import Crew
from minigan.backends.fusion import can_take_both
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
    assert isinstance(D.backend, NumpyBackend)
    crew, batches = (
        D.backend.crew,
        [(x_real, x_fake)] + ([] if labels is None else [(labels, labels)]),
    )
    if (
        crew is None
        or rules.apart
        or not can_take_both(D, Block, x_real, x_fake, labels)
        or not can_take_sides(crew, batches)
    ):
        return definition(D, optimizer, x_real, x_fake, rules, labels)
    x, *labels_here = change_hands(crew, batches)
    side = 2 * crew.rank // crew.size
    D.zero_grads()
    with sides(crew):
        logits = D.forward(x, labels=labels_here[0] if labels_here else None)
        loss, dlogits = loss_and_gradient(
            D, logits, (rules.real_target, rules.fake_target)[side], rules
        )
        probability = mean_probability(D, logits)
        D.backward(dlogits, need_dx=False)
        (loss_real, d_x), (loss_fake, d_gz) = settle(crew, loss, probability)
    optimizer.step()
    result = {"loss_d_real": loss_real, "d_x": d_x, "loss_d_fake": loss_fake, "d_gz": d_gz}
    return {**result, "grad_norm_d": gradient_norm(D)}


def can_take_sides(crew: Crew, batches: list[tuple[Array, Array]]) -> bool:
    """Have all processes as many rows, and room for them? The same answer in each."""
    needed = sum(2 * crew.size * real.size for real, _ in batches)
    return crew.size % 2 == 0 and crew.even and needed <= crew.room.size


def change_hands(crew: Crew, batches: list[tuple[Array, Array]]) -> list[Array]:
    """Pairs of this process's rows of real and fake -> of each pair as many rows that follow one another in (real, fake), a view"""
    found, start = [], 0
    for real, fake in batches:
        rows, n = len(real), crew.size * len(real)
        both = crew.room[start : start + 2 * n * real[0].size].reshape(2 * n, *real.shape[1:])
        both[crew.rank * rows : (crew.rank + 1) * rows] = real
        both[n + crew.rank * rows : n + (crew.rank + 1) * rows] = fake
        found.append(both[2 * crew.rank * rows : 2 * (crew.rank + 1) * rows])
        start += both.size
    crew.meet()
    return found


@contextmanager
def sides(crew: Crew) -> Iterator[None]:
    """Fellows are those with the same batch."""
    half = crew.size // 2
    start = crew.rank // half * half
    crew.fellows, crew.unsettled = slice(start, start + half), []
    try:
        yield
    finally:
        crew.fellows, crew.unsettled = slice(0, crew.size), None


def settle(crew: Crew, *figures: Array) -> Array:
    """Running statistics move by those of both batches -> figures of both, (2, k)"""
    assert crew.unsettled is not None
    statistics = [vector for _, mean, var, _ in crew.unsettled for vector in (mean, var)]
    told = crew.exchange(
        np.concatenate([np.array(figures), *statistics]).astype(crew.backend.dtype)
    )[:: crew.size // 2]
    told = (
        told.copy()
    )  # update_running uses up what it is given, and the others read the same memory
    for batch in told:
        at = len(figures)
        for norm, mean, _, m in crew.unsettled:
            c = mean.size
            norm.update_running(batch[at : at + c], batch[at + c : at + 2 * c], m)
            at += 2 * c
    return told[:, : len(figures)]
