"""Convolution on the GPU without columns, by tensor cores (TF32): implicit.cu.

Each use of a convolution is one product, whose blocks gather what they multiply from the image.

    convolve    windows of x times W; bias and activation on the way out
    transpose   the pixels of x in stride x stride phases. Those of one phase see the same taps, so
                each phase is a product by itself, of y with some of the weights; nothing is
                scattered
    gradient    few numbers, each a sum over all pixels: parts of the pixels get blocks of their
                own, and `fold` adds the parts up, always in the same order

Off unless GpuBackend(implicit=True): its speed has not been measured. `python benchmarks/gpu.py
--only implicit` compares both ways, layer by layer. Needs 163 KiB of shared memory in a block,
which GPUs for data centers have since 2020 (sm_80, 90, 100).
Source: Chetlur et al. 2014, arXiv:1410.0759, section 3
"""

from math import prod

from minigan.arrays import Array
from minigan.backends.fusion import Core, CoreConvolution
from minigan.backends.gpu.backend import GpuBackend
from minigan.backends.gpu.convolution import Convolution, is_linear
from minigan.backends.gpu.kernels import IDENTITY, Activation, Kernel
from minigan.backends.gpu.reductions import fold
from minigan.backends.workspace import Workspace

DEEP, STAGES = 32, 3  # of implicit.cu
USES = ("convolve", "transpose", "gradient")  # as numbered there
Tile = tuple[int, int]  # rows, columns of a result that one block computes
TILES: tuple[Tile, ...] = ((256, 128), (128, 128), (256, 64), (128, 64), (64, 64))
BLOCKS = 132  # that keep a GPU busy: one on each multiprocessor of an H200
COPY = 109  # products in the time of one number from L2: 300 TFLOP/s, 5.6 TB/s (assumed)
IMAGES = 128  # for which tiles are chosen: the same ones for each batch


def convolution_of(
    layer: Core, f: Activation, backend: GpuBackend, memory: Workspace
) -> Convolution:
    """-> an ImplicitConvolution if the backend asks for it and the sizes fit, else by columns."""
    core = CoreConvolution(layer)
    *_, c, d = core.W_shape
    is_tf32 = backend.dtype == "float32" and backend.precision == "tf32"
    fits = c % DEEP == d % DEEP == 0 and max(core.kernel_size) <= 16 and not is_linear(core)
    kind = ImplicitConvolution if backend.implicit and is_tf32 and fits else Convolution
    return kind(layer, f, backend, memory)


class ImplicitConvolution(Convolution):
    """The convolution of one layer and the activation f after it, without columns."""

    def name_kernels(self) -> None:
        self.tiles = {use: self.choose_tile(use) for use in USES}
        self.kernel("convolve", IDENTITY if self.transposed else self.f)
        self.kernel("transpose", self.f if self.transposed else IDENTITY)
        self.kernel("gradient", IDENTITY)

    def sizes(self, use: str, n: int) -> tuple[int, int, int]:
        """-> rows, columns of a product for n images; how many such products there are."""
        (h, w, c), (s_h, s_w) = self.x_shape, self.stride
        if use == "gradient":
            return self.window, self.d, BLOCKS
        if use == "transpose":
            return n * -(-h // s_h) * -(-w // s_w), c, s_h * s_w  # of the largest phase
        return n * self.pixels, self.d, 1

    def choose_tile(self, use: str) -> Tile:
        """-> the tile that takes the least time: of products in the fullest multiprocessor, or of
        copies in all."""
        rows, columns, depth = self.sizes(use, IMAGES)

        def cost(tile: Tile) -> float:
            (m, n), blocks = tile, tiles_in(rows, columns, tile) * depth
            return max(-(-blocks // BLOCKS) * m * n, COPY * blocks / BLOCKS * (m + n))

        return min(TILES, key=cost)

    def kernel(self, use: str, f: Activation) -> Kernel:
        """-> the kernel for this use, with its tile, and with f applied."""
        (m, n), number, get = self.tiles[use], USES.index(use), self.backend.kernels.get
        return get("implicit", self.geometry, f[0], 4, USE=number, M=m, N=n)

    def run(self, use: str, f: Activation, arrays: list[Array | None], n: int, z: int) -> None:
        """Launch a product for n images.

        arrays  left, right, b, out of implicit.cu
        z       phases, or parts of dW
        """
        (rows, columns, _), (m, wide) = self.sizes(use, n), self.tiles[use]
        stage = DEEP * (m + 8) if use == "gradient" else m * (DEEP + 4)
        stage += wide * (DEEP + 4) if use == "transpose" else DEEP * (wide + 8)
        grid, threads = (tiles_in(rows, columns, (m, wide)), 1, z), 256 if m > 128 else 128
        self.kernel(use, f).launch(grid, threads, (*arrays, n, z, f[1]), STAGES * stage * 4)

    def convolve(self, x: Array, y: Array, kept: Array | None) -> None:
        self.run("convolve", self.f, [x, self.W(), self.layer.b, y], len(x), 1)

    def transpose(self, y: Array, b: Array | None, x: Array, f: Activation) -> None:
        self.run("transpose", f, [y, self.W(), b, x], len(y), prod(self.stride))

    def gradient(self, x: Array, y: Array, dW: Array, kept: Array | None) -> None:
        tiles = tiles_in(self.window, self.d, self.tiles["gradient"])
        parts = max(1, min(BLOCKS // tiles, len(x) * self.pixels // (4 * DEEP)))
        sums = self.backend.scratch("parts of dW", (1, parts, dW.size))
        self.run("gradient", IDENTITY, [x, y, None, sums], len(x), parts)
        fold(sums, dW, self.backend, add=True)

    def backward_transposed(self, dy: Array, x: Array, dW: Array | None, dx: Array | None) -> None:
        if dW is not None:
            self.gradient(dy, x, dW, None)
        if dx is not None:
            self.run("convolve", IDENTITY, [dy, self.W(), None, dx], len(dy), 1)

    def room_for_columns(self, n: int) -> Array | None:
        return None


def tiles_in(rows: int, columns: int, tile: Tile) -> int:
    """-> how many tiles cover a result of these rows and columns."""
    return -(-rows // tile[0]) * -(-columns // tile[1])
