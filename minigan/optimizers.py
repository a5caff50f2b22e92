"""Optimizers: how a gradient becomes a step. Each is one pass over a network's flat arrays.

    opt = Adam(net, lr=2e-4, beta1=0.5)
    net.zero_grads(); ... net.backward(dy) ...; opt.step()

An optimizer reads the gradients and changes the parameters; it neither zeroes nor scales a
gradient. `l2` adds l2·p to the gradient (the L2 penalty l2/2·|p|², not decoupled weight decay).
Fast versions: backends/cpu/optimizers.py, backends/gpu/step_state.py, backends/gpu/reductions.py
"""

from collections.abc import Mapping
from typing import Any

from minigan.arrays import Array, Backend
from minigan.arrays.views import ArrayHolder, Views
from minigan.checks import expect_number, ignore_float_errors
from minigan.errors import ConfigError, RunError, StateError
from minigan.layers import Sequential

Constants = tuple[float, ...]  # of an update: the learning rate first, l2 last


class Optimizer(ArrayHolder):
    """Base: one network, a learning rate that may change at any time, named moments."""

    moments: tuple[str, ...] = ()  # names of arrays kept between steps, shaped as flat_params
    # numbers and their ranges
    ranges: Mapping[str, str] = {
        "lr": "[0, inf)", "l2": "[0, inf)", "momentum": "[0, 1)", "rho": "[0, 1)",
        "beta1": "[0, 1)", "beta2": "[0, 1)", "eps": "(0, 1)",
    }  # fmt: skip
    fixed = {*ranges, "eps_hat", "nesterov"} - {"lr"}  # captured steps contain them

    def __init__(self, net: Sequential, lr: float, l2: float):
        self.name = type(self).__name__
        if not isinstance(net, Sequential):
            raise ConfigError(f"{self.name}: expected a Sequential, got {type(net).__name__}")
        self.net, self.store = net, net.ready()
        if not self.store.flat_params.size:
            raise ConfigError(f"{self.name}: {net.name} has no parameters to train")
        self.lr, self.l2 = lr, l2
        self.backend = self.store.backend
        self.steps = 0
        views = Views(self.store, True)  # not of self: that would be a reference cycle
        for name in self.moments:
            self.hold(name, views, name, self.backend.xp.zeros_like(self.store.flat_params))

    def __setattr__(self, name: str, value: Any) -> None:
        """Raises ConfigError if a number is out of range, StateError if it is fixed."""
        label = f"{type(self).__name__}: {name}"
        if name in self.ranges:
            value = expect_number(label, value, self.ranges[name])
        if name in self.fixed and vars(self).get(name, value) != value:
            raise StateError(f"{label} is fixed: make a new optimizer; only lr may change")
        super().__setattr__(name, value)

    def step(self) -> None:
        """Update the parameters once from their gradients.

        Raises StateError if the network was set up again after the optimizer was made.
        """
        self.step_on(self.backend)

    @ignore_float_errors
    def step_on(self, backend: Backend) -> None:
        """step() on another backend with the same arrays, such as a captured step's.

        If several processes share the step, their gradients are added up first.
        """
        if self.net.store is not self.store:
            raise StateError(
                f"{type(self).__name__}: {self.net.name} was set up again: "
                "make a new optimizer for it"
            )
        with self.net.in_use:
            backend.all_reduce(self.store.flat_grads)
            self.steps += 1
            self.store.version += 1  # first: an interrupted step has changed some parameters
            backend.operation_for(type(self).apply)(self, backend)

    def on(self, backend: Backend) -> "BoundOptimizer":
        """-> this optimizer, stepping on another backend of the same arrays."""
        return BoundOptimizer(self, backend)

    def apply(self, backend: Backend) -> None:
        """Update self.store.flat_params from flat_grads; self.steps already counts this step."""
        raise NotImplementedError

    def state_arrays(self) -> list[Array]:
        """-> the arrays that survive a step."""
        return [getattr(self, name) for name in self.moments]

    def state(self) -> dict[str, Any]:
        """-> name -> array or int: all to save besides the parameters. Arrays go on changing."""
        return {"steps": self.steps, **{name: getattr(self, name) for name in self.moments}}

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore a result of `state`. Raises RunError if another optimizer or network saved it."""
        label = type(self).__name__
        if set(state) != set(self.state()):
            raise RunError(
                f"{label}: expected saved {sorted(self.state())}, got {sorted(state)}: "
                "it is from another optimizer"
            )
        for name in self.moments:
            expected, got = getattr(self, name).shape, state[name].shape
            if tuple(got) != tuple(expected):
                raise RunError(
                    f"{label}: expected {name} of {expected}, got {got}: it is from another network"
                )
        for name in self.moments:
            getattr(self, name)[...] = self.backend.asarray(state[name])
        self.steps = int(state["steps"])


class BoundOptimizer:
    """An optimizer, and the backend that it steps on: see Optimizer.on."""

    def __init__(self, optimizer: Optimizer, backend: Backend):
        self.optimizer, self.backend = optimizer, backend

    def step(self) -> None:
        self.optimizer.step_on(self.backend)


NORM_BLOCK = 8192  # numbers whose squares a dot product adds up in float32


def l2_norm(gradient: Array, backend: Backend) -> Array:
    """gradient (size,) -> its Euclidean norm, a scalar of the backend.

    Block by block: a dot product adds up millions of squares in float32, and loses 3 digits.
    """
    xp, total = backend.xp, 0.0
    for start in range(0, gradient.size, NORM_BLOCK):
        block = gradient[start : start + NORM_BLOCK]
        total = total + xp.dot(block, block).astype("float64")
    return xp.sqrt(total).astype(gradient.dtype)


def with_l2(p: Array, g: Array, l2: float) -> Array:
    """-> l2·p + g; g itself if l2 is 0."""
    return p * l2 + g if l2 else g


def sgd_update(p: Array, g: Array, v: Array | None, constants: Constants) -> None:
    """v = momentum·v + g;  p -= lr·v, or lr·(momentum·v + g) with Nesterov's lookahead.

    p, g, v    (size,); v is None without momentum
    constants  from SGD.constants
    Source: Sutskever et al. 2013, in PyTorch's form (the learning rate outside v)
    """
    lr, momentum, nesterov, l2 = constants
    g = with_l2(p, g, l2)
    if v is not None:
        v *= momentum
        v += g
        g = v * momentum + g if nesterov else v
    p -= g * lr


class SGD(Optimizer):
    """SGD(net, lr): gradient descent; momentum and Nesterov's form of it are options."""

    moments: tuple[str, ...] = ("v",)
    v: Array

    def __init__(
        self,
        net: Sequential,
        lr: float,
        *,
        momentum: float = 0.0,
        nesterov: bool = False,
        l2: float = 0.0,
    ):
        self.momentum, self.nesterov = momentum, nesterov
        if nesterov and not momentum:
            raise ConfigError("SGD: nesterov looks ahead along the momentum: give one above 0")
        if not momentum:
            self.moments = ()
        super().__init__(net, lr, l2)

    def apply(self, backend: Backend) -> None:
        v = self.v if self.momentum else None
        sgd_update(self.store.flat_params, self.store.flat_grads, v, self.constants())

    def constants(self) -> Constants:
        return self.lr, self.momentum, self.nesterov, self.l2


def rmsprop_update(p: Array, g: Array, s: Array, constants: Constants, xp: Any) -> None:
    """s = rho·s + (1 - rho)·g²;  p -= lr·g / (√s + eps)

    p, g, s    (size,)
    constants  from RMSprop.constants
    Source: Tieleman & Hinton 2012; eps outside the root, as in PyTorch
    """
    lr, rho, eps, l2 = constants
    g = with_l2(p, g, l2)
    s *= rho
    s += g * g * (1.0 - rho)
    p -= g / (xp.sqrt(s) + eps) * lr


class RMSprop(Optimizer):
    """RMSprop(net, lr): steps divided by the root of a running mean of g²."""

    moments = ("s",)
    s: Array

    def __init__(
        self,
        net: Sequential,
        lr: float = 2e-4,
        *,
        rho: float = 0.9,
        eps: float = 1e-8,
        l2: float = 0.0,
    ):
        self.rho, self.eps = rho, eps
        super().__init__(net, lr, l2)

    def apply(self, backend: Backend) -> None:
        p, g = self.store.flat_params, self.store.flat_grads
        rmsprop_update(p, g, self.s, self.constants(), backend.xp)

    def constants(self) -> Constants:
        return self.lr, self.rho, self.eps, self.l2


def adam_update(p: Array, g: Array, m: Array, v: Array, constants: Constants, xp: Any) -> None:
    """m = β1·m + (1-β1)·g;  v = β2·v + (1-β2)·g²;  p -= lr·(m/c1) / (√(v/c2) + eps)

    p, g, m, v  (size,)
    constants   from Adam.constants. Among them, at step t:
                c1 = 1 - β1ᵗ: m starts at 0 and is too small by this factor
                c2 = 1 - β2ᵗ, the same for v
    """
    lr, beta1, beta2, eps, correction1, correction2, l2 = constants
    g = with_l2(p, g, l2)
    m *= beta1
    m += g * (1.0 - beta1)
    v *= beta2
    v += g * g * (1.0 - beta2)
    p -= m / (xp.sqrt(v * (1.0 / correction2)) + eps) * (lr / correction1)


class Adam(Optimizer):
    """Adam(net, lr): momentum over a running scale, both corrected for their start at 0.

    The paper has two places for epsilon, and frameworks differ in their choice:
    eps_hat=False   lr·m̂ / (√v̂ + eps): algorithm 1; PyTorch
    eps_hat=True    lr·√(1-β2ᵗ)/(1-β1ᵗ) · m / (√v + eps): the faster form before section 2.1;
                    TensorFlow and Keras. The same except that eps is divided by √(1-β2ᵗ)
    The defaults of lr and beta1 are DCGAN's; elsewhere beta1 is usually 0.9.
    Source: Kingma & Ba 2015, arXiv:1412.6980
    """

    moments = ("m", "v")
    m: Array
    v: Array

    def __init__(
        self,
        net: Sequential,
        lr: float = 2e-4,
        *,
        beta1: float = 0.5,
        beta2: float = 0.999,
        eps: float = 1e-8,
        eps_hat: bool = False,
        l2: float = 0.0,
    ):
        self.beta1, self.beta2 = beta1, beta2
        self.eps, self.eps_hat = eps, eps_hat
        super().__init__(net, lr, l2)

    def apply(self, backend: Backend) -> None:
        p, g = self.store.flat_params, self.store.flat_grads
        adam_update(p, g, self.m, self.v, self.constants(), backend.xp)

    def constants(self) -> Constants:
        """-> the numbers of adam_update for step t = self.steps."""
        correction1, correction2 = 1.0 - self.beta1**self.steps, 1.0 - self.beta2**self.steps
        eps = self.eps / correction2**0.5 if self.eps_hat else self.eps
        return self.lr, self.beta1, self.beta2, eps, correction1, correction2, self.l2
