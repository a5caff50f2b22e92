"""Every contender plays the same game: the losses of the first steps, and sampled images."""

from importlib.util import find_spec

import numpy as np
import pytest

from benchmarks import agreement, contenders, report
from benchmarks.contenders import minigan_step
from benchmarks.worker import make

SMALL = dict(batch=8, width=2)
PACKAGES = {
    "minigan-numba": "numba",  # contender on a CPU -> what it needs
    "torch": "torch",
    "torch-cl": "torch",
    "keras": "tensorflow",
    "jax": "jax",
    "dezero": "dezero",
}
OTHERS = [pytest.param(name, marks=pytest.mark.slow) for name in PACKAGES]


def load(module):
    """-> a module of contenders; skips the test if its framework is not installed."""
    path = f"benchmarks.contenders.{module}"
    return pytest.importorskip(path, exc_type=contenders.Missing)


def make_contender(name, preset):
    target, own = contenders.target(name, contenders.CONTENDERS["cpu"])
    return make(target, {"preset": preset, **SMALL, **own})


@pytest.mark.parametrize("name", ["minigan", "minigan-threads", *OTHERS])
@pytest.mark.parametrize("preset", [*report.NETS, "color32"])  # the README's table, and Upsample
def test_twins_play_the_same_game(name, preset):
    """Uneven padding, dense layers, BatchNorm of both kinds."""
    if find_spec(PACKAGES.get(name, "minigan")) is None:
        pytest.skip(f"{PACKAGES[name]} is not installed")
    ours, theirs = make_contender("minigan-plain", preset), make_contender(name, preset)
    agreement.expect_same_images(theirs.probes(), ours.probes())
    ours, theirs = np.array(ours.losses(3)), np.array(theirs.losses(3))
    np.testing.assert_allclose(theirs[0], ours[0], rtol=1e-4)
    np.testing.assert_allclose(theirs, ours, rtol=1e-2)


@pytest.mark.parametrize("preset", ["mnist", "fredriksson-mnist"])  # z normal, and uniform
def test_each_step_has_a_new_z(preset):
    plain = make_contender("minigan-plain", preset)
    drawn = [plain.draw().copy() for _ in range(2)]
    assert np.abs(drawn[0] - drawn[1]).max() > 0.1
    assert (np.abs(drawn[0]).max() <= 1) == (preset == "fredriksson-mnist")
    plain.run(2)
    plain.sample(2)
    assert plain.optimizer_g.steps == plain.optimizer_d.steps == 2


def test_a_missing_package_is_named():
    with pytest.raises(contenders.Missing, match=r"^not installed: pip install no_such_framework$"):
        contenders.need("no_such_framework")


# -- on a GPU, as far as a CPU shows it ---------------------------------------------------------

GPU = dict(preset="fredriksson-mnist", batch=4, width=2)


def expected_losses():
    return np.array(minigan_step.Step(**GPU, backend="plain").losses(3))


@pytest.mark.slow
@pytest.mark.parametrize("captured", (False, True))
@pytest.mark.parametrize("precision", agreement.ERRORS)
def test_minigan_on_the_stand_in_plays_the_same_game(precision, captured, device):
    ours = minigan_step.Step(**GPU, device="cuda", precision=precision, captured=captured)
    rtol = agreement.LOSSES[precision]
    np.testing.assert_allclose(ours.losses(1), expected_losses()[:1], rtol=rtol)
    if precision == "fp32":
        np.testing.assert_allclose(ours.losses(1), expected_losses()[1:2], rtol=1)
        assert ours.conv_error() < 2e-6
    ours.launch(1)
    first = ours.backend.to_host(ours.z.array).copy()
    ours.launch(1)
    assert np.abs(ours.backend.to_host(ours.z.array) - first).max() > 0.1


@pytest.mark.slow
@pytest.mark.parametrize("channels_last", (False, True))
def test_convolution_of_torch_is_minigans(channels_last):
    theirs = load("torch_step").Step(**GPU, channels_last=channels_last)
    for contender in (theirs, minigan_step.Step(**GPU)):
        assert contender.conv_error() < 2e-6


@pytest.mark.slow
def test_torch_without_cuda_is_reported_in_one_line(monkeypatch):
    torch_step, torch_gpu = load("torch_step"), load("torch_gpu")
    monkeypatch.setattr(torch_step.torch.cuda, "is_available", lambda: False)
    message = r"^this PyTorch sees no GPU: install one for CUDA, and check `nvidia-smi`$"
    for kind in (torch_step.Step, torch_gpu.Graph):
        with pytest.raises(contenders.Missing, match=message):
            kind(**GPU, device="cuda", precision="tf32", channels_last=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    "precision, new, old",
    [("fp32", "ieee", False), ("tf32", "tf32", True), ("fp32", "ieee", False)],
)
def test_torch_gets_the_precision_through_both_interfaces(precision, new, old, monkeypatch):
    """PyTorch fails to read the old one if it was set to another value than the new one."""
    torch_step = load("torch_step")
    backends = torch_step.torch.backends
    monkeypatch.setattr(torch_step.torch.cuda, "is_available", lambda: True)
    try:
        torch_step.use_gpu(precision)
        found = backends.cudnn.conv.fp32_precision, backends.cudnn.fp32_precision
        assert {*found, backends.cuda.matmul.fp32_precision} == {new}
        assert backends.cudnn.allow_tf32 == backends.cuda.matmul.allow_tf32 == old
        assert torch_step.torch.get_float32_matmul_precision() == ("high" if old else "highest")
    finally:
        torch_step.use_gpu("fp32")


@pytest.mark.slow
@pytest.mark.parametrize("precision", agreement.ERRORS)
def test_jax_plays_in_either_precision_and_reports_a_missing_gpu(precision):
    """On a CPU both are float32."""
    jax_step = load("jax_step")
    jax = jax_step.Step(**GPU, precision=precision)
    assert jax_step.jax.config.jax_default_matmul_precision == jax_step.PRECISIONS[precision]
    np.testing.assert_allclose(jax.losses(3), expected_losses(), rtol=1e-3)
    assert jax.conv_error() < 2e-6
    if jax_step.jax.default_backend() != "gpu":
        with pytest.raises(contenders.Missing, match=r"^this JAX sees no GPU: "):
            jax_step.Step(**GPU, device="cuda", precision=precision)


@pytest.mark.slow
def test_torch_as_its_example_is_written_plays_the_same_game():
    example = load("torch_gpu").Example(**GPU)
    np.testing.assert_allclose(example.losses(3), expected_losses(), rtol=1e-3)
    example.run(2)


@pytest.mark.slow
@pytest.mark.parametrize("channels_last", (False, True))
def test_torch_in_a_graph_starts_where_the_others_do(channels_last, monkeypatch):
    """What warm-up and capture change is restored. Here the graph is the program itself."""
    torch_gpu = load("torch_gpu")
    played = []

    def capture(step):
        result = [step() for _ in range(4)][-1]

        def replay():
            played.append(True)
            for old, new in zip(result, step(), strict=True):
                old.copy_(new)

        return replay, result

    adam = torch_gpu.torch.optim.Adam
    monkeypatch.setattr(torch_gpu, "use_gpu", lambda precision: None)
    monkeypatch.setattr(torch_gpu, "capture", capture)
    monkeypatch.setattr(  # capturable is for a GPU only
        torch_gpu.torch.optim,
        "Adam",
        lambda parameters, capturable, **more: adam(parameters, **more),
    )
    graph = torch_gpu.Graph(**GPU, channels_last=channels_last)
    np.testing.assert_allclose(graph.losses(3), expected_losses(), rtol=1e-3)
    graph.run(2)
    assert len(played) == 5
