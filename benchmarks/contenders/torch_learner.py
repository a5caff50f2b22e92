"""PyTorch learns, by the rules and with the numbers of a preset of minigan.

The updates are those of torch_step.py. What is added: targets, the order of the players, batches that are smaller at the
end of an epoch, Adam's settings, and the average of G's weights. Real images are turned once, at the start, where the twins are.
"""

from copy import deepcopy

import numpy as np

from benchmarks import nets
from benchmarks.contenders.lesson import Lesson
from benchmarks.contenders.plan import turn
from benchmarks.contenders.torch_step import Players, torch
from minigan.data import to_pixels
from minigan.errors import RunError


def take_eps_hat(optimizer):
    """Adam with its epsilon outside of the correction, as TensorFlow has it: see optimizers.py. PyTorch has it inside."""
    (group,) = optimizer.param_groups
    eps, (_, beta2), steps = group["eps"], group["betas"], 0

    def before(*_):
        nonlocal steps
        steps += 1
        group["eps"] = eps / (1.0 - beta2**steps) ** 0.5

    optimizer.register_step_pre_hook(before)


class Average:
    """As minigan/averaging.py: `net` holds the average of another's weights and statistics, one pass over all in a step."""

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
        self.lesson = lesson = Lesson(config, images, for_twin=True)
        self.config, self.rules, self.batches, self.steps = (
            lesson.config,
            lesson.game.rules,
            lesson.batches,
            lesson.steps,
        )
        self.pixel_min, settings = lesson.game.preset.black, lesson.game.preset.settings
        adam = dict(betas=(self.config.beta1, 0.999), eps=settings.get("eps", 1e-8))
        rates = [{"lr": lr, **adam} for lr in (self.config.lr_g, self.config.lr_d)]
        super().__init__(lesson.game.G, lesson.game.D, *rates, "cpu", channels_last)
        lesson.game = None  # its memory is not PyTorch's
        if settings.get("eps_hat"):
            take_eps_hat(self.optimizer_g)
            take_eps_hat(self.optimizer_d)
        batch, rules = self.config.batch_size, self.rules
        self.real, self.fake = (
            self.targets(batch, rules.real_target),
            self.targets(batch, rules.fake_target),
        )
        self.wanted = self.targets(batch, rules.generator_target)
        self.average = Average(self.G, self.config.ema) if self.config.ema else None
        self.drawn_from = self.average.net.eval() if self.average else self.G
        torch.manual_seed(self.config.seed)

    def draw(self, n, generator=None):
        return self.draw_z(n, self.config.z, generator)

    def play(self, draw):
        """One round, as training.Game.round. draw(n) -> z. -> losses in minigan's order"""
        losses = self.update(draw)
        if self.average:
            self.average.update()
        return losses

    def update(self, draw):
        """One update of each player, as gan.play_round."""
        images = self.images(self.batches.draw()[0])
        n = len(images)
        z = draw(n)
        fakes = self.play_g(z)
        if self.rules.first == "D":
            losses_d = self.update_d(images, fakes, self.real[:n], self.fake[:n])
            return *losses_d, self.update_g(fakes, self.wanted[:n])
        loss_g = self.update_g(fakes, self.wanted[:n])
        with torch.no_grad():
            fakes = self.play_g(z)  # G is another one now
        return *self.update_d(images, fakes, self.real[:n], self.fake[:n]), loss_g

    def losses(self, steps):
        draw = self.lesson.shared_z()
        return [
            [float(each) for each in self.play(lambda n: torch.from_numpy(draw(n)))]
            for _ in range(steps)
        ]

    def run(self, times):
        for _ in range(times):
            self.play(self.draw)

    def pictures(self, n, draw):
        """-> (n, h, w, c) uint8, drawn in whole batches."""
        size, parts = self.config.batch_size, []
        with self.sampling():
            for _ in range(0, n, size):
                y = turn(self.drawn_from(draw(size)).permute(0, 2, 3, 1).numpy(), self.turned)
                if not np.all(np.isfinite(y)):
                    raise RunError("the generator gives NaN: its training went astray")
                parts.append(to_pixels(y, self.pixel_min))
        return np.concatenate(parts)[:n]

    def probes(self):
        draw = self.lesson.shared_z()
        return (
            self.pictures(self.config.batch_size, lambda n: torch.from_numpy(draw(n)))
            .ravel()[:: nets.PROBE]
            .tolist()
        )

    def sample(self, n, path):
        generator = torch.Generator().manual_seed(self.config.seed)
        np.save(path, self.pictures(n, lambda size: self.draw(size, generator)))
