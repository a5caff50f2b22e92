"""The explorer of a run: one page in which G runs, in JavaScript, without a network or a server.

explorer.html is the page, explorer.js what its sliders and buttons do, and generator.js G's forward
pass. This file puts them together with G's layers and weights. The page's
Content-Security-Policy allows its own script, by checksum, and a worker made of it; nothing else.

BatchNorm's statistics are fixed for sampling, so each BatchNorm becomes one scale and one shift per
channel. Weights are written as float16 if no pixel of 64 samples changes by more than 1 of 255, and
otherwise as float32.

Directions. G's first layer multiplies z by W (z_dim, outputs). The singular vectors of W are
directions of z; W stretches z most along the first of them, so it changes the image most.
"""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from minigan import layers as nn
from minigan.checks import ignore_float_errors
from minigan.errors import ConfigError
from minigan.files import write_atomically
from minigan.report.page import checksum, escape, text_of
from minigan.report.plots import title_of
from minigan.training import Game

GRID = 24  # images to choose from
DIRECTIONS = 10  # at most
CHECKED = 64  # samples that decide about float16

Description = dict[str, Any]  # of a layer: see generator.js


def save_explorer(path: str | Path, game: Game, name: str) -> str:
    """Write the page -> a line for the user.

    game  of an opened run; its weights may be rounded afterward
    name  of the run
    Raises RunError, ConfigError.
    """
    dtype = "float16" if float16_is_enough(game) else "float32"
    content = page(game, name, dtype).encode("utf-8", "replace")
    write_atomically(path, content)
    return f"{path}: {len(content) / 2**20:.1f} MiB, weights as {dtype}; open it in a browser"


@ignore_float_errors
def float16_is_enough(game: Game) -> bool:
    """Does no pixel of CHECKED samples change by more than 1 if large weights are rounded?

    If so, they stay rounded in the game.
    """
    exact = game.sample(CHECKED, game.stream("sample")).astype(int)
    net = game.sampled_net()
    before = {name: W.copy() for name, W in net.params.items() if W.ndim > 1}
    for name, W in before.items():
        net.params[name][...] = W.astype(np.float16).astype(W.dtype)  # inf beyond its largest
    if np.all(np.isfinite(net.ready().flat_params)):
        rounded = game.sample(CHECKED, game.stream("sample")).astype(int)
        if np.abs(rounded - exact).max() <= 1:
            return True
    for name, W in before.items():
        net.params[name][...] = W
    return False


def page(game: Game, name: str, dtype: str) -> str:
    """-> the page as HTML; its large weights as dtype."""
    config, net = game.config, game.sampled_net()
    z = game.new_z(GRID, game.stream("fixed z"))
    run = {
        "name": name,
        "image": net.out_shape,
        "black": game.preset.pixel_min,
        "z": config.z,
        "classes": [game.class_title(i) for i in range(game.preset.classes)],
        "start": z.round(4).tolist(),
        "directions": directions(net, config.z_dim).round(4).tolist(),
        "layers": list(describe(net, dtype)),
    }
    script = text_of("explorer.js")
    return Template(text_of("explorer.html")).substitute(
        script_hash=checksum(script),
        style=text_of("base.css"),
        title=escape(title_of(config)),
        subtitle=escape(name),
        weights=f"{sum(W.size for W in net.params.values()):,} numbers, {dtype}",
        run=json.dumps(run).replace("<", "\\u003c"),
        generator=text_of("generator.js"),
        script=script,
    )


def directions(net: nn.Sequential, z_dim: int) -> np.ndarray:
    """-> (k, z_dim): the directions of z that G's first layer stretches most, of length 1."""
    kinds = (nn.Linear, nn.ConvTranspose2d)
    first: Any = next(layer for layer in net.leaves() if isinstance(layer, kinds))
    W: np.ndarray = net.backend.to_host(first.W)
    # ConvTranspose2d on one pixel: W (k, k, c_out, z_dim). A conditional net has rows for labels
    rows = (W if isinstance(first, nn.Linear) else W.reshape(-1, W.shape[3]).T)[:z_dim]
    U = np.linalg.svd(rows.astype(float), full_matrices=False)[0]
    return np.asarray(U.T[:DIRECTIONS])


def describe(net: nn.Sequential, dtype: str) -> Iterator[Description]:
    """-> yields what generator.js needs of each layer. Raises ConfigError for an unknown one."""

    def numbers(array: Any, dtype: str = "float32") -> Description | None:
        if array is None:
            return None
        host = np.ascontiguousarray(net.backend.to_host(array), np.dtype(dtype).newbyteorder("<"))
        return {"type": dtype, "data": base64.b64encode(host.tobytes()).decode()}

    for layer in net.leaves():
        found: Description = {"kind": type(layer).__name__}
        if isinstance(layer, (nn.Dropout, nn.Reshape)):
            continue  # Dropout does nothing in sampling, and a Reshape moves no number
        if isinstance(layer, nn.Linear):
            found |= {"W": numbers(layer.W, dtype), "b": numbers(layer.b), "out": layer.out}
        elif isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
            (top, _), (left, _) = layer.pads
            found |= {"W": numbers(layer.W, dtype), "b": numbers(layer.b), "top": top, "left": left}
            found |= {"x": layer.in_shape, "y": layer.out_shape}
            found |= {"k": layer.kernel_size, "s": layer.stride}
        elif isinstance(layer, nn.BatchNorm):
            scale = 1 / np.sqrt(net.backend.to_host(layer.running_var) + layer.eps)
            scale = scale if layer.gain is None else scale * net.backend.to_host(layer.gain)
            shift = -net.backend.to_host(layer.running_mean) * scale
            shift = shift if layer.bias is None else shift + net.backend.to_host(layer.bias)
            found |= {"scale": numbers(scale), "shift": numbers(shift)}
        elif isinstance(layer, nn.LeakyReLU):
            found["slope"] = layer.slope
        elif isinstance(layer, nn.Upsample):
            found |= {"x": layer.in_shape, "scale": layer.scale}
        elif isinstance(layer, nn.AppendLabels):
            found |= {"channels": layer.in_shape[-1], "classes": layer.classes}
        elif not isinstance(layer, (nn.ReLU, nn.Sigmoid, nn.Tanh)):
            raise ConfigError(f"{layer.label}: the explorer does not know this layer")
        yield found
