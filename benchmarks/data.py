"""Pictures from files to the net: python benchmarks/data.py --images DIR [--help]

Three questions: how long does it take to prepare a folder of pictures, and to open it later; how
much memory does that need, also with very many files (--many makes them, as links to small pictures
in a temporary folder); how long does the training thread wait for a batch. The last is measured
within real steps, and the whole step is compared with one whose batch is already there: the thread
that prepares batches uses the cores too.

Each measurement is its own process, with a cache that is deleted afterward.
"""

import os
import sys
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter

if __name__ == "__main__":  # this checkout: its minigan, and benchmarks as a package
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks import command, machine, nets, results
from benchmarks.interleaved import Workers
from minigan.data import Batches, load_dataset
from minigan.errors import DataError
from minigan.presets import get_preset

PRESETS = ("mnist", "shibuya-svhn")
ROUNDS, SECONDS = 5, 2.0  # turns with draws and without, of this many seconds


def parse(argv):
    parser = command.make_parser(
        "data.py", "Preparing pictures, and drawing batches of them.", "batch", "json"
    )
    parser.add_argument("--images", required=True, metavar="DIR", help="folder or .zip of pictures")
    parser.add_argument(
        "--edge",
        type=command.whole(1),
        default=32,
        help="of the square images that they become (default 32)",
    )
    parser.add_argument(
        "--presets",
        type=command.names(nets.NAMES),
        default=list(PRESETS),
        help=f"whose steps draw batches (default {','.join(PRESETS)})",
    )
    parser.add_argument(
        "--many",
        type=command.whole(0),
        default=0,
        help="also prepare this many links to small pictures (default 0)",
    )
    options = parser.parse_args(argv)
    if not Path(options.images).exists():
        raise DataError(f"--images {options.images}: there is no such folder or file")
    return options


class Pictures:
    """What one process measures."""

    def load(self, images, shape):
        """-> seconds until the pictures are ready, and their number."""
        clock = perf_counter()
        data = load_dataset("folder", images=images, image_shape=shape, log=command.quiet)
        return {"seconds": perf_counter() - clock, "count": len(data.images)}

    def draw(self, images, preset, batch):
        """-> seconds of steps on a batch that is there; of steps with draws; of waiting."""
        from benchmarks.contenders.minigan_step import Step

        shape = get_preset(preset).image_shape
        data = load_dataset("folder", images=images, image_shape=shape, log=command.quiet)
        batches = Batches(data.images, batch, labels=data.labels, flip=True, drop_last=True)
        step = Step(preset, batch, None, captured=True)
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
                drawn, _ = batches.draw()
                waited.append(perf_counter() - clock)
                step.load(drawn)
                step.run(1)
                whole.append(perf_counter() - clock)
        return {"there": there, "whole": whole, "waited": waited}


def in_process(method, cache, **arguments):
    """-> what a method of Pictures returns in a new process, and its peak memory."""
    environment = dict.fromkeys(("XDG_CACHE_HOME", "LOCALAPPDATA", "HOME"), str(cache))
    with Workers() as workers:
        target = "benchmarks.data:Pictures"
        worker = workers.require(method, target, {}, environment=environment)
        return worker.call(method, **arguments) | {"peak_mib": worker.call("peak_mib")}


def make_files(folder, count):
    """Fill a folder with links to pictures of 8 x 8 pixels, 1,000 in each subfolder."""
    from PIL import Image

    for i in range(count):
        path = folder / f"{i // 1000:05}" / f"{i:08}.png"
        path.parent.mkdir(exist_ok=True)
        if i % 10_000 == 0:  # file systems limit the links to one file
            Image.new("RGB", (8, 8), (i // 10_000 % 256, 0, 0)).save(path)
            first = path
        else:
            os.link(first, path)


def measure(options, log):
    """-> the measurement as a record; see results.py."""
    shape = [options.edge, options.edge, 3]
    size = "x".join(map(str, shape))
    record = results.new_record("data", machine.facts(None), preset=size, batch=options.batch)
    record |= {"backend": "numpy", "versions": machine.versions("numpy", "pillow"), "draws": {}}
    with tempfile.TemporaryDirectory() as cache, tempfile.TemporaryDirectory() as scratch:
        images = str(Path(options.images).resolve())
        sources = {"folder": images}
        if options.many:
            make_files(Path(scratch), options.many)
            sources["many"] = scratch
        for name, source in sources.items():
            first, again = (in_process("load", cache, images=source, shape=shape) for _ in range(2))
            record[name] = {"count": first["count"], "prepared": first, "opened": again}
            log(
                f"{first['count']:,} pictures as {size}: prepared in {first['seconds']:.1f} s, "
                f"peak {first['peak_mib']:.0f} MiB; opened in {again['seconds']:.2f} s, "
                f"peak {again['peak_mib']:.0f} MiB"
            )
        for preset in options.presets:
            times = in_process("draw", cache, images=images, preset=preset, batch=options.batch)
            record["draws"][preset] = times
            names = ("there", "whole", "waited")
            there, whole, waited = (1000 * median(times[name]) for name in names)
            log(
                f"{preset}, batch {options.batch}: waits {waited:.3f} ms for a batch, "
                f"{waited / whole:.2%} of a step of {whole:.1f} ms, "
                f"at most {1000 * max(times['waited']):.1f} ms; a step on a batch that is there "
                f"takes {there:.1f} ms ({whole / there - 1:+.1%} with draws)"
            )
    return record


@command.command
def main(argv):
    options = parse(argv)
    results.add(options.json, measure(options, command.log))


if __name__ == "__main__":
    sys.exit(main())
