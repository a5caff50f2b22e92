"""A run's folder, made without training: numbers and pictures that a test knows."""

import json

import numpy as np

from minigan.data.files.png import grid, save_png
from minigan.training.config import new_config
from minigan.training.run_folder import Run

COLUMNS = "step,epoch,loss_d_real,loss_d_fake,loss_g,d_x,d_gz,images_per_s"
WITH_NORMS = (
    "step,epoch,loss_d_real,loss_d_fake,loss_g,d_x,d_gz,grad_norm_d,grad_norm_g,images_per_s"
)


def picture(i, shape=(28, 28, 1), n=4):
    """-> grid of n random pictures, others for every i."""
    return grid(np.random.default_rng(i).integers(0, 256, (n, *shape), np.uint8))


def make_run(
    folder,
    steps=20,
    grids=(0, 10, 20),
    shape=(28, 28, 1),
    norms=False,
    real=True,
    metadata=None,
    **options,
):
    """-> Run with metrics of so many steps and sample grids at the steps of `grids`."""
    run = Run(folder)
    run.samples.mkdir(parents=True)
    run.save_config(new_config({"steps": 20, "dataset": "mnist", **options}), metadata or {})
    rng = np.random.default_rng(0)
    rows = [WITH_NORMS if norms else COLUMNS]
    for step in range(1, steps + 1):
        numbers = [
            *rng.uniform(0.1, 2, 3),
            *rng.uniform(0, 1, 2),
            *(rng.uniform(0.1, 9, 2) if norms else ()),
            1000,
        ]
        rows.append(",".join(map(str, [step, 1 + step // 10, *numbers])))
    run.metrics_file.write_text("\n".join(rows) + "\n")
    for step in grids:
        save_png(run.samples / f"step-{step:08d}.png", picture(step, shape))
    if real:
        save_png(run.folder / "real.png", picture(10**6, shape))
    return run


def change_record(run, **changes):
    """Put changes beside, or into the "options" of, what config.json says."""
    record = json.loads(run.config_file.read_text())
    record["options"] |= changes.pop("options", {})
    run.config_file.write_text(json.dumps(record | changes))
