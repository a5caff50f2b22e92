"""A whole training step as one CUDA graph: recorded once, then launched by a single call.

A step of a DCGAN is more than a hundred kernels, and Python launches them more slowly, one by one,
than a GPU runs them (7.3 ms against 1.44 for Fredriksson's net on an H200, in TF32;
benchmarks/gpu.py). So the step runs once while its launches are recorded, and from then on the
recording is launched as a whole. It holds addresses and plain numbers. Therefore a recorded step

    - reads its inputs (z, images, labels) from staging buffers, written before each launch
    - keeps values that change from step to step in the GPU's memory: see step_state.py
    - allocates nothing. Its backend has separate memory, which nothing else reuses
    - reads nothing back, and returns arrays that every launch writes again
    - sums over ranks by NCCL alone (parallel/nccl.py), the same sums in the same order on all

Before the recording the step runs a few times, so that all memory exists and all kernels are
compiled; then networks and optimizers are restored. So a run with the graph has the same bits as a
run without it.
"""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from minigan.arrays.backend import Call, MakeStep, Stateful
from minigan.backends.gpu.backend import GpuBackend
from minigan.errors import StateError

WARM_UP = 3  # steps


class Snapshot:
    """Copies of everything that a step changes permanently."""

    def __init__(self, stateful: Sequence[Stateful]):
        self.stateful = stateful
        self.copies = [[array.copy() for array in each.state_arrays()] for each in stateful]
        self.steps = [getattr(each, "steps", None) for each in stateful]

    def restore(self) -> None:
        for each, copies in zip(self.stateful, self.copies, strict=True):
            for array, copy in zip(each.state_arrays(), copies, strict=True):
                array[...] = copy
        self.restore_steps()

    def restore_steps(self) -> None:
        each: Any
        for each, steps in zip(self.stateful, self.steps, strict=True):
            if steps is not None:
                each.steps = steps


class Replay:
    """The recorded step. Calling it launches it -> its result: the same arrays every time."""

    def __init__(self, graph: Any, recording: list[tuple[Call, Call]], result: Any, *kept: Any):
        self.graph, self.recording, self.result = graph, recording, result
        self.kept = kept  # owners of the memory and the communicator that the graph uses

    def __call__(self) -> Any:
        for before, _ in self.recording:
            before()
        self.graph.launch()
        for _, after in self.recording:
            after()
        return self.result

    def __del__(self) -> None:
        self.graph = None  # first: NCCL ends its communicator only then, and waits until then


def capture(
    parent: GpuBackend, make_step: MakeStep, stateful: Sequence[Stateful], rows: int = 0
) -> Replay:
    """As Backend.capture. Raises StateError if the step allocates memory each time."""
    backend, cuda = parent.for_captured_step(), parent.xp.cuda
    if rows:  # else it is not shared: samples
        backend.group = parent.ranks
    step, snapshot = make_step(backend), Snapshot(stateful)
    recording: list[tuple[Call, Call]] = []
    stream, pool = cuda.Stream(non_blocking=True), cuda.MemoryPool()
    parent.synchronize()
    parent.xp.get_default_memory_pool().free_all_blocks()  # for the pool of the graph
    try:
        with stream, cuda.using_allocator(pool.malloc):
            for _ in range(WARM_UP):
                step()
            snapshot.restore()
            stream.synchronize()
            pool.free_all_blocks()
            size = pool.total_bytes()
            backend.recording = recording
            stream.begin_capture()
            try:
                result = step()
            except BaseException:
                with suppress(Exception):  # the recording is unusable as well
                    stream.end_capture()
                raise
            graph = stream.end_capture()
            if pool.total_bytes() != size:
                raise StateError(
                    "a recorded step must not allocate memory: "
                    "take it from backend.scratch or a Workspace"
                )
            graph.upload()
            stream.synchronize()
    except BaseException:
        with suppress(Exception):  # if the device is lost, so are the numbers
            parent.synchronize()
            snapshot.restore()
        raise
    finally:
        backend.recording = None
    snapshot.restore_steps()
    return Replay(graph, recording, result, backend, pool, step)
