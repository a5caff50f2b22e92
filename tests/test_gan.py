"""The two updates and the plain round: who moves, down which gradient, and what is reported."""

import numpy as np
import pytest

import minigan as mg
from minigan.gan import MEASURED, Players, plain_round, update_discriminator, update_generator
from minigan.objective import GAN_LOSSES, Objective, hinge, least_squares
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
from tests.support.torch_or_skip import import_torch


def test_discriminator_update_leaves_the_generator_alone(make_backend):
    players = make_players(make_backend("float32"))
    G, D, backend = players.G, players.D, players.D.backend
    before_g, before_d = state(G), state(D)
    x_fake = G.forward(draw(backend, 6, Z_DIM), train=False)
    result = players.update_discriminator(draw(backend, 6, *IMAGE), x_fake)
    for kind in before_g:
        assert unchanged(before_g, state(G), kind) == set(before_g[kind])
    assert not unchanged(before_d, state(D), "params")
    assert set(result) == {"loss_d_real", "loss_d_fake", "d_x", "d_gz", "grad_norm_d"}


def test_generator_update_leaves_the_discriminator_alone(make_backend):
    players = make_players(make_backend("float32"))
    G, D, backend = players.G, players.D, players.D.backend
    x_fake = G.forward(draw(backend, 6, Z_DIM))
    players.update_discriminator(draw(backend, 6, *IMAGE), x_fake)
    before_g, before_d = state(G), state(D)
    result = players.update_generator(x_fake)
    assert all(np.any(g) for g in before_d["grads"].values())  # which would show a change
    for kind in ("params", "grads"):
        assert unchanged(before_d, state(D), kind) == set(before_d[kind])
    assert not unchanged(before_g, state(G), "params")
    assert set(result) == {"loss_g", "grad_norm_g"}


MEAN_LOSS = {"bce": mg.bce_with_logits, "lsgan": least_squares, "hinge": hinge}


@pytest.mark.parametrize("loss_name", GAN_LOSSES)
def test_discriminator_gradient_is_that_of_the_sum_of_both_losses(loss_name, make_backend):
    """Against differences of the loss, each batch with its own statistics."""
    backend = make_backend()
    G, D = make_nets(backend)
    host, x = backend.to_host, draw(backend, 6, *IMAGE)
    x_fake, recorder = G.forward(draw(backend, 6, Z_DIM)), Recorder(D)

    def loss():
        return sum(
            float(host(MEAN_LOSS[loss_name](D.forward(images), target, backend=backend)[0]))
            for images, target in ((x, 0.9), (x_fake, 0.1))
        )

    update = backend.operation_for(update_discriminator)
    result = update(D, recorder, x, x_fake, objective=Objective(loss_name, 0.9, 0.1))
    found = float(host(result["loss_d_real"])) + float(host(result["loss_d_fake"]))
    assert found == pytest.approx(loss(), rel=1e-12)
    (gradient,) = recorder.seen
    assert float(host(result["grad_norm_d"])) == pytest.approx(np.linalg.norm(gradient), rel=1e-12)
    start, rng = host(D.store.flat_params).copy(), np.random.default_rng(3)
    for _ in range(2):
        u = rng.standard_normal(start.shape) / 10
        values = []
        for h in (1e-6, -1e-6):
            D.store.flat_params[...] = backend.asarray(start + h * u)
            values.append(loss())
        assert (values[0] - values[1]) / 2e-6 == pytest.approx(gradient @ u, rel=1e-6)
        D.store.flat_params[...] = backend.asarray(start)


@pytest.mark.parametrize("loss_name", GAN_LOSSES)
def test_generator_gradient_goes_through_the_discriminator(loss_name, make_backend):
    """L_G = mean loss(D(G(z))), backward through loss, D and G, against its definition."""
    backend, rng = make_backend(), np.random.default_rng(4)
    host, z = backend.to_host, draw(backend, 6, Z_DIM)
    G, D = make_nets(backend)
    recorder = Recorder(G)
    result = update_generator(G, D, recorder, G.forward(z), objective=Objective(loss_name))

    def loss():
        logits = D.forward(G.forward(z))
        if loss_name == "hinge":
            return -float(host(logits).mean())
        return float(host(MEAN_LOSS[loss_name](logits, 1.0, backend=backend)[0]))

    assert float(host(result["loss_g"])) == pytest.approx(loss(), rel=1e-12)
    (gradient,) = recorder.seen
    assert float(host(result["grad_norm_g"])) == pytest.approx(np.linalg.norm(gradient), rel=1e-12)
    start = host(G.store.flat_params).copy()
    for _ in range(2):
        u = rng.standard_normal(start.shape) / 10
        values = []
        for h in (1e-6, -1e-6):
            G.store.flat_params[...] = backend.asarray(start + h * u)
            values.append(loss())
        assert (values[0] - values[1]) / 2e-6 == pytest.approx(gradient @ u, rel=2e-6)


def test_probabilities_are_means_of_the_sigmoid(make_backend):
    backend = make_backend()
    players = make_players(backend, optimizer=Recorder)
    x, x_fake = draw(backend, 6, *IMAGE), players.G.forward(draw(backend, 6, Z_DIM))
    result = players.update_discriminator(x, x_fake)
    for name, images in (("d_x", x), ("d_gz", x_fake)):
        logits = backend.to_host(players.D.forward(images))
        wanted = np.mean(1 / (1 + np.exp(-logits)))
        assert float(backend.to_host(result[name])) == pytest.approx(wanted, rel=1e-12)


def test_losses_are_reported_with_a_limit_and_gradients_are_exact(make_backend):
    """Keras clips p to [1e-7, 1 - 1e-7]: its loss is at most 16.118."""
    backend, limit = make_backend(), np.log((1 - 1e-7) / 1e-7)
    results, gradients = [], []
    for loss_limit in (None, limit):
        players = make_players(backend, optimizer=Recorder)
        players.objective = Objective(loss_limit=loss_limit)
        players.D.params["5.b"].fill(-40.0)  # sure that all is fake
        x_fake = players.G.forward(draw(backend, 6, Z_DIM))
        result = players.update_discriminator(draw(backend, 6, *IMAGE), x_fake)
        result |= players.update_generator(x_fake)
        results.append({name: float(backend.to_host(value)) for name, value in result.items()})
        gradients.append([*players.optimizer_d.seen, *players.optimizer_g.seen])
    exact, limited = results
    assert exact["loss_d_real"] > 30 and exact["loss_g"] > 30
    assert limited["loss_d_real"] == pytest.approx(-np.log(1e-7), rel=1e-6)
    assert limited["loss_g"] == pytest.approx(-np.log(1e-7), rel=1e-6)
    assert limited["d_x"] == exact["d_x"] < 1e-10
    for a, b in zip(*gradients, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_plain_round_is_both_updates_on_the_same_fakes(make_backend):
    """D first; G then learns from the z that D has seen."""
    backend = make_backend()
    players = make_players(backend)
    players.objective = objective = Objective("bce", 0.9, 0.1, loss_limit=3.0)
    measured = plain_round(players)
    assert set(measured) == set(MEASURED)

    by_hand = make_players(backend)
    x_fake = by_hand.G.forward(by_hand.draw_z(6))
    x_real, _ = by_hand.draw_images()
    by_hand.objective = objective
    expected = by_hand.update_discriminator(x_real, x_fake)
    expected |= by_hand.update_generator(x_fake)
    for name, value in expected.items():
        assert float(backend.to_host(measured[name])) == float(backend.to_host(value))
    for ours, theirs in ((players.G, by_hand.G), (players.D, by_hand.D)):
        for kind, arrays in state(ours).items():
            assert unchanged({kind: arrays}, state(theirs), kind) == set(arrays)


def test_nothing_turns_into_float64(make_backend):
    """One stray float64 scalar would promote everything that it meets."""
    players = make_players(make_backend("float32"))
    arrays = list(plain_round(players).values())
    for net, optimizer in ((players.G, players.optimizer_g), (players.D, players.optimizer_d)):
        arrays += [*net.params.values(), *net.grads.values(), *net.buffers.values()]
        arrays += optimizer.state_arrays()
    assert {array.dtype.name for array in arrays} == {"float32"}


# -- ten steps of a whole DCGAN, in PyTorch ---------------------------------------------------

BATCH, STEPS, Z = 16, 10, 20


def dcgan(h, w, c):
    same = dict(kernel_size=5, stride=2, padding="same")
    G = [
        mg.Linear(h // 4 * (w // 4) * 16),
        mg.Reshape((h // 4, w // 4, 16)),
        mg.BatchNorm(),
        mg.ReLU(),
        mg.ConvTranspose2d(8, **same, bias=False),
        mg.BatchNorm(),
        mg.ReLU(),
        mg.ConvTranspose2d(c, **same),
        mg.Tanh(),
    ]
    D = [
        mg.Conv2d(8, **same),
        mg.LeakyReLU(0.2),
        mg.Conv2d(16, **same, bias=False),
        mg.BatchNorm(),
        mg.LeakyReLU(0.2),
        mg.Flatten(),
        mg.Linear(1),
    ]
    return mg.Sequential(G, name="G"), mg.Sequential(D, name="D")


class TorchTwin:
    """The same G and D by autograd, with minigan's names and layouts of weights."""

    def __init__(self, torch, G, D, h, w):
        self.torch, self.F, self.h, self.w = torch, torch.nn.functional, h, w
        self.weights = {}
        for net in (G, D):
            for name, value in {**net.params, **net.buffers}.items():
                tensor = torch.tensor(value.copy(), requires_grad=name in net.params)
                self.weights[f"{net.name}.{name}"] = tensor
        self.adam = {
            player: torch.optim.Adam(self.trained(player), 2e-4, betas=(0.5, 0.999))
            for player in "GD"
        }

    def trained(self, player):
        return [
            w for name, w in self.weights.items() if name.startswith(player) and w.requires_grad
        ]

    def norm(self, x, at):
        names = ("running_mean", "running_var", "gain", "bias")
        arrays = (self.weights[f"{at}.{name}"] for name in names)
        return self.F.batch_norm(x, *arrays, training=True, momentum=0.1, eps=1e-5)

    def down(self, x, at):
        W = self.weights[f"{at}.W"].permute(3, 2, 0, 1)
        # 5x5, stride 2, "same" on even sizes: one pixel before, two after
        return self.F.conv2d(self.F.pad(x, (1, 2, 1, 2)), W, self.weights.get(f"{at}.b"), stride=2)

    def up(self, x, at):
        W, b = self.weights[f"{at}.W"].permute(3, 2, 0, 1), self.weights.get(f"{at}.b")
        full = self.F.conv_transpose2d(x, W, stride=2)
        y = full[:, :, 1 : 1 + 2 * x.shape[2], 1 : 1 + 2 * x.shape[3]]
        return y if b is None else y + b[:, None, None]

    def G(self, z):
        x = z @ self.weights["G.0.W"] + self.weights["G.0.b"]
        x = x.reshape(-1, self.h // 4, self.w // 4, 16).permute(0, 3, 1, 2)
        x = self.up(self.torch.relu(self.norm(x, "G.2")), "G.4")
        return self.torch.tanh(self.up(self.torch.relu(self.norm(x, "G.5")), "G.7"))

    def D(self, x):
        x = self.F.leaky_relu(self.down(x, "D.0"), 0.2)
        x = self.F.leaky_relu(self.norm(self.down(x, "D.2"), "D.3"), 0.2)
        x = x.permute(0, 2, 3, 1).reshape(len(x), -1)
        return x @ self.weights["D.6.W"] + self.weights["D.6.b"]

    def bce(self, x, target):
        logits = self.D(x)
        wanted = self.torch.full_like(logits, target)
        return self.F.binary_cross_entropy_with_logits(logits, wanted)

    def round(self, x_real, z):
        """-> losses, as plain_round"""
        x_real = self.torch.tensor(x_real.transpose(0, 3, 1, 2).copy())
        x_fake = self.G(self.torch.tensor(z))
        self.adam["D"].zero_grad()
        real, fake = self.bce(x_real, 1.0), self.bce(x_fake.detach(), 0.0)
        (real + fake).backward()
        self.adam["D"].step()
        self.adam["G"].zero_grad()
        generator = self.bce(x_fake, 1.0)
        generator.backward()
        self.adam["G"].step()
        return [real.item(), fake.item(), generator.item()]


@pytest.mark.parametrize("backend, h, w, c", (("plain", 16, 24, 3), ("numpy", 28, 28, 1)))
def test_ten_steps_of_a_dcgan_in_pytorch(backend, h, w, c):
    """From the same weights, the same images and the same z, in float64."""
    torch, rng = import_torch(), np.random.default_rng(110)
    backend = mg.get_backend(backend, dtype="float64")
    G, D = dcgan(h, w, c)
    G.setup((Z,), backend=backend, rng=rng)
    D.setup((h, w, c), backend=backend, rng=rng)
    for net in (G, D):
        for name, value in net.params.items():
            value[...] = rng.standard_normal(value.shape) * 0.02 + name.endswith("gain")
    twin = TorchTwin(torch, G, D, h, w)
    images = np.tanh(rng.standard_normal((STEPS, BATCH, h, w, c)) + 0.5)
    zs = rng.standard_normal((STEPS, BATCH, Z))
    players = Players(G, D, mg.Adam(G), mg.Adam(D), None, None)
    losses, wanted = [], []
    for x, z in zip(images, zs, strict=True):
        players.draw_images, players.draw_z = (lambda: (x, None)), (lambda n: z)
        result = plain_round(players)
        losses.append([float(result[k]) for k in ("loss_d_real", "loss_d_fake", "loss_g")])
        wanted.append(twin.round(x, z))
    np.testing.assert_allclose(losses, wanted, rtol=1e-9)
    assert np.abs(np.subtract(losses[9], losses[0])).min() > 0.01  # they have learned something
    for net in (G, D):
        for name, value in {**net.params, **net.buffers}.items():
            theirs = twin.weights[f"{net.name}.{name}"].detach().numpy()
            assert_close(value, theirs, f"{net.name}.{name}", rtol=1e-7)
