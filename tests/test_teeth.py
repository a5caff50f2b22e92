"""The gradient check bites: known mistakes, one by one, must each fail it.

A check that nothing fails proves nothing. Each mutant below is a layer with one mistake that has been made before, in
its backward pass alone. Beside each stands the same layer without the mistake, which must pass: so it is the mistake
that is caught, not the way in which the test is built. And the check must blame the right array.
"""

import numpy as np
import pytest

import minigan as mg


class Altered(mg.Layer):
    """A layer of the library whose backward is followed by a change of what it returned or added.

    change(layer, dy, dx, before) -> dx; before holds copies of the gradients as they were before this backward
    """

    def __init__(self, layer, change):
        self.layer, self.change = layer, change

    def setup(self, in_shape, *, backend, rng, store):
        super().setup(in_shape, backend=backend, rng=rng, store=store)
        return self.layer.setup(in_shape, backend=backend, rng=rng, store=store)

    def forward(self, x, train=True):
        self.x = x
        return self.layer.forward(x, train)

    def backward(self, dy, need_dx=True, need_dw=True):
        before = {
            name: getattr(self.layer, name).copy()
            for name in ("dW", "db")
            if getattr(self.layer, name, None) is not None
        }
        dx = self.layer.backward(dy, need_dx=need_dx, need_dw=need_dw)
        dx = self.change(self.layer, dy, dx, before)
        if not need_dw:  # the mistake under test is another one
            for name, gradient in before.items():
                getattr(self.layer, name)[...] = gradient
        return dx


def nothing(layer, dy, dx, before):
    return dx


def kernel_flipped_in_dW(layer, dy, dx, before):
    layer.dW[...] = before["dW"] + (layer.dW - before["dW"])[::-1, ::-1]
    return dx


def height_and_width_exchanged_in_dW(layer, dy, dx, before):
    layer.dW[...] = before["dW"] + (layer.dW - before["dW"]).swapaxes(0, 1)
    return dx


def channels_exchanged_in_dW(layer, dy, dx, before):
    layer.dW[...] = before["dW"] + (layer.dW - before["dW"]).swapaxes(-1, -2)
    return dx


def bias_gradient_forgotten(layer, dy, dx, before):
    layer.db[...] = before["db"]
    return dx


def weight_gradient_set_not_added(layer, dy, dx, before):
    layer.dW[...] = layer.dW - before["dW"]
    return dx


def bias_gradient_set_not_added(layer, dy, dx, before):
    layer.db[...] = layer.db - before["db"]
    return dx


def kernel_flipped_in_dx(layer, dy, dx, before):
    W = layer.W.copy()
    layer.W[...] = W[::-1, ::-1]
    dx = layer.backward(dy, need_dx=True, need_dw=False)
    layer.W[...] = W
    return dx


def stride_ignored_in_dx(layer, dy, dx, before):
    """As if output o had seen the pixels from o on, and not from o * stride on; for a convolution without padding."""
    dx[...] = 0
    _, h_out, w_out, _ = dy.shape
    for i, j in np.ndindex(*layer.W.shape[:2]):
        dx[:, i : i + h_out, j : j + w_out] += dy @ layer.W[i, j].T
    return dx


class BatchNormByHand(mg.Layer):
    """BatchNorm, trained only, with the terms of its dx named.

    dx = gain / std * (dy - mean(dy) - x_hat * mean(dy * x_hat))
    """

    def __init__(self, mean_term=True, x_hat_term=True, any_dx=True):
        self.mean_term, self.x_hat_term, self.any_dx = mean_term, x_hat_term, any_dx

    def setup(self, in_shape, *, backend, rng, store):
        super().setup(in_shape, backend=backend, rng=rng, store=store)
        store.parameter(
            self,
            "gain",
            in_shape[-1:],
            lambda rng, shape, fan_in, fan_out: rng.uniform(0.5, 1.5, shape),
        )
        store.parameter(
            self,
            "bias",
            in_shape[-1:],
            lambda rng, shape, fan_in, fan_out: rng.uniform(0.5, 1.5, shape),
        )
        return in_shape

    def forward(self, x, train=True):
        self.batch = tuple(range(x.ndim - 1))
        self.std = np.sqrt(x.var(axis=self.batch) + 1e-5)
        self.x_hat = (x - x.mean(axis=self.batch)) / self.std
        return self.gain * self.x_hat + self.bias

    def backward(self, dy, need_dx=True, need_dw=True):
        if need_dw:
            self.dgain += (dy * self.x_hat).sum(axis=self.batch)
            self.dbias += dy.sum(axis=self.batch)
        dx = dy.copy()
        if self.mean_term:
            dx -= dy.mean(axis=self.batch)
        if self.x_hat_term:
            dx -= self.x_hat * (dy * self.x_hat).mean(axis=self.batch)
        return dx * self.gain / self.std * self.any_dx


class Elementwise(mg.Layer):
    """y = function(x), dx = dy * slope(x, y)."""

    def __init__(self, function, slope):
        self.function, self.slope = function, slope

    def forward(self, x, train=True):
        self.x, self.y = x, self.function(x)
        return self.y

    def backward(self, dy, need_dx=True, need_dw=True):
        return dy * self.slope(self.x, self.y)


class MeanLoss(mg.Layer):
    """The mean loss of the batch as an output, once for each sample: (n, 1) -> (n, 1)."""

    def __init__(self, change=lambda dlogits: dlogits):
        self.change = change

    def setup(self, in_shape, *, backend, rng, store):
        super().setup(in_shape, backend=backend, rng=rng, store=store)
        return (1,)

    def forward(self, x, train=True):
        loss, dlogits = mg.bce_with_logits(x, 0.9)
        self.dlogits = self.change(dlogits)
        return np.full((len(x), 1), float(loss))

    def backward(self, dy, need_dx=True, need_dw=True):
        return self.dlogits * dy.sum()


def leaky(x):
    return np.where(x > 0, x, 0.2 * x)


def conv(change):
    return Altered(mg.Conv2d(3, kernel_size=3, stride=2, padding="valid"), change)


def conv_transpose(change):
    return Altered(mg.ConvTranspose2d(3, kernel_size=3, stride=2, padding=1), change)


IMAGE = (7, 6, 3)

SOUND = {
    "linear": (lambda: Altered(mg.Linear(4), nothing), (4,)),
    "conv": (lambda: conv(nothing), IMAGE),
    "conv transpose": (lambda: conv_transpose(nothing), IMAGE),
    "batchnorm by hand": (BatchNormByHand, IMAGE),
    "batchnorm by hand, vectors": (BatchNormByHand, (4,)),
    "batchnorm": (mg.BatchNorm, IMAGE),
    "leaky relu": (lambda: Elementwise(leaky, lambda x, y: np.where(x > 0, 1.0, 0.2)), IMAGE),
    "tanh": (lambda: Elementwise(np.tanh, lambda x, y: 1 - y * y), IMAGE),
    "mean loss": (MeanLoss, (1,)),
}

MUTANTS = {  # the mistake: (layer, in_shape, the only arrays to blame)
    "conv: kernel flipped in dW": (lambda: conv(kernel_flipped_in_dW), IMAGE, {"0.W"}),
    "conv: h and w exchanged in dW": (
        lambda: conv(height_and_width_exchanged_in_dW),
        IMAGE,
        {"0.W"},
    ),
    "conv: channels exchanged in dW": (lambda: conv(channels_exchanged_in_dW), IMAGE, {"0.W"}),
    "conv: bias forgotten": (lambda: conv(bias_gradient_forgotten), IMAGE, {"0.b"}),
    "conv: dW set, not added": (lambda: conv(weight_gradient_set_not_added), IMAGE, {"0.W"}),
    "conv: db set, not added": (lambda: conv(bias_gradient_set_not_added), IMAGE, {"0.b"}),
    "conv: kernel flipped in dx": (lambda: conv(kernel_flipped_in_dx), IMAGE, {"x"}),
    "conv: stride ignored in dx": (lambda: conv(stride_ignored_in_dx), IMAGE, {"x"}),
    "conv transpose: kernel flipped in dx": (
        lambda: conv_transpose(kernel_flipped_in_dx),
        IMAGE,
        {"x"},
    ),
    "conv transpose: kernel flipped in dW": (
        lambda: conv_transpose(kernel_flipped_in_dW),
        IMAGE,
        {"0.W"},
    ),
    "conv transpose: bias forgotten": (
        lambda: conv_transpose(bias_gradient_forgotten),
        IMAGE,
        {"0.b"},
    ),
    "linear: dW transposed": (
        lambda: Altered(mg.Linear(4), channels_exchanged_in_dW),
        (4,),
        {"0.W"},
    ),
    "linear: bias forgotten": (
        lambda: Altered(mg.Linear(4), bias_gradient_forgotten),
        (4,),
        {"0.b"},
    ),
    "linear: dW set, not added": (
        lambda: Altered(mg.Linear(4), weight_gradient_set_not_added),
        (4,),
        {"0.W"},
    ),
    "batchnorm: no x-hat term": (lambda: BatchNormByHand(x_hat_term=False), IMAGE, {"x"}),
    "batchnorm: no mean term": (lambda: BatchNormByHand(mean_term=False), IMAGE, {"x"}),
    "batchnorm: neither": (
        lambda: BatchNormByHand(mean_term=False, x_hat_term=False),
        IMAGE,
        {"x"},
    ),
    "batchnorm: no x-hat term, vectors": (lambda: BatchNormByHand(x_hat_term=False), (4,), {"x"}),
    "batchnorm: dx always 0": (lambda: BatchNormByHand(any_dx=False), IMAGE, {"x"}),
    "leaky relu: slope 0 in backward": (
        lambda: Elementwise(leaky, lambda x, y: np.where(x > 0, 1.0, 0.0)),
        IMAGE,
        {"x"},
    ),
    "leaky relu: slope 1 in backward": (
        lambda: Elementwise(leaky, lambda x, y: np.ones_like(x)),
        IMAGE,
        {"x"},
    ),
    "tanh: derivative from x": (lambda: Elementwise(np.tanh, lambda x, y: 1 - x * x), IMAGE, {"x"}),
    "mean loss: no 1/n": (lambda: MeanLoss(lambda dlogits: dlogits * len(dlogits)), (1,), {"x"}),
    "mean loss: 1/n twice": (lambda: MeanLoss(lambda dlogits: dlogits / len(dlogits)), (1,), {"x"}),
}


def network(layers, in_shape):
    net = mg.Sequential(layers, name="N")
    net.setup(
        in_shape, backend=mg.get_backend("numpy", dtype="float64"), rng=np.random.default_rng(0)
    )
    return net


def away_from_kinks(in_shape, n=5):
    """Random x with |x| between 0.1 and 1."""
    rng = np.random.default_rng(1)
    return rng.uniform(0.1, 1, (n, *in_shape)) * rng.choice([-1, 1], (n, *in_shape))


def blamed(report):
    """The arrays that a report calls wrong; NaN is wrong."""
    return {name for name, error in report.errors.items() if not error <= report.rtol}


@pytest.mark.parametrize("name", SOUND)
def test_sound_layers_pass(name):
    make, in_shape = SOUND[name]
    assert mg.check_gradients(network([make()], in_shape), away_from_kinks(in_shape))


@pytest.mark.parametrize("name", MUTANTS)
def test_mutants_are_caught_and_the_right_array_is_blamed(name):
    make, in_shape, wrong = MUTANTS[name]
    net = network([make()], in_shape)
    report = mg.check_gradients(net, away_from_kinks(in_shape), raise_on_failure=False)
    assert not report
    assert blamed(report) == wrong and report.worst in wrong
    with pytest.raises(
        mg.GradientError, match=rf"worst is {report.worst.replace('.', '[.]')}\b"
    ) as caught:
        mg.check_gradients(net, away_from_kinks(in_shape))
    assert isinstance(caught.value, AssertionError)


@pytest.mark.parametrize(
    "name", [name for name, (_, _, wrong) in MUTANTS.items() if wrong == {"x"}]
)
def test_mutants_are_caught_between_other_layers(name):
    """A wrong dx in the middle makes the gradients before it wrong, and leaves those behind it right."""
    make, in_shape, _ = MUTANTS[name]
    spread = [mg.Linear(5), mg.Tanh(), mg.Linear(int(np.prod(in_shape))), mg.Reshape(in_shape)]
    net = network([*spread, make(), mg.Flatten(), mg.Linear(2)], (6,))
    for bias in ("0.b", "2.b"):
        net.params[bias][...] = np.random.default_rng(2).standard_normal(net.params[bias].shape)
    report = mg.check_gradients(net, away_from_kinks((6,)), raise_on_failure=False)
    wrong = blamed(report)
    assert {"0.W", "2.W"} <= wrong and "6.W" not in wrong and "6.b" not in wrong
    with pytest.raises(mg.GradientError):
        mg.check_gradients(net, away_from_kinks((6,)))


def test_a_nan_gradient_is_caught():
    def poison(layer, dy, dx, before):
        layer.db[0] = np.nan
        return dx

    with pytest.raises(mg.GradientError, match=r"0[.]b"):
        mg.check_gradients(network([Altered(mg.Linear(4), poison)], (4,)), away_from_kinks((4,)))


@pytest.mark.parametrize("one", range(3))
def test_one_wrong_number_among_many_is_caught(one):
    """A single entry of dW that is off by a thousandth: the random directions see it."""

    def nudge(layer, dy, dx, before):
        layer.dW.reshape(-1)[one * 70] *= 1.001
        return dx

    net = network([Altered(mg.Conv2d(8, kernel_size=3, stride=1, padding="valid"), nudge)], IMAGE)
    assert net.params["0.W"].size == 216
    with pytest.raises(mg.GradientError, match=r"0[.]W"):
        mg.check_gradients(net, away_from_kinks(IMAGE))


@pytest.mark.parametrize("mistake", [{"x_hat_term": False}, {"any_dx": False}], ids=str)
@pytest.mark.parametrize("in_shape", [IMAGE, (4,)], ids=str)
def test_why_dy_must_be_random(mistake, in_shape):
    """The sum of BatchNorm's output does not depend on x, so with dy = 1 the true dx is 0.

    And so is the mutant's: the check passes what it refuses with a random dy.
    """
    net, x = network([BatchNormByHand(**mistake)], in_shape), away_from_kinks(in_shape)
    assert mg.check_gradients(net, x, dy=np.ones_like(x))
    with pytest.raises(mg.GradientError, match="worst is x"):
        mg.check_gradients(net, x)
    with pytest.raises(mg.GradientError, match="worst is x"):
        mg.check_gradients(net, x, dy=np.random.default_rng(3).standard_normal(x.shape))


def test_the_check_leaves_no_trace():
    """Parameters, gradients, running statistics and x are bit for bit as before, whether it passes or fails."""
    for change in (nothing, bias_gradient_forgotten):
        net = network([conv(change), mg.BatchNorm(), mg.Dropout(0.5)], IMAGE)
        x = away_from_kinks(IMAGE)
        for gradient in net.grads.values():
            gradient[...] = np.random.default_rng(4).standard_normal(gradient.shape)
        groups = net.params, net.grads, net.buffers, {"x": x}
        before = [{name: array.tobytes() for name, array in group.items()} for group in groups]
        mg.check_gradients(net, x, raise_on_failure=False)
        assert [
            {name: array.tobytes() for name, array in group.items()} for group in groups
        ] == before


def test_the_check_refuses_float32():
    net = mg.Sequential([mg.Linear(2)], name="N")
    net.setup((3,), backend=mg.get_backend("numpy", dtype="float32"), rng=np.random.default_rng(0))
    with pytest.raises(mg.ConfigError):
        mg.check_gradients(net, np.ones((2, 3), dtype="float32"))
