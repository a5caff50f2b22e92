"""Is a backward pass right? Compare it with the definition of a derivative.

For a direction u in the space of x or of a parameter, and a random dy,

    L(p) = Σ y(p)·dy        dL along u  =  (L(p + h·u) - L(p - h·u)) / 2h  +  O(h²)

must equal the backward pass' <gradient, u>. In float64 with h = 1e-5 the two agree
to about 1e-9 where the backward pass is right, and a wrong one is off by percents.

Why dy is random: with dy = 1 the true dx of BatchNorm is 0 (its output sums to a
constant), so that a formula that gives 0 for every input would pass.

Why several h: where a ReLU's input is within h of 0, the difference straddles the
kink and is wrong, while the backward pass is right. A smaller h then agrees. A wrong
formula disagrees at every h, so the best h counts.
"""

from dataclasses import dataclass, field

import numpy as np

from minigan.backends import Array
from minigan.errors import ConfigError, GradientError
from minigan.layers import Sequential

STEPS = (1e-5, 1e-6, 1e-7)
ELEMENTWISE = 32  # arrays of up to so many numbers are also checked number by number


@dataclass
class GradientReport:
    """What check_gradients found. True where every relative error is within rtol."""

    rtol: float
    errors: dict = field(default_factory=dict)  # "x" or parameter name -> largest relative error
    places: dict = field(default_factory=dict)  # the same -> where: "random direction", or an index

    def record(self, name: str, where: object, error: float) -> None:
        if not error <= self.errors.get(name, -1.0):  # NaN counts as an error, and as the largest
            self.errors[name], self.places[name] = error, where

    @property
    def worst(self) -> str:
        """-> name of the array with the largest error."""
        return max(self.errors, key=lambda name: np.nan_to_num(self.errors[name], nan=np.inf))

    def __bool__(self) -> bool:
        return all(error <= self.rtol for error in self.errors.values())

    def __str__(self) -> str:
        verdict = "gradients agree" if self else "gradients DISAGREE"
        lines = [f"{verdict}: worst is {self.worst}, relative error {self.errors[self.worst]:.1e} (limit {self.rtol:.0e})"]
        for name, error in self.errors.items():
            mark = "" if error <= self.rtol else "   <-- wrong"
            lines.append(f"  {name:<16} {error:.1e}  at {self.places[name]}{mark}")
        return "\n".join(lines)


def check_gradients(
    net: Sequential, x: Array, dy: Array | None = None, *,
    train: bool = True, rtol: float = 1e-6, directions: int = 3, seed: int = 0, raise_on_failure: bool = True,
) -> GradientReport:  # fmt: skip
    """Compare a network's backward pass with central differences.

    net         Sequential, set up on a float64 backend; for a layer of your own: Sequential([MyLayer()])
    x           (n, *in_shape)    float64; for x-dependent kinks see the module's text
    dy          (n, *out_shape)   random from `seed` where not given: leave it so
    train       mode of the forward passes
    directions  random directions tried for x and for each parameter
    -> GradientReport; print it. Parameters, gradients, buffers and generators are left as they were.
    Raises GradientError with that report where an error is above rtol, unless raise_on_failure is False;
    ConfigError on a float32 backend, whose rounding hides what is looked for.
    """
    store = net.ready()
    backend = store.backend
    if backend.dtype != np.float64:
        raise ConfigError(
            f'check_gradients: {net.name} is {backend.dtype}; set it up with get_backend("{backend.name}", dtype="float64")'
        )
    rng = np.random.default_rng(seed)
    saved = Snapshot(store)
    x = x.copy()
    y = net.forward(x, train=train)
    if dy is None:
        dy = backend.asarray(rng.standard_normal(tuple(y.shape)))
    net.zero_grads()
    net.backward(dy)
    dx = net.backward(dy)  # once more: gradients must add up, and one that is set comes out at half its size
    gradients = {"x": dx, **{name: gradient / 2 for name, gradient in store.grads.items()}}
    arrays = {"x": x, **store.params}

    def loss():
        saved.restore_state()  # the same Dropout masks, the same running statistics at every call
        return float(backend.to_host(backend.xp.sum(net.forward(x, train=train) * dy)))

    # rounding of L alone makes differences of this size: relative errors are taken against no smaller number
    rounding = 10 * np.finfo(np.float64).eps * float(backend.to_host(backend.xp.sum(abs(y * dy))))
    floor = rounding / (STEPS[0] * rtol)
    report = GradientReport(rtol)

    def compare(name, where, direction):
        array, start = arrays[name], arrays[name].copy()
        direction = backend.asarray(direction)
        wanted = float(backend.to_host(backend.xp.sum(gradients[name] * direction)))
        errors = []
        for h in STEPS:
            array[...] = start + h * direction
            above = loss()
            array[...] = start - h * direction
            below = loss()
            array[...] = start
            found = (above - below) / (2 * h)
            error = abs(found - wanted) / max(abs(found), abs(wanted), floor)
            errors.append(error)
            if error <= rtol:
                break
        report.record(name, where, min(errors))

    for name, array in arrays.items():
        for _ in range(directions):
            direction = rng.standard_normal(tuple(array.shape))
            compare(name, "a random direction", direction / np.linalg.norm(direction))
        if array.size <= ELEMENTWISE:
            for index in np.ndindex(*array.shape):
                direction = np.zeros(tuple(array.shape))
                direction[index] = 1.0
                compare(name, list(index), direction)
    saved.restore_all()
    if not report and raise_on_failure:
        raise GradientError(f"{net.name}: {report}")
    return report


class Snapshot:
    """Copies of all that a forward or backward pass changes in a network, to be put back."""

    def __init__(self, store):
        self.store = store
        self.grads = store.flat_grads.copy()
        self.buffers = {name: buffer.copy() for name, buffer in store.buffers.items()}
        self.generators = {name: generator.bit_generator.state for name, generator in store.generators.items()}

    def restore_state(self):
        for name, buffer in self.buffers.items():
            self.store.buffers[name][...] = buffer
        for name, state in self.generators.items():
            self.store.generators[name].bit_generator.state = state

    def restore_all(self):
        self.restore_state()
        self.store.flat_grads[...] = self.grads
