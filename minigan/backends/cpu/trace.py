"""A pass of a network as a list of NumPy calls, noted once and then repeated: on a CPU what cupy_graph.py is on a GPU.

In a narrow net a NumPy call takes 10 microseconds, and Python takes as long to come to it: which layer is next, where its memory lies,
how a batch is cut. All of that is the same at every step, since a step allocates nothing and its batches have one size. So in a step
that is played by a crew (numpy_crew.py) the first forward and backward pass of each kind is noted down, call by call:

    (np.multiply, (x, 0.2, out)), (np.maximum, (x, out, out)), (np.matmul, (columns, W, y)), ...

with the very arrays, views of the same memory at every step. From then on the list is gone through, and no layer is asked.
What is not a NumPy call is noted as a whole: meetings with the others, and running statistics (`entered`).

How it is noted: arrays that layers take from a Workspace are Watched, while a pass is noted. NumPy hands to their class what is to be
done with them, __array_ufunc__ and the like, and they do it and write it down. A pass may therefore compute with nothing but
what a Workspace gave, into memory that is there; one call that allocates, and the pass is not repeated but played as ever. NumPy hands
over no copy by reshape or by a list of indices, no number that is read, and nothing written into a common array: blocks do none of these.
All layers of minigan keep to that; nets with other layers are not noted (fused_runs.see_parts), nor what draws random numbers.

x, labels and dy are copied to places of their own, where the list expects them. What layers remember of a forward pass that was noted
is kept with it, and given back to them should another kind of backward pass be noted after it, since in between they may have seen other
batches.
Shown by: benchmarks/step.py --against minigan-threads
"""

from collections.abc import Callable, Iterator
from functools import partial, wraps
from typing import TYPE_CHECKING, Any

import numpy as np

from minigan.arrays.backend import Array
from minigan.backends.cpu.backend import NumpyBackend
from minigan.backends.cpu.blocks import Block
from minigan.backends.fusion import see_parts
from minigan.errors import StateError
from minigan.layers import Sequential
from minigan.layers.sequential import backward_pass as backward_definition
from minigan.layers.sequential import forward_pass as forward_definition

if TYPE_CHECKING:
    from minigan.backends.cpu.crew import Crew


class Tape:
    """The calls of one pass.

    result      what the pass gave: the same memory at every time
    whole       could all of it be noted?
    remembered  by the steps of the network when it was over: (attributes, a copy of them)
    named       likewise the memory of their Workspaces by name, such as Winograd's tiles
    """

    def __init__(self, given: tuple[Array | None, ...], may_be_noted: bool):
        self.calls: list[tuple[Callable[..., Any], tuple[Any, ...]]] = []
        self.places = [
            None if array is None or not may_be_noted else np.empty(array.shape, array.dtype)
            for array in given
        ]
        self.result: Any = None
        self.whole = may_be_noted
        self.remembered: list[tuple[dict[Any, Any], dict[Any, Any]]] = []
        self.named: list[tuple[dict[Any, Any], dict[Any, Any]]] = []

    def note_down(
        self, backend: NumpyBackend, work: Callable[..., Any], given: tuple[Array | None, ...]
    ) -> None:
        """Play work(*given), and note what it does."""
        self.put(given)
        Watched.tape = backend.tape = self
        try:
            self.result = plain(
                work(*(None if place is None else place.view(Watched) for place in self.places))
            )
        finally:
            Watched.tape = backend.tape = None

    def note(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.calls.append((function, arguments))

    def put(self, given: tuple[Array | None, ...]) -> None:
        for place, array in zip(self.places, given, strict=True):
            if place is not None and array is not None:
                np.copyto(place, array)

    def remind(self, named: bool = False) -> None:
        """Give the steps of the network back what they remembered, and with `named` what they find in their Workspaces."""
        for memory, remembered in self.remembered + (self.named if named else []):
            memory.update(remembered)

    def play(self, given: tuple[Array | None, ...]) -> Any:
        self.put(given)
        for function, arguments in self.calls:
            function(*arguments)
        return self.result


class Watched(np.ndarray):
    """An array that writes down what is done with it, on `tape`."""

    tape: Tape | None = None  # of all of them: passes are noted one at a time

    def __array_ufunc__(
        self, ufunc: Any, method: str, *inputs: Any, out: tuple[Any, ...] = (), **options: Any
    ) -> Any:
        arguments, function = (
            tuple(map(plain, inputs)),
            ufunc if method == "__call__" else getattr(ufunc, method),
        )
        if out:
            options["out"] = tuple(map(plain, out))
        result = function(*arguments, **options)
        if self.tape is not None:
            self.tape.whole = self.tape.whole and bool(out)
            self.tape.note(partial(function, **options), *arguments)
        return (out[0] if len(out) == 1 else out) if out else result

    def __array_function__(self, function: Any, types: Any, arguments: Any, options: Any) -> Any:
        simple, named = (
            tuple(map(plain, arguments)),
            {name: plain(value) for name, value in options.items()},
        )
        result = function(*simple, **named)
        if self.tape is not None:
            self.tape.whole = self.tape.whole and function is np.copyto
            self.tape.note(partial(function, **named), *simple)
        return result

    def __setitem__(self, index: Any, value: Any) -> None:
        target = plain(self)[index]
        if not isinstance(target, np.ndarray):  # one number: a view of it
            target = plain(self)[(*index, ...) if isinstance(index, tuple) else (index, ...)]
        np.copyto(target, plain(value))
        if self.tape is not None:
            self.tape.note(np.copyto, target, plain(value))

    def fill(self, value: Any) -> None:
        plain(self).fill(value)
        if self.tape is not None:
            self.tape.note(plain(self).fill, value)

    def copy(self, *arguments: Any) -> Any:
        return self.unnoted(np.ndarray.copy, *arguments)

    def astype(self, *arguments: Any, **options: Any) -> Any:
        return self.unnoted(np.ndarray.astype, *arguments, **options)

    def unnoted(self, method: Any, *arguments: Any, **options: Any) -> Any:
        """What makes another array cannot be repeated."""
        if self.tape is not None:
            self.tape.whole = False
        return method(plain(self), *arguments, **options)


def plain(value: Any) -> Any:
    """-> a Watched array as a common one, those of a list too; anything else as it is"""
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    return value.view(np.ndarray) if isinstance(value, Watched) else value


def entered(method: Callable[..., Any]) -> Callable[..., Any]:
    """A method of Crew that is noted as one call, whatever it does. What it gives must be the same at every step."""

    @wraps(method)
    def call(self: Any, *arguments: Any) -> Any:
        tape, Watched.tape = Watched.tape, None
        try:
            simple = tuple(map(plain, arguments))
            result = method(self, *simple)
            if tape is not None:
                tape.note(of_present_crew, self.backend, method, result, *simple)
            return result
        finally:
            Watched.tape = tape

    return call


def of_present_crew(
    backend: NumpyBackend, method: Callable[..., Any], expected: Any, *arguments: Any
) -> None:
    """Of the crew that plays: another may be forked before a tape is played again. Raises StateError where it gives something else."""
    if method(backend.crew, *arguments) != expected:
        raise StateError(
            "a captured step must give a network batches of the same sizes, in all processes together, at every time"
        )


def innermost(steps: list[Any]) -> Iterator[Any]:
    """-> yields steps of a network, those of networks within it too"""
    for step in steps:
        yield from innermost(step.steps) if isinstance(step, Sequential) else [step]


def play(
    crew: "Crew", key: Any, net: Sequential, work: Callable[..., Any], *given: Array | None
) -> Any:
    """work(*given), a pass of a network: by its tape, or noted on one."""
    tape = crew.tapes.get(key)
    if tape is None:
        tape = crew.tapes[key] = Tape(
            given, may_be_noted=type(net) is Sequential and see_parts(net.steps, Block)
        )
        if tape.whole:
            try:
                tape.note_down(crew.backend, work, given)
            except BaseException:
                del crew.tapes[key]
                raise
            for step in innermost(net.steps):
                tape.remembered.append((step.__dict__, dict(step.__dict__)))
                tape.named.append((step.memory.memory, dict(step.memory.memory)))
            return tape.result
    return tape.play(given) if tape.whole else work(*given)


# -- in the place of the definitions in layers/sequential.py ------------------------------------


def forward_pass(net: Sequential, x: Array, train: bool) -> Array:
    """As forward_pass in layers/sequential.py."""
    assert isinstance(net.backend, NumpyBackend)
    crew, store = net.backend.crew, net.ready()
    if crew is None:
        return forward_definition(net, x, train)

    def work(x: Array, labels: Array | None) -> Array:
        given, store.labels = store.labels, labels
        try:
            return forward_definition(net, x, train)
        finally:
            store.labels = given

    key = crew.passes[id(net)] = (
        store,
        train,
        len(x),
        crew.fellows.start,
        crew.fellows.stop,
        *crew.rows,
    )
    result: Array = play(crew, key, net, work, x, store.labels)
    return result


def backward_pass(net: Sequential, dy: Array, need_dx: bool, need_dw: bool) -> Array | None:
    """As backward_pass in layers/sequential.py."""
    assert isinstance(net.backend, NumpyBackend)
    crew = net.backend.crew
    if crew is None or id(net) not in crew.passes:
        return backward_definition(net, dy, need_dx, need_dw)

    def work(dy: Array) -> Array | None:
        return backward_definition(net, dy, need_dx, need_dw)

    forward = crew.passes[id(net)]
    before, key = crew.tapes[forward], (forward, need_dx, need_dw)
    if not before.whole:
        return work(dy)
    if key not in crew.tapes or not crew.tapes[key].whole:
        before.remind(named=True)
    result: Array | None = play(crew, key, net, work, dy)
    return result
