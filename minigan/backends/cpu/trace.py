"""Trace and replay: a pass of a network as a list of NumPy calls, recorded once.

In a narrow net a NumPy call takes 10 microseconds, and Python takes as long to reach it: it finds
the next layer, its memory, the chunks of the batch. All of that is the same at every step, because
a step allocates nothing and its batches have one size. So in a captured step (parallel_step.py) the
first forward and backward pass of each kind is recorded, call by call:

    (np.multiply, (x, 0.2, out)), (np.add, (y, b, y)), (np.matmul, (columns, W, y)), ...

with the same arrays, views of the same memory, at every step. From then on the list is replayed,
and no layer runs. On a GPU a CUDA graph does the same: backends/gpu/graph.py.

The kernels of this folder compute through `backend.xp`. In a captured step that is TracingNumPy,
which calls NumPy and, while a pass is recorded, keeps the call. The rules for a kernel:

    - write only through xp, with out= or xp.copyto: `y[...] = x` would not be recorded. A function
      of xp that returns a new array raises StateError
    - everything else (shapes, views, which chunk is next) depends on shapes alone
    - whatever is not a NumPy call, such as an all-reduce, goes through backend.opaque_call

Inputs are copied to fixed places, where the list expects them. The values that a forward pass saves
for the backward pass (`saved` of each step) are kept with its trace and restored at each replay.
Shown by: benchmarks/step.py --against minigan-threads
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from minigan.arrays import Array
from minigan.backends.cpu import blocks
from minigan.backends.cpu.backend import CpuBackend
from minigan.backends.fusion import is_exactly, sees_samples_alone
from minigan.backends.steps import StepAround
from minigan.errors import StateError
from minigan.layers import Layer, Sequential, sequential
from minigan.layers.sequential import Step, backward_pass, forward_pass
from minigan.parallel.group import Group

Calls = list[tuple[Callable[..., Any], tuple[Any, ...]]]
ALLOCATIONS = (np.empty, np.zeros)  # of memory that stays: not part of a pass
OUT_BY_NAME = (np.maximum, np.minimum)  # NumPy 2.4 warns if they get it by position


class TracingNumPy:
    """The part of numpy that kernels use; keeps their calls while a pass is recorded."""

    calls: Calls | None = None  # of the pass that is being recorded

    def __getattr__(self, name: str) -> Any:
        value = getattr(np, name)
        if callable(value) and not isinstance(value, type) and value not in ALLOCATIONS:
            value = TracedFunction(self, value)
        setattr(self, name, value)  # looked up once
        return value

    def opaque_call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """function(*arguments), replayed as one call; its result must be the same every time."""
        calls, self.calls = self.calls, None
        try:
            result = function(*arguments)
        finally:
            self.calls = calls
        if calls is not None:
            calls.append((expect_same, (function, result, arguments)))
        return result


class TracingBackend(CpuBackend):
    """The backend of one process in a captured step: one thread, and passes that are traced."""

    xp: TracingNumPy

    def __init__(self, parent: CpuBackend, group: Group):
        operations = {**parent.operations, sequential.plan: plan}
        super().__init__(parent.dtype, 1, parent.winograd, operations, None, parent.compiled)
        self.xp, self.group = TracingNumPy(), group

    def opaque_call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return self.xp.opaque_call(function, *arguments)


class TracedFunction:
    """A function of NumPy that records its calls."""

    def __init__(self, xp: TracingNumPy, function: Any):
        self.xp, self.function = xp, function

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        calls = self.xp.calls
        if calls is not None:
            if "out" not in options and self.function is not np.copyto:
                raise StateError(
                    f"numpy.{self.function.__name__} returns a new array, so this pass cannot be "
                    "replayed: give it out=, in memory of a Workspace"
                )
            is_fast = isinstance(self.function, np.ufunc) and self.function not in OUT_BY_NAME
            if is_fast and len(options) == 1:  # by position is faster
                calls.append((self.function, (*arguments, options["out"])))
            else:
                calls.append((partial(self.function, **options), arguments))
        return self.function(*arguments, **options)

    @property
    def reduce(self) -> "TracedFunction":
        return TracedFunction(self.xp, self.function.reduce)


def expect_same(function: Callable[..., Any], expected: Any, arguments: tuple[Any, ...]) -> None:
    """Call it again. Raises StateError if it returns something else."""
    if function(*arguments) != expected:
        raise StateError(
            "a captured step must give a network batches of the same sizes every time, "
            "in all processes together"
        )


class Trace:
    """The calls of one pass. run(*inputs) records it the first time, and then replays it.

    saved, backward  of a forward pass: its steps' saved values, and its backward traces
    """

    def __init__(self) -> None:
        self.calls: Calls | None = None
        self.inputs: list[Array] = []
        self.result: Any = None
        self.saved: list[tuple[Any, Any]] = []  # (step, its saved values)
        self.backward: dict[tuple[bool, bool], Trace] = {}  # by need_dx, need_dw

    def run(self, xp: TracingNumPy, work: Callable[..., Any], inputs: Sequence[Array]) -> Any:
        """-> work(*inputs), in the same memory every time."""
        if self.calls is not None:
            for place, array in zip(self.inputs, inputs, strict=True):
                np.copyto(place, array)
            for function, arguments in self.calls:
                function(*arguments)
            return self.result
        self.inputs = [np.array(array, order="C") for array in inputs]
        calls: Calls = []
        xp.calls = calls
        try:
            self.result = work(*self.inputs)
        finally:
            xp.calls = None
        self.calls = calls
        return self.result


class TracedSteps:
    """All steps of a network as one, whose passes are traced."""

    def __init__(self, steps: Sequence[Step], backend: "TracingBackend"):
        self.steps, self.backend = steps, backend
        self.has_parameters = any(step.has_parameters for step in steps)
        self.takes_labels = True
        self.traces: dict[tuple[int, bool], Trace] = {}  # by rows, train
        self.current: Trace | None = None  # of the last forward pass

    def forward(self, x: Array, train: bool, labels: Array | None = None) -> Array:
        if self.backend.xp.calls is not None:  # inside another network, which is recording
            self.current = None
            return forward_pass(self.steps, x, train, labels)
        trace = self.current = self.traces.setdefault((len(x), train), Trace())

        def work(x: Array, labels: Array | None = None) -> Array:
            return forward_pass(self.steps, x, train, labels)

        y: Array = trace.run(self.backend.xp, work, [x] if labels is None else [x, labels])
        if not trace.saved:
            trace.saved = [(step, step.saved) for step in innermost(self.steps)]
        for step, saved in trace.saved:
            step.saved = saved
        return y

    def backward(self, dy: Array, need_dx: bool, need_dw: bool) -> Array | None:
        def work(dy: Array) -> Array | None:
            return backward_pass(self.steps, dy, need_dx, need_dw)

        if self.current is None:
            return work(dy)
        trace = self.current.backward.setdefault((need_dx, need_dw), Trace())
        dx: Array | None = trace.run(self.backend.xp, work, [dy])
        return dx


def innermost(steps: Sequence[Any]) -> list[Any]:
    """-> the steps of a network, including those of networks within it"""
    found = []
    for step in steps:
        is_container = isinstance(step, (TracedSteps, StepAround)) or is_exactly(step, Sequential)
        found += innermost(step.steps) if is_container else [step]
    return found


def plan(layers: Sequence[Layer], backend: "TracingBackend") -> list[Step]:
    """As plan in blocks.py, traced. Raises StateError for a layer that may need the whole batch."""
    steps = blocks.plan(layers, backend)
    for step in innermost(steps):
        if not sees_samples_alone([step], blocks.Block):
            layer = step if isinstance(step, Layer) else step.layers[0]
            raise StateError(
                f"{layer.label}: in a captured step a layer sees the rows of one process only, and "
                "this one may need the whole batch: run the step uncaptured, or use "
                'get_backend("numpy", threads=1)'
            )
    return [TracedSteps(steps, backend)]
