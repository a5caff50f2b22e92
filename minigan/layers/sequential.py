"""Sequential: layers one after the other, and the chain rule backwards through them.

    y = f_k(... f_2(f_1(x)))        forward, first to last
    dx = f_1'(f_2'(... f_k'(dy)))   backward, last to first

A Sequential is a network: it owns the flat arrays of parameters and gradients, and
its forward and backward are the door at which arrays are checked, once. Inside of
another Sequential it is a layer as any other.
"""

from collections.abc import Iterable
from typing import Any, Protocol

from minigan.errors import ConfigError, ShapeError, StateError
from minigan.layers.base import Array, Backend, Generator, Layer, Shape
from minigan.parameters import Store


class Step(Protocol):
    """What forward and backward go through: a layer, or several in one; see `plan`."""

    has_parameters: bool

    def forward(self, x: Array, train: bool = True) -> Array: ...

    def backward(self, dy: Array, need_dx: bool = True, need_dw: bool = True) -> Array | None: ...


class Sequential(Layer):
    """Sequential([layer, layer, ...], name="D")

    After setup, as the outermost container:
    params, grads, buffers   name ("0.W", "1.gain", ...) -> array view, writable in place
    store                    with the flat arrays; see parameters.py
    """

    steps: list[Step]
    first_trained: int
    x: Array | None  # of the last forward, where backward may follow
    version: int  # of the parameters in it

    def __init__(self, layers: Iterable[Layer], name: str = "net"):
        if not isinstance(layers, Iterable):
            raise ConfigError(
                f"{name}: expected a list of layers, got {type(layers).__name__}: Sequential([layer, layer, ...])"
            )
        self.layers = list(layers)
        self.name = name
        self.store: Store | None = None  # only the outermost container has one
        if not self.layers:
            raise ConfigError(f"{name}: a Sequential needs at least one layer")
        for layer in self.layers:
            if not isinstance(layer, Layer):
                raise ConfigError(
                    f"{name}: expected layers, got {layer!r}: derive it from minigan.Layer, and give an instance"
                )
        if len({id(layer) for layer in self.layers}) < len(self.layers):
            raise ConfigError(
                f"{name}: the same layer instance stands twice: make one for each place"
            )

    def setup(
        self, in_shape: Shape, *, backend: Backend, rng: Generator, store: Store | None = None
    ) -> Shape:
        """in_shape without the batch axis, (28, 28, 1) -> out_shape. Makes all parameters.

        backend  from get_backend
        rng      numpy.random.Generator, for the initial values
        store    given by an outer container only
        Raises ShapeError: a layer cannot take what the one before it gives;
        StateError: a layer is another network's already.
        """
        if store is not None and self.store is not None:
            raise StateError(
                f"{self.name}: is set up as a network of its own: put new layers into {store.name}"
            )
        outermost = store is None
        if store is None:
            in_shape = expect_shape(self.name, in_shape)
            expect_kind(self.name, "backend", backend, Backend, 'get_backend("numpy")')
            expect_kind(self.name, "rng", rng, Generator, "numpy.random.default_rng(seed)")
            self.store = None  # a setup that fails half way leaves no network
            store = Store(backend, rng, self.name)
        super().setup(in_shape, backend=backend, rng=rng, store=store)
        shape = self.in_shape
        for i, layer in enumerate(self.layers):
            if layer.container not in (None, self):
                raise StateError(
                    f"{self.name}: layer {i}, {layer.describe()}, is part of another network: make a new one"
                )
            layer.container = self
            with store.scope(str(i)):
                layer.path = ".".join([store.name, *store.path])
                before = len(store.declared)
                shape = layer.setup(shape, backend=backend, rng=rng, store=store)
                layer.has_parameters = len(store.declared) > before
                layer.out_shape = shape
        self.out_shape = shape
        self.steps = backend.implementation(plan)(self.layers, backend)
        # backward without dx ends at the first step that has something to learn
        self.first_trained = next(
            (i for i, step in enumerate(self.steps) if step.has_parameters), len(self.steps)
        )
        if outermost:
            store.allocate()
            self.store = store
            self.x = None
        return shape

    @property
    def params(self) -> dict[str, Array]:
        return self.ready().params

    @property
    def grads(self) -> dict[str, Array]:
        return self.ready().grads

    @property
    def buffers(self) -> dict[str, Array]:
        return self.ready().buffers

    def zero_grads(self) -> None:
        """Set every gradient to 0: backward adds, so call this before each update's first backward."""
        self.ready().flat_grads.fill(0)

    def ready(self) -> Store:
        """-> the store; raises StateError before setup."""
        if self.store is None:
            raise StateError(
                f"{self.name}: call setup(in_shape, backend=..., rng=...) of the outermost container first"
            )
        return self.store

    def forward(self, x: Array, train: bool = True, labels: Array | None = None) -> Array:
        """x (n, *in_shape) -> y (n, *out_shape), the caller's own: no later call changes it.

        train   True: BatchNorm takes the batch's statistics, Dropout draws; False: for sampling
        labels  (n, classes), one-hot: for a network with AppendLabels, and for no other
        x must stay as it is until backward is done with it.
        Raises ArrayTypeError, ShapeError, StateError, ConfigError.
        """
        if self.container is not None:  # the door was passed
            return forward_pass(self, x, train)
        store = self.ready()
        self.backend.guard(x, self.in_shape, self.first_label(), "x")
        self.x = None  # a forward that fails leaves nothing to go back through
        store.labels = self.expect_labels(labels, len(x), store.classes)
        y = self.backend.implementation(forward_pass)(self, x, train)
        self.x, self.version = x, store.version
        return self.hand_over(y, "y")

    def backward(self, dy: Array, need_dx: bool = True, need_dw: bool = True) -> Array | None:
        """dy (n, *out_shape), gradient of the mean loss -> dx (n, *in_shape), or None without need_dx.

        need_dw  add into the gradients; without it they stay bit for bit as they are
        Raises StateError: no forward before it, or the parameters were updated since.
        """
        if self.container is not None:
            return backward_pass(self, dy, need_dx, need_dw)
        store = self.ready()
        if self.x is None:
            raise StateError(f"{self.name}: backward before forward: call forward(x) first")
        if self.version != store.version:
            raise StateError(
                f"{self.name}: the parameters were updated since the last forward: call forward(x) again, "
                "or this would be the gradient of a network that no longer exists"
            )
        self.backend.guard(dy, self.out_shape, self.name, "dy")
        if len(dy) != len(self.x):
            raise ShapeError(
                f"{self.name}: expected dy of the {len(self.x)} samples of the last forward, got {len(dy)}"
            )
        dx = self.backend.implementation(backward_pass)(self, dy, need_dx, need_dw)
        return None if dx is None else self.hand_over(dx, "dx")

    def expect_labels(self, labels: Array | None, n: int, classes: int) -> Array | None:
        """-> labels; raises unless they are what the network wants, one row for each of n samples."""
        if labels is None and classes:
            raise ConfigError(
                f"{self.name}: expected labels (n, {classes}), got none: call forward(x, labels=one-hot array)"
            )
        if labels is not None:
            if not classes:
                raise ConfigError(
                    f"{self.name}: got labels, but has no AppendLabels layer to take them: leave them out"
                )
            self.backend.guard(labels, (classes,), self.name, "labels")
            if len(labels) != n:
                raise ShapeError(
                    f"{self.name}: expected labels of the {n} samples of x, got {len(labels)}"
                )
        return labels

    def hand_over(self, values: Array, name: str) -> Array:
        """Copy out of the layers' memory, which the next call overwrites -> array for the caller to keep."""
        result = self.memory.fresh(name, values.shape)
        result[...] = values
        return result

    def first_label(self) -> str:
        """-> the first layer with a name of its own, for the message about x."""
        layer = self.layers[0]
        return layer.first_label() if isinstance(layer, Sequential) else layer.label

    def describe(self) -> str:
        return f"Sequential of {len(self.layers)}"

    def count(self, layer: int | None = None) -> tuple[int, int]:
        """-> numbers that are trained, and numbers that are kept besides (running statistics); of one layer, or of all."""

        def size(arrays: dict[str, Array]) -> int:
            return sum(
                array.size
                for name, array in arrays.items()
                if layer is None or name.split(".")[0] == str(layer)
            )

        return size(self.params), size(self.buffers)

    def summary(self) -> str:
        """-> table of layers, output shapes and parameters, running statistics counted in as Keras does; as text."""
        rows = [(f"{self.name}: input", str(self.in_shape), "")]
        for i, layer in enumerate(self.layers):
            size = sum(self.count(i))
            rows.append(
                (f"{i} {layer.describe()}", str(layer.out_shape), f"{size:,}" if size else "")
            )
        trained, kept = self.count()
        rows.append(("parameters", f"{trained:,} trained, {kept:,} not", f"{trained + kept:,}"))
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        return "\n".join(
            f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c:>{widths[2]}}".rstrip() for a, b, c in rows
        )


def plan(layers: list[Layer], backend: Backend) -> list[Step]:
    """-> the steps that forward and backward go through: the layers, one by one.

    A backend may put a step of its own in the place of several layers that stand together. It has
    their forward, backward and has_parameters, and must give what they would, one after the other.
    """
    return list(layers)


def forward_pass(net: Sequential, x: Array, train: bool) -> Array:
    """x -> y in the layers' memory, through all steps."""
    for step in net.steps:
        x = step.forward(x, train)
    return x


def backward_pass(net: Sequential, dy: Array, need_dx: bool, need_dw: bool) -> Array | None:
    """dy -> dx in the layers' memory, or None; back through the steps as far as somebody wants to know."""
    if not need_dx and not need_dw:
        return None
    last = 0 if need_dx else net.first_trained
    for i in range(len(net.steps) - 1, last - 1, -1):
        dy = net.steps[i].backward(dy, need_dx=need_dx or i > last, need_dw=need_dw)
    return dy if need_dx else None


def expect_shape(label: str, shape: Any) -> Shape:
    """-> shape as a tuple of whole numbers; raises ShapeError."""
    if not isinstance(shape, (tuple, list)) or not shape:
        raise ShapeError(
            f"{label}: expected a shape without the batch axis such as (28, 28, 1), got {shape!r}"
        )
    for extent in shape:
        if isinstance(extent, bool) or not hasattr(extent, "__index__") or extent < 1:
            raise ShapeError(
                f"{label}: expected a shape of whole numbers of at least 1, got {shape!r}"
            )
    return tuple(int(extent) for extent in shape)


def expect_kind(label: str, what: str, value: Any, kind: type, cure: str) -> None:
    """Raises ConfigError unless value is of this kind."""
    if not isinstance(value, kind):
        raise ConfigError(f"{label}: expected {what} as from {cure}, got {value!r}")
