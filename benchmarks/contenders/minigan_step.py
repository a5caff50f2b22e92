"""minigan itself: step by step, or the whole step captured, as in training; or its definitions."""

import numpy as np

from benchmarks import nets
from benchmarks.contenders import need
from benchmarks.contenders.contender import Contender
from benchmarks.machine import versions_of
from minigan import Adam, Conv2d, Sequential, get_backend
from minigan.backends.gpu.backend import GpuBackend
from minigan.backends.gpu.table import OPERATIONS
from minigan.data import to_pixels
from minigan.gan import Players, plain_round

LOSSES = ("loss_d_real", "loss_d_fake", "loss_g")


class Step(Contender):
    def __init__(
        self, preset, batch, width, image=None, device="cpu", precision="fp32", backend="numpy",
        captured=False, numba=False, implicit=False,
    ):  # fmt: skip
        """captured: by backend.capture; numba: with compiled kernels; implicit: without columns."""
        self.device = device
        if numba:
            need("numba")
        name = "cupy" if device == "cuda" else backend
        self.backend = get_backend(name, precision=precision, compile=numba)
        if implicit:
            self.backend = GpuBackend("float32", precision, OPERATIONS, implicit=True)
        self.nets = nets.build(preset, batch, self.backend, width, image)
        self.optimizer_g = Adam(self.nets.G, nets.RATE, beta1=nets.BETA1)
        self.optimizer_d = Adam(self.nets.D, nets.RATE, beta1=nets.BETA1)
        self.images = self.backend.staging_buffer((batch, *self.nets.image_shape))
        self.load(self.nets.images())
        self.z = self.backend.staging_buffer((batch, self.nets.z_dim))
        self.generator = np.random.default_rng(0)
        self.draw()
        self.replay = self.make_step(self.backend)
        if captured:
            optimizers = [self.optimizer_g, self.optimizer_d]
            stateful = [self.nets.G.ready(), self.nets.D.ready(), *optimizers]
            self.replay = self.backend.capture(self.make_step, stateful, batch)

    def load(self, images):
        """Use these images (batch, h, w, c) in the steps from now on."""
        self.images.host_rows(len(images))[...] = images
        self.images.upload()

    def make_step(self, backend):
        """-> step() on a backend, as Backend.capture takes it."""
        images, z = self.images.array, self.z.array
        players = Players(
            self.nets.G.on(backend),
            self.nets.D.on(backend),
            self.optimizer_g.on(backend),
            self.optimizer_d.on(backend),
            lambda: (backend.shard(images), None),
            lambda n: backend.shard(z),
        )

        return lambda: plain_round(players)

    def draw(self):
        z = self.z.host_rows(self.nets.batch)
        if self.nets.z == "normal":
            self.generator.standard_normal(dtype=z.dtype, out=z)
        else:
            self.generator.random(dtype=z.dtype, out=z)
            np.multiply(z, 2.0, out=z)
            np.subtract(z, 1.0, out=z)
        self.z.upload()
        return self.z.array

    def upload(self, z):
        self.backend.put(z, self.z.array)
        return self.z.array

    def play(self, z):
        """z is self.z.array."""
        result = self.replay()
        return [result[name] for name in LOSSES]

    def read(self, loss):
        return float(self.backend.to_host(loss))

    def wait(self):
        self.backend.synchronize()

    def mark(self):
        event = self.backend.xp.cuda.Event()
        event.record()
        return event

    def between(self, a, b):
        return self.backend.xp.cuda.get_elapsed_time(a, b) / 1000

    def convolve(self, x, W):
        net = Sequential([Conv2d(W.shape[3], W.shape[:2], bias=False)])
        net.setup(x.shape[1:], backend=self.backend, rng=self.generator)
        net.params["0.W"][...] = self.backend.asarray(W)
        return self.backend.to_host(net.forward(self.backend.asarray(x)))

    def pixels(self, z):
        return to_pixels(self.backend.to_host(self.nets.G.forward(z, train=False)))

    def versions(self):
        return versions_of(self.backend)
