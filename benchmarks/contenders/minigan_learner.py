"""minigan trains, as `minigan train` would."""

import numpy as np

from benchmarks import nets
from benchmarks.contenders.minigan_step import LOSSES
from benchmarks.machine import versions_of
from benchmarks.training_task import TrainingTask
from minigan.frozen_statistics import samples_by_batch


class Learner:
    def __init__(self, config, images):
        self.task = TrainingTask(config, images)
        self.game, self.batches, self.steps = self.task.game, self.task.batches, self.task.steps
        # as its contenders sample
        self.statistics = "batch" if samples_by_batch(self.game.drawn_from) else "frozen"

    def share_z(self):
        """From now on z is the one that all contenders draw."""
        draw = self.task.shared_z()
        self.game.fill_z = lambda z, generator: np.copyto(z, draw(len(z)))

    def losses(self, steps):
        self.share_z()
        results = (self.game.read(self.game.round(self.batches)) for _ in range(steps))
        return [[result[name] for name in LOSSES] for result in results]

    def probes(self):
        self.share_z()
        size = self.game.config.batch_size
        images = self.game.sample(size, generator=None, statistics=self.statistics)
        return images.ravel()[:: nets.PROBE].tolist()

    def run(self, times):
        for _ in range(times):
            self.game.round(self.batches)

    def sample(self, n, path):
        stream = self.game.stream("evaluation")
        np.save(path, self.game.sample(n, stream, statistics=self.statistics))

    def versions(self):
        return versions_of(self.game.backend)
