"""What a machine can do at most, measured in the same run as the steps that it is compared with.

    one large matrix product          the rate of arithmetic
    copy of a large array             the rate of memory; each byte is read and written
    100 empty kernels in one graph    the floor for a step of a hundred kernels
    one empty kernel, launched        the host's time for each of them without a graph
    the products of a net's layers    what its shapes leave of the first rate

All but the first are of a GPU, by minigan's own products and capture.
Source: Williams et al. 2009, "Roofline: an insightful visual performance model"
"""

from functools import cached_property
from time import perf_counter

import numpy as np

from benchmarks import nets
from benchmarks.machine import versions_of
from minigan import get_backend
from minigan.cli.costs import forward_flops
from minigan.layers import ConvTranspose2d

EDGE = {"numpy": 4096, "cupy": 8192}  # of the largest product
NODES = 100
SHORTEST = 0.02  # seconds of a round
ROUNDS = 3
EMPTY = r'extern "C" __global__ void nothing() {}'


class Roofline:
    def __init__(self, backend, precision="fp32", edge=1):
        """edge  of the matrices of the largest product"""
        self.backend, self.edge = get_backend(backend, precision=precision), edge
        self.gemm = getattr(self.backend, "gemm", np.matmul)
        self.memory = self.backend.xp.empty((0,), np.float32)

    def seconds(self, work):
        """-> seconds of one call of `work`, the fastest of some rounds."""
        work()
        self.backend.synchronize()
        times, rounds = 1, []
        while len(rounds) < ROUNDS:
            start = perf_counter()
            for _ in range(times):
                work()
            self.backend.synchronize()
            spent = perf_counter() - start
            if spent < SHORTEST:
                times *= 2
            else:
                rounds.append(spent / times)
        return min(rounds)

    def numbers(self, *shapes):
        """-> arrays of random numbers, of these shapes."""
        sizes = [int(np.prod(shape)) for shape in shapes]
        if self.memory.size < sum(sizes):
            rng = np.random.default_rng(0)
            self.memory = self.backend.asarray(rng.standard_normal(sum(sizes), dtype=np.float32))
        starts = np.cumsum([0, *sizes]).tolist()
        pairs = zip(starts[:-1], starts[1:], shapes, strict=True)
        return [self.memory[start:end].reshape(shape) for start, end, shape in pairs]

    def product_of(self, a, b):
        """-> function that computes a @ b."""
        out = self.backend.xp.empty((a.shape[0], b.shape[1]), np.float32)
        return lambda: self.gemm(a, b, out=out)

    @cached_property
    def largest_product(self):
        return self.product_of(*self.numbers(*[(self.edge, self.edge)] * 2))

    def run(self, times):
        """The largest product, to be timed between the contenders' turns."""
        for _ in range(times):
            self.largest_product()
        self.backend.synchronize()

    def product(self):
        """-> GFLOP/s of the largest product."""
        return 2e-9 * self.edge**3 / self.seconds(self.largest_product)

    def copy(self, mib):
        """-> GB/s, of bytes read and bytes written together."""
        (a,), xp = self.numbers((mib * 2**18,)), self.backend.xp
        b = xp.empty(a.shape, np.float32)
        return 2e-9 * a.size * 4 / self.seconds(lambda: xp.copyto(b, a))

    def empty_kernels(self):
        """-> seconds of one in a graph of NODES; of one launched by itself."""
        nothing = self.backend.xp.RawModule(code=EMPTY).get_function("nothing")

        def launch():
            nothing((1,), (1,), ())

        def step():
            for _ in range(NODES):
                launch()

        graph = self.backend.capture(lambda backend: step, [])
        return self.seconds(graph) / NODES, self.seconds(launch)

    def products(self, preset, batch, width):
        """-> [{"layer", "pass", "m", "n", "k", "gflops"}]: each pass of each layer, one product."""
        host, rows = nets.build(preset, batch, get_backend("plain"), width), []
        for name, net in (("G", host.G), ("D", host.D)):
            for i, layer in enumerate(net.layers):
                if not forward_flops(layer):
                    continue
                c = layer.W.shape[-1]
                k, m = layer.W.size // c, batch * forward_flops(layer) // (2 * layer.W.size)
                x, W, y = self.numbers((m, k), (k, c), (m, c))
                passes = {"forward": (x, W), "dx": (y, W.T), "dw": (x.T, y)}
                if isinstance(layer, ConvTranspose2d):  # its forward is that convolution's dx
                    passes["forward"], passes["dx"] = passes["dx"], passes["forward"]
                place = {"layer": f"{name}.{i}", "describe": layer.describe()}
                for which, (a, b) in passes.items():
                    rate = 2e-9 * m * k * c / self.seconds(self.product_of(a, b))
                    sizes = {"m": a.shape[0], "n": b.shape[1], "k": a.shape[1]}
                    rows.append({**place, "pass": which, **sizes, "gflops": rate})
        return rows

    def versions(self):
        return versions_of(self.backend)
