"""The two updates and the rules of the game."""

from types import SimpleNamespace

import numpy as np
import pytest

import minigan as mg
from minigan.arrays import Backend
from minigan.gan import Rules, play_round, update_both, update_discriminator, update_generator

ANYONE = SimpleNamespace(backend=Backend(np))  # D, where its updates are not what is looked at


class Still:
    """An optimizer that does not move, so that the gradient can be looked at."""

    def __init__(self, net=None):
        self.net, self.seen = net, []

    def step(self):
        self.seen.append(None if self.net is None else self.net.store.flat_grads.copy())


@pytest.fixture
def game(make_backend):
    return make_game(make_backend("float32"))


def make_game(backend):
    rng = np.random.default_rng(0)
    G = mg.Sequential(
        [
            mg.Linear(4 * 4 * 4),
            mg.Reshape((4, 4, 4)),
            mg.BatchNorm(),
            mg.ReLU(),
            mg.ConvTranspose2d(1, 4, 2, 1),
            mg.Tanh(),
        ],
        name="G",
    )
    D = mg.Sequential(
        [
            mg.Conv2d(4, 4, 2, 1),
            mg.LeakyReLU(0.2),
            mg.Conv2d(8, 4, 2, 1),
            mg.BatchNorm(),
            mg.Flatten(),
            mg.Linear(1),
        ],
        name="D",
    )
    G.setup((5,), backend=backend, rng=rng)
    D.setup((8, 8, 1), backend=backend, rng=rng)
    return G, D, mg.Adam(G), mg.Adam(D)


def draw(backend, *shape, seed=1):
    return backend.asarray(np.random.default_rng(seed).uniform(-1, 1, shape))


def snapshot(net):
    host = net.backend.to_host
    return {
        kind: {name: host(array).copy() for name, array in getattr(net, kind).items()}
        for kind in ("params", "grads", "buffers")
    }


def same(before, after, kind):
    return all(np.array_equal(before[kind][name], after[kind][name]) for name in before[kind])


def test_discriminator_update_leaves_the_generator_alone(game):
    G, D, _, opt_d = game
    before_g, before_d = snapshot(G), snapshot(D)
    x_fake = G.forward(draw(D.backend, 6, 5), train=False)
    result = update_discriminator(D, opt_d, draw(D.backend, 6, 8, 8, 1), x_fake)
    assert same(before_g, snapshot(G), "params") and same(before_g, snapshot(G), "grads")
    assert not any(
        np.array_equal(before_d["params"][n], snapshot(D)["params"][n]) for n in before_d["params"]
    )
    assert set(result) == {"loss_d_real", "loss_d_fake", "d_x", "d_gz", "grad_norm_d"}


def test_generator_update_leaves_the_discriminator_alone(game):
    G, D, opt_g, opt_d = game
    x, z = draw(D.backend, 6, 8, 8, 1), draw(D.backend, 6, 5)
    x_fake = G.forward(z)
    update_discriminator(D, opt_d, x, x_fake)
    before_g, before_d = snapshot(G), snapshot(D)
    update_generator(G, D, opt_g, x_fake)
    assert same(before_d, snapshot(D), "params") and same(before_d, snapshot(D), "grads")
    assert any(np.any(g) for g in before_d["grads"].values())  # which would show a change
    assert not any(
        np.array_equal(before_g["params"][n], snapshot(G)["params"][n]) for n in before_g["params"]
    )


def test_discriminator_gradient_is_that_of_the_sum_of_both_losses():
    """Against differences of the loss, in float64, both batches with statistics of their own."""
    G, D, _, _ = make_game(mg.get_backend("numpy", dtype="float64"))
    x, z = draw(D.backend, 6, 8, 8, 1), draw(D.backend, 6, 5)
    x_fake = G.forward(z)

    def loss():
        return sum(
            float(mg.bce_with_logits(D.forward(images), target)[0])
            for images, target in ((x, 0.9), (x_fake, 0.1))
        )

    result = update_discriminator(D, Still(), x, x_fake, Rules(real_target=0.9, fake_target=0.1))
    assert float(result["loss_d_real"] + result["loss_d_fake"]) == pytest.approx(loss(), rel=1e-12)
    gradient, start, rng = (
        D.store.flat_grads.copy(),
        D.store.flat_params.copy(),
        np.random.default_rng(3),
    )
    for _ in range(3):
        u = rng.standard_normal(start.shape) / 10
        values = []
        for h in (1e-6, -1e-6):
            D.store.flat_params[...] = start + h * u
            values.append(loss())
        D.store.flat_params[...] = start
        assert (values[0] - values[1]) / 2e-6 == pytest.approx(gradient @ u, rel=1e-6)


def test_probabilities_are_means_of_the_sigmoid():
    G, D, _, opt_d = make_game(mg.get_backend("numpy", dtype="float64"))
    x, z = draw(D.backend, 6, 8, 8, 1), draw(D.backend, 6, 5)
    logits = D.forward(x)
    result = update_discriminator(D, opt_d, x, G.forward(z))
    assert float(result["d_x"]) == pytest.approx(np.mean(1 / (1 + np.exp(-logits))), rel=1e-12)


def test_fakes_from_running_statistics(monkeypatch):
    backend = mg.get_backend("numpy", dtype="float64")
    for running in (False, True):
        G, D, opt_g, opt_d = make_game(backend)
        z, seen = draw(backend, 6, 5), []
        in_training, in_sampling = G.forward(z), None
        G, D, opt_g, opt_d = make_game(backend)
        in_sampling = G.forward(z, train=False)
        assert not np.array_equal(in_training, in_sampling)
        monkeypatch.setattr(
            "minigan.gan.update_discriminator",
            lambda D, o, x, fake, *more: seen.append(fake.copy()) or {},
        )
        monkeypatch.setattr(
            "minigan.gan.update_generator",
            lambda G, D, o, fake, *more: seen.append(fake.copy()) or {},
        )
        rules = Rules(running_statistics=running, same_z=True)
        play_round(
            G,
            D,
            dict(G=opt_g, D=opt_d),
            lambda: (draw(backend, 6, 8, 8, 1), None),
            lambda n: z,
            rules,
        )
        np.testing.assert_array_equal(seen[0], in_sampling if running else in_training)
        np.testing.assert_array_equal(seen[1], in_training)


@pytest.mark.parametrize(
    "rules, wanted",
    (
        (Rules(), ["G(z0)", "D r0 z0", "G(z1)", "G z1"]),
        (Rules(first="G"), ["G(z0)", "G z0", "G(z1)", "D r0 z1"]),
        (Rules(first="G", same_z=True), ["G(z0)", "G z0", "G(z0)", "D r0 z0"]),
        (Rules(same_z=True), ["G(z0)", "D r0 z0", "G z0"]),
        (Rules(same_z=True, running_statistics=True), ["g(z0)", "D r0 z0", "G(z0)", "G z0"]),
        (Rules(d_steps=2), ["G(z0)", "D r0 z0", "G(z1)", "D r1 z1", "G(z2)", "G z2"]),
        (Rules(d_steps=2, same_z=True), ["G(z0)", "D r0 z0", "D r1 z0", "G z0"]),
        (Rules(d_steps=2, first="G"), ["G(z0)", "G z0", "G(z1)", "D r0 z1", "G(z2)", "D r1 z2"]),
        (Rules(first="both"), ["G(z0)", "both r0 z0"]),
        (Rules(first="G", own_batches=True), ["G(z0)", "G z0", "G(z1)", "D r1 z1"]),
        (
            Rules(own_batches=True, d_steps=2),
            ["G(z0)", "D r0 z0", "G(z1)", "D r1 z1", "G(z2)", "G z2"],
        ),
        (Rules(generator_batch=2, same_z=True), ["G(z0)", "D r0 z0", "G(z1z1)", "G z1z1"]),
    ),
)
def test_order_of_moves(rules, wanted, monkeypatch):
    """Who moves when, on which real batch and which z; G(z) is G's forward in training, g(z) in sampling mode."""
    moves, counts = [], {"r": 0, "z": 0}

    class Generator:
        @staticmethod
        def forward(z, train=True, labels=None):
            assert labels == f"labels of r{counts['r'] - 1}"  # always those of the last real batch
            moves.append(f"{'G' if train else 'g'}({''.join(z[::4])})")
            return z

    def draw_one(kind, n=4):
        counts[kind] += 1
        return [f"{kind}{counts[kind] - 1}"] * n

    def draw_images():
        images = draw_one("r")
        return images, f"labels of {images[0]}"

    def update(name, x, fake, rules, labels):
        assert labels == f"labels of r{counts['r'] - 1}"
        moves.append(" ".join([name, *x[:1], "".join(fake[::4])]))
        return {}

    monkeypatch.setattr(
        "minigan.gan.update_discriminator", lambda D, o, x, fake, *more: update("D", x, fake, *more)
    )
    monkeypatch.setattr(
        "minigan.gan.update_generator",
        lambda G, D, o, fake, rules, labels, j: update("G", [], fake, rules, labels),
    )
    monkeypatch.setattr(
        "minigan.gan.update_both", lambda G, D, g, d, x, fake, *more: update("both", x, fake, *more)
    )
    result = play_round(
        Generator, ANYONE, dict(G=None, D=None), draw_images, lambda n: draw_one("z", n), rules
    )
    assert moves == wanted
    assert result == {"images": 4 * rules.batches}


def test_a_new_z_where_the_batches_differ_in_size(monkeypatch):
    sizes, seen = iter([4, 3]), []
    monkeypatch.setattr(
        "minigan.gan.update_discriminator",
        lambda D, o, x, fake, *more: seen.append((len(x), len(fake))) or {},
    )
    monkeypatch.setattr("minigan.gan.update_generator", lambda G, D, o, fake, *more: {})

    class Generator:
        @staticmethod
        def forward(z, train=True, labels=None):
            return z

    rules = Rules(d_steps=2, same_z=True)
    play_round(
        Generator,
        ANYONE,
        dict(G=None, D=None),
        lambda: ([0] * next(sizes), None),
        lambda n: [0] * n,
        rules,
    )
    assert seen == [(4, 4), (3, 3)]


@pytest.mark.parametrize("first", ("D", "G", "both"))
def test_targets_reach_the_losses(first, monkeypatch):
    """Which logits meet which target, in the whole round."""
    seen = []
    real = mg.bce_with_logits
    monkeypatch.setattr(
        "minigan.gan.bce_with_logits",
        lambda logits, target, **k: seen.append(target) or real(logits, target, **k),
    )
    G, D, opt_g, opt_d = make_game(mg.get_backend("numpy", dtype="float64"))
    rules = Rules(first=first, real_target=0.9, fake_target=0.1, generator_target=0.8)
    x = draw(G.backend, 6, 8, 8, 1)
    result = play_round(
        G, D, dict(G=opt_g, D=opt_d), lambda: (x, None), lambda n: draw(G.backend, n, 5), rules
    )
    assert seen == {"D": [0.9, 0.1, 0.8], "G": [0.8, 0.9, 0.1], "both": [0.9, 0.1, 0.8]}[first]
    assert set(result) == {
        "loss_d_real",
        "loss_d_fake",
        "loss_g",
        "d_x",
        "d_gz",
        "grad_norm_d",
        "grad_norm_g",
        "images",
    }


def test_both_at_once_takes_each_gradient_before_either_moves():
    """The gradients of the two separate updates, each from the same start; statistics of the fakes are taken once."""
    backend = mg.get_backend("numpy", dtype="float64")
    x, z = draw(backend, 6, 8, 8, 1), draw(backend, 6, 5)
    G, D, _, _ = make_game(backend)
    still_g, still_d = Still(G), Still(D)
    apart = update_discriminator(D, still_d, x, G.forward(z)) | update_generator(
        G, D, still_g, G.forward(z)
    )
    H, E, opt_h, opt_e = make_game(backend)
    opts = {"G": Still(H), "D": Still(E)}
    together = update_both(H, E, opts["G"], opts["D"], x, H.forward(z))
    np.testing.assert_allclose(opts["D"].seen[0], still_d.seen[0], rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(opts["G"].seen[0], still_g.seen[0], rtol=1e-12, atol=1e-15)
    assert {name: float(value) for name, value in together.items()} == pytest.approx(
        {n: float(v) for n, v in apart.items()}
    )
    update_both(H, E, opt_h, opt_e, x, H.forward(z))  # and with optimizers both move
    assert opt_h.steps == opt_e.steps == 1


def test_apart_is_one_step_for_each_half_of_the_loss():
    backend = mg.get_backend("numpy", dtype="float64")
    G, D, _, _ = make_game(backend)
    x, x_fake = draw(backend, 6, 8, 8, 1), G.forward(draw(backend, 6, 5))
    together, halves = Still(D), Still(D)
    update_discriminator(D, together, x, x_fake)
    update_discriminator(D, halves, x, x_fake, Rules(apart=True))
    assert len(together.seen) == 1 and len(halves.seen) == 2
    np.testing.assert_allclose(
        halves.seen[0] + halves.seen[1], together.seen[0], rtol=1e-12, atol=1e-15
    )
    assert np.any(halves.seen[0]) and np.any(halves.seen[1])


def test_the_joint_update_moves_the_discriminator_towards_calling_fakes_real():
    backend = mg.get_backend("numpy", dtype="float64")
    G, D, opt_g, _ = make_game(backend)
    joint, z = mg.SGD(D, 0.05), draw(backend, 6, 5)
    before = snapshot(D)
    result = update_generator(
        G, D, mg.SGD(G, 1e-9), G.forward(z), Rules(joint=True), joint_optimizer=joint
    )
    assert not same(before, snapshot(D), "params")
    after, _ = mg.bce_with_logits(D.forward(G.forward(z)), 1.0)
    assert float(after) < float(result["loss_g"])
    frozen = snapshot(D)
    update_generator(
        G, D, opt_g, G.forward(z), Rules(), joint_optimizer=joint
    )  # the rules decide, not the optimizer
    assert same(frozen, snapshot(D), "params")
    with pytest.raises(
        mg.ConfigError, match=r"Rules\(joint=True\) also moves D: give joint_optimizer"
    ):
        update_generator(G, D, opt_g, G.forward(z), Rules(joint=True))


def test_gradient_norms():
    backend = mg.get_backend("numpy", dtype="float64")
    G, D, _, _ = make_game(backend)
    still_g, still_d = Still(G), Still(D)
    x_fake = G.forward(draw(backend, 6, 5))
    result = update_discriminator(D, still_d, draw(backend, 6, 8, 8, 1), x_fake) | update_generator(
        G, D, still_g, x_fake
    )
    for name, seen in (("grad_norm_d", still_d.seen), ("grad_norm_g", still_g.seen)):
        assert float(result[name]) == pytest.approx(np.linalg.norm(seen[0]), rel=1e-12)


def test_reported_losses_are_clipped_as_published_and_gradients_are_not():
    """Keras clips p to [1e-7, 1 - 1e-7]: its loss is at most 16.118."""
    backend = mg.get_backend("numpy", dtype="float64")
    G, D, _, _ = make_game(backend)
    x, x_fake = draw(backend, 6, 8, 8, 1), G.forward(draw(backend, 6, 5))
    D.params["5.b"][...] = -40.0  # sure that all is fake
    exact, clipped = Still(D), Still(D)
    result = update_discriminator(D, exact, x, x_fake, Rules(real_target=0.9))
    reported = update_discriminator(
        D, clipped, x, x_fake, Rules(real_target=0.9, loss_limit=np.log((1 - 1e-7) / 1e-7))
    )
    p = 1e-7
    assert float(result["loss_d_real"]) > 30
    assert float(reported["loss_d_real"]) == pytest.approx(
        -0.9 * np.log(p) - 0.1 * np.log(1 - p), rel=1e-9
    )
    np.testing.assert_array_equal(exact.seen[0], clipped.seen[0])
    assert float(reported["d_x"]) == float(result["d_x"]) < 1e-10


@pytest.mark.parametrize(
    "mistake",
    (
        dict(first="d"),
        dict(d_steps=0),
        dict(d_steps=1.5),
        dict(real_target=2),
        dict(fake_target=-0.1),
        dict(generator_target=7),
        dict(generator_batch=0),
    ),
)
def test_rules_out_of_range(mistake):
    with pytest.raises(mg.ConfigError, match=f"^Rules: {next(iter(mistake))} .*got"):
        Rules(**mistake)


@pytest.mark.parametrize(
    "other",
    (
        dict(d_steps=2),
        dict(apart=True),
        dict(joint=True),
        dict(own_batches=True),
        dict(generator_batch=2),
    ),
)
def test_both_at_once_leaves_no_order(other):
    with pytest.raises(mg.ConfigError, match=r'^Rules: first="both"'):
        Rules(first="both", **other)


def test_nothing_turns_into_float64():
    """One stray float64 scalar would promote all that it meets."""
    G, D, opt_g, opt_d = make_game(mg.get_backend("numpy", dtype="float32"))
    x, z = draw(D.backend, 6, 8, 8, 1), draw(D.backend, 6, 5)
    x_fake = G.forward(z)
    result = update_discriminator(D, opt_d, x, x_fake) | update_generator(G, D, opt_g, x_fake)
    arrays = list(result.values())
    for net, opt in ((G, opt_g), (D, opt_d)):
        arrays += [*net.params.values(), *net.grads.values(), *net.buffers.values(), opt.m, opt.v]
        for layer in net.layers:
            arrays += layer.memory.memory.values()
    arrays += D.backend.workspace.memory.values()
    assert len(arrays) > 40 and {str(array.dtype) for array in arrays} == {"float32"}
