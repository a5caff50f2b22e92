"""Two ranks on two machines that this one plays: python benchmarks/two_hosts.py --help

Two network namespaces of Linux, each with one end of a link, which is slowed down; the ranks talk
over TCP. Then ranks.py measures a step there, and compares it with its model. Needs root, `ip` and
`tc`; a kernel without netem slows the rate, and adds no delay.
"""

import subprocess
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

if __name__ == "__main__":  # this checkout: its minigan, and benchmarks as a package
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks import command, ranks, results
from minigan.errors import BackendError

HOSTS = {"minigan-a": "10.77.0.1", "minigan-b": "10.77.0.2"}  # namespace -> its address
RATE, DELAY = 1000, 0.1  # Mbit/s; ms each way
# for mpiexec, in place of ssh: [options] address command...
ENTER = """#!/bin/sh
while [ "${1#-}" != "$1" ]; do shift; done
case $1 in %s) name=%s;; *) name=%s;; esac
shift
exec ip netns exec $name sh -c "$*"
"""


def ip(*words, program="ip"):
    """Run `ip words...`. Raises BackendError."""
    try:
        subprocess.run([program, *words], check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        problem = getattr(error, "stderr", None) or error
        raise BackendError(f"{program} {' '.join(words)}: {problem}") from error


@contextmanager
def two_hosts(log):
    """-> the words that start ranks on both; the namespaces exist as long as this does."""
    names, made = list(HOSTS), []
    try:
        for name in names:
            ip("netns", "add", name)
            made.append(name)
        a, b = names
        ip(*f"link add eth0 netns {a} type veth peer eth0 netns {b}".split())
        for name, address in HOSTS.items():
            ip("-n", name, "addr", "add", f"{address}/24", "dev", "eth0")
            for device in ("eth0", "lo"):
                ip("-n", name, "link", "set", device, "up")
            add = ["-n", name, "qdisc", "add", "dev", "eth0", "root"]
            try:
                ip(*add, "netem", "rate", f"{RATE}mbit", "delay", f"{DELAY}ms", program="tc")
            except BackendError:
                ip(*add, *f"tbf rate {RATE}mbit burst 128kb latency 10ms".split(), program="tc")
                log(f"{name}: the kernel has no netem: {RATE} Mbit/s, without a delay")
        with TemporaryDirectory() as folder:
            enter = Path(folder) / "enter"
            enter.write_text(ENTER % (HOSTS[a], a, b))
            enter.chmod(0o755)
            launcher = ["ip", "netns", "exec", a, str(ranks.MPIEXEC), "-launcher", "ssh"]
            launcher += ["-launcher-exec", str(enter), "-hosts", ",".join(HOSTS.values())]
            yield [*launcher, "-genv", "UCX_TLS", "tcp,self"]  # or memory is shared
    finally:
        for name in made:
            with suppress(BackendError):
                ip("netns", "del", name)


@command.command
def main(argv):
    options = ranks.parse([*(sys.argv[1:] if argv is None else argv), "--ranks", "2"])
    with two_hosts(command.log) as options.launcher:
        record = ranks.measure(options, command.log)
    results.add(options.json, record | {"what": "two hosts"})


if __name__ == "__main__":
    sys.exit(main())
