"""Arrays that stay in place: an assignment copies into them.

    net.params["0.W"] = w        layer.W = w        layer.W += 1        optimizer.m = m

A layer's W is a view of a flat array that the optimizer updates. CUDA graphs and other processes
keep its address, too. So no name of such an array is ever bound to another one.
"""

from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any, NoReturn

import numpy as np

from minigan.arrays.types import Array
from minigan.checks import did_you_mean
from minigan.copying import Copyable
from minigan.errors import ArrayTypeError, ConfigError, ShapeError, StateError


class Views(Copyable, MutableMapping[str, Array]):
    """Name -> array of its owner, a network's store. An assignment copies into the array.

    versioned  does a change make the results of earlier forward passes stale?
    """

    def __init__(self, owner: Any, versioned: bool):
        self.owner, self.versioned = owner, versioned
        self.arrays: dict[str, Array] = {}

    def __getitem__(self, name: str) -> Array:
        return self.arrays[name]

    def __setitem__(self, name: str, value: Any) -> None:
        """The array `name` = value: numbers of the same shape, on the host or on the backend.

        Raises ArrayTypeError, ShapeError, ConfigError (no such name); then nothing changes.
        """
        target, label = self.arrays.get(name), f"{self.owner.name}.{name}"
        if target is None:
            raise ConfigError(f"{label} does not exist{did_you_mean(name, self.arrays)}")
        if value is not target:  # it is after +=, which has changed the array itself
            target[...] = self.converted(value, target, label)
        self.owner.version += self.versioned

    def converted(self, value: Any, target: Any, label: str) -> Array:
        """-> a copy of value, which may overlap the target, in the target's dtype."""
        backend = self.owner.backend
        if isinstance(target, np.random.Generator):
            raise StateError(f"{label} cannot be replaced: set its bit_generator.state")
        try:
            values = value if backend.is_array(value) else np.asarray(value)
            if values.dtype.kind not in "fiu":
                raise TypeError(f"got dtype {values.dtype}")
            if values.shape != target.shape:
                raise ShapeError(f"{label}: expected shape {target.shape}, got {values.shape}")
            with np.errstate(all="ignore", over="raise"):
                return backend.asarray(values.astype(target.dtype))
        except ShapeError:
            raise
        except (TypeError, ValueError, RuntimeError, FloatingPointError) as error:
            raise ArrayTypeError(f"{label}: expected {target.dtype} numbers: {error}") from error

    def __delitem__(self, name: str) -> None:
        raise StateError(f"{self.owner.name}.{name} cannot be removed: it belongs to a layer")

    def __iter__(self) -> Iterator[str]:
        return iter(self.arrays)

    def __len__(self) -> int:
        return len(self.arrays)

    def __or__(self, other: Mapping[str, Array]) -> dict[str, Array]:
        return {**self, **other}

    def __ior__(self, other: Any) -> NoReturn:  # type: ignore[misc]
        raise StateError(f"{self.owner.name}: expected update() instead of |=")

    def __repr__(self) -> str:
        return repr(self.arrays)


class ArrayHolder(Copyable):
    """Base of objects with attributes that are such arrays: a layer's W, an optimizer's moments."""

    held: Mapping[str, tuple[Views, str]] = {}  # attribute -> the mapping and its name there

    def hold(self, attribute: str, views: Views, name: str, array: Array) -> None:
        """Make an array an attribute that stays in place, and an entry of views."""
        if attribute in self.held or name in views:
            raise ConfigError(f"{views.owner.name}.{name} is declared twice: choose another name")
        views.arrays[name] = array
        super().__setattr__(attribute, array)
        self.held = {**self.held, attribute: (views, name)}

    def __setattr__(self, attribute: str, value: Any) -> None:
        if attribute in self.held:
            views, name = self.held[attribute]
            views[name] = value
        else:
            super().__setattr__(attribute, value)
