"""The DCGAN example of PyTorch: 64x64 in color, kernels of 4 from the first layer to the last.

G: z -> 4x4 by a transposed convolution of kernel 4, then four times kernel 4, stride 2
D: its mirror image, to one logit by a convolution of kernel 4
D moves first; G learns from the fakes that D has seen. The program uses batch statistics for
sampling, too, as it never leaves training mode (here by request: frozen_statistics.py).
Source: github.com/pytorch/examples, dcgan/main.py
"""

from functools import partial

from minigan import layers as nn
from minigan.objective import Objective
from minigan.presets import ImageShape, Layers, Preset
from minigan.presets.frameworks import TORCH_LIMIT, WEIGHTS, torch_norm

DOUBLE = HALVE = dict(kernel_size=4, stride=2, padding=1, **WEIGHTS)
norm = partial(torch_norm, sampling="batch")


def generator(width: int, z_dim: int, image_shape: ImageShape) -> Layers:
    first = nn.ConvTranspose2d(8 * width, kernel_size=4, **WEIGHTS)
    layers = [nn.Reshape((1, 1, z_dim)), first, norm(), nn.ReLU()]  # 4x4
    for multiple in (4, 2, 1):  # 8x8, 16x16, 32x32
        layers += [nn.ConvTranspose2d(multiple * width, **DOUBLE), norm(), nn.ReLU()]
    return [*layers, nn.ConvTranspose2d(image_shape[2], **DOUBLE), nn.Tanh()]


def discriminator(width: int, image_shape: ImageShape, last_stride: int = 1) -> Layers:
    layers = [nn.Conv2d(width, **HALVE), nn.LeakyReLU(0.2)]  # 32x32
    for multiple in (2, 4, 8):  # 16x16, 8x8, 4x4
        layers += [nn.Conv2d(multiple * width, **HALVE), norm(), nn.LeakyReLU(0.2)]
    return [*layers, nn.Conv2d(1, kernel_size=4, stride=last_stride, **WEIGHTS), nn.Flatten()]


PRESETS = {
    "pytorch-64": Preset(
        name="pytorch-64", source="PyTorch examples, dcgan", data="folder",
        image_shape=(64, 64, 3), generator=generator, discriminator=discriminator, width=64,
        batch_size=64, epochs=25, objective=Objective(loss_limit=TORCH_LIMIT),
    ),
}  # fmt: skip
