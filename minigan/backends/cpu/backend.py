"""The NumPy backend: the definitions of `base.py` on the CPU, and what is faster than they are."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from minigan.arrays.backend import Array, Backend, Shape
from minigan.arrays.staging import Inbox
from minigan.backends.cpu.chunks import Desk
from minigan.backends.cpu.threads import get_team
from minigan.errors import ConfigError

if TYPE_CHECKING:
    from minigan.backends.cpu.convolution import Convolution
    from minigan.backends.cpu.crew import Alone, Crew
    from minigan.backends.cpu.threads import Team
    from minigan.backends.cpu.trace import Tape


class NumpyBackend(Backend):
    """NumpyBackend(dtype)

    threads   how many work side by side, in a captured step as processes; by default as many as there are CPUs that
              this process may use
    winograd  False: convolutions by columns alone, slower with many channels, rounding errors smaller
    """

    name = "numpy"

    def __init__(self, dtype: Any = "float32", threads: int | None = None, winograd: bool = True):
        super().__init__(np, dtype)
        if threads is not None and (
            isinstance(threads, bool) or not isinstance(threads, int) or not 1 <= threads <= 1024
        ):
            raise ConfigError(f"threads must be a whole number from 1 to 1024, got {threads!r}")
        self.team: Team | Alone = get_team(threads)
        self.desks = [Desk(self) for _ in range(self.team.size)]  # each thread's scratch memory
        self.winograd = winograd
        self.convolutions: dict[tuple[Any, ...], Convolution] = {}  # by geometry
        self.faster = faster_operations()
        self.crew: Crew | None = None  # while a step is played by several processes
        self.tape: Tape | None = None  # while a pass of it is noted

    def capture(self, step: Callable[[], Any], rows: int = 0) -> Callable[[], Any]:
        from minigan.backends.cpu.crew import capture

        return capture(self, step, rows)

    def inbox(self, shape: Shape, dtype: Any = None) -> Inbox:
        from minigan.backends.cpu.crew import SharedInbox

        return SharedInbox(self, shape, dtype)

    def lent(self, array: Array) -> Array:
        if self.tape is None:
            return array
        from minigan.backends.cpu.trace import Watched

        return array.view(Watched)

    def share(self, batch: Array) -> Array:
        return batch if self.crew is None else self.crew.share(batch)

    def add_gradients(self, gradients: Array) -> None:
        if self.crew is not None:
            self.crew.add_gradients(gradients)

    def fill_uniform(self, generator: np.random.Generator, out: Array) -> None:
        generator.random(dtype=self.dtype, out=out)  # in place: nothing is allocated in a step


def faster_operations() -> dict[Callable[..., Any], Any]:
    """-> definition -> what takes its place. Imported here, since layers and optimizers import backends."""
    from minigan import gan, losses, optimizers
    from minigan.backends.cpu import adam as numpy_adam
    from minigan.backends.cpu import blocks as numpy_fused
    from minigan.backends.cpu import convolution as numpy_convolution
    from minigan.backends.cpu import crew as numpy_crew
    from minigan.backends.cpu import sides as numpy_sides
    from minigan.backends.cpu import trace as numpy_tape
    from minigan.layers import batchnorm, conv2d, conv_transpose2d, linear, sequential

    return {
        batchnorm.batchnorm_forward: numpy_crew.batchnorm_forward,
        conv2d.conv2d_forward: numpy_convolution.conv2d_forward,
        conv2d.conv2d_backward: numpy_convolution.conv2d_backward,
        conv_transpose2d.conv_transpose2d_forward: numpy_convolution.conv_transpose2d_forward,
        conv_transpose2d.conv_transpose2d_backward: numpy_convolution.conv_transpose2d_backward,
        gan.update_discriminator: numpy_sides.update_discriminator,
        linear.linear_forward: numpy_convolution.linear_forward,
        linear.linear_backward: numpy_convolution.linear_backward,
        losses.mean_bce: numpy_crew.mean_bce,
        losses.mean_sigmoid: numpy_crew.mean_sigmoid,
        optimizers.adam_step: numpy_adam.adam_step,
        sequential.backward_pass: numpy_tape.backward_pass,
        sequential.forward_pass: numpy_tape.forward_pass,
        sequential.plan: numpy_fused.fused_plan,
    }
