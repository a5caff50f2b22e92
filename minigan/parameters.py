"""Where a network's numbers live: one flat array each for parameters and gradients.

params   [ 0.W ............ | 0.b | 1.gain | 1.bias | ... ]
grads    [ the same names in the same places                ]

Layers declare what they need while the network is set up. Then the flat arrays are made, once, and
every layer gets named views into them. So an optimizer is one pass over one array, zeroing is one
fill, and a checkpoint or an all-reduce is one array. Names stay in the order of declaration.

Buffers (the running statistics of BatchNorm) are saved but not trained: they have no gradient and
are separate arrays.

An assignment, net.params["0.W"] = w or layer.W = w, copies into the view: see arrays/views.py.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import numpy as np

from minigan.arrays import Array, Backend, Shape
from minigan.arrays.views import ArrayHolder, Views
from minigan.errors import ConfigError, RunError
from minigan.initializers import Initializer

ALIGNMENT = 64  # views start at multiples of this: whole cache lines, full-width loads on a GPU


class Store(ArrayHolder):
    """Parameters, gradients, buffers and generators of one network."""

    flat_params: Array
    flat_grads: Array

    def __init__(self, backend: Backend, rng: np.random.Generator, name: str):
        self.backend = backend
        self.rng = rng
        self.name = name
        self.version = 0  # counts updates, so that a stale backward is noticed
        self.params = Views(self, True)  # full name ("0.W") -> view into flat_params
        self.grads = Views(self, False)
        self.buffers = Views(self, False)
        self.generators = Views(self, False)  # of layers that draw (Dropout)
        self.places: dict[str, slice] = {}  # full name -> in the flat arrays
        self.path: list[str] = []
        self.declared: list[tuple[Any, str, str, np.ndarray]] = []

    @contextmanager
    def scope(self, name: str) -> Iterator[None]:
        """Prefix all names declared inside with `name.`."""
        self.path.append(name)
        yield
        self.path.pop()

    def full_name(self, name: str) -> str:
        return ".".join([*self.path, name])

    def parameter(
        self, layer: Any, name: str, shape: Shape, initializer: Initializer, *fans: int
    ) -> None:
        """Declare a trained array. After setup `layer.<name>` and `layer.d<name>` are its views.

        initializer  see initializers.py; called now, so that layers draw in order
        fans         fan_in, the inputs of one output, and fan_out, the outputs that one input
                     reaches; omit both if the initializer uses neither
        Raises ConfigError if it is not an initializer.
        """
        full_name = self.full_name(name)
        if not callable(initializer):
            raise ConfigError(
                f"{full_name}: expected an initializer such as initializers.he(), "
                f"got {initializer!r}"
            )
        try:
            shape = (*shape,)
            values = initializer(self.rng, shape, *(fans or (0, 0)))
        except (TypeError, ZeroDivisionError) as error:
            raise ConfigError(
                f"{full_name}: the initializer fails ({error}): was it called, as he()? Is the "
                "shape a tuple? Are fan_in and fan_out both given?"
            ) from error
        if not isinstance(values, np.ndarray) or values.shape != tuple(shape):
            raise ConfigError(
                f"{full_name}: expected an array {tuple(shape)} from the initializer, "
                f"got {getattr(values, 'shape', values)!r:.60}"
            )
        self.declared.append((layer, name, full_name, values))

    def buffer(self, layer: Any, name: str, shape: Shape, value: float | np.ndarray) -> None:
        """Declare an array that is saved but not trained, and set `layer.<name>` to value."""
        array = self.backend.asarray(np.full(shape, value))
        layer.hold(name, self.buffers, self.full_name(name), array)

    def generator(self, layer: Any, name: str) -> None:
        """Declare a random generator, saved with the network, and set `layer.<name>`."""
        generator = np.random.default_rng(self.rng.integers(0, 2**63, size=4))
        layer.hold(name, self.generators, self.full_name(name), generator)

    def allocate(self) -> None:
        """Make the flat arrays and hand out the views. Called once, by the network."""
        total = 0
        for _, _, full_name, values in self.declared:
            start = -(-total // ALIGNMENT) * ALIGNMENT
            total = start + values.size
            self.places[full_name] = slice(start, total)
        for name, views in (("flat_params", self.params), ("flat_grads", self.grads)):
            flat = self.backend.xp.zeros(total, self.backend.dtype)
            self.hold(name, Views(self, views.versioned), name, flat)
            for layer, attribute, full_name, values in self.declared:
                view = flat[self.places[full_name]].reshape(values.shape)
                prefix = "d" if views is self.grads else ""
                layer.hold(prefix + attribute, views, full_name, view)
        for _, _, full_name, values in self.declared:
            self.backend.put(values, self.params[full_name])
        self.declared = []

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        """A copy, whose params and grads are views of the copied flat arrays."""
        for flat, views in ((self.flat_params, self.params), (self.flat_grads, self.grads)):
            new = deepcopy(flat, memo)
            for name, view in views.items():
                memo[id(view)] = new[self.places[name]].reshape(view.shape)
        return super().__deepcopy__(memo)

    def state_arrays(self) -> list[Array]:
        """-> the arrays that survive a step."""
        return [self.flat_params, self.flat_grads, *self.buffers.values()]

    def state(self) -> dict[str, np.ndarray]:
        """-> name -> host array: parameters and buffers, which go on changing on a CPU."""
        arrays = {**self.params, **self.buffers}
        return {name: self.backend.to_host(array) for name, array in arrays.items()}

    def load_state(self, arrays: dict[str, np.ndarray], source: object) -> None:
        """Restore parameters and buffers. Raises RunError, and changes nothing, as expect_fits."""
        self.expect_fits(arrays, source)
        for name, target in {**self.params, **self.buffers}.items():
            target[...] = self.backend.asarray(arrays[name])
        self.version += 1

    def expect_fits(self, arrays: dict[str, np.ndarray], source: object) -> None:
        """Raises RunError if names, shapes or dtypes of a state belong to another network.

        source  file name, for the message
        """
        targets = {**self.params, **self.buffers}
        missing, surplus = targets.keys() - arrays.keys(), arrays.keys() - targets.keys()
        if missing or surplus:
            raise RunError(
                f"{source}: {self.name} has {min(missing or surplus)} only "
                f"{'here' if missing else 'in the file'}: it is from another architecture"
            )
        for name, target in targets.items():
            array = arrays[name]
            if tuple(array.shape) != tuple(target.shape) or array.dtype != target.dtype:
                raise RunError(
                    f"{source}: {self.name}.{name} is {array.dtype} {array.shape} in the file and "
                    f"{target.dtype} {tuple(target.shape)} here: it is from another architecture"
                )
