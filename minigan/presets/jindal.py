"""Jindal's DCGAN-in-PyTorch: MNIST at 64x64, PyTorch's example at twice its width.

Two differences: D's last convolution has stride 2 (on 4x4 pixels that is the same), and the labels
are softened on both sides, 0.9 for real and 0.1 for fake. The article says that the paper trained
with SGD; the paper, and this program, use Adam.
Source: github.com/nakul-jindal/model-zoo-nakul, dcgan-pytorch
"""

from functools import partial

from minigan.objective import Objective
from minigan.presets import Preset
from minigan.presets.frameworks import TORCH_LIMIT
from minigan.presets.pytorch import discriminator, generator

PRESETS = {
    "jindal-mnist64": Preset(
        name="jindal-mnist64", source="Jindal, DCGAN-in-PyTorch", data="mnist",
        image_shape=(64, 64, 1), generator=generator,
        discriminator=partial(discriminator, last_stride=2), width=128, epochs=10,
        objective=Objective(real_target=0.9, fake_target=0.1, loss_limit=TORCH_LIMIT), grid=(4, 8),
    ),
}  # fmt: skip
