"""One layer alone, in several versions: the rungs of layers.py's ladder, each in a process of its own.

A rung holds a whole system and is told which of its layers to take: use(net, index). Then
    check()                               -> pass -> largest error, relative to the definition's largest value
    forward(times), dx(times), dw(times)  run a pass so often
dx and dw are asked for apart, as a GAN does.
"""

import numpy as np

from benchmarks import nets
from benchmarks.contenders import need
from benchmarks.contenders.plan import needs_turning, operation, turn
from benchmarks.machine import versions
from minigan import get_backend


def passes(layer):
    """-> the passes that a layer has: dw only with a weight or a gain."""
    trained = getattr(layer, "W", None) is not None or getattr(layer, "gain", None) is not None
    return ("forward", "dx", "dw") if trained else ("forward", "dx")


class Definition:
    """The layer as its own file defines it, whatever faster version the backend has."""

    def __init__(self, preset, batch, width, device):
        self.batch, self.device = batch, device
        self.arguments = preset, batch, width
        self.defined = self.build(faster=False)

    def build(self, faster):
        backend = get_backend("cupy" if self.device == "cuda" else "numpy")
        if not faster:
            backend.faster.clear()
        preset, batch, width = self.arguments
        return nets.build(preset, batch, backend, width)

    def use(self, net, index):
        self.net, self.index = net, index
        self.definition = getattr(self.defined, net).layers[index]
        rng = np.random.default_rng(0)
        shapes = (self.definition.in_shape, self.definition.out_shape)
        self.x, self.dy = (
            rng.standard_normal((self.batch, *shape), dtype=np.float32) for shape in shapes
        )
        self.prepare()

    def prepare(self):
        self.take(self.defined)

    def take(self, both):
        """Time the layer of these nets."""
        net = getattr(both, self.net)
        self.layer, self.backend = net.layers[self.index], net.backend
        self.device_x, self.device_dy = self.backend.asarray(self.x), self.backend.asarray(self.dy)
        self.layer.forward(self.device_x)

    def check(self):
        wanted, got = self.results_of(self.defined), self.results()
        return {
            name: float(np.abs(got[name] - wanted[name]).max() / np.abs(wanted[name]).max())
            for name in wanted
        }

    def results(self):
        return self.results_of(self.defined)

    def results_of(self, both):
        """-> pass -> host array; dw is the gradient of the weight, or of BatchNorm's gain."""
        net = getattr(both, self.net)
        layer, host = net.layers[self.index], net.backend.to_host
        x, dy = net.backend.asarray(self.x), net.backend.asarray(self.dy)
        net.zero_grads()
        found = {"forward": host(layer.forward(x)).copy(), "dx": host(layer.backward(dy)).copy()}
        if "dw" in passes(layer):
            found["dw"] = host(layer.dW if hasattr(layer, "dW") else layer.dgain).copy()
        return found

    def forward(self, times):
        for _ in range(times):
            self.layer.forward(self.device_x)
        self.wait()

    def dx(self, times):
        for _ in range(times):
            self.layer.backward(self.device_dy, need_dx=True, need_dw=False)
        self.wait()

    def dw(self, times):
        for _ in range(times):
            self.layer.backward(self.device_dy, need_dx=False, need_dw=True)
        self.wait()

    def wait(self):
        self.backend.synchronize()

    def versions(self):
        return versions("numpy")


class Implementation(Definition):
    """The layer as the backend runs it: backend.implementation(definition)."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.faster = self.build(faster=True)

    def prepare(self):
        self.take(self.faster)

    def results(self):
        return self.results_of(self.faster)


class Torch(Definition):
    """The same layer in PyTorch; autograd gives dx and dW apart as well. Images may be turned, see contenders/plan.py."""

    def __init__(self, preset, batch, width, device, channels_last):
        need("torch")
        from benchmarks.contenders import torch_step

        super().__init__(preset, batch, width, "cpu")
        self.torch, self.module_of, self.torch_device = torch_step.torch, torch_step.module, device
        self.channels_last = channels_last
        self.layout = self.torch.channels_last if channels_last else self.torch.contiguous_format

    def prepare(self):
        self.turned = needs_turning([self.definition])
        op = operation(self.definition, None, self.turned)
        self.module = self.module_of(op, self.channels_last).to(self.torch_device)
        if len(self.x.shape) == 4:
            self.module = self.module.to(memory_format=self.layout)
        if hasattr(self.module, "inplace"):
            self.module.inplace = False  # the same x serves again and again
        self.leaf, self.device_dy = self.tensor(self.x).requires_grad_(True), self.tensor(self.dy)
        self.y = self.module(self.leaf)

    def tensor(self, array):
        """Host array of minigan -> the twin's tensor."""
        if array.ndim == 2:
            return self.torch.from_numpy(array).to(self.torch_device)
        images = (
            self.torch.from_numpy(turn(array, self.turned))
            .permute(0, 3, 1, 2)
            .to(self.torch_device)
        )
        return images.contiguous(memory_format=self.layout)

    def array(self, tensor):
        """The way back."""
        tensor = tensor.detach().cpu()
        return (
            tensor.numpy()
            if tensor.ndim == 2
            else turn(tensor.permute(0, 2, 3, 1).numpy(), self.turned)
        )

    def results(self):
        found = {"forward": self.array(self.y), "dx": self.array(self.gradient(self.leaf))}
        if "dw" in passes(self.definition):
            dw = self.gradient(self.module.weight).cpu().numpy()
            dw = dw.transpose(2, 3, 1, 0) if dw.ndim == 4 else dw.T
            found["dw"] = dw[::-1, ::-1] if dw.ndim == 4 and self.turned else dw
        return found

    def gradient(self, of):
        return self.torch.autograd.grad(self.y, of, self.device_dy, retain_graph=True)[0]

    def forward(self, times):
        with self.torch.no_grad():
            for _ in range(times):
                self.module(self.leaf)
        self.wait()

    def dx(self, times):
        for _ in range(times):
            self.gradient(self.leaf)
        self.wait()

    def dw(self, times):
        for _ in range(times):
            self.gradient(self.module.weight)
        self.wait()

    def wait(self):
        if self.torch_device == "cuda":
            self.torch.cuda.synchronize()

    def versions(self):
        return versions("torch")


RUNGS = {  # name -> class, its own arguments; the first is what the others are checked against
    "definition": ("Definition", {}),
    "minigan": ("Implementation", {}),
    "torch": ("Torch", {"channels_last": False}),
    "torch-cl": ("Torch", {"channels_last": True}),
}
