"""The two updates and the rules of the game."""

import numpy as np
import pytest

import minigan as mg
from minigan.gan import Rules, play_round, update_discriminator, update_generator


@pytest.fixture
def game(make_backend):
    return make_game(make_backend("float32"))


def make_game(backend):
    rng = np.random.default_rng(0)
    G = mg.Sequential(
        [mg.Linear(4 * 4 * 4), mg.Reshape((4, 4, 4)), mg.BatchNorm(), mg.ReLU(), mg.ConvTranspose2d(1, 4, 2, 1), mg.Tanh()], name="G"
    )
    D = mg.Sequential(
        [mg.Conv2d(4, 4, 2, 1), mg.LeakyReLU(0.2), mg.Conv2d(8, 4, 2, 1), mg.BatchNorm(), mg.Flatten(), mg.Linear(1)], name="D"
    )
    G.setup((5,), backend=backend, rng=rng)
    D.setup((8, 8, 1), backend=backend, rng=rng)
    return G, D, mg.Adam(G), mg.Adam(D)


def draw(backend, *shape, seed=1):
    return backend.asarray(np.random.default_rng(seed).uniform(-1, 1, shape))


def snapshot(net):
    host = net.backend.to_host
    return {
        kind: {name: host(array).copy() for name, array in getattr(net, kind).items()} for kind in ("params", "grads", "buffers")
    }


def same(before, after, kind):
    return all(np.array_equal(before[kind][name], after[kind][name]) for name in before[kind])


def test_discriminator_update_leaves_the_generator_alone(game):
    G, D, _, opt_d = game
    before_g, before_d = snapshot(G), snapshot(D)
    x_fake = G.forward(draw(D.backend, 6, 5), train=False)
    result = update_discriminator(D, opt_d, draw(D.backend, 6, 8, 8, 1), x_fake)
    assert same(before_g, snapshot(G), "params") and same(before_g, snapshot(G), "grads")
    assert not any(np.array_equal(before_d["params"][n], snapshot(D)["params"][n]) for n in before_d["params"])
    assert set(result) == {"loss_d_real", "loss_d_fake", "d_x", "d_gz"}


def test_generator_update_leaves_the_discriminator_alone(game):
    G, D, opt_g, opt_d = game
    x, z = draw(D.backend, 6, 8, 8, 1), draw(D.backend, 6, 5)
    x_fake = G.forward(z)
    update_discriminator(D, opt_d, x, x_fake)
    before_g, before_d = snapshot(G), snapshot(D)
    update_generator(G, D, opt_g, x_fake)
    assert same(before_d, snapshot(D), "params") and same(before_d, snapshot(D), "grads")
    assert any(np.any(g) for g in before_d["grads"].values())  # which would show a change
    assert not any(np.array_equal(before_g["params"][n], snapshot(G)["params"][n]) for n in before_g["params"])


def test_discriminator_gradient_is_that_of_the_sum_of_both_losses():
    """Against differences of the loss, in float64, both batches with statistics of their own."""
    G, D, _, _ = make_game(mg.get_backend("numpy", dtype="float64"))
    x, z = draw(D.backend, 6, 8, 8, 1), draw(D.backend, 6, 5)
    x_fake = G.forward(z)

    def loss():
        return sum(float(mg.bce_with_logits(D.forward(images), target)[0]) for images, target in ((x, 0.9), (x_fake, 0.1)))

    class Still:
        """An optimizer that does not move, so that the gradient can be looked at."""

        def step(self):
            pass

    result = update_discriminator(D, Still(), x, x_fake, real_target=0.9, fake_target=0.1)
    assert float(result["loss_d_real"] + result["loss_d_fake"]) == pytest.approx(loss(), rel=1e-12)
    gradient, start, rng = D.store.flat_grads.copy(), D.store.flat_params.copy(), np.random.default_rng(3)
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
        monkeypatch.setattr("minigan.gan.update_discriminator", lambda D, o, x, fake, **k: seen.append(fake.copy()) or {})
        monkeypatch.setattr("minigan.gan.update_generator", lambda G, D, o, fake, **k: seen.append(fake.copy()) or {})
        rules = Rules(running_statistics=running, same_z=True)
        play_round(G, D, opt_g, opt_d, lambda: draw(backend, 6, 8, 8, 1), lambda n: z, rules)
        np.testing.assert_array_equal(seen[0], in_sampling if running else in_training)
        np.testing.assert_array_equal(seen[1], in_training)


@pytest.mark.parametrize("rules, wanted", (
    (Rules(), ["G(z0)", "D r0 z0", "G(z1)", "G z1"]),
    (Rules(first="G"), ["G(z0)", "G z0", "G(z1)", "D r0 z1"]),
    (Rules(first="G", same_z=True), ["G(z0)", "G z0", "G(z0)", "D r0 z0"]),
    (Rules(same_z=True), ["G(z0)", "D r0 z0", "G z0"]),
    (Rules(same_z=True, running_statistics=True), ["g(z0)", "D r0 z0", "G(z0)", "G z0"]),
    (Rules(d_steps=2), ["G(z0)", "D r0 z0", "G(z1)", "D r1 z1", "G(z2)", "G z2"]),
    (Rules(d_steps=2, same_z=True), ["G(z0)", "D r0 z0", "D r1 z0", "G z0"]),
    (Rules(d_steps=2, first="G"), ["G(z0)", "G z0", "G(z1)", "D r0 z1", "G(z2)", "D r1 z2"]),
))  # fmt: skip
def test_order_of_moves(rules, wanted, monkeypatch):
    """Who moves when, on which real batch and which z; G(z) is G's forward in training, g(z) in sampling mode."""
    moves, counts = [], {"r": 0, "z": 0}

    class Generator:
        @staticmethod
        def forward(z, train=True):
            moves.append(f"{'G' if train else 'g'}({z[0]})")
            return z

    def draw_one(kind):
        counts[kind] += 1
        return [f"{kind}{counts[kind] - 1}"] * 4

    monkeypatch.setattr("minigan.gan.update_discriminator", lambda D, o, x, fake, **k: moves.append(f"D {x[0]} {fake[0]}") or {})
    monkeypatch.setattr("minigan.gan.update_generator", lambda G, D, o, fake, **k: moves.append(f"G {fake[0]}") or {})
    result = play_round(Generator, None, None, None, lambda: draw_one("r"), lambda n: draw_one("z"), rules)
    assert moves == wanted
    assert result == {"images": 4 * rules.d_steps}


def test_a_new_z_where_the_batches_differ_in_size(monkeypatch):
    sizes, seen = iter([4, 3]), []
    monkeypatch.setattr("minigan.gan.update_discriminator", lambda D, o, x, fake, **k: seen.append((len(x), len(fake))) or {})
    monkeypatch.setattr("minigan.gan.update_generator", lambda G, D, o, fake, **k: {})

    class Generator:
        @staticmethod
        def forward(z, train=True):
            return z

    rules = Rules(d_steps=2, same_z=True)
    play_round(Generator, None, None, None, lambda: [0] * next(sizes), lambda n: [0] * n, rules)
    assert seen == [(4, 4), (3, 3)]


def test_targets_reach_the_losses(monkeypatch):
    seen = {}
    monkeypatch.setattr("minigan.gan.update_discriminator", lambda *a, **k: seen.update(k) or {})
    monkeypatch.setattr("minigan.gan.update_generator", lambda *a, **k: seen.update(k) or {})
    G = make_game(mg.get_backend("numpy", dtype="float64"))[0]
    rules = Rules(real_target=0.9, fake_target=0.1, generator_target=0.8)
    play_round(G, None, None, None, lambda: [0, 0], lambda n: draw(G.backend, n, 5), rules)
    assert seen == dict(real_target=0.9, fake_target=0.1, target=0.8)


@pytest.mark.parametrize("mistake", (
    dict(first="d"), dict(d_steps=0), dict(d_steps=1.5), dict(real_target=2), dict(fake_target=-0.1), dict(generator_target=7),
))  # fmt: skip
def test_rules_out_of_range(mistake):
    with pytest.raises(mg.ConfigError, match=f"^Rules: {next(iter(mistake))} .*got"):
        Rules(**mistake)


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
