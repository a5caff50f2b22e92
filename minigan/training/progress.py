"""How a run shows its progress, and how it is stopped: lines or a bar, and Ctrl-C."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from time import monotonic
from typing import Any

from minigan.progress_bar import on_terminal, progress_bar
from minigan.stop_signals import Stopped, stop_signals_call


class Interrupted(Stopped):
    """A stop signal came, and everything is saved and reported. folder: of the run."""

    def __init__(self, number: int, folder: str | Path = "."):
        super().__init__(number)
        self.folder = Path(folder)


@contextmanager
def interrupts() -> Iterator[list[int]]:
    """-> list that gets the number of the first stop signal; a second ends the program."""
    caught: list[int] = []

    def catch(number: int, frame: object) -> None:
        if caught:
            raise KeyboardInterrupt
        caught.append(number)

    with stop_signals_call(catch):
        yield caught


class Progress:
    """A bar if stderr is a terminal, else a plain line every few seconds."""

    SECONDS = 5.0  # between plain lines
    SETTLED = 20  # steps: the first ones compile and allocate, and say little about the rest

    def __init__(self, step: int, last_step: int, log: Callable[[str], object]):
        self.first, self.step, self.last_step, self.log = step, step, last_step, log
        self.seconds = 0.0  # spent in steps, without sampling and saving
        self.bar: Any = None  # tqdm's

    def __enter__(self) -> "Progress":
        if on_terminal():
            self.bar = progress_bar(initial=self.step, total=self.last_step, unit="step")
        self.line_due = self.clock = monotonic()
        return self

    def __exit__(self, *exception: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def start_clock(self) -> None:
        self.clock = monotonic()

    def update(self, row: dict[str, Any], images: int, steps: int) -> float:
        """row: the last step; images, steps: since the last call -> images per second."""
        spent = max(monotonic() - self.clock, 1e-9)
        self.start_clock()
        self.seconds += spent
        self.step = row["step"]
        rate = images / spent
        loss_d = row["loss_d_real"] + row["loss_d_fake"]
        text = (
            f"{rate:.0f} images/s  loss D {loss_d:.3f} G {row['loss_g']:.3f}"
            f"  D(x) {row['d_x']:.2f} D(G(z)) {row['d_gz']:.2f}"
        )
        minutes = spent / steps * (self.last_step - self.step) / 60
        if self.step - steps < self.first + self.SETTLED <= self.step and minutes >= 1:
            self.log(f"about {minutes:.0f} min to go on this machine, at this pace")
        if self.bar is not None:
            self.bar.set_description(f"epoch {row['epoch']}", refresh=False)
            self.bar.set_postfix_str(text, refresh=False)
            self.bar.update(steps)
        elif self.clock >= self.line_due or self.step == self.last_step:
            self.line_due = self.clock + self.SECONDS
            left = round(self.seconds / (self.step - self.first) * (self.last_step - self.step))
            place = f"epoch {row['epoch']}  step {self.step}/{self.last_step}"
            self.log(f"{place}  {text}  {timedelta(seconds=left)} left")
        return rate
