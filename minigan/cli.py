"""The command line: `minigan train`, `minigan sample`.

A user's mistake ends in one line on stderr and exit code 2; Ctrl-C in 130.
"""

import argparse
import sys
from pathlib import Path

from minigan.errors import ConfigError, MiniganError


class Parser(argparse.ArgumentParser):
    """argparse, with a mistake in one line."""

    def error(self, message):
        """Raises ConfigError, where argparse would print its usage and leave the program."""
        raise ConfigError(f"{message} (see {self.prog} --help)")


def build_parser():
    """-> the parser of both commands."""
    parser = Parser(prog="minigan", description="DCGANs with hand-written backward passes, on NumPy or CuPy.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="train|sample")

    train = commands.add_parser("train", help="train a GAN; leaves a folder under runs/")
    # no defaults here: what the user gave is told from what the preset, or a resumed run, brings
    given = dict(default=argparse.SUPPRESS)
    train.add_argument("--preset", **given, help="the system: nets and hyper-parameters (default mnist)")
    train.add_argument("--backend", **given, help="numpy or cupy (default numpy)")
    train.add_argument("--dataset", **given, help="auto, mnist or strokes; auto takes MNIST if it can be had (default)")
    train.add_argument("--data-dir", metavar="DIR", help="folder with MNIST's four files, plain or .gz")
    end = train.add_mutually_exclusive_group()
    end.add_argument("--epochs", type=int, **given, help="end of the run; a total, also with --resume")
    end.add_argument("--steps", type=int, **given, help="the same in steps of one batch each")
    train.add_argument("--batch-size", type=int, **given, help="images in a step")
    train.add_argument("--width", type=int, **given, help="channels of the feature maps next to the image")
    train.add_argument("--z-dim", type=int, **given, help="length of the noise vector")
    train.add_argument("--z", **given, help="its distribution: normal or uniform")
    train.add_argument("--lr-g", type=float, **given, help="learning rate of the generator")
    train.add_argument("--lr-d", type=float, **given, help="learning rate of the discriminator")
    train.add_argument("--beta1", type=float, **given, help="Adam's first decay")
    train.add_argument("--seed", type=int, **given, help="of all random numbers (default 0)")
    train.add_argument("--sample-every", type=int, **given, help="steps between sample grids and checkpoints (default 200)")
    train.add_argument("--out", metavar="DIR", help="folder to make for this run (default runs/<time>-<preset>)")
    train.add_argument("--resume", metavar="DIR", help="go on in this run's folder, bit for bit")
    train.add_argument("--dry-run", action="store_true", help="one step, the layer tables, nothing written")

    sample = commands.add_parser("sample", help="draw pictures from a run")
    sample.add_argument("run", metavar="RUN", help="folder of a run, finished or not")
    sample.add_argument("--n", type=int, default=64, help="how many (default 64)")
    sample.add_argument("--out", required=True, metavar="FILE", help=".png: a grid; .npy: uint8 (n, h, w, c)")
    sample.add_argument("--seed", type=int, default=0, help="of z (default 0)")
    return parser


def train(arguments):
    """The command `train`: what the user gave, handed to training.py."""
    from minigan.training import train

    options = vars(arguments)
    del options["command"]
    apart = {name: options.pop(name) for name in ("data_dir", "out", "resume", "dry_run")}
    train(options, **apart, say=lambda line: print(line, flush=True))


def sample(arguments):
    """The command `sample`: pictures of a run's generator, as a grid or as an array."""
    import io
    from dataclasses import replace

    import numpy as np

    from minigan.checkpoint import load_arrays, load_network, write_atomically
    from minigan.images import grid, save_png
    from minigan.run import Run
    from minigan.training import Game

    out = Path(arguments.out).expanduser()
    if out.suffix not in (".png", ".npy"):
        raise ConfigError(f"--out must end in .png (a grid) or .npy (an array), got {arguments.out!r}")
    for name, least in (("n", 1), ("seed", 0)):
        if getattr(arguments, name) < least:
            raise ConfigError(f"--{name} must be at least {least}, got {getattr(arguments, name)}")
    run = Run(arguments.run)
    config, _ = run.load_config()
    game = Game(replace(config, backend="numpy"))  # a picture more or less needs no GPU
    load_network(game.G, load_arrays(run.generator_file), run.generator_file)
    pictures = game.sample(arguments.n, game.stream("sample", seed=arguments.seed))
    if out.suffix == ".png":
        save_png(out, grid(pictures))
    else:
        memory = io.BytesIO()
        np.save(memory, pictures)
        write_atomically(out, memory.getvalue())
    print(f"{arguments.n} pictures {pictures.shape[1:]} in {out}")


def main(argv: list[str] | None = None) -> int:
    """-> exit code: 0; 2 for a mistake that the user can mend; 130 after Ctrl-C, 143 after SIGTERM."""
    try:
        arguments = build_parser().parse_args(argv)
        {"train": train, "sample": sample}[arguments.command](arguments)
    except MiniganError as error:
        print(f"minigan: error: {error}", file=sys.stderr)
        return 2
    except MemoryError as error:
        print(f"minigan: error: not enough memory ({error}): take a smaller --batch-size, --width or --n", file=sys.stderr)
        return 2
    except BrokenPipeError:  # `minigan ... | head`: nobody reads on, which is no mistake
        sys.stderr.close()
        return 0
    except KeyboardInterrupt as stop:
        if not hasattr(stop, "exit_code"):
            print("minigan: stopped", file=sys.stderr)
        return getattr(stop, "exit_code", 130)
    return 0
