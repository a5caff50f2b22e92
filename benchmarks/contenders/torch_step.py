"""PyTorch: eager channels-first, eager channels_last, or compiled; the fastest counts.

At its best: native padding (operations.py), fused Adam, D frozen in G's update, G's forward run
once for both updates, gradients set to None. On a GPU in the requested precision.
"""

import shutil
from contextlib import contextmanager

from benchmarks import nets
from benchmarks.contenders import Missing, need
from benchmarks.contenders.contender import Contender
from benchmarks.contenders.operations import (
    CONVOLUTIONS,
    has_gain_and_bias,
    needs_rotation,
    operations_of,
    rotate,
    symmetric_padding,
)
from benchmarks.machine import versions
from minigan import r1

torch = need("torch")
nn, loss = torch.nn, torch.nn.functional.binary_cross_entropy_with_logits


class ToImage(nn.Module):
    """Vectors to images, in the layout of the convolutions, so that nothing is copied."""

    def __init__(self, shape, channels_last):
        super().__init__()
        (self.h, self.w, self.c), self.channels_last = shape, channels_last

    def forward(self, x):
        if self.channels_last:
            return x.view(-1, self.h, self.w, self.c).permute(0, 3, 1, 2)
        return x.view(-1, self.c, self.h, self.w)


class ToVector(nn.Module):
    """Images to vectors, likewise."""

    def __init__(self, channels_last):
        super().__init__()
        self.channels_last = channels_last

    def forward(self, x):
        return (x.permute(0, 2, 3, 1) if self.channels_last else x).flatten(1)


def module(op, channels_last):
    """An operation of operations.py -> torch module with its weights."""
    if op.kind == "linear":
        return filled(nn.Linear(*op.W.shape, bias=op.b is not None), op.W.T, op.b)
    if op.kind in CONVOLUTIONS:
        padding, extra = symmetric_padding(op)
        options = dict(stride=op.stride, padding=padding, bias=op.b is not None)
        kind, channels = nn.Conv2d, op.W.shape[2:]
        if op.kind == "conv_transpose":
            kind, channels, options["output_padding"] = nn.ConvTranspose2d, channels[::-1], extra
        return filled(kind(*channels, op.kernel, **options), op.W.transpose(3, 2, 0, 1), op.b)
    if op.kind == "norm":
        kind = nn.BatchNorm2d if len(op.in_shape) == 3 else nn.BatchNorm1d
        options = dict(
            eps=op.eps,
            momentum=op.rate,
            track_running_stats=op.sampling == "running",
            affine=has_gain_and_bias(op),
        )
        return filled(kind(op.in_shape[-1], **options), op.gain, op.bias)
    if op.kind == "reshape":
        return ToImage(op.shape, channels_last)
    if op.kind == "flatten":
        return ToVector(channels_last)
    if op.kind == "upsample":
        return nn.Upsample(scale_factor=op.scale)
    if op.kind == "leaky_relu":
        return nn.LeakyReLU(op.slope, inplace=True)
    return {"relu": nn.ReLU(inplace=True), "tanh": nn.Tanh(), "sigmoid": nn.Sigmoid()}[op.kind]


def filled(layer, weight, bias):
    """-> the module with these arrays as its parameters."""
    for parameter, values in ((layer.weight, weight), (layer.bias, bias)):
        if values is not None:
            parameter.data.copy_(torch.from_numpy(values.copy()))
    return layer


def twin(net, rotated, channels_last, device):
    """A minigan net -> its twin in PyTorch."""
    operations = operations_of(net, rotated, channels_first=not channels_last)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    modules = nn.Sequential(*(module(op, channels_last) for op in operations))
    return modules.to(device).to(memory_format=layout)


def use_gpu(precision):
    """PyTorch on a GPU, in "fp32" or "tf32", with cuDNN's fastest algorithms. Raises Missing.

    By default it computes convolutions in TF32 and matrix products in float32. Set through the old
    interface and the new one: parts of torch.compile read the old, and fail if the two differ.
    """
    if not torch.cuda.is_available():
        raise Missing("this PyTorch sees no GPU: install one for CUDA, and check `nvidia-smi`")
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    if not hasattr(cudnn, "conv"):
        raise Missing("this PyTorch has no setting for its precision: install 2.9 or later")
    cudnn.benchmark = True
    cudnn.allow_tf32 = precision == "tf32"
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    name = "tf32" if precision == "tf32" else "ieee"
    cudnn.fp32_precision = cudnn.conv.fp32_precision = matmul.fp32_precision = name


class Players:
    """Both twins, their optimizers, and one update of each.

    settings_g, settings_d  arguments of Adam
    compiled                False, True, or a mode of torch.compile
    """

    def __init__(self, G, D, settings_g, settings_d, device, channels_last, compiled=False):
        self.device, (self.z_dim,) = device, G.in_shape
        self.layout = torch.channels_last if channels_last else torch.contiguous_format
        self.rotated = needs_rotation([*G.layers, *D.layers])
        self.G, self.D = (twin(net, self.rotated, channels_last, device) for net in (G, D))
        self.optimizer_g, self.optimizer_d = (
            torch.optim.Adam(net.parameters(), **{"fused": True, **settings})
            for net, settings in ((self.G, settings_g), (self.D, settings_d))
        )
        self.play_g, self.play_d = self.G, self.D
        self.in_graphs = compiled in ("reduce-overhead", "max-autotune")
        if compiled:
            torch.compiler.reset()  # an earlier net in this process would count against its limit
            mode = compiled if self.in_graphs else None
            self.play_g, self.play_d = (torch.compile(net, mode=mode) for net in (self.G, self.D))

    def to_tensor(self, images):
        """Host array (n, h, w, c) -> tensor on the device, in the layout of the twins."""
        tensor = torch.from_numpy(images).permute(0, 3, 1, 2).to(self.device)
        return tensor.contiguous(memory_format=self.layout)

    def targets(self, batch, value=1.0):
        return torch.full((batch, 1), value, device=self.device)

    def draw_z(self, n, z, generator=None):
        """z: its distribution, normal or uniform."""
        shape = (n, self.z_dim)
        if z == "normal":
            return torch.randn(shape, generator=generator, device=self.device)
        return torch.rand(shape, generator=generator, device=self.device).mul_(2).sub_(1)

    def update_d(self, images, fakes, real, fake, gamma=0.0):
        """real, fake: targets; gamma: weight of R1. -> both losses"""
        self.optimizer_d.zero_grad(set_to_none=True)
        loss_d_real = loss(self.play_d(images), real)
        loss_d_real.backward()
        loss_d_fake = loss(self.play_d(fakes.detach()), fake)
        loss_d_fake.backward()
        if gamma:
            self.add_r1(images, gamma)
        self.optimizer_d.step()
        return loss_d_real.detach(), loss_d_fake.detach()

    def add_r1(self, images, gamma):
        """As minigan/r1.py."""
        x = images[:: r1.SHARE].detach().requires_grad_()
        h = r1.STEP * x[0].numel() ** 0.5
        (u,) = torch.autograd.grad(self.play_d(x).sum(), x)
        u = u * (h / (u.square().sum((1, 2, 3), keepdim=True).sqrt() + r1.TINY))
        one, other = self.play_d(torch.cat([x.detach() + u, x.detach() - u])).chunk(2)
        (gamma / 2 * ((one - other) / (2 * h)).square().mean()).backward()

    def update_g(self, fakes, wanted):
        """fakes: with the graph of G's forward. -> loss"""
        self.D.requires_grad_(False)
        self.optimizer_g.zero_grad(set_to_none=True)
        loss_g = loss(self.play_d(fakes), wanted)
        loss_g.backward()
        self.D.requires_grad_(True)
        self.optimizer_g.step()
        return loss_g.detach()

    @contextmanager
    def sampling(self):
        """BatchNorm by its running statistics; a net that samples by the batch's tracks none."""
        self.G.eval()
        with torch.inference_mode():
            yield
        self.G.train()

    def wait(self):
        if self.device == "cuda":
            torch.cuda.synchronize()

    def versions(self):
        return versions("torch") | {"torch threads": torch.get_num_threads()}


class Step(Players, Contender):
    def __init__(self, *arguments, channels_last, compiled=False, adam=None, **options):
        """adam: arguments of both optimizers, besides the rates"""
        Contender.__init__(self, *arguments, **options)
        if compiled and not any(map(shutil.which, ("c++", "g++", "clang++"))):
            raise Missing("no C++ compiler here, which torch.compile needs: install g++")
        if self.device == "cuda":
            use_gpu(self.precision)
        adam = dict(lr=nets.RATE, betas=(nets.BETA1, 0.999), **(adam or {}))
        G, D = self.nets.take()
        super().__init__(G, D, adam, adam, self.device, channels_last, compiled)
        self.images = self.to_tensor(rotate(self.nets.images(), self.rotated))
        self.real, self.fake = self.targets(self.nets.batch), self.targets(self.nets.batch, 0.0)

    def play(self, z):
        if self.in_graphs:
            torch.compiler.cudagraph_mark_step_begin()
        fakes = self.play_g(z)
        losses = self.update_d(self.images, fakes, self.real, self.fake)
        return *losses, self.update_g(fakes, self.real)

    def draw(self):
        return self.draw_z(self.nets.batch, self.nets.z)

    def upload(self, z):
        return torch.from_numpy(z).to(self.device)

    def mark(self):
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def between(self, a, b):
        return a.elapsed_time(b) / 1000

    def convolve(self, x, W):
        W = self.to_tensor(W.transpose(3, 0, 1, 2))
        return nn.functional.conv2d(self.to_tensor(x), W).permute(0, 2, 3, 1).cpu().numpy()

    def pixels(self, z):
        with self.sampling():
            images = self.play_g(z).add_(1).mul_(127.5).round_().clamp_(0, 255).to(torch.uint8)
            return images.permute(0, 2, 3, 1).contiguous().cpu().numpy()
