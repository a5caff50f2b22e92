"""What a contender is: nets, and the same few calls in any framework."""

from benchmarks import nets
from benchmarks.agreement import error_of
from benchmarks.contenders.operations import rotate
from benchmarks.machine import versions
from minigan import get_backend


class Contender:
    """Base of all. A derived class has

    play(z)      one training step -> loss_d_real, loss_d_fake, loss_g, unread
    draw()       -> the next z, as play takes it
    upload(z)    z on the host -> as play takes it
    pixels(z)    -> images that G samples, (n, h, w, c) uint8 on the host, rotated if `rotated`
    wait()       until the device is done; and on a GPU, see gpu_timing.py:
    mark()       -> an event in the device's queue, or None if the framework shows none
    between(a, b)   -> seconds between two of them
    convolve(x, W)  -> a convolution as it computes it: see agreement.py
    """

    packages: tuple[str, ...] = ()  # whose versions are recorded
    rotated = False  # are images rotated by 180 degrees? See operations.py

    def __init__(self, preset, batch, width, image=None, device="cpu", precision="fp32"):
        """width, image: None for the preset's own; device: "cpu" or "cuda"."""
        self.device, self.precision = device, precision
        self.nets = nets.build(preset, batch, get_backend("plain"), width, image)

    # -- what step.py and scaling.py call -------------------------------------------------------

    def losses(self, steps):
        """-> losses of the first steps, on the z that all contenders share."""
        return [
            [self.read(loss) for loss in self.play(self.upload(z))] for z in self.nets.noise(steps)
        ]

    def probes(self):
        """-> some pixels of the first images, sampled from z that all contenders share."""
        images = self.pixels(self.upload(self.nets.noise(1)[0]))
        return rotate(images, self.rotated).ravel()[:: nets.PROBE].tolist()

    def run(self, times):
        """This many steps, z drawn in each."""
        self.launch(times)
        self.wait()

    def launch(self, times):
        for _ in range(times):
            self.play(self.draw())

    def sample(self, times):
        """Draw this many batches of images."""
        for _ in range(times):
            self.pixels(self.draw())

    def conv_error(self):
        """-> relative error of a convolution."""
        return error_of(self.convolve)

    def versions(self):
        return versions(*self.packages)

    # -- defaults -------------------------------------------------------------------------------

    def read(self, loss):
        return float(loss)

    def upload(self, z):
        return z

    def wait(self):
        pass

    def mark(self):
        return None
