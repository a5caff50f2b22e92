"""What figures depend on: processor, cores, BLAS, versions, and a contender's environment."""

import os
import platform
import re
import subprocess
import sys
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

# Variables that pin BLAS or thread pools. A contender starts without them, as on a user's machine.
PINNED = re.compile(
    r"(OPENBLAS|GOTO|OMP|GOMP|KMP|MKL|BLIS|DNNL|ONEDNN|VECLIB|TORCHINDUCTOR|XLA|JAX|KERAS"
    r"|TF_(ENABLE|NUM|XLA)|ATEN_CPU|NPY_DISABLE|NUMBA_CPU)_"
)
# with these, every library computes as on a CPU without AVX-512; NumPy's are of 2.4, and older
AVX2 = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL "
    "AVX512_ICL AVX512_SPR",
    "NUMBA_CPU_FEATURES": "+avx2,+bmi,+bmi2,+fma,+f16c",
    "NUMBA_CPU_NAME": "haswell",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "OPENBLAS_CORETYPE": "Haswell",
    "XLA_FLAGS": "--xla_cpu_max_isa=AVX2",
}
GPU_FIELDS = {
    "name": "name", "driver": "driver_version", "sm_mhz": "clocks.sm", "memory_mhz": "clocks.mem",
    "celsius": "temperature.gpu", "watts": "power.draw",
}  # fmt: skip


def pinned():
    """-> names of such variables that are set here."""
    return sorted(name for name in os.environ if PINNED.match(name))


def clean_environment(**more):
    """-> this environment without PINNED, and with `more`."""
    return {name: value for name, value in os.environ.items() if not PINNED.match(name)} | more


def cpu_model():
    """-> the processor's name, as the system reports it."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return " ".join(line.split(":", 1)[1].split())
    return platform.processor() or platform.machine()


def cores():
    """-> how many cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def gpu():
    """-> the first GPU as `nvidia-smi` reports it now; {} without one."""
    query = f"--query-gpu={','.join(GPU_FIELDS.values())}"
    command = ["nvidia-smi", query, "--format=csv,noheader,nounits"]
    try:
        output = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
        values = output.stdout.splitlines()[0].split(",")
    except (OSError, subprocess.SubprocessError, IndexError):
        return {}
    return dict(zip(GPU_FIELDS, map(str.strip, values), strict=False))


def facts(threads):
    """-> the machine, for a result file. No names of hosts or folders."""
    return {
        "cpu": cpu_model(),
        "cores": cores(),
        "threads": threads or cores(),
        "system": platform.system(),
        "python": platform.python_version(),
        "unset": pinned(),
    }


def versions(*packages):
    """-> package -> version, of those that are installed."""
    found = {}
    for package in packages:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def versions_of(backend):
    """A backend of minigan -> package -> version, and the GPU's name."""
    found = versions("numpy", "cupy", "cupy-cuda12x", "cupy-cuda13x")
    if backend.compiled:
        found |= versions("numba")
    if backend.name == "cupy":
        found["gpu"] = backend.xp.cuda.runtime.getDeviceProperties(0)["name"].decode()
    return found


def blas():
    """-> what NumPy's BLAS chose: "openblas 0.3.30 SkylakeX, 2 threads". After `import numpy`."""
    try:
        from threadpoolctl import threadpool_info
    except ImportError:
        return "unknown: pip install threadpoolctl"
    pools = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    if not pools:
        return "none that threadpoolctl knows"
    pool = min(pools, key=lambda pool: "numpy" not in pool["filepath"])  # a package may add its own
    core = pool.get("architecture") or ""
    return f"{pool['internal_api']} {pool['version']} {core}, {pool['num_threads']} threads"


def bind(threads):
    """Run this process on this many cores only: its thread pools then have as many threads."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


def peak_mib():
    """-> peak resident MiB of this process and its children, shared pages counted in each."""
    try:  # ru_maxrss includes the program that started this one, VmHWM does not
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        status = [Path(f"/proc/{process}/status").read_text() for process in ("self", *children)]
        return sum(int(re.search(r"VmHWM:\s+(\d+) kB", text)[1]) for text in status) / 1024
    except (OSError, TypeError):
        import resource  # not on Windows

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / (1024 if sys.platform.startswith("linux") else 2**20)
