"""A whole training step as one CUDA graph: recorded once, then launched by a single call.

A step of a DCGAN is more than a hundred kernels, and Python launches them one by one, slower than a GPU runs them
(7.3 ms to 1.44 for Fredriksson's net on an H200, in TF32). So the step is run once while the GPU notes down what it is asked for,
and from then on the notes are launched as a whole. They hold addresses and plain numbers, as they were. Therefore a step that is to
be recorded

    - reads its inputs (z, images, labels) from arrays that stay where they are, and that are written before each launch
    - has what changes from step to step in the GPU's memory: see cupy_counters.py
    - allocates nothing. It has memory of its own (backend.scope): what runs beside it cannot take it away
    - reads nothing back, and gives arrays that every launch writes anew

Before the recording the step runs a few times, so that all memory is there and all kernels are compiled; then networks and
optimizers are put back to what they were. So a run with the graph has the same bits as a run without.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from minigan.backends.gpu.backend import CupyBackend
from minigan.errors import StateError

WARM_UP = 3  # steps


class Recording:
    """What the host does around each launch, since the recorded Python does not run again."""

    def __init__(self) -> None:
        self.before: list[Callable[[], None]] = []
        self.after: list[Callable[[], None]] = []

    def at_launch(self, before: Callable[[], None], after: Callable[[], None]) -> None:
        """before() and after() are called around each launch of what is being recorded."""
        self.before.append(before)
        self.after.append(after)


class Snapshot:
    """All numbers that a step changes for good."""

    def __init__(self, backend: CupyBackend):
        self.owners = list(backend.owners)  # networks' stores, optimizers, generators
        self.copies = [[array.copy() for array in owner.kept()] for owner in self.owners]
        self.steps = [getattr(owner, "steps", None) for owner in self.owners]

    def put_back(self) -> None:
        for owner, copies in zip(self.owners, self.copies, strict=True):
            for array, copy in zip(owner.kept(), copies, strict=True):
                array[...] = copy
        self.put_back_steps()

    def put_back_steps(self) -> None:
        for owner, steps in zip(self.owners, self.steps, strict=True):
            if steps is not None:
                owner.steps = steps


class Replay:
    """The recorded step. Calling it launches it -> what the step gave: the same arrays at every call, written anew."""

    def __init__(self, graph: Any, recording: Recording, result: Any, *kept: Any):
        self.graph, self.recording, self.result = graph, recording, result
        self.kept = kept  # whose memory the graph writes into: the backend, the pool, and by way of the step its networks

    def __call__(self) -> Any:
        for before in self.recording.before:
            before()
        self.graph.launch()
        for after in self.recording.after:
            after()
        return self.result


def capture(backend: CupyBackend, step: Callable[[], Any]) -> Replay:
    """As Backend.capture. Raises StateError where the step allocates memory each time."""
    cuda, snapshot, recording = backend.xp.cuda, Snapshot(backend), Recording()
    stream, pool = cuda.Stream(non_blocking=True), cuda.MemoryPool()
    backend.synchronize()
    backend.graphs += 1
    backend.scope = f"graph {backend.graphs}"
    try:
        with stream, cuda.using_allocator(pool.malloc):
            for _ in range(WARM_UP):
                step()
            snapshot.put_back()
            stream.synchronize()
            pool.free_all_blocks()
            size = pool.total_bytes()
            backend.recording = recording
            stream.begin_capture()
            try:
                result = step()
            except BaseException:
                with suppress(
                    Exception
                ):  # what went wrong in the step has spoilt the recording too
                    stream.end_capture()
                raise
            graph = stream.end_capture()
            if pool.total_bytes() != size:
                raise StateError(
                    "a step that is to be recorded must not allocate memory: take it from backend.scratch or a Workspace"
                )
            graph.upload()
            stream.synchronize()
    except BaseException:
        backend.recording = None
        with suppress(Exception):  # where the device is lost, so are the numbers
            backend.synchronize()
            snapshot.put_back()
        raise
    finally:
        backend.recording, backend.scope = None, ""
    snapshot.put_back_steps()
    return Replay(graph, recording, result, backend, pool, step)
