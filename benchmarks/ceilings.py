"""What a GPU can do at most, measured in the same run as what is held against it.

    product of 8192 x 8192 matrices    the rate of arithmetic, in float32 and in TF32
    copy of a large array              the rate of memory; each byte is read and written
    100 empty kernels in one graph     what a step of a hundred kernels cannot go below
    one empty kernel, launched         what the host needs for each of them without a graph
    the products of a net's layers     what its shapes leave of the first rate

All by minigan's own backend, its gemm and its capture.
"""

from time import perf_counter

import numpy as np

from benchmarks import nets
from minigan import get_backend
from minigan.cli.costs import forward_flops
from minigan.layers import ConvTranspose2d

EDGE = 8192  # of the largest product
NODES = 100
LEAST = 0.02  # seconds of a round
ROUNDS = 3
EMPTY = r'extern "C" __global__ void nothing() {}'


class Ceilings:
    def __init__(self, precision="fp32"):
        self.backend = get_backend("cupy", precision=precision)
        self.memory = self.backend.empty((0,))

    def seconds(self, work):
        """-> seconds of one `work`, at its fastest."""
        work()
        self.backend.synchronize()
        times, rounds = 1, []
        while len(rounds) < ROUNDS:
            start = perf_counter()
            for _ in range(times):
                work()
            self.backend.synchronize()
            spent = perf_counter() - start
            if spent < LEAST:
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
        return [
            self.memory[a:b].reshape(shape)
            for a, b, shape in zip(starts, starts[1:], shapes, strict=False)
        ]

    def product(self, edge):
        """-> GFLOP/s."""
        a, b = self.numbers((edge, edge), (edge, edge))
        c = self.backend.empty((edge, edge))
        return 2e-9 * edge**3 / self.seconds(lambda: self.backend.gemm(a, b, out=c))

    def copy(self, mib):
        """-> GB/s, of bytes read and bytes written together."""
        (a,), copyto = self.numbers((mib * 2**18,)), self.backend.xp.copyto
        b = self.backend.empty(a.shape)
        return 2e-9 * a.size * 4 / self.seconds(lambda: copyto(b, a))

    def empty_kernels(self):
        """-> seconds of one in a graph of NODES; of one launched by itself."""
        nothing = self.backend.xp.RawModule(code=EMPTY).get_function("nothing")

        def launch():
            nothing((1,), (1,), ())

        def step():
            for _ in range(NODES):
                launch()

        return self.seconds(self.backend.capture(step)) / NODES, self.seconds(launch)

    def products(self, preset, batch, width):
        """-> [{"layer", "pass", "m", "n", "k", "gflops"}]: each pass of each layer as the one product that it comes to."""
        host, rows = nets.build(preset, batch, get_backend("numpy"), width), []
        for name in "GD":
            for i, layer in enumerate(getattr(host, name).layers):
                if not forward_flops(layer):
                    continue
                c = layer.W.shape[-1]
                k, m = layer.W.size // c, batch * forward_flops(layer) // (2 * layer.W.size)
                x, W, y = self.numbers((m, k), (k, c), (m, c))
                passes = {"forward": (x, W), "dx": (y, W.T), "dw": (x.T, y)}
                if isinstance(
                    layer, ConvTranspose2d
                ):  # its forward is the dx of the convolution that it transposes
                    passes["forward"], passes["dx"] = passes["dx"], passes["forward"]
                for which, (a, b) in passes.items():
                    out = self.backend.empty((a.shape[0], b.shape[1]))
                    spent = self.seconds(lambda a=a, b=b, out=out: self.backend.gemm(a, b, out=out))
                    m_n_k = {"m": a.shape[0], "n": b.shape[1], "k": a.shape[1]}
                    rows.append(
                        {
                            "layer": f"{name}.{i}",
                            "describe": layer.describe(),
                            "pass": which,
                            **m_n_k,
                            "gflops": 2e-9 * m * k * c / spent,
                        }
                    )
        return rows

    def versions(self):
        from benchmarks.contenders.minigan_step import versions_of

        return versions_of(self.backend)
