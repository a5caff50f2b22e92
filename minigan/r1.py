"""R1: D may not be steep at real images.

The better D tells images from samples, the steeper it becomes between them. G then follows large
gradients in circles, and loses what it could draw. So D pays for its slope where it should be flat:

    R1 = γ/2 · mean |∇D(x)|²        over real images x; the gradient is that of the logit by x

To go down R1, a library with autograd differentiates ∇D(x) once more. Here a difference will do.
|∇D| is D's slope in its steepest direction u = ∇D/|∇D|, and over a distance h to both sides

    slope = (D(x + h·u) - D(x - h·u)) / 2h
    R1 = γ/2 · mean slope²
    dR1/dD(x ± h·u) = ±γ·slope / (2h·n)

So R1 is a loss of two more batches of images. u counts as fixed: of all directions it has the
largest slope, so turning it changes nothing to first order. D is linear piece by piece. As h -> 0
the slope is that of one piece, |∇D(x)|; a finite h takes the borders into account where D bends.

x, u (n, h, w, c)    logits (n, 1)
D sees each image alone here: BatchNorm would make D(x) a function of the whole batch.
Shown by: benchmarks/README.md
Sources: Mescheder et al. 2018, arXiv:1801.04406, equation 9; the difference Terjék 2020,
arXiv:1907.05681; few images at a time, in the spirit of Karras et al. 2020, arXiv:1912.04958
"""

from minigan.arrays import Array, Backend
from minigan.layers import Sequential
from minigan.losses import Loss

SHARE = 8  # one image of 8 is looked at: R1 changes slowly
STEP = 0.02  # h, for each number of an image: pixels are in [-1, 1]
TINY = 1e-12  # instead of 0, below a fraction


def add_r1(D: Sequential, x: Array, labels: Array | None, gamma: float) -> None:
    """Add the gradient of R1 at every eighth image of a batch to D's gradients.

    x       (n, h, w, c)   real images
    labels  (n, classes)   theirs, if D is conditional
    Processes that share a batch take every eighth of their rows: the same images as one process if
    they have multiples of 8.
    Fast version: backends/gpu/r1.py
    """
    backend, xp = D.backend, D.backend.xp
    x, labels = x[::SHARE].copy(), None if labels is None else labels[::SHARE].copy()
    h = STEP * x[0].size ** 0.5
    D.forward(x, labels=labels)
    u: Array = D.backward(xp.ones((len(x), 1), x.dtype), need_dw=False)
    u = u * (h / (xp.sqrt(xp.sum(u * u, axis=(1, 2, 3), keepdims=True)) + TINY))
    both = None if labels is None else xp.concatenate([labels, labels], 0)
    logits = D.forward(xp.concatenate([x + u, x - u], 0), labels=both)
    _, dlogits = backend.operation_for(mean_square_slope)(logits, h, backend)
    D.backward(dlogits * gamma, need_dx=False)


def mean_square_slope(logits: Array, h: float, backend: Backend) -> Loss:
    """logits (2n, 1) of x + h·u, then of x - h·u -> half the mean squared slope, dlogits."""
    n = len(logits) // 2
    slope = (logits[:n] - logits[n:]) * (0.5 / h)
    d = slope * (0.5 / (h * n))
    return 0.5 * backend.xp.mean(slope * slope), backend.xp.concatenate([d, d * -1.0], 0)
