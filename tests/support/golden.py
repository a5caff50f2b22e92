"""Golden runs: six systems trained for 30 steps, and the SHA-256 of everything they leave.

    python tests/support/golden.py write FILE [--source DIR]     trains, writes the hashes
    python tests/support/golden.py check FILE [--source DIR]     trains, names every array that differs
    ... --backend cupy                                           on the stand-in for CuPy, small nets

A change that promises the same numbers is checked by writing at the revision before it and checking after it.
DIR is a checkout (default: this one). The hashes depend on the machine's BLAS, so no file of them is kept here.
With --arrays DIR the arrays themselves are kept, and a difference is shown with its size.
The systems are run through the command line and read from the run's folder, so any two revisions compare.
"""

import argparse
import csv
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
SYSTEMS = {  # name -> options of `minigan train`
    "mnist": ["--preset", "mnist"],
    "fredriksson-mnist": ["--preset", "fredriksson-mnist", "--width", "32"],
    "shibuya-mnist": ["--preset", "shibuya-mnist"],
    "radford-mnist-conditional": ["--preset", "radford-mnist-conditional"],
    "jayathilaka-faces:rmsprop": ["--preset", "jayathilaka-faces:rmsprop"],
    "image64": ["--preset", "image64"],
}
SMALL = [
    "--width",
    "4",
    "--batch-size",
    "8",
]  # for the stand-in, which runs a GPU's threads one by one
COLUMNS = ("loss_d_real", "loss_d_fake", "loss_g", "d_x", "d_gz", "grad_norm_d", "grad_norm_g")
CUPY = "import sys; from {stand_in} import make_module; sys.modules['cupy'] = make_module()"
MAIN = "import sys; from minigan.cli.main import main; sys.exit(main(sys.argv[1:]))"


def make_pictures(folder: Path, count: int = 600) -> None:
    """`count` pictures of 64x64 in color, in ten folders of as many: smooth noise, of other colors in each."""
    rng = np.random.default_rng(0)
    for i in range(count):
        label = i * 10 // count
        small = np.clip(rng.normal(100 + 10 * label, 60, (6, 6, 3)), 0, 255).astype(np.uint8)
        path = folder / f"{label}" / f"{i:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(small).resize((64, 64), Image.Resampling.BICUBIC).save(path)


def train(
    name: str, threads: int, pictures: Path, source: Path, out: Path, steps: int, backend: str
) -> None:
    """Run the command in a process of its own, with this checkout's package."""
    options = [
        *SYSTEMS[name],
        "--images",
        str(pictures),
        "--steps",
        str(steps),
        "--sample-every",
        "10",
    ]
    before = MAIN
    if backend == "cupy":
        options += ["--backend", "cupy", *SMALL]
        moved = (source / "tests/support/strict_cupy.py").exists()
        before = (
            CUPY.format(stand_in="tests.support.strict_cupy" if moved else "tests.strict_cupy")
            + "; "
            + MAIN
        )
    else:
        options += ["--threads", str(threads)]
    environment = {
        **os.environ,
        "PYTHONPATH": str(source),
        "XDG_CACHE_HOME": str(out.parent / "cache"),
    }
    command = [sys.executable, "-c", before, "train", *options, "--out", str(out)]
    done = subprocess.run(
        command, cwd=source, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{name}: exit code {done.returncode}: {done.stderr.strip()[-2000:]}")


def results(run: Path) -> dict[str, np.ndarray]:
    """-> name -> array: parameters, moments, running statistics, sample grids, losses of every step."""
    found = {}
    with np.load(max((run / "checkpoints").glob("step-*.npz"))) as checkpoint:
        found.update({name: checkpoint[name] for name in checkpoint.files if name != "json"})
    with np.load(run / "generator.npz") as generator:
        found.update({f"generator.npz/{name}": generator[name] for name in generator.files})
    for path in sorted((run / "samples").glob("*.png")):
        found[path.name] = np.asarray(Image.open(path))
    with open(run / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    for column in COLUMNS:
        found[column] = np.array([float(row[column]) for row in rows])
    return found


def digest(array: np.ndarray) -> str:
    return hashlib.sha256(
        f"{array.dtype} {array.shape} ".encode() + np.ascontiguousarray(array).tobytes()
    ).hexdigest()


def difference(old: np.ndarray, new: np.ndarray) -> str:
    if old.shape != new.shape:
        return f"shape {old.shape} was, {new.shape} is"
    change = np.abs(new.astype(float) - old.astype(float)).max()
    return (
        f"largest difference {change:.2e}, of numbers up to {np.abs(old.astype(float)).max():.2e}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=("write", "check"))
    parser.add_argument("file", type=Path)
    parser.add_argument(
        "--source", type=Path, default=ROOT, help="checkout to run (default: this one)"
    )
    parser.add_argument("--backend", choices=("numpy", "cupy"), default="numpy")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--only", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument(
        "--arrays", type=Path, help="folder that keeps the arrays, to show how much they differ"
    )
    arguments = parser.parse_args()
    threads = [1] if arguments.backend == "cupy" else arguments.threads
    known = json.loads(arguments.file.read_text()) if arguments.action == "check" else {}
    hashes: dict[str, dict[str, str]] = {}
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        pictures = Path(folder) / "pictures"
        make_pictures(pictures, 600 if arguments.backend == "numpy" else 40)
        for name in arguments.only:
            for count in threads:
                case = f"{name}, {arguments.backend}, {count} thread{'s' * (count > 1)}"
                out = Path(folder) / case.replace(" ", "-").replace(":", "-")
                train(
                    name,
                    count,
                    pictures,
                    arguments.source.resolve(),
                    out,
                    arguments.steps,
                    arguments.backend,
                )
                arrays = results(out)
                hashes[case] = {key: digest(array) for key, array in arrays.items()}
                kept = arguments.arrays and arguments.arrays / f"{out.name}.npz"
                if arguments.action == "write":
                    if kept:
                        kept.parent.mkdir(parents=True, exist_ok=True)
                        np.savez(
                            kept, **{key.replace("/", "|"): array for key, array in arrays.items()}
                        )
                    print(f"{case}: {len(arrays)} arrays", flush=True)
                    continue
                old = known.get(case, {})
                changed = sorted(
                    key
                    for key in old.keys() | hashes[case].keys()
                    if old.get(key) != hashes[case].get(key)
                )
                print(f"{case}: {len(changed)} of {len(old)} arrays differ", flush=True)
                wrong += bool(changed)
                before = dict(np.load(kept)) if kept else {}
                for key in changed[:200] if kept else changed[:5]:
                    held = before.get(key.replace("/", "|"))
                    print(
                        f"    {key}: "
                        + (
                            difference(held, arrays[key])
                            if held is not None and key in arrays
                            else "differs"
                        )
                    )
    if arguments.action == "write":
        arguments.file.write_text(json.dumps(hashes, indent=1) + "\n")
    elif wrong:
        sys.exit(f"{wrong} of {len(hashes)} cases differ")


if __name__ == "__main__":
    main()
