"""What a result file says about the machine."""

import platform
import stat
import subprocess
import sys

import pytest

from benchmarks import interleaved, machine


def test_facts_name_no_host_and_no_folder():
    facts = machine.facts(None)
    assert facts["threads"] == facts["cores"] >= 1 and facts["cpu"]
    assert not [value for value in facts.values() if isinstance(value, str) and "/" in value]


def test_the_gpu_as_nvidia_smi_shows_it(tmp_path, monkeypatch):
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'NVIDIA H200, 580.65.06, 1980, 3201, 34, 118.25'\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert machine.gpu() == {
        "name": "NVIDIA H200",
        "driver": "580.65.06",
        "sm_mhz": "1980",
        "memory_mhz": "3201",
        "celsius": "34",
        "watts": "118.25",
    }
    program.write_text("#!/bin/sh\nexit 9\n")
    assert machine.gpu() == {}


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="for x86")
def test_avx2_holds_numpy_and_numba_to_it():
    pytest.importorskip("numba")
    code = (
        "from numpy._core._multiarray_umath import __cpu_features__ as features\n"
        "from minigan.backends.cpu.compiled.vector import BYTES\n"
        "assert BYTES == 32 and not features.get('X86_V4')"
    )
    environment = machine.clean_environment(**machine.AVX2, PYTHONPATH=str(interleaved.ROOT))
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
