"""The README's tables of speed, for CPUs and for GPUs, written from result files: python benchmarks/report.py RESULT.json [...]

Between <!-- performance:begin --> and <!-- performance:end --> in README.md; the rest stays as it is.
"""

import sys
from pathlib import Path
from statistics import median

if __name__ == "__main__":  # this checkout: its minigan, and benchmarks as a package
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks import blocks, contenders, gpu_step, results
from minigan.cli.main import Parser
from minigan.errors import DataError, MiniganError
from minigan.files import write_atomically

BEGIN, END = "<!-- performance:begin -->", "<!-- performance:end -->"
COLUMNS = {  # heading -> contenders, of which the fastest counts
    "PyTorch": ("torch", "torch-cl", "torch-compile"),
    "Keras/TF": ("keras",),
    "JAX": ("jax",),
    "DeZero": ("dezero",),
}
NETS = {
    "fredriksson-mnist": "Fredriksson MNIST 28x28x1, k5",
    "mnist": "minigan's own MNIST 28x28x1, k4",
    "shibuya-svhn": "Shibuya SVHN/CelebA 32x32x3, k5",
    "pytorch-64": "PyTorch example 64x64x3, k4",
}


def net_of(record):
    return f"{NETS.get(record['preset'], record['preset'])}, width {record['width']}, batch {record['batch']}"


def row(record):
    """A record of step.py -> a row of the table."""
    present = {each["name"]: each for each in record["contenders"] if "seconds" in each}
    ours = present["minigan"]
    what = "one step" if record["what"] == "step" else "sampling 10,000 images"
    what += f": {net_of(record)}"
    seconds = median(ours["seconds"])
    cells = [
        what,
        f"{1000 * seconds:,.0f} ms",
        f"{ours['gflops']:.0f} ({ours['gflops'] / record['gemm_gflops']:.0%})",
    ]
    memory = f"{ours['peak_mib']:.0f}"
    for heading, names in COLUMNS.items():
        here = [present[name] for name in names if name in present]
        if not here:
            cells.append("-")
            continue
        fastest = min(here, key=lambda each: median(each["seconds"]))
        cells.append(
            f"{median(results.ratios(record, fastest)):.2f}"
            + (f" ({fastest['name']})" if len(names) > 1 else "")
        )
        if heading == "PyTorch":
            memory += f" / {fastest['peak_mib']:.0f}"
    return [*cells, f"{memory} MiB"]


def table(records, paths):
    """Records of step.py -> the text between the markers."""
    headings = ["", "minigan", "GFLOP/s (of GEMM)", *COLUMNS, "peak memory, minigan / PyTorch"]
    lines = ["| " + " | ".join(headings) + " |", "|" + "---|" * len(headings)]
    lines += ["| " + " | ".join(row(record)) + " |" for record in records]
    machines, versions = {}, {}
    for record in records:
        facts = record["machine"]
        machines.setdefault(
            f"{facts['cpu']}, {facts['threads']} threads, {facts['blas']}", []
        ).append(record["gemm_gflops"])
        for each in record["contenders"]:
            versions |= each.get("versions", {})
    machines = [
        f"{name}, a bare GEMM at {min(rates):.0f} to {max(rates):.0f} GFLOP/s"
        for name, rates in machines.items()
    ]
    text = "Ratios: a contender's time over minigan's in the same run, median of rounds; above 1, minigan is faster."
    used = ", ".join(f"{name} {value}" for name, value in versions.items() if " " not in name)
    names = ", ".join(f"`{Path(path).name}`" for path in paths)
    return "\n".join(
        [
            *lines,
            "",
            text,
            f"Measured on {'; '.join(machines)}; {used}.",
            f"From {names} in `benchmarks/results/`.",
        ]
    )


def gpu_row(record):
    """A record of gpu_step.py -> a row of the GPUs' table: minigan's fastest way, and each one's time over it."""
    ours = gpu_step.fastest(record, contenders.OURS)
    way = ours["name"].removeprefix("minigan-")
    cells = [
        f"{net_of(record)}, {record['precision']}",
        f"{1000 * blocks.spread(ours['seconds'])[0]:.2f} ms ({way})",
    ]
    share = f" ({ours['gflops'] / record['gemm_gflops']:.0%})" if record["gemm_gflops"] else ""
    cells.append(f"{ours['gflops']:,.0f}{share}")
    for names in (contenders.TORCH_AT_ITS_BEST, ("torch-example",), ("jax",)):
        theirs = gpu_step.fastest(record, names)
        cells.append(
            "-"
            if theirs is None
            else f"{blocks.gain(ours, theirs):.2f}"
            + (f" ({theirs['name']})" if len(names) > 1 else "")
        )
    return cells


def gpu_table(records, paths):
    """Records of gpu_step.py -> the text between the markers, likewise."""
    headings = [
        "one step on a GPU",
        "minigan",
        "GFLOP/s (of GEMM)",
        "PyTorch",
        "PyTorch's own example",
        "JAX",
    ]
    lines = ["| " + " | ".join(headings) + " |", "|" + "---|" * len(headings)]
    lines += ["| " + " | ".join(gpu_row(record)) + " |" for record in records]
    gpus = sorted({record["gpu"]["before"].get("name", "a GPU") for record in records})
    versions = {
        name: value
        for record in records
        for each in record["contenders"]
        for name, value in each.get("versions", {}).items()
    }
    used = ", ".join(
        f"{name} {value}" for name, value in versions.items() if " " not in name and name != "gpu"
    )
    text = "Ratios: a contender's time over minigan's in the same run, medians of blocks of steps; above 1, minigan is faster."
    names = ", ".join(f"`{Path(path).name}`" for path in paths)
    return "\n".join(
        [
            *lines,
            "",
            text,
            f"Measured on {', '.join(gpus)}; {used}.",
            f"From {names} in `benchmarks/results/`.",
        ]
    )


def tables(read):
    """path -> records -> the text between the markers: a table for CPUs and one for GPUs, each where it has rows."""
    texts = []
    for write, gpus in ((table, False), (gpu_table, True)):
        chosen = {
            path: [each for each in records if on_gpu(each) == gpus]
            for path, records in read.items()
        }
        rows = [each for records in chosen.values() for each in records]
        if rows:
            texts.append(write(rows, [path for path, records in chosen.items() if records]))
    return "\n\n".join(texts)


def on_gpu(record):
    return record["what"] == "step" and record.get("backend") == "cupy"


def replace(document, text):
    """-> the document with the text between its markers. Raises DataError where they lack."""
    head, begin, rest = document.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise DataError(f"the document has no {BEGIN} ... {END} to write the table between")
    return f"{head}{BEGIN}\n{text}\n{END}{tail}"


def main(argv=None):
    """-> exit code: 0; 2 for a mistake that the user can mend."""
    parser = Parser(
        prog="report.py", description="Write the README's table of speed from result files."
    )
    parser.add_argument("results", nargs="+", metavar="RESULT.json", help="made by step.py --json")
    parser.add_argument(
        "--readme",
        default=Path(__file__).resolve().parents[1] / "README.md",
        help="the document (default README.md)",
    )
    try:
        options = parser.parse_args(argv)
        read = {
            path: [each for each in results.load(path) if each["what"] in ("step", "sample")]
            for path in options.results
        }
        if not any(read.values()):
            raise DataError("these files have no measurement of step.py")
        try:
            document = Path(options.readme).read_text(encoding="utf-8")
        except OSError as error:
            raise DataError(f"cannot read {options.readme}: {error.strerror}") from error
        write_atomically(Path(options.readme), replace(document, tables(read)).encode())
    except MiniganError as error:
        print(f"report.py: error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
