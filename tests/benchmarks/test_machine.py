"""What a result file says about the machine."""

import stat

from benchmarks import machine


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
