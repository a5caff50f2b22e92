"""A step on a CPU with one idea left out: python benchmarks/ablation.py --help

Each row plays the same step without one of the ideas of backends/cpu/, as one process does with its
part of the batch: one thread, passes traced. Steps of all rows alternate. Printed is the lowest CPU
time of the thread, which other programs on the machine disturb little, and its ratio to the step
with all ideas: what the idea gains. Before that, the losses of all rows are compared.

What threads and processes gain is shown by step.py.
"""

import sys
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from time import thread_time
from unittest.mock import patch

if __name__ == "__main__":  # this checkout: its minigan, and benchmarks as a package
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks import agreement, command, nets
from minigan import Adam, get_backend
from minigan.backends import fusion
from minigan.backends.cpu import blocks, convolution, parallel_step
from minigan.backends.cpu import im2col as columns
from minigan.backends.cpu.backend import CpuBackend
from minigan.backends.cpu.im2col import Im2col
from minigan.backends.cpu.table import OPERATIONS
from minigan.backends.cpu.trace import TracingBackend
from minigan.gan import Players, plain_round
from minigan.parallel.group import Group

LOSSES = ("loss_d_real", "loss_d_fake", "loss_g")


def defined_read_x(kernel, x, workspace, out):
    """Im2col.read_x as arrays/im2col.py has it: one copy for each pixel of the window."""
    if kernel.is_linear:
        return x.reshape(len(x), kernel.window)
    xp = workspace.backend.xp
    (k_h, k_w, c_in, _), (h_out, w_out, _) = kernel.W_shape, kernel.y_shape
    (s_h, s_w), ((top, _), (left, _)) = kernel.stride, kernel.padding
    padded = workspace.frame(f"padded by {kernel.padding}", (len(x), *kernel.padded), x.dtype)
    xp.copyto(padded[:, top : top + x.shape[1], left : left + x.shape[2]], x)
    cols = workspace.get("columns", (len(x), h_out, w_out, k_h, k_w, c_in))
    for i in range(k_h):
        for j in range(k_w):
            seen = padded[:, i : i + s_h * h_out : s_h, j : j + s_w * w_out : s_w]
            xp.copyto(cols[:, :, :, i, j], seen)
    return cols.reshape(-1, kernel.window)


def plan_each(plan, layers, backend):
    """Each layer is a step by itself."""
    return [step for layer in layers for step in plan([layer], backend)]


IDEAS = {  # name -> (object, name, what it is without the idea)
    "chunks in cache": [(columns, "CACHE", 2**60)],
    "im2col as one copy": [(Im2col, "read_x", defined_read_x)],
    "gathering": [(convolution, "Gathering", Im2col)],
    "Winograd": [(CpuBackend, "winograd", property(lambda _: False, lambda _, value: None))],
    "upsampling first": [(fusion, "joined", lambda layers, backend: layers)],
    "fused blocks": [(blocks, "plan", partial(plan_each, blocks.plan))],
    "trace and replay": [],
    "all of them": [],  # every definition as its file has it
}
ALL = "all ideas"


class Share:
    """A process's share of a step, `batch` images, without an idea."""

    def __init__(self, preset, batch, width, without):
        self.patches = IDEAS.get(without, [])
        with self.patched():
            backend = CpuBackend(threads=1, operations=OPERATIONS)
            if without == "all of them":
                backend = get_backend("plain")
            elif without != "trace and replay":
                backend = TracingBackend(backend, Group())
            each = nets.build(preset, batch, backend, width)
            optimizers = [Adam(net, nets.RATE, beta1=nets.BETA1) for net in (each.G, each.D)]
            images, self.z = each.images(), each.noise(1)[0]
            self.players = Players(
                each.G, each.D, *optimizers, lambda: (images, None), lambda n: self.z
            )
            self.losses = [[float(loss) for loss in self.play()]]  # passes are recorded
            self.play()

    @contextmanager
    def patched(self):
        with ExitStack() as stack:
            for place, name, value in self.patches:
                stack.enter_context(patch.object(place, name, value, create=True))
            yield

    def play(self):
        """One step -> its losses."""
        result = parallel_step.on_one_thread(partial(plain_round, self.players))
        return [result[name] for name in LOSSES]

    def time(self):
        """-> CPU seconds of one step."""
        with self.patched():
            start = thread_time()
            self.play()
            return thread_time() - start


def measure(options, log):
    """-> name -> lowest CPU seconds of a step without this idea."""
    width = options.width
    shares = {
        name: Share(options.preset, options.batch, width, name) for name in (ALL, *options.without)
    }
    for share in shares.values():
        agreement.expect_same_losses(share.losses, shares[ALL].losses)
    lowest = dict.fromkeys(shares, float("inf"))
    for turn in range(options.rounds):
        for name in list(shares)[:: 1 if turn % 2 else -1]:
            lowest[name] = min(lowest[name], shares[name].time())
    for name, seconds in lowest.items():
        gain = "" if name == ALL else f"{seconds / lowest[ALL]:7.2f}"
        row = name if name == ALL else f"without {name}"
        log(f"{row:30}{1000 * seconds:10.2f} ms{gain}")
    return lowest


@command.command
def main(argv):
    parser = command.make_parser(
        "ablation.py",
        "A step on a CPU with one idea left out.",
        *("preset", "width", "batch", "rounds"),
        preset="mnist",
        batch=32,
        rounds=100,
    )
    parser.add_argument(
        "--without",
        type=command.names(IDEAS),
        default=list(IDEAS),
        help=f"of {','.join(IDEAS)} (default each of them)",
    )
    measure(parser.parse_args(argv), command.log)


if __name__ == "__main__":
    sys.exit(main())
