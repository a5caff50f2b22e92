"""Pictures from files to the net: python benchmarks/data.py --images DIR [--help]

Three questions: how long is a folder of pictures prepared, and how long is it opened when it is; how
much memory does that take, also with very many files (--many makes them, as links to one small
picture, in a temporary folder); how long does the training thread wait for a batch. The
last is measured within real steps, and the whole step is compared with one on a batch that is there
already: the thread that prepares takes a part of the cores too.

Every measurement is a process of its own, with a cache of its own that is deleted after.
"""

import json
import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from datetime import date
from pathlib import Path
from statistics import median
from time import perf_counter

if __name__ == "__main__":  # this checkout: its minigan, and benchmarks as a package
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks import machine, results
from benchmarks.command import command
from benchmarks.race import BenchmarkError
from minigan.cli.main import Parser
from minigan.errors import ConfigError, DataError

PRESETS = ("mnist", "shibuya-32")
ROUNDS, SECONDS = 5, 2.0  # of steps with draws and without, in turns of so many seconds
CHILD = (
    "import json, sys; from benchmarks import data\n"
    "print(json.dumps(getattr(data, sys.argv[1])(**json.loads(sys.argv[2]))))"
)


def parse(argv):
    parser = Parser(prog="data.py", description="Preparing pictures, and drawing batches of them.")
    parser.add_argument("--images", required=True, metavar="DIR", help="folder or .zip of pictures")
    parser.add_argument(
        "--edge", type=int, default=32, help="of the square pictures that they come to (default 32)"
    )
    parser.add_argument(
        "--presets",
        default=",".join(PRESETS),
        help=f"whose steps draw batches (default {','.join(PRESETS)})",
    )
    parser.add_argument("--batch", type=int, default=128, help="images in a step (default 128)")
    parser.add_argument(
        "--many",
        type=int,
        default=0,
        help="also prepare so many links to one small picture (default none)",
    )
    parser.add_argument("--json", metavar="FILE", help="add the figures to a result file")
    options = parser.parse_args(argv)
    options.presets = [name for name in options.presets.split(",") if name]
    options.backend = "numpy"
    results.expect_common(options)
    if options.edge < 1 or options.many < 0:
        raise ConfigError("--edge must be at least 1, --many at least 0")
    if not Path(options.images).exists():
        raise DataError(f"--images {options.images}: there is no such folder or file")
    return options


# -- in a child -----------------------------------------------------------------------------------


def load(images, shape):
    """-> what it costs to have the pictures, in this process that does nothing else."""
    from minigan.data import load_dataset

    clock = perf_counter()
    data = load_dataset("folder", images=images, image_shape=shape, log=lambda line: None)
    return {
        "seconds": perf_counter() - clock,
        "peak_mib": machine.peak_mib(),
        "count": len(data.images),
    }


def draw(images, preset, batch):
    """-> seconds of steps: in whole with draws, on one batch that is there, and waited for a batch."""
    from benchmarks import nets
    from benchmarks.contenders.minigan_step import Step
    from minigan.data import Batches, load_dataset

    data = load_dataset(
        "folder",
        images=images,
        image_shape=nets.get_system(preset).image_shape,
        log=lambda line: None,
    )
    batches = Batches(data.images, batch, labels=data.labels, flip=True, drop_last=True)
    step = Step(preset, batch, None, None, "cpu")
    there, whole, waited = [], [], []
    step.run(3)
    for _ in range(ROUNDS):
        end = perf_counter() + SECONDS
        while perf_counter() < end:
            clock = perf_counter()
            step.run(1)
            there.append(perf_counter() - clock)
        batches.draw()
        end = perf_counter() + SECONDS
        while perf_counter() < end:
            clock = perf_counter()
            step.images, _ = batches.draw()
            waited.append(perf_counter() - clock)
            step.run(1)
            whole.append(perf_counter() - clock)
    return {"there": there, "whole": whole, "waited": waited}


# -- in the parent --------------------------------------------------------------------------------


def child(function, cache, **arguments):
    """-> what the function gives in a process of its own."""
    root = str(Path(__file__).resolve().parents[1])
    environment = machine.clean_environment(
        PYTHONPATH=root, **dict.fromkeys(("XDG_CACHE_HOME", "LOCALAPPDATA", "HOME"), str(cache))
    )
    command = [sys.executable, "-c", CHILD, function, json.dumps(arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=root)
    if done.returncode:
        raise BenchmarkError(done.stderr.strip().splitlines()[-1])
    return json.loads(done.stdout)


def many_files(folder, count):
    """Fill a folder with links to one picture of 8 x 8 pixels, 1,000 in each folder of it."""
    from PIL import Image

    first = folder / "picture.png"
    Image.new("RGB", (8, 8), "red").save(first)
    for start in range(0, count, 1000):
        inside = folder / "pictures" / f"{start // 1000:05}"
        inside.mkdir(parents=True)
        for i in range(start, min(start + 1000, count)):
            if i % 10_000 == 0:  # file systems limit the links to one file
                Image.new("RGB", (8, 8), (i // 10_000 % 256, 0, 0)).save(
                    source := inside / f"{i:08}.png"
                )
            else:
                os.link(source, inside / f"{i:08}.png")
    return folder / "pictures"


def measure(options, log):
    """-> the run as a record; see results.py."""
    images, shape = str(Path(options.images).resolve()), [options.edge, options.edge, 3]
    record = {
        "what": "data",
        "preset": f"{options.edge}x{options.edge}x3",
        "batch": options.batch,
        "backend": "numpy",
        "date": date.today().isoformat(),
        "machine": machine.facts(None),
        "versions": machine.versions("numpy", "pillow"),
    }
    with ExitStack() as stack:
        cache, scratch = (
            Path(stack.enter_context(tempfile.TemporaryDirectory())) for _ in range(2)
        )
        sources = {"folder": images}
        if options.many:
            sources["many"] = str(many_files(scratch, options.many))
        for name, source in sources.items():
            first, again = (child("load", cache, images=source, shape=shape) for _ in range(2))
            record[name] = {"count": first["count"], "prepared": first, "opened": again}
            log(
                f"{first['count']:,} pictures as {'x'.join(map(str, shape))}: prepared in {first['seconds']:.1f} s, "
                f"peak {first['peak_mib']:.0f} MiB; opened in {again['seconds']:.2f} s, peak {again['peak_mib']:.0f} MiB"
            )
        record["draws"] = {}
        for preset in options.presets:
            times = child("draw", cache, images=images, preset=preset, batch=options.batch)
            record["draws"][preset] = times
            there, whole, waited = (
                1000 * median(times[name]) for name in ("there", "whole", "waited")
            )
            log(
                f"{preset}, batch {options.batch}: waits {waited:.3f} ms for a batch, {waited / whole:.2%} of a step of "
                f"{whole:.1f} ms; the longest {1000 * max(times['waited']):.1f} ms; a step on one batch that is there takes "
                f"{there:.1f} ms ({whole / there - 1:+.1%} with draws)"
            )
    return record


@command
def main(argv):
    options = parse(argv)
    record = measure(options, log=lambda line: print(line, flush=True))
    results.add(options.json, record)


if __name__ == "__main__":
    sys.exit(main())
