"""A run opened for inspection: its networks as last saved, and its training images.

And its networks layer by layer, with their BatchNorm statistics frozen: frozen_statistics.py.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from minigan.data import Dataset, to_floats
from minigan.data.files.npz import load_arrays, unpack
from minigan.errors import ConfigError, RunError
from minigan.frozen_statistics import freeze_statistics
from minigan.layers import Sequential
from minigan.layers.base import Array
from minigan.layers.sequential import forward_pass
from minigan.training import Game, Log, Run

Floats = NDArray[np.float64]
Pixels = NDArray[np.uint8]
Ints = NDArray[np.int64]


def load_net(net: Sequential, section: str, run: Run, log: Log, best: bool = False) -> int:
    """Load a network from the newest usable checkpoint, or from the best one -> its step.

    section  "D", or "G": its weights before they are averaged
    Raises RunError.
    """
    checkpoints = run.checkpoints
    for path in [checkpoints.best_file] if best else reversed(checkpoints.found()):
        try:
            sections, record = unpack(load_arrays(path), path)
            net.ready().load_state(sections.get(section, {}), path)
            return int(record["step"])
        except RunError as error:
            log(f"passing over a checkpoint: {error}")
        except (KeyError, TypeError, ValueError) as error:
            log(f"passing over a checkpoint: {path} has no valid step ({error!r})")
    raise RunError(
        f"{checkpoints.folder} has no usable checkpoint, and only checkpoints contain {section}: "
        "wait until the run saves one"
    )


def draw_z(game: Game, n: int, seed: int) -> Floats:
    """-> z (n, z_dim) on the host, of the first n images of `minigan sample` with this seed."""
    return game.new_z(n, game.stream("sample", seed=seed)).astype(np.float64)


def generate(game: Game, z: Floats, numbers: Any = 0) -> Pixels:
    """z (n, z_dim), class number of each or of all -> images of G (n, h, w, c) uint8.

    In whole batches, as in `minigan sample`: an image has the same bits whatever else is drawn.
    Raises RunError for NaN.
    """
    size, net = game.config.batch_size, game.sampled_net()
    padding = -len(z) % size
    numbers = np.pad(np.broadcast_to(numbers, len(z)), (0, padding))
    z = np.pad(z, ((0, padding), (0, 0)))
    parts = [slice(start, start + size) for start in range(0, len(z), size)]
    images = [game.images_of(game.backend.asarray(z[part]), numbers[part], net) for part in parts]
    return np.concatenate(images)[: len(z) - padding]


def real_images(game: Game, data: Dataset, numbers: NDArray[Any]) -> tuple[Array, Array | None]:
    """Numbers of images (n,) -> x (n, h, w, c) as D receives them, and their labels or None."""
    floats = np.empty((len(numbers), *data.images.shape[1:]), np.float32)
    to_floats(data.images[numbers], floats, game.preset.pixel_min)
    labels = None if data.labels is None else game.labels(np.asarray(data.labels)[numbers])
    return game.backend.asarray(floats), labels


def freeze_discriminator(game: Game, D: Sequential, data: Dataset) -> None:
    """Freeze D's statistics at those of a batch of real images, as D is always inspected.

    It was trained on batches that were all real or all generated. Its running statistics mix the
    two, which no batch did.
    """
    count = min(game.config.batch_size, len(data.images))
    numbers = game.stream("real").choice(len(data.images), count, replace=False)
    freeze_statistics(D, *real_images(game, data, np.sort(numbers)))


def untrained(game: Game) -> Sequential:
    """-> D before its first step, as the run's seed draws it; an imported D began otherwise."""
    D = Sequential(game.preset.discriminator(game.config.width, game.config.image_shape), name="D")
    D.setup(game.config.image_shape, backend=game.backend, rng=game.stream("D"))
    return D


def activations(net: Sequential, x: Array, labels: Array | None = None) -> list[NDArray[Any]]:
    """x (n, *in_shape) -> the output of each layer, in sampling mode, on the host.

    Raises RunError if one is not finite.
    """
    found = []
    for layer in net.layers:
        x = forward_pass([layer], x, False, labels)
        found.append(expect_finite(net.backend.to_host(x), net))
    return found


def find_layer(nets: dict[str, Sequential], name: str) -> tuple[Sequential, int]:
    """ "D.3" -> the network, and the layer's index in it. Raises ConfigError."""
    there = {layer.path: (net, i) for net in nets.values() for i, layer in enumerate(net.layers)}
    if name not in there:
        names = [f"{path} ({net.layers[i].describe()})" for path, (net, i) in there.items()]
        raise ConfigError(f"--layer: there is no {name!r}: choose one of {', '.join(names)}")
    return there[name]


def expect_finite(values: NDArray[Any], net: Sequential) -> NDArray[Any]:
    """-> the same values. Raises RunError if one is NaN or infinite."""
    if not np.isfinite(values).all():
        raise RunError(
            f"{net.name} outputs NaN or infinity: its training diverged; "
            "try a smaller --lr-g and --lr-d"
        )
    return values
