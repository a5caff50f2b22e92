"""Optimizers: how a gradient becomes a step. Each is one pass over a network's flat arrays.

    opt = Adam(net, lr=2e-4, beta1=0.5)
    net.zero_grads(); ... net.backward(dy) ...; opt.step()

An optimizer reads the gradients and changes the parameters; it neither zeroes nor
scales a gradient. `l2` adds l2·p to the gradient (the L2 penalty l2/2·|p|², not
decoupled weight decay).
"""

from collections.abc import Callable
from typing import Any, Protocol

from minigan.arrays.backend import Shape
from minigan.backends import Array, Backend
from minigan.checks import expect_number
from minigan.errors import ConfigError, RunError, StateError
from minigan.layers import Sequential


class Optimizer:
    """Base: one network, a learning rate that may be changed at any time, named moments."""

    moments: tuple[
        str, ...
    ] = ()  # names of the arrays that are kept from step to step, each as flat_params
    definition: Callable[..., None]

    def __init__(self, net: Sequential, lr: float, l2: float):
        label = type(self).__name__
        if not isinstance(net, Sequential):
            raise ConfigError(
                f"{label}: expected a network, a Sequential, got {type(net).__name__}"
            )
        self.net = net
        self.lr, self.l2 = (
            expect_number(f"{label}: lr", lr, "[0, inf)"),
            expect_number(f"{label}: l2", l2, "[0, inf)"),
        )
        self.store = net.ready()
        self.backend = self.store.backend
        self.steps = 0
        for name in self.moments:
            setattr(self, name, self.backend.zeros(self.store.flat_params.shape))
        self.update = self.backend.implementation(type(self).definition)
        self.change = self.backend.implementation(type(self).apply)
        self.backend.owners.add(self)

    def step(self) -> None:
        """Change the parameters by their gradients, once; where several processes play a step, by the sum of theirs.

        Raises StateError after another setup of the network.
        """
        if self.net.store is not self.store:
            raise StateError(
                f"{type(self).__name__}: {self.net.name} was set up anew since: make a new optimizer for it"
            )
        self.backend.add_gradients(self.store.flat_grads)
        self.steps += 1
        self.change(self, self.store.flat_params, self.store.flat_grads)
        self.store.version += 1

    def apply(self, p: Array, g: Array) -> None:
        """p, g (size,): change p, by self.update with this optimizer's own numbers."""
        raise NotImplementedError

    def kept(self) -> list[Array]:
        """-> the arrays that outlive a step."""
        return [getattr(self, name) for name in self.moments]

    def state(self) -> dict[str, Any]:
        """-> name -> array or int: all that must be saved besides the parameters."""
        return {"steps": self.steps, **{name: getattr(self, name) for name in self.moments}}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take back what `state` gave; raises RunError where it is another network's or optimizer's."""
        label = type(self).__name__
        if set(state) != set(self.state()):
            raise RunError(
                f"{label}: expected saved {sorted(self.state())}, got {sorted(state)}: of another optimizer"
            )
        for name in self.moments:
            if tuple(state[name].shape) != tuple(getattr(self, name).shape):
                raise RunError(
                    f"{label}: expected {name} of {getattr(self, name).shape}, got {state[name].shape}: of another network"
                )
        for name in self.moments:
            getattr(self, name)[...] = self.backend.asarray(state[name])
        self.steps = int(state["steps"])


def length(gradient: Array, backend: Backend) -> Array:
    """gradient (size,) -> its Euclidean length, a scalar of the backend."""
    return backend.xp.sqrt(backend.xp.dot(gradient, gradient))


class Arithmetic(Protocol):
    """What the steps below ask of a backend."""

    xp: Any

    def scratch(self, name: str, shape: Shape) -> Array: ...


def with_l2(p: Array, g: Array, l2: float, backend: Arithmetic) -> Array:
    """-> g + l2·p, in scratch; g itself where l2 is 0."""
    if not l2:
        return g
    penalised = backend.scratch("optimizer l2", p.shape)
    backend.xp.multiply(p, l2, out=penalised)
    backend.xp.add(penalised, g, out=penalised)
    return penalised


def sgd_step(
    p: Array,
    g: Array,
    v: Array | None,
    lr: float,
    momentum: float,
    nesterov: bool,
    l2: float,
    backend: Arithmetic,
) -> None:
    """v = momentum·v + g;  p -= lr·v, or lr·(g + momentum·v) with Nesterov's look ahead.

    p, g, v  (size,); v is None without momentum
    Source: Sutskever et al. 2013, in PyTorch's form (the learning rate outside of v)
    """
    xp = backend.xp
    g = with_l2(p, g, l2, backend)
    change = backend.scratch("optimizer change", p.shape)
    if v is None:
        xp.multiply(g, lr, out=change)
    else:
        xp.multiply(v, momentum, out=v)
        xp.add(v, g, out=v)
        if nesterov:
            xp.multiply(v, momentum, out=change)
            xp.add(change, g, out=change)
            xp.multiply(change, lr, out=change)
        else:
            xp.multiply(v, lr, out=change)
    xp.subtract(p, change, out=p)


class SGD(Optimizer):
    """SGD(net, lr): gradient descent, with momentum and Nesterov's form of it as options."""

    moments: tuple[str, ...] = ("v",)
    v: Array
    definition = staticmethod(sgd_step)

    def __init__(
        self,
        net: Sequential,
        lr: float,
        *,
        momentum: float = 0.0,
        nesterov: bool = False,
        l2: float = 0.0,
    ):
        self.momentum, self.nesterov = expect_number("SGD: momentum", momentum, "[0, 1)"), nesterov
        if nesterov and not momentum:
            raise ConfigError(
                "SGD: nesterov looks ahead along the momentum: give a momentum above 0"
            )
        if not momentum:
            self.moments = ()
        super().__init__(net, lr, l2)

    def apply(self, p: Array, g: Array) -> None:
        v = self.v if self.momentum else None
        self.update(p, g, v, self.lr, self.momentum, self.nesterov, self.l2, self.backend)


def rmsprop_step(
    p: Array, g: Array, s: Array, lr: float, rho: float, eps: float, l2: float, backend: Arithmetic
) -> None:
    """s = rho·s + (1 - rho)·g²;  p -= lr·g / (√s + eps)

    p, g, s  (size,)
    Source: Tieleman & Hinton 2012; eps outside of the root, as PyTorch
    """
    xp = backend.xp
    g = with_l2(p, g, l2, backend)
    change = backend.scratch("optimizer change", p.shape)
    xp.multiply(g, g, out=change)
    xp.multiply(change, 1.0 - rho, out=change)
    xp.multiply(s, rho, out=s)
    xp.add(s, change, out=s)
    xp.sqrt(s, out=change)
    xp.add(change, eps, out=change)
    xp.divide(g, change, out=change)
    xp.multiply(change, lr, out=change)
    xp.subtract(p, change, out=p)


class RMSprop(Optimizer):
    """RMSprop(net, lr): steps divided by the root of a running mean of g²."""

    moments = ("s",)
    s: Array
    definition = staticmethod(rmsprop_step)

    def __init__(
        self,
        net: Sequential,
        lr: float = 2e-4,
        *,
        rho: float = 0.9,
        eps: float = 1e-8,
        l2: float = 0.0,
    ):
        self.rho, self.eps = (
            expect_number("RMSprop: rho", rho, "[0, 1)"),
            expect_number("RMSprop: eps", eps, "(0, 1)"),
        )
        super().__init__(net, lr, l2)

    def apply(self, p: Array, g: Array) -> None:
        self.update(p, g, self.s, self.lr, self.rho, self.eps, self.l2, self.backend)


def adam_step(
    p: Array,
    g: Array,
    m: Array,
    v: Array,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    correction1: float,
    correction2: float,
    l2: float,
    backend: Arithmetic,
) -> None:
    """m = β1·m + (1-β1)·g;  v = β2·v + (1-β2)·g²;  p -= lr·(m/correction1) / (√(v/correction2) + eps)

    p, g, m, v   (size,)
    correction1  1 - β1ᵗ at step t: m starts at 0 and is too small by this factor
    correction2  1 - β2ᵗ, the same for v
    """
    xp = backend.xp
    g = with_l2(p, g, l2, backend)
    change = backend.scratch("optimizer change", p.shape)
    xp.multiply(g, 1.0 - beta1, out=change)
    xp.multiply(m, beta1, out=m)
    xp.add(m, change, out=m)
    xp.multiply(g, g, out=change)
    xp.multiply(change, 1.0 - beta2, out=change)
    xp.multiply(v, beta2, out=v)
    xp.add(v, change, out=v)
    xp.multiply(v, 1.0 / correction2, out=change)
    xp.sqrt(change, out=change)
    xp.add(change, eps, out=change)
    xp.divide(m, change, out=change)
    xp.multiply(change, lr / correction1, out=change)
    xp.subtract(p, change, out=p)


class Adam(Optimizer):
    """Adam(net, lr): momentum over a running scale, both corrected for their start at 0.

    The paper publishes two places for its epsilon, and frameworks differ in which they took:
    eps_hat=False   lr·m̂ / (√v̂ + eps): algorithm 1; PyTorch
    eps_hat=True    lr·√(1-β2ᵗ)/(1-β1ᵗ) · m / (√v + eps): the faster form before section 2.1;
                    TensorFlow and Keras. The same but for eps, which is divided by √(1-β2ᵗ)
    Source: Kingma & Ba 2015, arXiv:1412.6980
    """

    moments = ("m", "v")
    m: Array
    v: Array
    definition = staticmethod(adam_step)

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
        self.beta1, self.beta2 = (
            expect_number("Adam: beta1", beta1, "[0, 1)"),
            expect_number("Adam: beta2", beta2, "[0, 1)"),
        )
        self.eps, self.eps_hat = expect_number("Adam: eps", eps, "(0, 1)"), eps_hat
        super().__init__(net, lr, l2)

    def apply(self, p: Array, g: Array) -> None:
        correction1, correction2 = 1.0 - self.beta1**self.steps, 1.0 - self.beta2**self.steps
        eps = self.eps / correction2**0.5 if self.eps_hat else self.eps
        self.update(
            p,
            g,
            self.m,
            self.v,
            self.lr,
            self.beta1,
            self.beta2,
            eps,
            correction1,
            correction2,
            self.l2,
            self.backend,
        )
