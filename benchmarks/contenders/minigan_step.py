"""minigan itself, by its public interface."""

import numpy as np

from benchmarks import nets
from benchmarks.machine import versions
from minigan import Adam, get_backend
from minigan.data import to_pixels
from minigan.gan import play_round


class Step:
    def __init__(self, preset, batch, width, image, device):
        self.backend = get_backend("cupy" if device == "cuda" else "numpy")
        self.nets = nets.build(preset, batch, self.backend, width, image)
        self.optimizers = {net.name: Adam(net, nets.RATE, beta1=nets.BETA1) for net in (self.nets.G, self.nets.D)}
        self.images = self.backend.asarray(self.nets.images())
        self.generator = np.random.default_rng(0)

    def draw_z(self, n):
        backend, xp = self.backend, self.backend.xp
        z = backend.scratch("z", (n, self.nets.z_dim))
        if self.nets.z == "normal":
            backend.fill_normal(self.generator, z)
        else:
            backend.fill_uniform(self.generator, z)
            xp.multiply(z, 2.0, out=z)
            xp.subtract(z, 1.0, out=z)
        return z

    def play(self, draw_z):
        return play_round(self.nets.G, self.nets.D, self.optimizers, lambda: (self.images, None), draw_z, nets.RULES)

    def losses(self, steps):
        found = []
        for z in self.nets.noise(steps):
            result = self.play(lambda n, z=z: self.backend.asarray(z))
            found.append([float(result[name]) for name in ("loss_d_real", "loss_d_fake", "loss_g")])
        return found

    def run(self, times):
        for _ in range(times):
            self.play(self.draw_z)
        self.wait()

    def pixels(self, z):
        return to_pixels(self.backend.to_host(self.nets.G.forward(z, train=False)))

    def probes(self):
        pictures = self.pixels(self.backend.asarray(self.nets.noise(1)[0]))
        return pictures.ravel()[:: nets.PROBE].tolist()

    def sample(self, times):
        for _ in range(times):
            self.pixels(self.draw_z(self.nets.batch))

    def wait(self):
        if self.backend.name == "cupy":
            self.backend.xp.cuda.Device().synchronize()

    def versions(self):
        found = versions("numpy", "cupy", "cupy-cuda12x", "cupy-cuda13x")
        if self.backend.name == "cupy":
            found["gpu"] = self.backend.xp.cuda.runtime.getDeviceProperties(0)["name"].decode()
        return found
