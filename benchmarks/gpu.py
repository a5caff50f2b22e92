"""All there is to know about a GPU, by one command: python benchmarks/gpu.py --help

Tests first (on the device), then measurements, each with its share of the time: what the GPU can do
at most (roofline.py), the start, a whole training, and two nets in both precisions against all
contenders (step.py). A part that fails, or exceeds its time, is recorded as failed with one line,
and the rest goes on. Time that a part leaves goes to the next one. Everything goes into a result
file, which report.py reads.
"""

import re
import sys
from datetime import date
from pathlib import Path
from time import perf_counter

if __name__ == "__main__":  # this checkout: its minigan, and benchmarks as a package
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks import command, contenders, machine, results, step
from benchmarks.gpu_implicit import measure_implicit
from benchmarks.gpu_parts import PARTS, ask_roofline
from benchmarks.interleaved import ROOT, BenchmarkError, Workers
from minigan.errors import ConfigError

AIMS = {  # (preset, precision): throughput against PyTorch at its fastest: at least, aim
    ("fredriksson-mnist", "fp32"): (1.0, 1.2),
    ("fredriksson-mnist", "tf32"): (1.0, 1.3),
    ("pytorch-64", "fp32"): (0.9, 1.1),
    ("pytorch-64", "tf32"): (0.8, 1.0),
}
ALONE = {"implicit": (300, measure_implicit)}  # parts that only --only asks for
EXAMPLE = 2  # times as fast as PyTorch's own example, at least


def parse(argv):
    parser = command.make_parser(
        "gpu.py", "Check and measure minigan on an NVIDIA GPU: everything, by one command."
    )
    peers = contenders.PEERS["cuda"]
    parser.add_argument(
        "--minutes",
        type=float,
        default=10.0,
        help="in all (default 10); with more, slower contenders get ready, too",
    )
    parser.add_argument(
        "--against",
        type=command.names(peers),
        default=list(peers),
        help=f"contenders, in this order (default {','.join(peers)})",
    )
    parser.add_argument(
        "--json",
        type=results.expect_writable,
        metavar="FILE",
        help="result file, overwritten (default benchmarks/results/<date>-<GPU>.json)",
    )
    parser.add_argument(
        "--only",
        choices=[*PARTS, *ALONE],
        metavar="PART",
        help=f"one part, with all the time: {'; '.join([*PARTS, *ALONE])}",
    )
    options = parser.parse_args(argv)
    if not 1 <= options.minutes <= 600:
        raise ConfigError(f"--minutes must be 1 to 600, got {options.minutes:g}")
    return options


def run_parts(workers, options, common, log):
    """All parts, one after the other -> records, written after each; names of failed parts."""
    records, failed, until = [], [], perf_counter()
    parts = PARTS if options.only is None else {options.only: (PARTS | ALONE)[options.only]}
    whole = sum(seconds for seconds, _ in parts.values())
    for name, (seconds, part) in parts.items():
        until += seconds / whole * options.minutes * 60
        log(f"-- {name}")
        try:
            record = part(workers, options, until, log)
        except Exception as error:  # of any kind: the other parts are still to come
            reason = " ".join(str(error).split()) or type(error).__name__
            record = {"what": "failed", "part": name, "why": reason}
            log(f"failed: {reason}")
            workers.drop("roofline", reason)  # nothing continues in a process that may be broken
        if record["what"] == "failed" or record.get("passed") is False:
            failed.append(name)
        records.append({**common, **record})
        results.write(options.json, records)
    return records, failed


def outcome(records):
    """-> lines: what was measured, beside what it should be at most or at least."""
    for record in records:
        if record["what"] == "step":
            preset, precision = record["preset"], record["precision"]
            least, aim = AIMS[preset, precision]
            yield f"{preset}, {precision}: at least {least:g}, aim {aim:g}; example {EXAMPLE}"
            yield from (f"    {line}" for line in step.verdicts(record))
        elif record["what"] == "start":
            cold, warm = record["cold"], record["warm"]
            yield f"first step after {cold:.1f} s, later {warm:.1f} s: at most 10 and 1"
        elif record["what"] == "implicit":
            yield record["verdict"]
        elif record["what"] == "epochs":
            seconds, rare, data = record["seconds"], record["rare"], record["data"]
            yield f"20 epochs on {data} in {seconds:.1f} s: at most 20"
            yield f"    without the first 19 grids and checkpoints {rare:.1f} s: at most 0.5 less"


@command.command
def main(argv):
    options = parse(argv)
    start, today = perf_counter(), date.today().isoformat()

    def log(line):
        command.log(f"{perf_counter() - start:6.1f}  {line}")

    with Workers() as workers:
        versions = ask_roofline(workers, start + 120, "fp32").call("versions")
        kind = re.sub(r"[^a-z0-9]+", "-", versions["gpu"].lower()).strip("-")
        part = f"-{options.only}" if options.only else ""  # it is not the whole measurement
        default = ROOT / "benchmarks" / "results" / f"{today}-{kind}{part}.json"
        options.json = results.expect_writable(options.json or str(default))
        common = {"backend": "cupy", "date": today, "machine": machine.facts(None)}
        log(results.listed(versions))
        records, failed = run_parts(workers, options, common | {"versions": versions}, log)
    for line in outcome(records):
        log(line)
    log(f"everything is in {options.json}")
    if failed:
        raise BenchmarkError(f"failed: {'; '.join(failed)}: see {options.json}")


if __name__ == "__main__":
    sys.exit(main())
