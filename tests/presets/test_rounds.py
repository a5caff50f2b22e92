"""What each preset's round does: its order, its batches and z, its targets and limits."""

from functools import partial
from math import log

import numpy as np
import pytest

import minigan as mg
from minigan import gan, objective
from minigan.gan import MEASURED, update_discriminator, update_generator
from minigan.objective import Objective
from minigan.presets import MODULES, get_preset, keras_round, tensorflow
from minigan.presets.shibuya import update_jointly
from tests.support.networks import assert_close
from tests.support.tiny_gan import (
    IMAGE,
    Z_DIM,
    Recorder,
    draw,
    make_nets,
    make_players,
    state,
    unchanged,
)

PLAIN = "r0 z0 G(z0) D(r0) 1 D(G(z0)) 0 step-D D(G(z0)) 1 step-G"
SHIBUYA = "r0 z0 g(z0) D(r0) 0.9 step-D D(g(z0)) 0 step-D G(z0) D(G(z0)) 1 step-G"
TENSORFLOW = "r0 z0 G(z0) D(r0) 1 D(G(z0)) 0 1 step-D step-G"
RADFORD = "r0 z0 G(z0) D(G(z0)) 1 step-G r1 z1 G(z1) D(r1) 1 D(G(z1)) 0 step-D"
FREDRIKSSON = "r0 z0 G(z0) D(G(z0)) 1 step-G G(z0) D(r0) 1 D(G(z0)) 0 step-D"
JAYATHILAKA = "r0 z0 g(z0) D(r0) 1 step-D D(g(z0)) 0 step-D z1 G(z1) D(G(z1)) 1 step-G"
# r: a batch of images is drawn; z: noise is; G(z): in training mode, g(z): in sampling mode;
# a number: a loss with this target is taken
MOVES = {
    "mnist": PLAIN,
    "color32": PLAIN.replace("step-D", "R1(r0) step-D"),
    "image64": PLAIN.replace("step-D", "R1(r0) step-D"),
    "pytorch-64": PLAIN,
    "jindal-mnist64": PLAIN.replace("D(r0) 1", "D(r0) 0.9").replace(" 0 ", " 0.1 "),
    "radford-64": RADFORD,
    "radford-mnist-conditional": RADFORD,
    "shibuya-fnn": SHIBUYA,
    "shibuya-mnist": SHIBUYA,
    "shibuya-svhn": SHIBUYA,
    "shibuya-celeba": SHIBUYA,
    "tensorflow-mnist": TENSORFLOW,
    "tensorflow-cifar10": TENSORFLOW,
    "fredriksson-fnn": FREDRIKSSON,
    "fredriksson-mnist": FREDRIKSSON,
    "jayathilaka-faces": JAYATHILAKA,
}
KERAS, TORCH, TF1 = log((1 - 1e-7) / 1e-7), 100.0, -log(1e-12)
LIMITS = {  # of the logits in a reported loss, by the preset's source
    "shibuya": KERAS, "jayathilaka": KERAS, "pytorch": TORCH, "jindal": TORCH, "fredriksson": TF1,
}  # fmt: skip
N = 4


class Watched:
    """Players with tiny nets; every draw, forward, loss and step is recorded in `moves`."""

    def __init__(self, monkeypatch):
        self.moves, self.sizes, self.limits = [], [], []
        self.named = []  # (array, name): the arrays stay alive, so that ids stay different
        self.batches = 0
        self.players = make_players(mg.get_backend("plain", dtype="float64"))
        players = self.players
        players.draw_images, players.draw_z = self.draw_images, self.draw_z
        for net in (players.G, players.D):
            self.watch(net)
        for name, optimizer in (("D", players.optimizer_d), ("G", players.optimizer_g)):
            self.watch_step(optimizer, f"step-{name}")
        monkeypatch.setattr(objective, "bce_with_logits", self.loss)
        monkeypatch.setattr(gan, "add_r1", self.r1)

    def name(self, array, name):
        self.named.append((array, name))
        return array

    def name_of(self, array):
        return next(name for known, name in self.named if known is array)

    def r1(self, D, x, labels, gamma):
        assert gamma == self.players.objective.r1 and labels == f"labels of {self.name_of(x)}"
        self.moves.append(f"R1({self.name_of(x)})")

    def draw_images(self):
        name = f"r{self.batches}"
        self.batches += 1
        self.moves.append(name)
        return self.name(draw(self.players.D.backend, N, *IMAGE), name), f"labels of {name}"

    def draw_z(self, n):
        name = f"z{len(self.sizes)}"
        self.sizes.append(n)
        self.moves.append(name)
        return self.name(draw(self.players.G.backend, n, Z_DIM), name)

    def watch(self, net):
        forward = net.forward

        def watched(x, train=True, labels=None):
            assert labels == f"labels of r{self.batches - 1}"  # of the last real batch
            letter = net.name if train else net.name.lower()
            name = f"{letter}({self.name_of(x)})"
            self.moves.append(name)
            return self.name(forward(x, train=train), name)

        net.forward = watched

    def watch_step(self, optimizer, name):
        step = optimizer.step

        def watched():
            self.moves.append(name)
            step()

        optimizer.step = watched

    def loss(self, logits, target, *, backend=None, limit=None):
        self.moves.append(f"{target:g}")
        self.limits.append(limit)
        return mg.bce_with_logits(logits, target, backend=backend, limit=limit)


@pytest.fixture
def watched(monkeypatch):
    return Watched(monkeypatch)


@pytest.mark.parametrize("name", MODULES)
def test_the_published_order(name, watched):
    preset = get_preset(name)
    watched.players.objective = preset.objective
    measured = preset.round(watched.players, **preset.round_options)
    assert " ".join(watched.moves) == MOVES[name]
    assert set(measured) == set(MEASURED)
    assert set(watched.limits) == {LIMITS.get(name.split("-")[0])}


@pytest.mark.parametrize("name", MODULES)
def test_the_table_agrees_with_what_the_round_draws(name, watched):
    """images_per_round, z_per_round and simultaneous: a captured round reads them in advance."""
    preset = get_preset(name)
    preset.round(watched.players, **preset.round_options)
    assert watched.batches == preset.images_per_round
    assert watched.sizes == [N * multiple for multiple in preset.z_per_round]
    assert preset.simultaneous == watched.moves[-2].startswith("step")


def test_the_largest_losses_are_those_that_the_programs_print():
    for limit, largest in ((KERAS, 16.118), (TF1, 27.631), (TORCH, 100)):
        loss, _ = mg.bce_with_logits(np.full((1, 1), 1e4), 0.0, limit=limit)
        assert float(loss) == pytest.approx(largest, abs=1e-3)


def test_with_the_joint_update_the_discriminator_moves_in_the_generators_turn(watched):
    joint = mg.Adam(watched.players.D)
    watched.watch_step(joint, "step-D-jointly")
    watched.players.generator_update = partial(update_jointly, joint_optimizer=joint)
    preset = get_preset("shibuya-mnist")
    watched.players.objective = preset.objective
    assert set(preset.round(watched.players, **preset.round_options)) == set(MEASURED)
    assert " ".join(watched.moves) == f"{SHIBUYA} step-D-jointly"
    assert watched.limits == [KERAS] * 3


def test_the_joint_update_moves_the_discriminator_toward_calling_fakes_real(make_backend):
    backend = make_backend()
    G, D = make_nets(backend)
    z, before = draw(backend, 6, Z_DIM), state(D)
    optimizers = mg.SGD(G, 1e-9), mg.SGD(D, 0.05)
    result = update_jointly(G, D, optimizers[0], G.forward(z), joint_optimizer=optimizers[1])
    assert not unchanged(before, state(D), "params")
    after, _ = mg.bce_with_logits(D.forward(G.forward(z)), 1.0, backend=backend)
    assert float(backend.to_host(after)) < float(backend.to_host(result["loss_g"]))


def test_the_joint_update_has_the_gradients_of_the_generators_loss(make_backend):
    """G's are those of update_generator; D's are those of L_G alone."""
    backend = make_backend()
    z, found = draw(backend, 6, Z_DIM), []
    for joint in (False, True):
        G, D = make_nets(backend)
        of_g, of_d = Recorder(G), Recorder(D)
        if joint:
            D.store.flat_grads.fill(5.0)  # left from D's own update
            update_jointly(G, D, of_g, G.forward(z), joint_optimizer=of_d)
        else:
            x_fake = G.forward(z)
            update_generator(G, D, of_g, x_fake)
            D.zero_grads()
            logits = D.forward(x_fake)
            D.backward(mg.bce_with_logits(logits, 1.0, backend=backend)[1])
            of_d.step()
        found.append((of_g.seen[0], of_d.seen[0]))
    for expected, got in zip(*found, strict=True):
        assert_close(got, expected, "gradient", 1e-12)


def test_simultaneous_gradients_are_taken_before_either_player_moves(make_backend):
    """They are those of the two separate updates, each from the same start."""
    backend = make_backend()
    separate = make_players(backend, optimizer=Recorder)
    x, _ = separate.draw_images()
    x_fake = separate.G.forward(separate.draw_z(len(x)))
    expected = update_discriminator(separate.D, separate.optimizer_d, x, x_fake)
    expected |= update_generator(separate.G, separate.D, separate.optimizer_g, x_fake)

    players = make_players(backend, optimizer=Recorder)
    measured = tensorflow.simultaneous_round(players)
    for name in MEASURED:
        wanted = float(backend.to_host(expected[name]))
        assert float(backend.to_host(measured[name])) == pytest.approx(wanted, rel=1e-12), name
    for player in ("optimizer_g", "optimizer_d"):
        (got,), (wanted,) = getattr(players, player).seen, getattr(separate, player).seen
        assert_close(got, wanted, player, 1e-12)


def test_a_keras_discriminator_takes_one_step_for_each_half_of_the_loss(make_backend):
    backend = make_backend()
    players = make_players(backend, optimizer=Recorder)
    players.objective = Objective(real_target=0.9)
    keras_round.keras_round(players)
    real, fake = players.optimizer_d.seen
    together = make_players(backend, optimizer=Recorder)
    x, _ = together.draw_images()
    x_fake = together.G.forward(together.draw_z(len(x)), train=False)
    together.objective = Objective(real_target=0.9)
    together.update_discriminator(x, x_fake)
    assert_close(real + fake, together.optimizer_d.seen[0], "gradient", 1e-12)
    assert np.any(real) and np.any(fake)
