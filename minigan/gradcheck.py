"""Is a backward pass right? Compare it with the definition of a derivative.

For a direction u in the space of x or of a parameter, and a random dy,

    L(p) = Σ y(p)·dy        dL along u  =  (L(p + h·u) - L(p - h·u)) / 2h  +  O(h²)

must equal <gradient, u>, where the backward pass gives the gradient. In float64 with h = 1e-5 the
two agree to about 1e-9 if the backward pass is right; a wrong one is off by several percent.

Why dy is random: with dy = 1 the true dx of BatchNorm is 0 (its output sums to a constant), so a
formula that always gives 0 would pass.

Why several h: if a ReLU's input is within h of 0, the difference straddles the kink and is wrong
while the backward pass is right. A smaller h then agrees. A wrong formula disagrees at every h, so
only the smallest error counts. Where x is 0, as black pixels are, and the bias too, the input is 0
at every h: so parameters of 0 become 0.001 first.

A SpectralNorm whose u has not converged moves it in each forward pass of training, and σ with it.
The backward pass holds u fixed, as it should: check such a network with train=False.
"""

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field

import numpy as np

from minigan.arrays import Array, Backend
from minigan.checks import expect_size, ignore_float_errors
from minigan.errors import ConfigError, GradientError
from minigan.layers import Sequential

STEPS = (1e-5, 1e-6, 1e-7)
ELEMENTWISE = 32  # arrays of at most this many numbers are also checked one by one


@dataclass
class GradientReport:
    """What check_gradients found. True if every relative error is within rtol."""

    rtol: float
    # "x" or parameter name -> largest relative error
    errors: dict[str, float] = field(default_factory=dict)
    # the same -> where: "a random direction", or an index
    places: dict[str, object] = field(default_factory=dict)

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
        lines = [
            f"{verdict}: worst is {self.worst}, relative error {self.errors[self.worst]:.1e} "
            f"(limit {self.rtol:.0e})"
        ]
        for name, error in self.errors.items():
            mark = "" if error <= self.rtol else "   <-- wrong"
            lines.append(f"  {name:<16} {error:.1e}  at {self.places[name]}{mark}")
        return "\n".join(lines)


@ignore_float_errors
def check_gradients(
    net: Sequential,
    x: Array,
    dy: Array | None = None,
    *,
    labels: Array | None = None,
    train: bool = True,
    rtol: float = 1e-6,
    directions: int = 3,
    seed: int = 0,
    raise_on_failure: bool = True,
) -> GradientReport:
    """Compare a network's backward pass with central differences.

    net         Sequential on a float64 backend; for one layer: Sequential([MyLayer()])
    x           (n, *in_shape)    float64
    dy          (n, *out_shape)   drawn from `seed` if not given, which is best
    labels      (n, classes)      of a conditional network
    train       mode of the forward passes
    directions  random directions to try for x and for each parameter
    -> GradientReport; print it. A copy of the network is checked, in which parameters of 0 are
       0.001: this one does not change.
    Raises GradientError with that report if an error is above rtol, unless raise_on_failure is
    False; ConfigError on a float32 backend, whose rounding would hide an error.
    """
    if not isinstance(net, Sequential):
        raise ConfigError(
            f"check_gradients: expected a Sequential, got {type(net).__name__}: "
            "wrap a layer as Sequential([layer])"
        )
    expect_size("check_gradients: directions", directions)
    if net.ready().backend.dtype != np.float64:
        raise ConfigError(
            f"check_gradients: {net.name} is {net.backend.dtype}; "
            f'set it up with get_backend("{net.backend.name}", dtype="float64")'
        )
    net = deepcopy(net)  # so that the caller's stays as it is
    store, backend, rng = net.ready(), net.backend, np.random.default_rng(seed)
    store.flat_params[store.flat_params == 0] = 1e-3
    buffers = [(buffer, buffer.copy()) for buffer in store.buffers.values()]
    generators = [generator.bit_generator for generator in store.generators.values()]
    states = [generator.state for generator in generators]

    y = net.forward(x, train=train, labels=labels)
    if dy is None:
        dy = backend.asarray(rng.standard_normal(tuple(y.shape)))
    net.zero_grads()
    net.backward(dy)
    dx = net.backward(dy)  # again: gradients must add up; an overwritten one is half as large
    gradients = {"x": dx, **{name: gradient / 2 for name, gradient in store.grads.items()}}
    report = GradientReport(rtol)
    before = backend.to_host(store.flat_grads).copy()
    net.backward(dy, need_dw=False)
    if not np.array_equal(before, backend.to_host(store.flat_grads), equal_nan=True):
        report.record("need_dw=False", "the gradients, which it changed", np.inf)

    # rounding of y alone causes differences of this size: errors are relative to at least this
    rounding = np.finfo(np.float64).eps * float(np.linalg.norm(backend.to_host(y * dy)))
    floor = max(100 * rounding / (STEPS[0] * rtol), np.finfo(np.float64).tiny)
    arrays = {"x": x.copy(), **store.params}

    def output() -> Array:
        # the same Dropout masks and running statistics at every call
        for buffer, values in buffers:
            buffer[...] = values
        for generator, state in zip(generators, states, strict=True):
            generator.state = state
        return net.forward(arrays["x"], train=train, labels=labels)

    for name, array in arrays.items():
        for where, chosen in chosen_directions(array, directions, rng):
            direction = backend.asarray(chosen)
            expected = number(gradients[name] * direction, backend)
            errors = [
                abs(found - expected) / max(abs(found), abs(expected), floor)
                for found in differences(array, direction, output, dy, backend)
            ]
            report.record(name, where, min(errors))
    if not report and raise_on_failure:
        raise GradientError(f"{net.name}: {report}")
    return report


def chosen_directions(
    array: Array, directions: int, rng: np.random.Generator
) -> Iterator[tuple[object, np.ndarray]]:
    """-> yields (where, direction): random directions, and each number of a small array."""
    shape = tuple(array.shape)
    for _ in range(directions):
        direction = rng.standard_normal(shape)
        yield "a random direction", direction / np.linalg.norm(direction)
    if array.size <= ELEMENTWISE:
        for index in np.ndindex(*shape):
            direction = np.zeros(shape)
            direction[index] = 1.0
            yield list(index), direction


def differences(
    array: Array, direction: Array, output: Callable[[], Array], dy: Array, backend: Backend
) -> list[float]:
    """-> dL along the direction, by central differences, for each h. The array is restored."""
    start, found = array.copy(), []
    for h in STEPS:
        array[...] = start + h * direction
        above = output()
        array[...] = start - h * direction
        found.append(number((above - output()) * dy, backend) / (2 * h))
    array[...] = start
    return found


def number(products: Array, backend: Backend) -> float:
    """-> the sum of an array, on the host"""
    return float(backend.to_host(backend.xp.sum(products)))
