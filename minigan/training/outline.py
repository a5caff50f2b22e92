"""The networks of a run without their numbers: for counting, and to know what a file must hold."""

from typing import Any

import numpy as np

from minigan.arrays import Backend, Shape
from minigan.layers import Sequential
from minigan.parameters import Store
from minigan.training.config import Config
from minigan.training.switches import switched_preset


class ShapeStore(Store):
    """A Store that records the shapes of parameters, and neither draws nor allocates them."""

    def parameter(self, layer: Any, name: str, shape: Shape, *args: Any, **kwargs: Any) -> None:
        array = np.broadcast_to(np.float32(0), shape)  # one number, seen as all of them
        layer.hold(name, self.params, self.full_name(name), array)


def outline(config: Config) -> tuple[Sequential, Sequential]:
    """-> G and D of a run, set up without memory for their weights."""
    preset, backend, rng = switched_preset(config), Backend(), np.random.default_rng(0)
    shape = config.image_shape
    G = Sequential(preset.generator(config.width, config.z_dim, shape), name="G")
    D = Sequential(preset.discriminator(config.width, shape), name="D")
    for net, in_shape in ((G, (config.z_dim,)), (D, shape)):
        store = ShapeStore(backend, rng, net.name)
        net.setup(in_shape, backend=backend, rng=rng, store=store)
        net.store = store
    return G, D
