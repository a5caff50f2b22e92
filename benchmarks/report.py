"""The tables of speed in benchmarks/README.md: python benchmarks/report.py RESULT.json [...]

They are written between <!-- performance:begin --> and <!-- performance:end -->; the
rest stays as it is. --list shows the rows, and --rows 1,3 writes only some of them.
"""

import sys
from pathlib import Path
from statistics import median

if __name__ == "__main__":  # this checkout: its minigan, and benchmarks as a package
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks import command, contenders, results, step
from minigan.errors import ConfigError, DataError
from minigan.files import write_atomically

BEGIN, END = "<!-- performance:begin -->", "<!-- performance:end -->"
ROOT = Path(__file__).resolve().parents[1]
TORCH = contenders.TORCH_AT_ITS_BEST
COLUMNS = {  # device -> heading -> contenders, of which the fastest counts
    "cpu": {"PyTorch": TORCH, "Keras/TF": ["keras"], "JAX": ["jax"], "DeZero": ["dezero"]},
    "cuda": {"PyTorch": TORCH, "PyTorch's own example": ["torch-example"], "JAX": ["jax"]},
}
NO_PACKAGES = ("gpu", "torch threads")  # among the versions of contenders
NETS = {
    "fredriksson-mnist": "Fredriksson MNIST 28x28x1, k5",
    "mnist": "minigan's own MNIST 28x28x1, k4",
    "shibuya-svhn": "Shibuya SVHN/CelebA 32x32x3, k5",
    "pytorch-64": "PyTorch example 64x64x3, k4",
}


def device_of(record):
    return "cuda" if record.get("backend") == "cupy" else "cpu"


def title(record):
    """-> what was measured."""
    what = "one step" if record["what"] == "step" else f"sampling {step.IMAGES:,} images"
    net = NETS.get(record["preset"], record["preset"])
    text = f"{what}: {net}, width {record['width']}, batch {record['batch']}"
    return f"{text}, {record['precision']}" if device_of(record) == "cuda" else text


def cells(record):
    """A record of step.py -> the cells of its row."""
    ours = step.fastest(record, contenders.OURS)
    time = 1000 * median(ours["seconds"])
    text = f"{time:,.0f} ms" if time >= 20 else f"{time:.2f} ms"
    if ours["name"] != "minigan":
        text += f" ({ours['name'].removeprefix('minigan-')})"
    rate, limit = ours["gflops"], record["gemm_gflops"]
    share = f" ({rate / limit:.0%})" if limit else ""
    found = [title(record), text, f"{rate:,.0f}{share}"]
    for names in COLUMNS[device_of(record)].values():
        theirs = step.fastest(record, names)
        name = f" ({theirs['name']})" if theirs and len(names) > 1 else ""
        found.append(f"{median(results.ratios(ours, theirs)):.2f}{name}" if theirs else "-")
    if device_of(record) == "cpu":  # on a GPU the process's memory is not the one that counts
        torch = step.fastest(record, TORCH)
        memory = f"{ours['peak_mib']:.0f}" + (f" / {torch['peak_mib']:.0f}" if torch else "")
        found.append(f"{memory} MiB")
    return found


def table(rows):
    """(path, record) of one device -> lines of its table, and what it was measured on."""
    device = device_of(rows[0][1])
    headings = ["", "minigan", "GFLOP/s (of GEMM)", *COLUMNS[device]]
    if device == "cpu":
        headings.append("peak memory, minigan / PyTorch")
    lines = [headings, ["---"] * len(headings), *(cells(record) for _, record in rows)]
    yield from (f"| {' | '.join(line)} |" for line in lines)
    machines = dict.fromkeys(machine_of(record) for _, record in rows)
    versions = {}
    for _, record in rows:
        for each in record["contenders"]:
            versions |= each.get("versions", {})
    packages = {name: value for name, value in versions.items() if name not in NO_PACKAGES}
    files = dict.fromkeys(f"`{Path(path).name}`" for path, _ in rows)
    yield ""
    yield "Ratios: a contender's time over minigan's in the same run; above 1, minigan is faster."
    yield f"Measured on {'; '.join(machines)}; {results.listed(packages)}."
    yield f"From {', '.join(files)} in `benchmarks/results/`."


def machine_of(record):
    """-> what it was measured on."""
    facts = record["machine"]
    if device_of(record) == "cuda":
        return record["gpu"]["before"].get("name", "a GPU")
    return f"{facts['cpu']}, {facts['threads']} threads, {facts['blas']}"


def tables(rows):
    """(path, record) -> the text between the markers: a table for CPUs and one for GPUs."""
    parts = [[row for row in rows if device_of(row[1]) == device] for device in COLUMNS]
    return "\n\n".join("\n".join(table(part)) for part in parts if part)


def replace(document, text):
    """-> the document with the text between its markers. Raises DataError without them."""
    head, begin, rest = document.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise DataError(f"the document has no {BEGIN} ... {END} to write the table between")
    return f"{head}{BEGIN}\n{text}\n{END}{tail}"


@command.command
def main(argv):
    parser = command.make_parser("report.py", "Write the tables of speed in benchmarks/README.md.")
    parser.add_argument("results", nargs="+", metavar="RESULT.json", help="of step.py or gpu.py")
    parser.add_argument("--list", action="store_true", help="show the rows and their numbers")
    parser.add_argument("--rows", help="numbers of the rows to write, as 1,3 (default all)")
    document = ROOT / "benchmarks/README.md"
    parser.add_argument("--readme", type=Path, default=document, help="the document")
    options = parser.parse_args(argv)
    rows = [
        (path, record)
        for path in options.results
        for record in results.load(path)
        if record["what"] in ("step", "sample")
    ]
    if not rows:
        raise DataError("these files have no measurement by step.py")
    if options.list:
        for number, (_, record) in enumerate(rows, start=1):
            command.log(f"{number:3}  {title(record)}")
        return
    if options.rows:
        try:
            rows = [rows[range(1, len(rows) + 1).index(int(i))] for i in options.rows.split(",")]
        except ValueError as error:
            raise ConfigError(f"--rows must be numbers from 1 to {len(rows)}, as 1,3") from error
    try:
        document = options.readme.read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(f"cannot read {options.readme}: {error.strerror}") from error
    write_atomically(options.readme, replace(document, tables(rows)).encode())


if __name__ == "__main__":
    sys.exit(main())
