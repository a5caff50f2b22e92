"""PyTorch: eager channels-first, eager channels_last, or compiled; the fastest counts.

At its best: native padding (see plan.py), fused Adam, D frozen in G's update, G's forward
run once for both updates, gradients set to None. On a GPU in the precision that is asked for.
"""

import shutil
from contextlib import contextmanager

from benchmarks import nets
from benchmarks.contenders import Missing, need
from benchmarks.contenders.plan import affine, needs_turning, plan, same_on_both_sides, turn
from benchmarks.machine import versions
from benchmarks.precision import error_of
from minigan import get_backend

torch = need("torch")
nn, loss = torch.nn, torch.nn.functional.binary_cross_entropy_with_logits


class ToImage(nn.Module):
    """Vectors to images: laid out as the convolutions want them, so that nothing is copied."""

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
    """An operation of plan.py -> torch module with its weights."""
    if op.kind == "linear":
        return filled(nn.Linear(*op.W.shape, bias=op.b is not None), op.W.T, op.b)
    if op.kind in ("conv", "conv_transpose"):
        padding, extra = same_on_both_sides(op)
        c_first, c_last = op.W.shape[2:]
        options = dict(
            kernel_size=op.kernel, stride=op.stride, padding=padding, bias=op.b is not None
        )
        if op.kind == "conv":
            return filled(nn.Conv2d(c_first, c_last, **options), op.W.transpose(3, 2, 0, 1), op.b)
        return filled(
            nn.ConvTranspose2d(c_last, c_first, output_padding=extra, **options),
            op.W.transpose(3, 2, 0, 1),
            op.b,
        )
    if op.kind == "norm":
        kind = nn.BatchNorm2d if len(op.in_shape) == 3 else nn.BatchNorm1d
        options = dict(
            eps=op.eps,
            momentum=op.rate,
            track_running_stats=op.sampling == "running",
            affine=affine(op),
        )
        return filled(kind(op.in_shape[-1], **options), op.gain, op.bias)
    if op.kind == "reshape":
        return ToImage(op.shape, channels_last)
    if op.kind == "flatten":
        return ToVector(channels_last)
    if op.kind == "leaky_relu":
        return nn.LeakyReLU(op.slope, inplace=True)
    return {"relu": nn.ReLU(inplace=True), "tanh": nn.Tanh(), "sigmoid": nn.Sigmoid()}[op.kind]


def filled(layer, weight, bias):
    """-> the module with these arrays as its parameters."""
    for parameter, values in ((layer.weight, weight), (layer.bias, bias)):
        if values is not None:
            parameter.data.copy_(torch.from_numpy(values.copy()))
    return layer


def twin(net, turned, channels_last, device):
    """A minigan net -> its twin in PyTorch."""
    operations = plan(net, turned, channels_first=not channels_last)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return (
        nn.Sequential(*(module(op, channels_last) for op in operations))
        .to(device)
        .to(memory_format=layout)
    )


def use_gpu(precision):
    """PyTorch on a GPU, in "fp32" or "tf32", and with cuDNN's fastest algorithms. Raises Missing.

    Left to itself it computes convolutions in TF32 and matrix products in float32. Set by the old interface and by the
    new one: parts of torch.compile read the old, and refuse where it says other than the new.
    """
    if not torch.cuda.is_available():
        raise Missing("this PyTorch sees no GPU: install one for CUDA, and check `nvidia-smi`")
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    if not hasattr(cudnn, "conv"):
        raise Missing("this PyTorch cannot be told its precision: install 2.9 or later")
    cudnn.benchmark = True
    cudnn.allow_tf32 = precision == "tf32"
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    cudnn.fp32_precision = cudnn.conv.fp32_precision = matmul.fp32_precision = (
        "tf32" if precision == "tf32" else "ieee"
    )


class Players:
    """Both twins, their optimizers, and one update of each.

    settings_g, settings_d  arguments of Adam
    compiled  False, True, or a mode of torch.compile
    """

    def __init__(self, G, D, settings_g, settings_d, device, channels_last, compiled=False):
        self.device, (self.z_dim,) = device, G.in_shape
        self.layout = torch.channels_last if channels_last else torch.contiguous_format
        self.turned = needs_turning([*G.layers, *D.layers])
        self.G, self.D = (twin(net, self.turned, channels_last, device) for net in (G, D))
        self.optimizer_g, self.optimizer_d = (
            torch.optim.Adam(net.parameters(), **{"fused": True, **settings})
            for net, settings in ((self.G, settings_g), (self.D, settings_d))
        )
        self.play_g, self.play_d = self.G, self.D
        self.in_graphs = compiled in ("reduce-overhead", "max-autotune")
        if compiled:
            torch.compiler.reset()  # what was compiled for another net in this process would count against its limit
            mode = compiled if self.in_graphs else None
            self.play_g, self.play_d = (
                torch.compile(self.G, mode=mode),
                torch.compile(self.D, mode=mode),
            )

    def images(self, images):
        """Images (n, h, w, c) on the host, turned where the twins are -> as they want them."""
        return (
            torch.from_numpy(images)
            .permute(0, 3, 1, 2)
            .to(self.device)
            .contiguous(memory_format=self.layout)
        )

    def targets(self, batch, value=1.0):
        return torch.full((batch, 1), value, device=self.device)

    def draw_z(self, n, z, generator=None):
        """z: its distribution, normal or uniform."""
        shape = (n, self.z_dim)
        if z == "normal":
            return torch.randn(shape, generator=generator, device=self.device)
        return torch.rand(shape, generator=generator, device=self.device).mul_(2).sub_(1)

    def update_d(self, images, fakes, real, fake):
        """real, fake: targets. -> both losses"""
        self.optimizer_d.zero_grad(set_to_none=True)
        loss_d_real = loss(self.play_d(images), real)
        loss_d_real.backward()
        loss_d_fake = loss(self.play_d(fakes.detach()), fake)
        loss_d_fake.backward()
        self.optimizer_d.step()
        return loss_d_real.detach(), loss_d_fake.detach()

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
        """BatchNorm by its running statistics, unless the net samples by the batch's: then it tracks none."""
        self.G.eval()
        with torch.inference_mode():
            yield
        self.G.train()

    def wait(self):
        if self.device == "cuda":
            torch.cuda.synchronize()

    def versions(self):
        return versions("torch") | {"torch threads": torch.get_num_threads()}


class Step(Players):
    def __init__(
        self,
        preset,
        batch,
        width,
        image,
        device,
        channels_last,
        compiled=False,
        precision="fp32",
        adam=None,
    ):
        """adam: arguments of both optimizers, besides the rates"""
        if compiled and not any(map(shutil.which, ("c++", "g++", "clang++"))):
            raise Missing("no C++ compiler here, which torch.compile needs: install g++")
        if device == "cuda":
            use_gpu(precision)
        self.nets = nets.build(preset, batch, get_backend("numpy"), width, image)
        adam = dict(lr=nets.RATE, betas=(nets.BETA1, 0.999), **(adam or {}))
        super().__init__(self.nets.G, self.nets.D, adam, adam, device, channels_last, compiled)
        self.nets.G = self.nets.D = None  # their memory is not PyTorch's
        self.batch_of_images = self.images(turn(self.nets.images(), self.turned))
        self.real, self.fake = self.targets(batch), self.targets(batch, 0.0)

    def play(self, z):
        if self.in_graphs:
            torch.compiler.cudagraph_mark_step_begin()
        fakes = self.play_g(z)
        losses = self.update_d(self.batch_of_images, fakes, self.real, self.fake)
        return *losses, self.update_g(fakes, self.real)

    def losses(self, steps):
        return [[float(each) for each in self.play(self.tensor(z))] for z in self.nets.noise(steps)]

    def tensor(self, z):
        return torch.from_numpy(z).to(self.device)

    def draw(self):
        return self.draw_z(self.nets.batch, self.nets.z)

    def run(self, times):
        self.launch(times)
        self.wait()

    def launch(self, times):
        for _ in range(times):
            self.play(self.draw())

    def mark(self):
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def between(self, a, b):
        return a.elapsed_time(b) / 1000

    def conv_error(self):
        def convolve(x, W):
            x = (
                torch.from_numpy(x)
                .to(self.device)
                .permute(0, 3, 1, 2)
                .contiguous(memory_format=self.layout)
            )
            W = (
                torch.from_numpy(W)
                .to(self.device)
                .permute(3, 2, 0, 1)
                .contiguous(memory_format=self.layout)
            )
            return nn.functional.conv2d(x, W).permute(0, 2, 3, 1).cpu().numpy()

        return error_of(convolve)

    def pixels(self, z):
        pictures = self.play_g(z).add_(1).mul_(127.5).round_().clamp_(0, 255).to(torch.uint8)
        return pictures.permute(0, 2, 3, 1).contiguous().cpu().numpy()

    def probes(self):
        with self.sampling():
            return (
                turn(self.pixels(self.tensor(self.nets.noise(1)[0])), self.turned)
                .ravel()[:: nets.PROBE]
                .tolist()
            )

    def sample(self, times):
        with self.sampling():
            for _ in range(times):
                self.pixels(self.draw())
