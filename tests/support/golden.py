"""Golden runs: six systems trained for 30 steps, and the SHA-256 of everything they leave.

    python tests/support/golden.py write FILE [--source DIR]    train, write the hashes
    python tests/support/golden.py check FILE [--source DIR]    train, name every array that differs
    ... --backend cupy                                          on the stand-in for CuPy, small nets
    ... --float64 --arrays DIR                                  compare to 1e-5 instead

A change that promises the same numbers is checked by writing at the revision before it and checking
after it. DIR is a checkout (default: this one). The hashes depend on the machine's BLAS, so no file
of them is kept here, and on whether numba is installed: its kernels round differently. With
--arrays DIR the arrays themselves are kept, and each difference is shown
with its size. If a change alters an order of summation, float64 shows that nothing else changed:
in float32 training amplifies rounding too fast to compare.
The systems run through the command line and are read from the run's folder, so that any two
revisions compare.
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
SMALL = ["--width", "4", "--batch-size", "8"]  # the stand-in runs a GPU's threads one by one
COLUMNS = ("loss_d_real", "loss_d_fake", "loss_g", "d_x", "d_gz", "grad_norm_d", "grad_norm_g")
RTOL = 1e-5  # of the largest number of an array, with --float64
CUPY = "import sys; from {stand_in} import make_module; sys.modules['cupy'] = make_module()\n"
FLOAT64 = """
import importlib
for name in ("minigan.training.game", "minigan.training"):  # where 0.2.0 has it, and 0.1.0
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError:
        continue
    make = module.get_backend
    module.get_backend = lambda *names, **options: make(*names, dtype="float64", **options)
    break
"""
MAIN = "import sys; from minigan.cli import main; sys.exit(main(sys.argv[1:]))"


def make_pictures(folder: Path, count: int) -> None:
    """`count` color pictures of 64x64, in ten folders: smooth noise, brighter in each."""
    rng = np.random.default_rng(0)
    for i in range(count):
        label = i * 10 // count
        small = np.clip(rng.normal(100 + 10 * label, 60, (6, 6, 3)), 0, 255).astype(np.uint8)
        path = folder / f"{label}" / f"{i:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(small).resize((64, 64), Image.Resampling.BICUBIC).save(path)


def train(name: str, threads: int, pictures: Path, out: Path, arguments) -> None:
    """Run the command in its own process, with the package of the checkout."""
    source, program = arguments.source.resolve(), MAIN
    options = [*SYSTEMS[name], "--images", str(pictures), "--steps", str(arguments.steps)]
    options += ["--sample-every", "10", "--out", str(out)]
    if arguments.backend == "cupy":
        options += ["--backend", "cupy", *SMALL]
        moved = (source / "tests/support/strict_cupy.py").exists()
        stand_in = "tests.support.strict_cupy" if moved else "tests.strict_cupy"
        program = CUPY.format(stand_in=stand_in) + program
    else:
        options += ["--threads", str(threads)]
    if arguments.float64:
        program = FLOAT64 + program
    environment = {**os.environ, "PYTHONPATH": str(source), "XDG_CACHE_HOME": f"{out}-cache"}
    command = [sys.executable, "-c", program, "train", *options]
    done = subprocess.run(command, cwd=source, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{name}: exit code {done.returncode}: {done.stderr.strip()[-2000:]}")


def results(run: Path) -> dict[str, np.ndarray]:
    """-> name -> array: parameters, moments, running statistics, sample grids, losses."""
    found = {}
    with np.load(max((run / "checkpoints").glob("step-*.npz"))) as checkpoint:
        found.update({name: checkpoint[name] for name in checkpoint.files if name != "json"})
    with np.load(run / "generator.npz") as generator:
        found.update({f"generator.npz {name}": generator[name] for name in generator.files})
    for path in sorted((run / "samples").glob("*.png")):
        found[path.name] = np.asarray(Image.open(path))
    with open(run / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    for column in COLUMNS:
        found[column] = np.array([float(row[column]) for row in rows])
    return {name.replace("/", " "): array for name, array in found.items()}


def digest(array: np.ndarray) -> str:
    content = f"{array.dtype} {array.shape} ".encode() + np.ascontiguousarray(array).tobytes()
    return hashlib.sha256(content).hexdigest()


def error(old: np.ndarray | None, new: np.ndarray | None) -> float:
    """-> largest difference, relative to the largest number."""
    if old is None or new is None or old.shape != new.shape:
        return np.inf
    old, new = old.astype(float), new.astype(float)
    return float(np.abs(new - old).max() / max(np.abs(old).max(), 1e-30))


def compare(case: str, arrays, known: dict[str, str], kept: Path | None, float64: bool) -> bool:
    """Print what differs -> does anything?"""
    old = dict(np.load(kept)) if kept else {}
    names = sorted(known.keys() | arrays.keys())
    changed = {
        name: error(old.get(name), arrays.get(name))
        for name in names
        if name not in arrays or known.get(name) != digest(arrays[name])
    }
    if float64:
        changed = {name: size for name, size in changed.items() if not size <= RTOL}
    print(f"{case}: {len(changed)} of {len(names)} arrays differ", flush=True)
    for name, size in changed.items():
        print(f"    {name}" + (f": {size:.1e} of the largest number" if kept else ""))
    return bool(changed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=("write", "check"))
    parser.add_argument("file", type=Path)
    parser.add_argument("--source", type=Path, default=ROOT, help="checkout to run")
    parser.add_argument("--backend", choices=("numpy", "cupy"), default="numpy")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--only", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--float64", action="store_true", help="compare to 1e-5; needs --arrays")
    parser.add_argument("--arrays", type=Path, help="folder that keeps the arrays")
    arguments = parser.parse_args()
    on_cpu, writes = arguments.backend == "numpy", arguments.action == "write"
    known = {} if writes else json.loads(arguments.file.read_text())
    hashes, wrong = {}, 0
    with tempfile.TemporaryDirectory() as folder:
        pictures = Path(folder) / "pictures"
        make_pictures(pictures, 600 if on_cpu else 40)
        for name in arguments.only:
            for threads in arguments.threads if on_cpu else [1]:
                case = f"{name} {arguments.backend} {threads}"
                out = Path(folder) / case.replace(" ", "-").replace(":", "-")
                train(name, threads, pictures, out, arguments)
                arrays = results(out)
                kept = arguments.arrays and arguments.arrays / f"{out.name}.npz"
                if not writes:
                    wrong += compare(case, arrays, known.get(case, {}), kept, arguments.float64)
                    continue
                hashes[case] = {name: digest(array) for name, array in arrays.items()}
                if kept:
                    kept.parent.mkdir(parents=True, exist_ok=True)
                    np.savez(kept, **arrays)
                print(f"{case}: {len(arrays)} arrays", flush=True)
    if writes:
        arguments.file.write_text(json.dumps(hashes, indent=1) + "\n")
    elif wrong:
        sys.exit(f"{wrong} cases differ")


if __name__ == "__main__":
    main()
