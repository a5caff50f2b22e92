"""Watch a training in TensorBoard: pip install tensorboardX tensorboard

python examples/tensorboard.py && tensorboard --logdir runs/tensorboard
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # a clone works without installing minigan

import minigan as mg

try:
    from tensorboardX import SummaryWriter
except ImportError:
    sys.exit("TensorBoard's files need tensorboardX: pip install tensorboardX tensorboard")

with SummaryWriter("runs/tensorboard") as writer:

    def on_step(row, samples):
        for name in ("loss_d_real", "loss_d_fake", "loss_g", "d_x", "d_gz"):
            writer.add_scalar(name, row[name], row["step"])
        if samples is not None:
            writer.add_images("samples", samples, row["step"], dataformats="NHWC")

    mg.train(preset="mnist", epochs=1, on_step=on_step)
