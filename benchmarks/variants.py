"""One layer alone, in several variants: what layers.py times, each in its own process.

A variant holds a whole system; use(net, index) chooses one of its layers. Then
    check()                               -> pass -> largest error relative to the definition's
                                             largest value
    forward(times), dx(times), dw(times)  run a pass this often
dx and dw are requested separately, as a GAN does.
"""

import numpy as np

from benchmarks import machine, nets
from benchmarks.contenders import Missing, need
from benchmarks.contenders.operations import needs_rotation, operation, rotate
from minigan import get_backend
from minigan.layers.sequential import forward_pass, plan


def passes(layer):
    """-> the passes that a layer has: dw only with a weight or a gain."""
    trained = getattr(layer, "W", None) is not None or getattr(layer, "gain", None) is not None
    return ("forward", "dx", "dw") if trained else ("forward", "dx")


class Passes:
    """The passes of one layer: as a backend runs it, or exactly as its own file defines it."""

    def __init__(self, preset, batch, width, backend, defined=False, compiled=False):
        self.backend = get_backend(backend, compile=compiled)
        if defined:
            self.backend.operations = {}
        self.batch, self.nets = batch, nets.build(preset, batch, self.backend, width)

    def use(self, net, index):
        self.net = getattr(self.nets, net)
        self.layer = self.net.layers[index]
        self.steps = self.backend.operation_for(plan)([self.layer], self.backend)
        rng = np.random.default_rng(0)
        self.x, self.dy = (
            self.backend.asarray(rng.standard_normal((self.batch, *shape), dtype=np.float32))
            for shape in (self.layer.in_shape, self.layer.out_shape)
        )
        self.forward(1)

    def forward(self, times):
        for _ in range(times):
            self.y = forward_pass(self.steps, self.x, True, None)
        self.wait()

    def dx(self, times):
        self.backward(times, need_dx=True, need_dw=False)

    def dw(self, times):
        self.backward(times, need_dx=False, need_dw=True)

    def backward(self, times, need_dx, need_dw):
        for _ in range(times):
            for step in reversed(self.steps):
                self.gradient = step.backward(self.dy, need_dx, need_dw)
        self.wait()

    def wait(self):
        self.backend.synchronize()

    def results(self):
        """-> pass -> host array; dw is the gradient of the weight, or of BatchNorm's gain."""
        self.net.zero_grads()
        self.forward(1)
        found = {"forward": self.backend.to_host(self.y).copy()}
        self.dx(1)
        found["dx"] = self.backend.to_host(self.gradient).copy()
        if "dw" in passes(self.layer):
            self.dw(1)
            gradient = self.layer.dW if hasattr(self.layer, "dW") else self.layer.dgain
            found["dw"] = self.backend.to_host(gradient).copy()
        return found

    def versions(self):
        return machine.versions_of(self.backend)


class Minigan(Passes):
    """minigan's layer, checked against the definition on NumPy."""

    def __init__(self, preset, batch, width, device, defined=False, compiled=False):
        backend = "cupy" if device == "cuda" else "numpy"
        if compiled:
            need("numba")
        if compiled and device == "cuda":
            raise Missing("numba compiles for CPUs here")
        super().__init__(preset, batch, width, backend, defined, compiled)
        self.reference = Passes(preset, batch, width, "plain")

    def use(self, net, index):
        super().use(net, index)
        self.reference.use(net, index)

    def check(self):
        expected, got = self.reference.results(), self.results()
        return {
            name: float(np.abs(got[name] - y).max() / np.abs(y).max())
            for name, y in expected.items()
        }


class Torch(Minigan):
    """The same layer in PyTorch, where autograd also gives dx and dW separately.

    Images may be rotated: see contenders/operations.py.
    """

    def __init__(self, preset, batch, width, device, channels_last):
        need("torch")
        from benchmarks.contenders import torch_step

        if device == "cuda":
            torch_step.use_gpu("fp32")
        self.torch, self.module_of = torch_step.torch, torch_step.module
        self.device, self.channels_last = device, channels_last
        formats = {True: self.torch.channels_last, False: self.torch.contiguous_format}
        self.layout = formats[channels_last]
        self.reference = Passes(preset, batch, width, "plain")

    def use(self, net, index):
        self.reference.use(net, index)
        layer = self.layer = self.reference.layer
        self.rotated = needs_rotation([layer])
        self.module = self.module_of(operation(layer, None, self.rotated), self.channels_last)
        self.module.to(self.device)
        if len(layer.in_shape) == 3:
            self.module.to(memory_format=self.layout)
        if hasattr(self.module, "inplace"):
            self.module.inplace = False  # the same x is used again and again
        self.x = self.to_tensor(self.reference.x).requires_grad_(True)
        self.dy = self.to_tensor(self.reference.dy)
        self.y = self.module(self.x)

    def to_tensor(self, array):
        """Host array of minigan -> the twin's tensor."""
        if array.ndim == 2:
            return self.torch.from_numpy(array).to(self.device)
        images = self.torch.from_numpy(rotate(array, self.rotated)).permute(0, 3, 1, 2)
        return images.to(self.device).contiguous(memory_format=self.layout)

    def to_array(self, tensor):
        """The inverse of to_tensor."""
        array = tensor.detach().cpu().numpy()
        return array if array.ndim == 2 else rotate(array.transpose(0, 2, 3, 1), self.rotated)

    def results(self):
        found = {"forward": self.to_array(self.y), "dx": self.to_array(self.gradient(self.x))}
        if "dw" in passes(self.layer):
            dw = self.gradient(self.module.weight).cpu().numpy()
            dw = dw.transpose(2, 3, 1, 0) if dw.ndim == 4 else dw.T
            found["dw"] = dw[::-1, ::-1] if dw.ndim == 4 and self.rotated else dw
        return found

    def gradient(self, of):
        return self.torch.autograd.grad(self.y, of, self.dy, retain_graph=True)[0]

    def forward(self, times):
        with self.torch.no_grad():
            for _ in range(times):
                self.module(self.x)
        self.wait()

    def dx(self, times):
        for _ in range(times):
            self.gradient(self.x)
        self.wait()

    def dw(self, times):
        for _ in range(times):
            self.gradient(self.module.weight)
        self.wait()

    def wait(self):
        if self.device == "cuda":
            self.torch.cuda.synchronize()

    def versions(self):
        return machine.versions("torch")


VARIANTS = {  # name -> class, its own arguments
    "definition": ("Minigan", {"defined": True}),
    "minigan": ("Minigan", {}),
    "minigan-numba": ("Minigan", {"compiled": True}),
    "torch": ("Torch", {"channels_last": False}),
    "torch-cl": ("Torch", {"channels_last": True}),
}
