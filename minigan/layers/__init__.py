"""The layers. One operation a file: derivation, shapes, forward, backward, class."""

from minigan.layers.append_labels import AppendLabels
from minigan.layers.base import Layer
from minigan.layers.batchnorm import BatchNorm
from minigan.layers.conv2d import Conv2d
from minigan.layers.conv_transpose2d import ConvTranspose2d
from minigan.layers.dropout import Dropout
from minigan.layers.leaky_relu import LeakyReLU
from minigan.layers.linear import Linear
from minigan.layers.relu import ReLU
from minigan.layers.reshape import Flatten, Reshape
from minigan.layers.sequential import Sequential
from minigan.layers.sigmoid import Sigmoid
from minigan.layers.spectral_norm import SpectralNorm
from minigan.layers.tanh import Tanh
from minigan.layers.upsample import Upsample

__all__ = [
    "AppendLabels", "BatchNorm", "Conv2d", "ConvTranspose2d", "Dropout", "Flatten", "Layer",
    "LeakyReLU", "Linear", "ReLU", "Reshape", "Sequential", "Sigmoid", "SpectralNorm", "Tanh",
    "Upsample",
]  # fmt: skip
