"""The folder of a run, made without training: numbers and images that a test knows."""

import json

import numpy as np
from PIL import Image

from minigan.data.files.png import grid
from minigan.training.config import new_config
from minigan.training.run_folder import Run

COLUMNS = "step,epoch,loss_d_real,loss_d_fake,loss_g,d_x,d_gz,images_per_s"
WITH_NORMS = COLUMNS.replace("images", "grad_norm_d,grad_norm_g,images")


def picture(i, shape=(28, 28, 1), n=4):
    """-> a grid of n random images, others for every i."""
    return grid(np.random.default_rng(i).integers(0, 256, (n, *shape), np.uint8))


def save(path, picture):
    """As save_png, but it does not wait for the disk."""
    Image.fromarray(picture[:, :, 0] if picture.shape[2] == 1 else picture).save(path)


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
    """-> Run with metrics of this many steps, and sample grids at the steps `grids`."""
    run = Run(folder)
    run.samples.mkdir(parents=True)
    run.save_config(new_config({"steps": 20, "dataset": "mnist", **options}), metadata or {})
    rng = np.random.default_rng(0)
    rows = [WITH_NORMS if norms else COLUMNS]
    for step in range(1, steps + 1):
        numbers = [*rng.uniform(0.1, 2, 3), *rng.uniform(0, 1, 2)]
        if norms:
            numbers += [*rng.uniform(0.1, 9, 2)]
        rows.append(",".join(map(str, [step, 1 + step // 10, *numbers, 1000])))
    run.metrics_file.write_text("\n".join(rows) + "\n")
    for step in grids:
        save(run.samples / f"step-{step:08d}.png", picture(step, shape))
    if real:
        save(run.real_file, picture(10**6, shape))
    return run


def change_record(run, **changes):
    """Change entries of config.json."""
    record = json.loads(run.config_file.read_text())
    run.config_file.write_text(json.dumps(record | changes))
