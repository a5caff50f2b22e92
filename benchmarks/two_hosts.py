"""Two ranks on two machines that this one plays: python benchmarks/two_hosts.py --help

Each is a network namespace of Linux with a TUN device. A thread here is the cable between them: it
holds each packet back for the time that it would need to be sent, and to arrive. (The kernel could,
by tc and netem, but many lack that.) The ranks talk over TCP. First their parameters are compared
with those of one process. Then ranks.py measures a step, and compares it with its model, which
knows the link by its all-reduces alone. Needs root, `ip` and /dev/net/tun.

The cable runs on the same cores as the ranks, and they wait for it. So the latency is more than
DELAY; it is printed.
"""

import os
import struct
import subprocess
import sys
from collections import deque
from contextlib import contextmanager, suppress
from pathlib import Path
from select import select
from tempfile import TemporaryDirectory
from threading import Event, Thread
from time import perf_counter

if __name__ == "__main__":  # this checkout: its minigan, and benchmarks as a package
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np

from benchmarks import command, ranks, results
from benchmarks.interleaved import BenchmarkError
from minigan.errors import BackendError

HOSTS = {"minigan-a": "10.77.0.1", "minigan-b": "10.77.0.2"}  # namespace -> its address
RATE, DELAY = 1000, 0.1  # Mbit/s; ms each way
MTU = 65_000  # bytes: few packets, for each takes a moment here
MAKE_TUN, KIND = 0x400454CA, 0x1001  # the ioctl TUNSETIFF; IFF_TUN | IFF_NO_PI
CLOSE = 1e-7  # relative, in float64
# for mpiexec, in place of ssh: [options] address command...
ENTER = """#!/bin/sh
while [ "${1#-}" != "$1" ]; do shift; done
case $1 in %s) name=%s;; *) name=%s;; esac
shift
exec ip netns exec $name sh -c "$*"
"""


def ip(*words):
    """Run `ip words...`. Raises BackendError."""
    try:
        subprocess.run(["ip", *words], check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        problem = getattr(error, "stderr", None) or error
        raise BackendError(f"ip {' '.join(words)}: {problem}") from error


def plug_in(host, address):
    """Give a namespace a network device -> file of the packets that it sends and gets."""
    from fcntl import ioctl  # Linux

    try:
        file = os.open("/dev/net/tun", os.O_RDWR)
        ioctl(file, MAKE_TUN, struct.pack("16sH22x", host.encode(), KIND))
    except OSError as error:
        raise BackendError(f"/dev/net/tun: {error.strerror}: this needs root, and TUN") from error
    ip("link", "set", host, "netns", host)
    ip("-n", host, "addr", "add", f"{address}/24", "dev", host)
    ip("-n", host, "link", "set", host, "mtu", str(MTU), "up")
    ip("-n", host, "link", "set", "lo", "up")
    return file


def carry(files, is_over):
    """The cable: what one of two files sends, the other gets, at RATE and after DELAY."""
    with suppress(OSError):  # not allowed: the ranks, which never sleep, delay the cable
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))  # this thread alone
    others, free = dict(zip(files, reversed(files), strict=True)), dict.fromkeys(files, 0.0)
    waiting = deque()  # (when it arrives, where to, packet)
    while not is_over.is_set():
        patience = waiting[0][0] - perf_counter() if waiting else 0.1
        for file in select(files, [], [], max(0.0, patience))[0]:
            packet = os.read(file, 2**16)
            free[file] = max(free[file], perf_counter()) + len(packet) * 8e-6 / RATE
            waiting.append((free[file] + DELAY * 1e-3, others[file], packet))
        while waiting and waiting[0][0] <= perf_counter():
            _, file, packet = waiting.popleft()
            os.write(file, packet)


@contextmanager
def two_hosts():
    """-> the words that start ranks on both; the namespaces exist as long as this does."""
    made, files, is_over = [], [], Event()
    cable = Thread(target=carry, args=(files, is_over), daemon=True)
    try:
        for host, address in HOSTS.items():
            ip("netns", "add", host)
            made.append(host)
            files.append(plug_in(host, address))
        cable.start()
        with TemporaryDirectory() as folder:
            enter, (a, b) = Path(folder) / "enter", HOSTS
            enter.write_text(ENTER % (HOSTS[a], a, b))
            enter.chmod(0o755)
            launcher = ["ip", "netns", "exec", a, str(ranks.MPIEXEC), "-launcher", "ssh"]
            launcher += ["-launcher-exec", str(enter), "-hosts", ",".join(HOSTS.values())]
            yield [*launcher, "-genv", "UCX_TLS", "tcp,self"]  # or memory is shared
    finally:
        is_over.set()
        if cable.ident:
            cable.join()
        for file in files:
            os.close(file)
        for host in made:
            with suppress(BackendError):
                ip("netns", "del", host)


def compare_numbers(options, log):
    """-> largest difference to one process's parameters, over their largest. Raises BenchmarkError.

    Also if the two ranks have other bits.
    """
    with TemporaryDirectory() as folder:
        files = [str(Path(folder) / f"{n}.npy") for n in (1, 2)]
        for n, file in enumerate(files, start=1):
            unlike = ranks.start("numbers", options, n, file=file)["unlike"]
        one, two = map(np.load, files)
    difference = float(np.abs(two - one).max() / np.abs(one).max())
    log(f"parameters of two ranks in float64: {difference:.0e} from those of one process")
    if unlike or difference > CLOSE:
        raise BenchmarkError("the ranks do not train the run of one process")
    return difference


@command.command
def main(argv):
    options = ranks.parse([*(sys.argv[1:] if argv is None else argv), "--ranks", "2"])
    with two_hosts() as options.launcher:
        difference = compare_numbers(options, command.log)
        record = ranks.measure(options, command.log)
    link = {"mbit": RATE, "delay_ms": DELAY, "difference": difference}
    results.add(options.json, record | {"what": "two hosts"} | link)


if __name__ == "__main__":
    sys.exit(main())
