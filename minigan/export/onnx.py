"""A network as an ONNX graph: it runs in any ONNX runtime, without minigan.

    Linear             Gemm
    Conv2d             Conv, with the pads in numbers: TensorFlow's uneven "same" is one of them
    ConvTranspose2d    ConvTranspose, with pads and output_padding
    Upsample           Resize, by the nearest pixel
    SpectralNorm       what it wraps, its weights divided already
    BatchNorm          BatchNormalization by the running statistics; no gain is a gain of 1
    AppendLabels       Concat; for maps, of planes that Expand makes of the labels
    Reshape, Flatten   Reshape, with a Transpose where a map begins or ends
    activations        Relu, LeakyRelu, Tanh, Sigmoid
    Dropout            nothing: it is the identity in sampling mode

ONNX is channels-first. So a map is (n, c, h, w) in the whole graph, and kernels are transposed:

    Conv2d.W            (k_h, k_w, c_in, c_out)   -> (c_out, c_in, k_h, k_w)
    ConvTranspose2d.W   (k_h, k_w, c_out, c_in)   -> (c_in, c_out, k_h, k_w)

Both are transpose(3, 2, 0, 1). Where a vector becomes a map, its numbers are in the order (h, w, c)
that the weights before it have: there, and where a map becomes a vector, a Transpose turns the map.

A transposed convolution grows `size` pixels to (size - 1)·s + k - before - after, and
output_padding is the difference to the size in minigan.

The first axis of inputs and outputs is free.
Source: github.com/onnx/onnx, docs/Operators.md
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minigan import layers as nn
from minigan.errors import ConfigError, RunError
from minigan.layers.base import Layer, Shape
from minigan.layers.spectral_norm import spectral_norm_forward

OPSET, IR_VERSION = 17, 8  # of 2022: every runtime in use reads them
KERNEL = (3, 2, 0, 1)  # axes of minigan's kernels in ONNX's order
LARGEST = 2**31 - 1  # bytes of a protobuf message


class Graph:
    """The nodes and constants of a graph, in order. Its values are known by their names."""

    def __init__(self) -> None:
        try:
            import onnx
        except ImportError as error:
            raise ConfigError(f"a .onnx file needs onnx ({error}): pip install onnx") from error
        self.onnx: Any = onnx
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def add(
        self, layer: Layer, kind: str, x: Sequence[str], constants: Any = None, **attributes: Any
    ) -> str:
        """Add a node -> the name of its output.

        x          names of its first inputs
        constants  name -> array, its further inputs; without those that are None
        """
        inputs = list(x)
        for name, array in (constants or {}).items():
            if array is not None:
                inputs.append(f"{layer.path}.{name}")
                tensor = self.onnx.numpy_helper.from_array(np.ascontiguousarray(array), inputs[-1])
                self.constants.append(tensor)
        y = f"{kind}_{len(self.nodes)}"
        self.nodes.append(self.onnx.helper.make_node(kind, inputs, [y], name=y, **attributes))
        return y


def linear(graph: Graph, layer: nn.Linear, x: str) -> str:
    """y = x·W + b"""
    return graph.add(layer, "Gemm", [x], dict(W=layer.W, b=layer.b))


def convolution(graph: Graph, layer: Any, x: str) -> str:
    """Conv2d and ConvTranspose2d. ONNX has the pads as top, left, bottom, right."""
    (top, bottom), (left, right) = layer.pads
    kind, attributes = "Conv", dict(strides=layer.stride, pads=(top, left, bottom, right))
    if isinstance(layer, nn.ConvTranspose2d):
        (h, w), (s, t), (k, m) = layer.in_shape[:2], layer.stride, layer.kernel_size
        grown = (h - 1) * s + k - top - bottom, (w - 1) * t + m - left - right
        missing = layer.out_shape[0] - grown[0], layer.out_shape[1] - grown[1]
        kind, attributes = "ConvTranspose", dict(**attributes, output_padding=missing)
    return graph.add(layer, kind, [x], dict(W=layer.W.transpose(KERNEL), b=layer.b), **attributes)


def upsample(graph: Graph, layer: nn.Upsample, x: str) -> str:
    """Every pixel becomes a square."""
    scales = np.array([1, 1, layer.scale, layer.scale], np.float32)
    how = dict(mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    return graph.add(layer, "Resize", [x, ""], dict(scales=scales), **how)


def spectral_norm(graph: Graph, layer: nn.SpectralNorm, x: str) -> str:
    """The layer within, with the weights that it has in sampling mode."""
    layer.layer.W[...] = spectral_norm_forward(layer.W, layer.u, False, np)[0]
    return append(graph, layer.layer, x)


def batchnorm(graph: Graph, layer: nn.BatchNorm, x: str) -> str:
    """By the running statistics."""
    mean, var = layer.running_mean, layer.running_var
    gain = np.ones_like(mean) if layer.gain is None else layer.gain
    bias = np.zeros_like(mean) if layer.bias is None else layer.bias
    constants = dict(gain=gain, bias=bias, running_mean=mean, running_var=var)
    return graph.add(layer, "BatchNormalization", [x], constants, epsilon=layer.eps)


def append_labels(graph: Graph, layer: nn.AppendLabels, x: str) -> str:
    """The labels after the numbers of a vector, or after the channels of a map."""
    labels = "labels"
    if len(layer.in_shape) == 3:
        planes = graph.add(layer, "Unsqueeze", [labels], dict(axes=np.array([2, 3])))
        sizes = np.array([1, layer.classes, *layer.in_shape[:2]])  # 1: of any size, as it is
        labels = graph.add(layer, "Expand", [planes], dict(sizes=sizes))
    return graph.add(layer, "Concat", [x, labels], axis=1)


def reshape(graph: Graph, layer: nn.Reshape, x: str) -> str:
    """Through minigan's order of numbers: maps are channels-last on both sides of the Reshape."""
    if len(layer.in_shape) == 3:
        x = graph.add(layer, "Transpose", [x], perm=(0, 2, 3, 1))
    y = graph.add(layer, "Reshape", [x], dict(shape=np.array([0, *layer.shape])))  # 0: as it is
    return graph.add(layer, "Transpose", [y], perm=(0, 3, 1, 2)) if len(layer.shape) == 3 else y


OPERATIONS: dict[type[Layer], Callable[[Graph, Any, str], str]] = {
    nn.Linear: linear,
    nn.Conv2d: convolution,
    nn.ConvTranspose2d: convolution,
    nn.Upsample: upsample,
    nn.SpectralNorm: spectral_norm,
    nn.BatchNorm: batchnorm,
    nn.AppendLabels: append_labels,
    nn.Reshape: reshape,
    nn.Flatten: reshape,
    nn.ReLU: lambda graph, layer, x: graph.add(layer, "Relu", [x]),
    nn.LeakyReLU: lambda graph, layer, x: graph.add(layer, "LeakyRelu", [x], alpha=layer.slope),
    nn.Tanh: lambda graph, layer, x: graph.add(layer, "Tanh", [x]),
    nn.Sigmoid: lambda graph, layer, x: graph.add(layer, "Sigmoid", [x]),
    nn.Dropout: lambda graph, layer, x: x,
}


def append(graph: Graph, layer: Layer, x: str) -> str:
    """Add a layer, or a network of them -> the name of its output. Raises ConfigError."""
    if isinstance(layer, nn.Sequential) and type(layer).forward is nn.Sequential.forward:
        for inner in layer.layers:
            x = append(graph, inner, x)
        return x
    if type(layer) not in OPERATIONS:
        known = ", ".join(kind.__name__ for kind in OPERATIONS)
        raise ConfigError(f"{layer.label} cannot be written as ONNX: known are {known}")
    return OPERATIONS[type(layer)](graph, layer, x)


def onnx_file(net: nn.Sequential, x: str, y: str, metadata: dict[str, str]) -> bytes:
    """A network in sampling mode, by its running statistics -> a checked .onnx file.

    x, y      names of input and output, (n, c) or, for an image, (n, c, h, w). A conditional
              network has a second input, "labels" (n, classes)
    metadata  text by name
    Raises ConfigError without onnx, or for a layer that it lacks; RunError for too many weights.
    """
    graph, size = Graph(), sum(array.nbytes for array in net.ready().state().values())
    if size > LARGEST:
        raise RunError(
            f"{net.name} has {size / 2**30:.1f} GiB of weights, and a .onnx file holds 2 GiB: "
            "export it as .safetensors"
        )
    helper = graph.onnx.helper
    append(graph, net, x)
    graph.nodes[-1].output[0] = y

    def value(name: str, shape: Shape) -> Any:
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(net.backend.dtype))
        return helper.make_tensor_value_info(name, kind, ["n", *shape[2:], *shape[:2]])

    inputs = [value(x, net.in_shape)] + [value("labels", (net.classes,))] * bool(net.classes)
    outputs = [value(y, net.out_shape)]
    model = helper.make_model(
        helper.make_graph(graph.nodes, net.name, inputs, outputs, graph.constants),
        opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION,
        producer_name="minigan",
    )  # fmt: skip
    helper.set_model_props(model, metadata)
    graph.onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))
