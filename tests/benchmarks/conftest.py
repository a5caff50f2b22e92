"""Quick benchmarks: contenders in this process, short turns, the stand-in for CuPy."""

import sys
import time
from types import SimpleNamespace

import pytest

from benchmarks import gpu_parts, gpu_timing, interleaved, layers, roofline, scaling, step
from tests.support import strict_cupy
from tests.support.in_process_worker import InProcessWorker


@pytest.fixture
def quick(monkeypatch):
    """Turns of a moment, a small matrix product, and no separate processes."""
    monkeypatch.setattr(interleaved, "Worker", InProcessWorker)
    for module, name, value in (
        (interleaved, "REST", 0.0),
        (interleaved, "WARM_UP", 0),
        (step, "TURN", 1e-3),
        (layers, "TURN", 1e-3),
        (scaling, "TURN", 1e-3),
        (roofline, "SHORTEST", 1e-4),
        (roofline, "ROUNDS", 1),
        (roofline, "EDGE", {"numpy": 64, "cupy": 32}),
    ):
        monkeypatch.setattr(module, name, value)


class Event(strict_cupy.Event):
    """In a queue that is always done."""

    def record(self):
        super().record()
        self.at = time.perf_counter()


@pytest.fixture
def device(monkeypatch, quick):
    """The stand-in for CuPy as the GPU, with what only benchmarks need; short blocks."""
    module = strict_cupy.make_module()
    module.cuda.Event, module.cuda.get_elapsed_time = Event, lambda a, b: 1000 * (b.at - a.at)
    module.cuda.runtime.getDeviceProperties = lambda device: {"name": b"Abacus 200"}
    compiled = module.RawModule
    empty = SimpleNamespace(get_function=lambda name: lambda grid, block, arguments: None)

    def raw_module(code, **options):
        return empty if code == roofline.EMPTY else compiled(code, **options)

    module.RawModule = raw_module
    monkeypatch.setitem(sys.modules, "cupy", module)
    for module, name, value in (
        (step, "PACE", dict(warm_up=0, blocks=1, steps=1)),
        (gpu_timing, "WARM_UP", 1),
        (gpu_timing, "BLOCKS", 2),
        (gpu_timing, "STEPS", 2),
        (gpu_parts, "COPY", 1),
        (gpu_parts, "BATCH", 4),
        (gpu_parts, "NETS", {"fredriksson-mnist": 2, "pytorch-64": 2}),
        (gpu_parts, "FIRST", [*gpu_parts.FIRST, "--width", "2"]),
        (gpu_parts, "EPOCHS", [*gpu_parts.FIRST, "--width", "2"]),
    ):
        monkeypatch.setattr(module, name, value)
