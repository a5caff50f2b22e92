"""R1: a penalty for D's slope at real images.

The better D tells images from samples, the steeper it becomes between them. G then follows large
gradients in circles, and loses what it could draw. So D pays for its slope where it should be flat:

    R1 = γ/2 · mean |∇D(x)|²        over real images x; the gradient is that of the logit by x

To go down R1, a library with autograd differentiates ∇D(x) once more. Here a difference will do.
|∇D| is D's slope in its steepest direction u = ∇D/|∇D|. Over a small distance h on either side

    slope = (D(x + h·u) - D(x - h·u)) / 2h
    R1 = γ/2 · mean slope²
    dR1/dD(x ± h·u) = ±γ·slope / (2h·n)

So R1 is a loss of the logits of two more batches, x + h·u and x - h·u. u counts as fixed: of all
directions it has the largest slope, so turning it changes nothing to first order. As h -> 0 the
slope is |∇D(x)|. h must be small: otherwise D learns, after many steps, to be steep over less than
h, which R1 does not see. It must not be so small that the logits differ by their rounding alone.

x, u (n, height, width, c)    logits (n, 1)
D must see each image alone, and the same way each time: without BatchNorm and Dropout.
Shown by: benchmarks/README.md
Sources: Mescheder et al. 2018, arXiv:1801.04406, equation 9; the difference Terjék 2020,
arXiv:1907.05681; few images at a time, in the spirit of Karras et al. 2020, arXiv:1912.04958
"""

from minigan.arrays import Array, Backend
from minigan.errors import ConfigError
from minigan.layers import BatchNorm, Dropout, Sequential

SHARE = 8  # one image in 8 is looked at: R1 changes slowly
STEP = 0.001  # by how much the numbers of an image move, root mean square: h = STEP·√(their count)
TINY = 1e-12  # is added to a norm that may be 0


def add_r1(D: Sequential, x: Array, labels: Array | None, gamma: float) -> None:
    """Add the gradient of R1 at every eighth image of a batch to D's gradients.

    x       (n, height, width, c)   real images
    labels  (n, classes)            theirs, if D is conditional
    Raises ConfigError for a D with BatchNorm or Dropout, or one that does not take images.
    Fast version: backends/gpu/r1.py
    """
    expect_alone(D)
    backend, xp = D.backend, D.backend.xp
    first, weight = backend.operation_for(chosen_rows)(len(x), backend)
    x, labels = x[first::SHARE].copy(), None if labels is None else labels[first::SHARE].copy()
    h = STEP * x[0].size ** 0.5
    D.forward(x, labels=labels)
    u: Array = D.backward(xp.ones((len(x), 1), x.dtype), need_dw=False)
    u = u * (h / (xp.sqrt(xp.sum(u * u, axis=(1, 2, 3), keepdims=True)) + TINY))
    both = None if labels is None else xp.concatenate([labels, labels], 0)
    logits = D.forward(xp.concatenate([x + u, x - u], 0), labels=both)
    d = (logits[: len(x)] - logits[len(x) :]) * (gamma * weight * (0.5 / h) ** 2)
    D.backward(xp.concatenate([d, d * -1.0], 0), need_dx=False)


def expect_alone(D: Sequential) -> None:
    """Raises ConfigError unless D sees each image alone, and the same way each time."""
    if len(D.in_shape) != 3:
        raise ConfigError(f"R1: {D.name} takes {D.in_shape}: expected images (h, w, c)")
    for layer in D.leaves():
        if isinstance(layer, (BatchNorm, Dropout)):
            raise ConfigError(f"R1: {layer.label}: D must see each image alone: leave it out")


def chosen_rows(n: int, backend: Backend) -> tuple[int, float]:
    """-> the first row of every eighth one in a batch of n; the weight of each in the mean."""
    return 0, 1.0 / -(-n // SHARE)
