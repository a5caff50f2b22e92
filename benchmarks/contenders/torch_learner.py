"""PyTorch trains: the round and the numbers of a preset of minigan, the updates of torch_step.py.

Added here are targets, the order of the players, smaller batches at the end of an epoch, Adam's
settings, and the average of G's weights.
"""

from copy import deepcopy

import numpy as np

from benchmarks import nets
from benchmarks.contenders.operations import rotate
from benchmarks.contenders.torch_step import Players, torch
from benchmarks.training_task import TrainingTask
from minigan.data import to_pixels
from minigan.errors import RunError
from minigan.gan import plain_round
from minigan.training.game import STAIR


def use_eps_hat(optimizer):
    """Adam with its epsilon outside the correction, as in TensorFlow: see minigan/optimizers.py."""
    (group,) = optimizer.param_groups
    eps, (_, beta2), steps = group["eps"], group["betas"], 0

    def before(*_):
        nonlocal steps
        steps += 1
        group["eps"] = eps / (1.0 - beta2**steps) ** 0.5

    optimizer.register_step_pre_hook(before)


class Average:
    """As minigan/averaging.py: `net` has the average of another's weights and statistics."""

    def __init__(self, source, decay):
        self.net, self.decay, self.steps = deepcopy(source), decay, 0
        self.mean, self.new = (
            [a.detach() for a in net.state_dict().values() if a.is_floating_point()]
            for net in (self.net, source)
        )

    def update(self):
        self.steps += 1
        torch._foreach_lerp_(self.mean, self.new, (1 - self.decay) / (1 - self.decay**self.steps))


class Learner(Players):
    def __init__(self, config, images, channels_last):
        self.task = task = TrainingTask(config, images, for_twin=True)
        self.config, self.batches, self.steps = task.config, task.batches, task.steps
        preset, batch, config = task.game.preset, task.config.batch_size, task.config
        self.pixel_min, self.d_first = preset.pixel_min, preset.round is plain_round
        adam = dict(betas=(config.beta1, 0.999), eps=preset.settings.get("eps", 1e-8))
        settings = [dict(lr=lr, **adam) for lr in (config.lr_g, config.lr_d)]
        self.played = 0  # steps
        super().__init__(task.game.G, task.game.D, *settings, "cpu", channels_last)
        task.game = None  # its memory is not PyTorch's
        if preset.settings.get("eps_hat"):
            use_eps_hat(self.optimizer_g)
            use_eps_hat(self.optimizer_d)
        objective = preset.objective
        self.real = self.targets(batch, objective.real_target)
        self.fake = self.targets(batch, objective.fake_target)
        self.wanted, self.r1 = self.targets(batch), objective.r1
        self.average = Average(self.G, config.ema) if config.ema else None
        self.drawn_from = self.average.net.eval() if self.average else self.G
        torch.manual_seed(config.seed)

    def draw(self, n, generator=None):
        return self.draw_z(n, self.config.z, generator)

    def play(self, draw):
        """One round, as Game.round. draw(n) -> z. -> losses in minigan's order"""
        self.set_rates()
        losses = self.update(draw)
        self.played += 1
        if self.average:
            self.average.update()
        return losses

    def set_rates(self):
        """As Game.set_rates."""
        if self.config.lr_decay:
            factor = (1 + self.played // STAIR * STAIR / self.config.lr_decay) ** -0.5
            self.optimizer_g.param_groups[0]["lr"] = self.config.lr_g * factor
            self.optimizer_d.param_groups[0]["lr"] = self.config.lr_d * factor

    def update(self, draw):
        """One update of each player."""
        images = self.to_tensor(self.batches.draw()[0])
        n = len(images)
        z = draw(n)
        fakes = self.play_g(z)
        if self.d_first:
            losses_d = self.update_d(images, fakes, self.real[:n], self.fake[:n], self.r1)
            return *losses_d, self.update_g(fakes, self.wanted[:n])
        loss_g = self.update_g(fakes, self.wanted[:n])
        with torch.no_grad():
            fakes = self.play_g(z)  # of the G that has just moved
        losses_d = self.update_d(images, fakes, self.real[:n], self.fake[:n], self.r1)
        return *losses_d, loss_g

    def shared_z(self):
        draw = self.task.shared_z()
        return lambda n: torch.from_numpy(draw(n))

    def losses(self, steps):
        draw = self.shared_z()
        return [[float(each) for each in self.play(draw)] for _ in range(steps)]

    def run(self, times):
        for _ in range(times):
            self.play(self.draw)

    def images(self, n, draw):
        """-> (n, h, w, c) uint8, drawn in whole batches. Raises RunError."""
        size, parts = self.config.batch_size, []
        with self.sampling():
            for _ in range(0, n, size):
                y = rotate(self.drawn_from(draw(size)).permute(0, 2, 3, 1).numpy(), self.rotated)
                if not np.all(np.isfinite(y)):
                    raise RunError("the generator outputs NaN: its training diverged")
                parts.append(to_pixels(y, self.pixel_min))
        return np.concatenate(parts)[:n]

    def probes(self):
        images = self.images(self.config.batch_size, self.shared_z())
        return images.ravel()[:: nets.PROBE].tolist()

    def sample(self, n, path):
        generator = torch.Generator().manual_seed(self.config.seed)
        np.save(path, self.images(n, lambda size: self.draw(size, generator)))
