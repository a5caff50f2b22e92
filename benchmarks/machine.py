"""What the figures depend on: processor, cores, BLAS, versions, and the environment of a contender."""

import os
import platform
import re
import resource
import subprocess
import sys
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

# Variables by which a shell pins BLAS or thread pools. A contender starts without them, as on a user's machine.
PINNED = re.compile(
    r"(OPENBLAS|GOTO|OMP|GOMP|KMP|MKL|BLIS|DNNL|ONEDNN|VECLIB|TORCHINDUCTOR|XLA|JAX|KERAS|TF_(ENABLE|NUM|XLA))_"
)


def pinned():
    """-> names of such variables that are set here."""
    return sorted(name for name in os.environ if PINNED.match(name))


def clean_environment(**more):
    """-> this environment without PINNED, and with `more`."""
    return {name: value for name, value in os.environ.items() if not PINNED.match(name)} | more


def cpu_model():
    """-> the processor's name as the system has it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return " ".join(line.split(":", 1)[1].split())
    except OSError:
        pass
    return platform.processor() or platform.machine()


def cores():
    """-> how many cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def gpu():
    """-> the first GPU as `nvidia-smi` shows it now: name, driver, clocks in MHz, heat, power; {} without it."""
    fields = {
        "name": "name",
        "driver": "driver_version",
        "sm_mhz": "clocks.sm",
        "memory_mhz": "clocks.mem",
        "celsius": "temperature.gpu",
        "watts": "power.draw",
    }
    command = [
        "nvidia-smi",
        f"--query-gpu={','.join(fields.values())}",
        "--format=csv,noheader,nounits",
    ]
    try:
        line = subprocess.run(
            command, capture_output=True, text=True, timeout=30, check=True
        ).stdout.splitlines()[0]
    except (OSError, subprocess.SubprocessError, IndexError):
        return {}
    return dict(zip(fields, (value.strip() for value in line.split(",")), strict=False))


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


def blas():
    """-> what NumPy's BLAS chose: "openblas 0.3.30 SkylakeX, 2 threads". Call after `import numpy`."""
    try:
        from threadpoolctl import threadpool_info
    except ImportError:
        return "unknown: pip install threadpoolctl"
    pools = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    if not pools:
        return "none that threadpoolctl knows"
    pool = min(
        pools, key=lambda pool: "numpy" not in pool["filepath"]
    )  # another package may bring its own
    return f"{pool['internal_api']} {pool['version']} {pool.get('architecture') or ''}, {pool['num_threads']} threads"


def bind(threads):
    """Run this process on so many cores only: every contender's thread pool then takes as many threads."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


def peak_mib():
    """-> largest resident memory that this process and its children ever had, in MiB; what they share is counted for each."""
    try:  # ru_maxrss remembers the program that started this one, VmHWM does not
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        status = [Path(f"/proc/{process}/status").read_text() for process in ("self", *children)]
        return sum(int(re.search(r"VmHWM:\s+(\d+) kB", text)[1]) for text in status) / 1024
    except (OSError, TypeError):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / (1024 if sys.platform.startswith("linux") else 2**20)
