"""Sequential: layers one after the other, and the chain rule backward through them.

    y = f_k(... f_2(f_1(x)))        forward, first to last
    dx = f_1'(f_2'(... f_k'(dy)))   backward, last to first

A Sequential is a network: it owns the flat arrays of parameters and gradients, and its forward and
backward validate their arrays once, at the entry. Inside another Sequential it is an ordinary
layer.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import copy, deepcopy
from typing import Any, Protocol

from minigan.arrays.views import Views
from minigan.checks import expect_one_hot, expect_size, ignore_float_errors
from minigan.concurrency import InUse
from minigan.errors import ConfigError, ShapeError, StateError
from minigan.layers.base import Array, Backend, Generator, Layer, Shape
from minigan.parameters import Store


class Step(Protocol):
    """One step of a pass: a layer, or a backend's replacement for several; see `plan`."""

    has_parameters: bool
    takes_labels: bool

    @property
    def forward(self) -> Callable[..., Array]: ...  # (x, train), with takes_labels also labels

    @property
    def backward(self) -> Callable[..., Array | None]: ...  # (dy, need_dx, need_dw)


class Sequential(Layer):
    """Sequential([layer, layer, ...], name="D")

    After setup, as the outermost container:
    params, grads, buffers   name ("0.W", "1.gain", ...) -> array; an assignment copies into it
    store                    the flat arrays; see parameters.py
    classes                  of the labels that forward expects; 0: none
    """

    not_copied = ("saved", "steps", "batch")
    steps: Sequence[Step]
    classes = 0
    is_inner = False  # set up as a part of another network
    batch: int | None = None  # rows of the last forward, if backward may follow
    version: int  # of the parameters in that forward

    def __init__(self, layers: Iterable[Layer], name: str = "net"):
        if not isinstance(layers, Iterable):
            raise ConfigError(
                f"{name}: expected a list of layers, got {type(layers).__name__}: "
                "Sequential([layer, layer, ...])"
            )
        if not isinstance(name, str):
            raise ConfigError(f"Sequential: name must be text, got {name!r}")
        self.parts = tuple(layers)
        self.name, self.in_use = name, InUse(name)
        self.store: Store | None = None  # only the outermost container has one
        if not self.layers:
            raise ConfigError(f"{name}: a Sequential needs at least one layer")
        for layer in self.layers:
            if not isinstance(layer, Layer):
                raise ConfigError(
                    f"{name}: expected layers, got {layer!r}: "
                    "derive it from minigan.Layer, and pass an instance"
                )
        if len(set(map(id, self.layers))) < len(self.layers):
            raise ConfigError(f"{name}: one layer instance appears twice: make one for each place")

    @ignore_float_errors
    def setup(
        self, in_shape: Shape, *, backend: Backend, rng: Generator, store: Store | None = None
    ) -> Shape:
        """in_shape without the batch axis, (28, 28, 1) -> out_shape. Makes all parameters.

        backend  from get_backend
        rng      numpy.random.Generator, for the initial values
        store    passed by an outer container only
        Raises ShapeError: a layer cannot take the output of the one before it;
        StateError: a layer, or this network itself, already belongs to another network.
        """
        if store is not None and self.store is not None:
            raise StateError(f"{self.name}: is a network already: put new layers into {store.name}")
        self.is_inner = store is not None
        if store is None:
            if self.container is not None:
                raise StateError(f"{self.name}: is a part of another network: set up that one")
            in_shape = expect_shape(self.name, in_shape)
            expect_kind(self.name, "backend", backend, Backend, 'get_backend("numpy")')
            expect_kind(self.name, "rng", rng, Generator, "numpy.random.default_rng(seed)")
            self.store = None  # a setup that fails halfway leaves no network
            store = Store(backend, rng, self.name)
        super().setup(in_shape, backend=backend, rng=rng, store=store)
        shape = self.in_shape
        for i, layer in enumerate(self.layers):
            if layer.container not in (None, self):
                raise StateError(
                    f"{self.name}: layer {i}, {layer.describe()}, belongs to another network: "
                    "make a new one"
                )
            layer.container = self
            with store.scope(str(i)):
                layer.path = ".".join([store.name, *store.path])
                layer.held, layer.backend, layer.in_shape = {}, backend, shape
                before = len(store.declared)
                shape = layer.setup(shape, backend=backend, rng=rng, store=store)
                shape = layer.out_shape = expect_shape(layer.label, shape)
                layer.has_parameters = len(store.declared) > before
        self.out_shape = shape
        self.set_classes()
        self.steps = backend.operation_for(plan)(self.layers, backend)
        self.batch = None
        if not self.is_inner:
            store.allocate()
            self.store = store
        return shape

    @property
    def layers(self) -> tuple[Layer, ...]:
        """-> the layers; they stay the same, because setup connects them."""
        return self.parts

    def leaves(self) -> Iterator[Layer]:
        """-> yields the layers in order; for a network among them, its own leaves."""
        for layer in self.layers:
            yield from layer.leaves() if isinstance(layer, Sequential) else [layer]

    def set_classes(self) -> None:
        """Find out how many classes the layers that take labels expect; they must agree."""
        found = {getattr(layer, "classes", 0) for layer in self.layers if layer.takes_labels}
        if 0 in found:
            raise ConfigError(f"{self.name}: a layer that takes labels needs their number, classes")
        if len(found) > 1:
            raise ShapeError(
                f"{self.name}: layers expect labels of {' and '.join(map(str, sorted(found)))} "
                "classes: a network has one set of labels"
            )
        self.classes = max(found, default=0)
        self.takes_labels = any(layer.takes_labels for layer in self.layers)

    def on(self, backend: Backend) -> "Sequential":
        """-> this network on another backend of the same arrays, as a captured step needs it.

        Layers and parameters are shared; the steps and their memory are not.
        """
        if backend is self.backend:
            return self
        other = copy(self)
        other.backend, other.batch = backend, None
        other.parts = tuple(
            layer.on(backend) if isinstance(layer, Sequential) else layer for layer in self.layers
        )
        other.steps = backend.operation_for(plan)(other.layers, backend)
        return other

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        """A copy with its own arrays, on the same backend; call forward before backward."""
        deepcopy(self.store, memo)  # first, because layers hold views of its arrays
        other = super().__deepcopy__(memo)
        if "steps" in vars(self):
            other.steps = other.backend.operation_for(plan)(other.layers, other.backend)
        return other

    @property
    def params(self) -> Views:
        return self.ready().params

    @property
    def grads(self) -> Views:
        return self.ready().grads

    @property
    def buffers(self) -> Views:
        return self.ready().buffers

    def zero_grads(self) -> None:
        """Set every gradient to 0: backward adds, so call this before an update's backward."""
        self.ready().flat_grads.fill(0)

    def ready(self) -> Store:
        """-> the store; raises StateError before setup."""
        if self.store is None:
            if self.container is not None:
                raise StateError(f"{self.name}: is a part of another network: use that one")
            raise StateError(
                f"{self.name}: call setup(in_shape, backend=..., rng=...) of the outermost "
                "container first"
            )
        return self.store

    def forward(self, x: Array, train: bool = True, labels: Array | None = None) -> Array:
        """x (n, *in_shape) -> y (n, *out_shape), the caller's to keep.

        train   True: BatchNorm uses the batch's statistics, Dropout draws; False: for sampling
        labels  (n, classes), one-hot: for a network with AppendLabels, and for no other
        Do not change x until backward is done with it.
        A network within another one may be called alone: then y is valid until the next pass, and
        the outer network has to call forward again before backward.
        Raises ArrayTypeError, ShapeError, ConfigError; StateError before setup, or if another
        thread uses this network at the moment.
        """
        if self.is_inner:  # the outermost container has validated x
            outer: Any = self
            while outer.container is not None:
                outer = outer.container
            outer.batch = None
            return forward_pass(self.steps, x, train, labels)
        store = self.ready()
        self.backend.guard(x, self.in_shape, next(self.leaves()).label, "x")
        self.expect_labels(labels, len(x))
        with self.in_use:
            self.batch = None  # if this forward fails, backward must not run
            y = forward_pass(self.steps, x, train, labels)
            self.batch, self.version = len(x), store.version
            return self.backend.copy_out(y, "y")

    def backward(self, dy: Array, need_dx: bool = True, need_dw: bool = True) -> Array | None:
        """dy (n, *out_shape), gradient of the mean loss -> dx (n, *in_shape), or None.

        need_dw  add into the gradients; otherwise they stay unchanged, bit for bit
        Raises StateError: no forward before it, the parameters were updated since, or another
        thread uses this network; ShapeError, ArrayTypeError: dy does not fit the last forward.
        """
        if self.is_inner:
            return backward_pass(self.steps, dy, need_dx, need_dw)
        store = self.ready()
        if self.batch is None:
            raise StateError(f"{self.name}: backward before forward: call forward(x) first")
        if self.version != store.version:
            raise StateError(
                f"{self.name}: the parameters were updated since the last forward: call forward(x) "
                "again, or this would be the gradient of a network that no longer exists"
            )
        self.backend.guard(dy, self.out_shape, self.name, "dy")
        if len(dy) != self.batch:
            raise ShapeError(
                f"{self.name}: expected dy for the {self.batch} samples of the last forward, "
                f"got {len(dy)}"
            )
        with self.in_use:
            dx = backward_pass(self.steps, dy, need_dx, need_dw)
            return None if dx is None else self.backend.copy_out(dx, "dx")

    def expect_labels(self, labels: Array | None, n: int) -> None:
        """Raises unless labels fit the network: one row for each of n samples."""
        if labels is None and self.classes:
            raise ConfigError(
                f"{self.name}: expected labels (n, {self.classes}), got none: "
                "call forward(x, labels=one-hot array)"
            )
        if labels is not None:
            if not self.classes:
                raise ConfigError(
                    f"{self.name}: got labels, but no AppendLabels layer takes them: leave them out"
                )
            expect_one_hot(self.name, labels, self.classes)
            self.backend.guard(labels, (self.classes,), self.name, "labels")
            if len(labels) != n:
                raise ShapeError(f"{self.name}: expected labels for {n} samples, got {len(labels)}")

    def describe(self) -> str:
        return f"Sequential of {len(self.layers)}"

    def count(self, layer: int | None = None) -> tuple[int, int]:
        """-> number of trained values, and of running statistics, in one layer or in all."""
        prefix = "" if layer is None else f"{layer}."

        def size(arrays: Views) -> int:
            return sum(array.size for name, array in arrays.items() if name.startswith(prefix))

        return size(self.params), size(self.buffers)

    def summary(self) -> str:
        """-> table of layers, output shapes and parameters (with running statistics, as Keras)."""
        self.ready()
        rows = [(f"{self.name}: input", str(self.in_shape), "")]
        for i, layer in enumerate(self.layers):
            size = sum(self.count(i))
            rows.append((f"{i} {layer.describe()}", str(layer.out_shape), f"{size:,}" * (size > 0)))
        trained, kept = self.count()
        rows.append(("parameters", f"{trained:,} trained, {kept:,} not", f"{trained + kept:,}"))
        a, b, c = (max(len(row[column]) for row in rows) for column in range(3))
        return "\n".join(f"{x:<{a}}  {y:<{b}}  {z:>{c}}".rstrip() for x, y, z in rows)


def plan(layers: Sequence[Layer], backend: Backend) -> Sequence[Step]:
    """-> the steps of a network's passes: the layers, one by one.

    Fast versions: backends/cpu/blocks.py, backends/cpu/trace.py, backends/gpu/blocks.py
    """
    return layers


@ignore_float_errors
def forward_pass(steps: Sequence[Step], x: Array, train: bool, labels: Array | None) -> Array:
    """x -> y, through all steps. Raises as Backend.guard for a layer that gives something else."""
    for step in steps:
        x = step.forward(x, train, labels) if step.takes_labels else step.forward(x, train)
        if isinstance(step, Layer):
            step.backend.guard(x, step.out_shape, step.label, "the y of forward")
    return x


@ignore_float_errors
def backward_pass(steps: Sequence[Step], dy: Array, need_dx: bool, need_dw: bool) -> Array | None:
    """dy -> dx, or None: back through the steps, as far as one is needed. Raises likewise."""
    if not need_dx and not need_dw:
        return None
    last = 0
    if not need_dx:  # no further than the first step with parameters
        last = next((i for i, step in enumerate(steps) if step.has_parameters), len(steps))
    dx: Array | None = dy
    for i in range(len(steps) - 1, last - 1, -1):
        step, is_needed = steps[i], need_dx or i > last
        dx = step.backward(dx, is_needed, need_dw)
        if is_needed and isinstance(step, Layer):
            step.backend.guard(dx, step.in_shape, step.label, "the dx of backward")
    return dx if need_dx else None


def expect_shape(label: str, shape: Any) -> Shape:
    """-> shape as a tuple of whole numbers; raises ShapeError."""
    if not isinstance(shape, (tuple, list)) or not shape:
        raise ShapeError(
            f"{label}: expected a shape without the batch axis such as (28, 28, 1), got {shape!r}"
        )
    try:
        return tuple(expect_size(label, extent) for extent in shape)
    except ConfigError:
        message = f"{label}: expected a shape of whole numbers above 0, got {shape!r}"
        raise ShapeError(message) from None


def expect_kind(label: str, name: str, value: Any, kind: type, cure: str) -> None:
    """Raises ConfigError unless value is of this kind."""
    if not isinstance(value, kind):
        raise ConfigError(f"{label}: expected {name} from {cure}, got {value!r}")
