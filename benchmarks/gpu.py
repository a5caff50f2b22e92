"""All that is to be known of a GPU, by one command: python benchmarks/gpu.py --help

Checks first (tests/test_cupy_device.py, on the device), then measurements, each on the clock: what the GPU can do at most
(ceilings.py), the start, a whole training, and the two nets in both precisions against all others (gpu_step.py). A part that
fails, or takes more than its time, is written down as failed with its one line, and the rest goes on. Time that a part leaves is
the next one's. Everything goes into a result file, which report.py reads.
"""

import re
import sys
from datetime import date
from pathlib import Path
from time import perf_counter

if __name__ == "__main__":  # this checkout: its minigan, and benchmarks as a package
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks import contenders, gpu_step, machine, results
from benchmarks.command import command
from benchmarks.gpu_parts import CEILINGS, PARTS
from benchmarks.race import ROOT, BenchmarkError, Team
from minigan.cli.main import Parser
from minigan.errors import ConfigError

TIMES = {
    "cold": 10,
    "warm": 1,
    "epochs": 20,
}  # seconds at most: to the first step on a fresh machine, later, and 20 epochs of MNIST
EXAMPLE = 2  # times as fast as PyTorch's own example, at least
AIMS = {  # (preset, precision): least throughput against PyTorch at its fastest, and what is aimed for
    ("fredriksson-mnist", "fp32"): (1.0, 1.2),
    ("fredriksson-mnist", "tf32"): (1.0, 1.3),
    ("pytorch-64", "fp32"): (0.9, 1.1),
    ("pytorch-64", "tf32"): (0.8, 1.0),
}


def parse(argv):
    parser = Parser(
        prog="gpu.py",
        description="Check and measure minigan on an NVIDIA GPU: everything, by one command.",
    )
    parser.add_argument(
        "--minutes",
        type=float,
        default=10.0,
        help="in all (default 10); more let slower contenders get ready, too",
    )
    parser.add_argument(
        "--against",
        default=",".join(contenders.PEERS["cuda"]),
        help="contenders, in this order (default all)",
    )
    parser.add_argument(
        "--json",
        metavar="FILE",
        help="result file, written anew (default benchmarks/results/<date>-<GPU>.json)",
    )
    options = parser.parse_args(argv)
    options.against = contenders.chosen(options.against, "cuda")
    if not 1 <= options.minutes <= 600:
        raise ConfigError(f"--minutes must be 1 to 600, got {options.minutes:g}")
    results.expect_writable(options.json)
    return options


def find_gpu(team):
    """-> versions, and the GPU's name. Raises BenchmarkError where there is none, in the backend's own words."""
    worker = team.renew("ceilings", CEILINGS, {}, limit=120)
    if worker is None:
        raise BenchmarkError(team.absent["ceilings"])
    return worker.call("versions")


def play(team, options, common, log):
    """All parts, one after the other -> records, written to the file after each; names of the parts that failed."""
    records, failed, until = [], [], perf_counter()
    for name, (seconds, part) in PARTS.items():
        until += seconds * options.minutes / 10
        log(f"-- {name}")
        try:
            record = part(team, options, until, log)
        except Exception as error:  # whatever it is, the other parts are still to come
            why = " ".join(str(error).split()) or type(error).__name__
            record = {"what": "failed", "part": name, "why": why}
            log(f"failed: {why}")
            if "ceilings" in team.workers:  # nothing goes on in a process in which something broke
                team.drop("ceilings", why)
        if record["what"] == "failed" or record.get("passed") is False:
            failed.append(name)
        records.append({**common, **record})
        results.write(options.json, records)
    return records, failed


def outcome(records):
    """-> lines: how far minigan came of what it aims for."""
    for record in records:
        least, aim = AIMS.get((record.get("preset"), record.get("precision")), (None, None))
        if record["what"] == "step" and least is not None:
            yield f"{record['preset']}, {record['precision']}: at least {least:g}, aim {aim:g}; PyTorch's own example {EXAMPLE}"
            yield from (f"    {line}" for line in gpu_step.verdicts(record))
        elif record["what"] == "start":
            yield f"first step after {record['cold']:.1f} s, later {record['warm']:.1f} s: at most {TIMES['cold']} and {TIMES['warm']}"
        elif record["what"] == "epochs":
            yield f"20 epochs on {record['data']} in {record['seconds']:.1f} s: at most {TIMES['epochs']}"


@command
def main(argv):
    options = parse(argv)
    start = perf_counter()

    def log(line):
        print(f"{perf_counter() - start:6.1f}  {line}", flush=True)

    with Team() as team:
        versions = find_gpu(team)
        kind = re.sub(r"[^a-z0-9]+", "-", versions["gpu"].lower()).strip("-")
        options.json = options.json or str(
            ROOT / "benchmarks" / "results" / f"{date.today().isoformat()}-{kind}.json"
        )
        results.expect_writable(options.json)
        common = {
            "backend": "cupy",
            "date": date.today().isoformat(),
            "machine": machine.facts(None),
            "versions": versions,
        }
        log(", ".join(f"{name} {value}" for name, value in versions.items()))
        records, failed = play(team, options, common, log)
    for line in outcome(records):
        log(line)
    log(f"all is in {options.json}")
    if failed:
        raise BenchmarkError(f"failed: {'; '.join(failed)}: see {options.json}")


if __name__ == "__main__":
    sys.exit(main())
