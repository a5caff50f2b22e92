"""minigan itself, by its public interface: step by step, or the whole step captured, as in training.

z lies in memory of its own, where the next one is drawn after a step, on a GPU by the step itself. So whoever compares
losses puts a z of theirs into the place before a step, and the step is the same.
"""

import numpy as np

from benchmarks import nets
from benchmarks.machine import versions
from benchmarks.precision import error_of
from minigan import Adam, Conv2d, Sequential, get_backend
from minigan.data import to_pixels
from minigan.gan import play_round


class Step:
    def __init__(self, preset, batch, width, image, device, precision="fp32", captured=False):
        self.backend = (
            get_backend("cupy", precision=precision) if device == "cuda" else get_backend("numpy")
        )
        self.nets = nets.build(preset, batch, self.backend, width, image)
        self.optimizers = {
            net.name: Adam(net, nets.RATE, beta1=nets.BETA1) for net in (self.nets.G, self.nets.D)
        }
        self.images = self.backend.asarray(self.nets.images())
        self.generator = np.random.default_rng(0)
        self.philox = self.backend.philox(0) if device == "cuda" else None
        self.z = self.backend.inbox((batch, self.nets.z_dim)).array
        self.draw()
        self.play, self.play_round = self.step, self.round
        if captured and device == "cuda":
            self.play = self.backend.capture(self.step)
        elif captured:  # z is drawn once, not by each of the processes that play the round
            self.play_round = self.backend.capture(self.round, batch)

    def draw(self):
        """z anew, N(0, 1) or U[-1, 1)."""
        xp, normal = self.backend.xp, self.nets.z == "normal"
        if self.philox is not None:
            self.philox.draw(self.z, normal)
        elif normal:
            self.generator.standard_normal(dtype=self.z.dtype, out=self.z)
        else:
            self.generator.random(dtype=self.z.dtype, out=self.z)
        if not normal:
            xp.multiply(self.z, 2.0, out=self.z)
            xp.subtract(self.z, 1.0, out=self.z)

    def step(self):
        self.result = self.play_round()
        self.draw()

    def round(self):
        both, share = self.nets, self.backend.share
        return play_round(
            both.G,
            both.D,
            self.optimizers,
            lambda: (share(self.images), None),
            lambda n: share(self.z),
            nets.RULES,
        )

    def losses(self, steps):
        found = []
        for z in self.nets.noise(steps):
            self.backend.put(z, self.z)
            self.play()
            found.append(
                [
                    float(self.backend.to_host(self.result[name]))
                    for name in ("loss_d_real", "loss_d_fake", "loss_g")
                ]
            )
        return found

    def run(self, times):
        self.launch(times)
        self.wait()

    def launch(self, times):
        for _ in range(times):
            self.play()

    def wait(self):
        self.backend.synchronize()

    def mark(self):
        event = self.backend.xp.cuda.Event()
        event.record()
        return event

    def between(self, a, b):
        return self.backend.xp.cuda.get_elapsed_time(a, b) / 1000

    def conv_error(self):
        def convolve(x, W):
            net = Sequential([Conv2d(W.shape[3], W.shape[:2], bias=False)])
            net.setup(x.shape[1:], backend=self.backend, rng=self.generator)
            net.params["0.W"][...] = self.backend.asarray(W)
            return self.backend.to_host(net.forward(self.backend.asarray(x)))

        return error_of(convolve)

    def pixels(self, z):
        return to_pixels(self.backend.to_host(self.nets.G.forward(z, train=False)))

    def probes(self):
        pictures = self.pixels(self.backend.asarray(self.nets.noise(1)[0]))
        return pictures.ravel()[:: nets.PROBE].tolist()

    def sample(self, times):
        for _ in range(times):
            self.draw()
            self.pixels(self.z)

    def versions(self):
        return versions_of(self.backend)


def versions_of(backend):
    """-> package -> version, and the GPU's name."""
    found = versions("numpy", "cupy", "cupy-cuda12x", "cupy-cuda13x")
    if backend.name == "cupy":
        found["gpu"] = backend.xp.cuda.runtime.getDeviceProperties(0)["name"].decode()
    return found
