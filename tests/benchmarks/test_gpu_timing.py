"""The clock of a GPU tells the device's time from the program's."""

import pytest

from benchmarks import gpu_timing
from tests.support.in_process_worker import Clockwork


@pytest.mark.parametrize("events", (True, False))
def test_blocks_tell_the_device_from_the_program(events, monkeypatch):
    device = Clockwork(events)
    monkeypatch.setattr(gpu_timing, "perf_counter", lambda: device.now)
    found = gpu_timing.time_blocks(device, warm_up=30, blocks=4, steps=50)
    assert device.played == 30 + 4 * 50
    assert found["launch"] == pytest.approx([0.0002] * 4)
    assert found["seconds"] == pytest.approx([0.001] * 4, rel=0.01)
    assert found["events"] == (pytest.approx([0.001] * 4, rel=0.01) if events else [])
