"""Which layers a fast backend may fuse: [convolution or Linear] [BatchNorm] [activation].

Each part may be missing. A SpectralNorm may be around the convolution, or an Upsample before it:
upsampled.py. Reshape and Flatten before and between them only rename axes. A layer whose class
overrides the forward or backward of one of these is left alone: it may mean something else.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from minigan import layers as L
from minigan.arrays import Shape
from minigan.backends.steps import AppendLabelsStep, DropoutStep, SpectralStep, UpsampleStep
from minigan.backends.upsampled import UpsampledConv2d, UpsampledStep
from minigan.backends.workspace import FastBackend
from minigan.layers.sequential import Step
from minigan.layers.spectral_norm import unwrapped

PASSES = ("forward", "backward", "forward_definition", "backward_definition", "update_running")
Core = L.Conv2d | L.ConvTranspose2d | L.Linear
ROLES: tuple[tuple[str, tuple[type[L.Layer], ...]], ...] = (
    ("core", (L.Conv2d, L.ConvTranspose2d, L.Linear)),
    ("norm", (L.BatchNorm,)),
    ("activation", (L.LeakyReLU, L.ReLU, L.Sigmoid, L.Tanh)),
)
STEPS: dict[type[L.Layer], Callable[..., Step]] = {  # of layers that are not fused
    L.AppendLabels: AppendLabelsStep, L.Dropout: DropoutStep, L.Upsample: UpsampleStep,
}  # fmt: skip


class CoreConvolution:
    """The geometry of a core: a convolution y = conv(x, W), or its transpose x = convᵀ(y, W).

    Shapes have no batch axis. W is (k_h, k_w, channels of x, channels of y).
    """

    def __init__(self, layer: Core):
        self.layer, self.transposed = layer, isinstance(layer, L.ConvTranspose2d)
        if isinstance(layer, L.Linear):  # images of one pixel
            self.in_shape: Shape = (1, 1, *layer.in_shape)
            self.out_shape: Shape = (1, 1, layer.out)
            self.kernel_size, self.stride, self.pads = (1, 1), (1, 1), ((0, 0), (0, 0))
        else:
            self.in_shape, self.out_shape = layer.in_shape, layer.out_shape
            self.kernel_size, self.stride, self.pads = layer.kernel_size, layer.stride, layer.pads
        shapes = (self.in_shape, self.out_shape)
        self.x_shape, self.y_shape = shapes[::-1] if self.transposed else shapes
        self.W_shape = (*self.kernel_size, self.x_shape[2], self.y_shape[2])


def fuse(
    layers: Sequence[L.Layer], backend: FastBackend, make_block: Callable[..., Step]
) -> list[Step]:
    """-> steps for the layers, with make_block(layers, core=, norm=, activation=) for each run."""
    steps: list[Step] = []
    for part, roles in find_runs(joined(layers, backend)):
        if roles:
            step = make_block([within(layer) for layer in part], **roles)
            for layer in part:
                if isinstance(layer, L.SpectralNorm):
                    step = SpectralStep(layer, step, backend)
                if isinstance(layer, UpsampledConv2d):
                    step = UpsampledStep(layer, step, backend)
            steps.append(step)
        else:
            kinds = [STEPS[kind] for kind in STEPS if is_exactly(part[0], kind)]
            steps += [kind(part[0], backend) for kind in kinds] or part
    return steps


def joined(layers: Sequence[Any], backend: FastBackend) -> list[Any]:
    """-> the layers, with one for each Upsample that a convolution of stride 1 follows."""
    found: list[Any] = []
    for layer in layers:
        is_pair = found and is_exactly(found[-1], L.Upsample) and is_exactly(layer, L.Conv2d)
        if is_pair and layer.stride == (1, 1):
            (top, bottom), (left, right) = layer.pads
            last_h, last_w = layer.kernel_size[0] - 1, layer.kernel_size[1] - 1
            cropped = ((last_h - top, last_h - bottom), (last_w - left, last_w - right))
            found[-1] = UpsampledConv2d(found[-1], layer, cropped, backend)
        else:
            found.append(layer)
    return found


def find_runs(layers: Sequence[L.Layer]) -> Iterator[tuple[Sequence[L.Layer], dict[str, Any]]]:
    """-> yields consecutive layers, and "core", "norm", "activation" -> layer; {} for others."""
    i = 0
    while i < len(layers):
        run: dict[str, Any] = {}
        end = i
        for role, kinds in ROLES:
            j = end
            while j < len(layers) and is_exactly(layers[j], L.Reshape, L.Flatten):
                j += 1
            if j < len(layers) and is_exactly(within(layers[j]), *kinds):
                run[role], end = within(layers[j]), j + 1
        end = max(end, i + 1)
        yield layers[i:end], run
        i = end


def within(layer: L.Layer) -> L.Layer:
    """-> the layer that a SpectralNorm wraps; any other layer itself."""
    return unwrapped(layer) if is_exactly(layer, L.SpectralNorm) else layer


def is_exactly(layer: Any, *kinds: type[L.Layer]) -> bool:
    """Is it a layer of one of these classes, or of one derived from it with the same passes?"""
    return not any(name in vars(layer) for name in PASSES) and any(
        isinstance(layer, kind)
        and all(getattr(type(layer), name, None) is getattr(kind, name, None) for name in PASSES)
        for kind in kinds
    )


def has_kernels(net: L.Layer) -> bool:
    """Is each layer one that a fast backend computes without new memory?"""
    kinds = [*STEPS, L.Sequential, L.Reshape, L.Flatten, *(k for _, ks in ROLES for k in ks)]
    return is_exactly(net, *kinds) and all(map(has_kernels, getattr(net, "layers", ())))


def sees_samples_alone(steps: Iterable[Any], block: type) -> bool:
    """Do all steps treat each sample by itself, except blocks, which handle the whole batch?

    And does no step draw random numbers? (Not a block within another step: it gets no `parts`.)
    """
    return all(
        isinstance(step, (block, AppendLabelsStep, UpsampleStep))
        or is_exactly(step, L.Reshape, L.Flatten)
        or (is_exactly(step, L.Sequential) and sees_samples_alone(step.steps, block))
        for step in steps
    )
