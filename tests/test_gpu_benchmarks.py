"""The benchmarks on a GPU, as far as a CPU shows them: on the strict stand-in for CuPy, with contenders in this very process."""

import json
import stat
import sys
import time
from argparse import Namespace

import numpy as np
import pytest

from benchmarks import (
    blocks,
    ceilings,
    contenders,
    gpu,
    gpu_parts,
    gpu_step,
    kernel_times,
    machine,
    nets,
    precision,
    race,
    report,
    results,
    step,
    worker,
)
from benchmarks.contenders.minigan_step import Step
from benchmarks.race import Absent, BenchmarkError, Team
from minigan import get_backend
from minigan.backends.gpu import kernels as cupy_kernels
from tests import strict_cupy

SMALL = dict(preset="fredriksson-mnist", batch=4, width=2, image=None)


class Here:
    """A Worker without a process.

    pace  seconds that a step is said to take, or None
    """

    pace = None

    def __init__(self, name, target, arguments, threads=None, environment=None, limit=None):
        self.name, self.limit, self.idle = name, limit, 0.0
        self.make(target, arguments)

    def attempt(self, work, *arguments, **options):
        try:
            return work(*arguments, **options)
        except Exception as error:
            absent = type(error).__name__ in ("Missing", "NoTwin", "BackendError")
            raise (
                Absent(str(error)) if absent else BenchmarkError(f"{self.name}: {error!r}")
            ) from error

    def make(self, target, arguments):
        self.contender = self.attempt(
            worker.make, {"make": target, "with": arguments, "threads": None}
        )

    def call(self, method, **arguments):
        if method == "peak_mib":
            return machine.peak_mib()
        if method == "time_blocks":
            found = self.attempt(blocks.time_blocks, self.contender, **arguments)
            return found if self.pace is None else {**found, "wall": [self.pace]}
        return self.attempt(getattr(self.contender, method), **arguments)

    def stop(self):
        pass


class Event(strict_cupy.Event):
    """In a queue that is always done."""

    def record(self):
        super().record()
        self.at = time.perf_counter()


def make_gpu():
    """-> the stand-in for CuPy, with what only benchmarks ask for."""
    module = strict_cupy.make_module()
    module.cuda.Event, module.cuda.get_elapsed_time = Event, lambda a, b: 1000 * (b.at - a.at)
    module.cuda.runtime.getDeviceProperties = lambda device: {"name": b"Abacus 200"}
    compiled, empty = (
        module.RawModule,
        Namespace(get_function=lambda name: lambda grid, block, arguments: None),
    )
    module.RawModule = lambda code, **options: (
        empty if code == ceilings.EMPTY else compiled(code, **options)
    )
    return module


@pytest.fixture
def device(monkeypatch):
    """The stand-in as the GPU, small sizes, and short blocks."""
    monkeypatch.setitem(sys.modules, "cupy", make_gpu())
    monkeypatch.setattr(race, "Worker", Here)
    for module, name, value in (
        (blocks, "WARM_UP", 1),
        (blocks, "BLOCKS", 2),
        (blocks, "STEPS", 2),
        (ceilings, "LEAST", 1e-4),
        (ceilings, "EDGE", 32),
        (gpu_parts, "COPY", 1),
        (gpu_parts, "BATCH", 4),
        (gpu_parts, "NETS", {"fredriksson-mnist": 2, "pytorch-64": 2}),
        (gpu_parts, "FIRST", [*gpu_parts.FIRST, "--width", "2"]),
        (gpu_parts, "EPOCHS", [*gpu_parts.FIRST, "--width", "2"]),
    ):
        monkeypatch.setattr(module, name, value)


def contender(module):
    """-> a module of contenders; skips the test where its framework is not installed."""
    return pytest.importorskip(f"benchmarks.contenders.{module}", exc_type=contenders.Missing)


def options(**more):
    return Namespace(**{**SMALL, "precision": "fp32", "against": [], "rounds": 2, **more})


def quiet(line):
    pass


# -- clocks ---------------------------------------------------------------------------------------


class Device:
    """Takes 1 ms for a step, and 0.2 ms to be given one; its clock is the sum of what was asked of it."""

    def __init__(self, events=True):
        self.now = self.done = 0.0
        self.events, self.played = events, 0

    def launch(self, times):
        for _ in range(times):
            self.now += 0.0002
            self.done = max(self.done, self.now) + 0.001
            self.played += 1

    def wait(self):
        self.now = max(self.now, self.done)

    def mark(self):
        return max(self.now, self.done) if self.events else None

    def between(self, a, b):
        return b - a


@pytest.mark.parametrize("events", (True, False))
def test_blocks_tell_the_device_from_the_program(events, monkeypatch):
    device = Device(events)
    monkeypatch.setattr(blocks, "perf_counter", lambda: device.now)
    found = blocks.time_blocks(device, warm_up=30, blocks=4, steps=50)
    assert device.played == 30 + 4 * 50
    assert found["launch"] == pytest.approx([0.0002] * 4)
    assert found["wall"] == pytest.approx([0.001] * 4, rel=0.01)
    assert found["events"] == (pytest.approx([0.001] * 4, rel=0.01) if events else [])


def test_spread_is_median_and_tenths():
    assert blocks.spread([float(value) for value in range(11)]) == (5, 1, 9)
    assert blocks.spread([3.0]) == (3, 3, 3)


def test_who_does_not_answer_is_ended():
    with Team() as team:
        assert team.add("loop", "tests.test_gpu_benchmarks:Loop", {}, limit=60.0) is not None, (
            team.absent
        )
        team.workers["loop"].limit = 0.3
        with pytest.raises(BenchmarkError, match=r"^loop: no answer within 0 s$"):
            team.workers["loop"].call("play")


def test_a_process_plays_one_game_after_another():
    """What it plays is made anew; where that cannot be, it is ended, and the next one gets a process of its own."""
    with Team() as team:
        device = team.renew("device", "tests.test_gpu_benchmarks:Device", {}, limit=60.0)
        found = device.call("time_blocks", warm_up=1, blocks=2, steps=3)
        assert len(found["wall"]) == len(found["events"]) == len(found["launch"]) == 2
        assert (
            team.renew("device", "tests.test_gpu_benchmarks:Device", {"events": False}, limit=60.0)
            is device
        )
        assert device.call("time_blocks", warm_up=1, blocks=2, steps=3)["events"] == []
        assert (
            team.renew("device", "tests.test_gpu_benchmarks:Device", {"colour": 1}, limit=60.0)
            is None
        )
        assert "colour" in team.absent["device"] and not team.workers
        assert (
            team.renew("device", "tests.test_gpu_benchmarks:Device", {}, limit=60.0) is not device
            and not team.absent
        )


class Loop:
    def play(self):
        while True:
            time.sleep(1)


# -- precision ------------------------------------------------------------------------------------


def convolve_in(dtype, keep=None):
    def convolve(x, W):
        if keep is not None:  # so many bits of the fraction, as TF32 keeps 10
            x, W = (
                np.round(a * 2.0**keep / (scale := 2.0 ** np.floor(np.log2(np.abs(a) + 1e-30))))
                * scale
                / 2.0**keep
                for a in (x, W)
            )
        windows = np.lib.stride_tricks.sliding_window_view(
            x.astype(dtype), W.shape[:2], axis=(1, 2)
        )
        return np.tensordot(windows, W.astype(dtype), axes=((4, 5, 3), (0, 1, 2)))

    return convolve


def test_precision_is_seen_by_its_error():
    single, tf32 = (
        precision.error_of(convolve_in(np.float32)),
        precision.error_of(convolve_in(np.float32, keep=10)),
    )
    assert 1e-8 < single < 2e-6 and 1e-4 < tf32 < 6e-4
    precision.expect(single, "fp32"), precision.expect(tf32, "tf32")
    with pytest.raises(
        BenchmarkError,
        match=r"^does not compute in fp32: a convolution is .*e-04 off, more than 1e-05$",
    ):
        precision.expect(tf32, "fp32")
    with pytest.raises(BenchmarkError, match="nan off"):
        precision.expect(float("nan"), "tf32")


@pytest.mark.parametrize("channels_last", (False, True))
def test_convolution_of_torch_and_minigan(channels_last, device):
    torch_step = contender("torch_step")
    theirs = torch_step.Step(**SMALL, device="cpu", channels_last=channels_last)
    for made in (theirs, Step(**SMALL, device="cpu"), Step(**SMALL, device="cuda")):
        assert made.conv_error() < 2e-6


# -- contenders -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in contenders.ON_GPU if name.startswith("torch")])
def test_torch_without_cuda_says_so_in_one_line(name, monkeypatch):
    monkeypatch.setattr(contender("torch_step").torch.cuda, "is_available", lambda: False)
    target, variant = contenders.target(name, "cuda")
    with pytest.raises(
        Absent, match=r"^this PyTorch sees no GPU: install one for CUDA, and check `nvidia-smi`$"
    ):
        Here(name, target, {**SMALL, "device": "cuda", "precision": "tf32", **variant})


@pytest.mark.parametrize(
    "wanted, new, legacy",
    (("fp32", "ieee", False), ("tf32", "tf32", True), ("fp32", "ieee", False)),
)
def test_torch_takes_the_precision_by_both_interfaces(wanted, new, legacy, monkeypatch):
    """Reading the old one fails in PyTorch where it was set to another value than the new one."""
    torch_step = contender("torch_step")
    backends = torch_step.torch.backends
    monkeypatch.setattr(torch_step.torch.cuda, "is_available", lambda: True)
    try:
        torch_step.use_gpu(wanted)
        found = (
            backends.cudnn.conv.fp32_precision,
            backends.cudnn.fp32_precision,
            backends.cuda.matmul.fp32_precision,
        )
        assert found == (new, new, new)
        assert backends.cudnn.allow_tf32 == backends.cuda.matmul.allow_tf32 == legacy
        assert torch_step.torch.get_float32_matmul_precision() == ("high" if legacy else "highest")
    finally:
        torch_step.use_gpu("fp32")


@pytest.mark.parametrize("wanted", precision.LIMITS)
def test_jax_plays_in_either_precision_and_says_where_it_sees_no_gpu(wanted):
    """On a CPU both are float32."""
    jax_step = contender("jax_step")
    jax = jax_step.Step(**SMALL, device="cpu", precision=wanted)
    assert jax_step.jax.config.jax_default_matmul_precision == jax_step.PRECISIONS[wanted]
    np.testing.assert_allclose(jax.losses(3), losses_of_minigan(), rtol=1e-3)
    assert jax.conv_error() < 2e-6
    found = blocks.time_blocks(jax, warm_up=1, blocks=2, steps=2)
    assert len(found["wall"]) == 2 and found["events"] == []
    if jax_step.jax.default_backend() != "gpu":
        with pytest.raises(contenders.Missing, match=r"^this JAX sees no GPU: "):
            jax_step.Step(**SMALL, device="cuda", precision=wanted)


def losses_of_minigan():
    return np.array(Step(**SMALL, device="cpu").losses(3))


def test_torch_as_its_example_is_written_plays_the_same_game():
    torch_gpu = contender("torch_gpu")
    example = torch_gpu.Example(**SMALL, device="cpu")
    np.testing.assert_allclose(example.losses(3), losses_of_minigan(), rtol=1e-3)
    example.run(2)


@pytest.mark.parametrize("channels_last", (False, True))
def test_torch_in_a_graph_begins_where_the_others_do(channels_last, monkeypatch):
    """Warm-up and capture are played and taken back: parameters, statistics, moments. Here the graph is the program itself."""
    torch_gpu = contender("torch_gpu")
    played = []

    def capture(play):
        given = [play() for _ in range(4)][-1]

        def replay():
            played.append(True)
            for old, new in zip(given, play(), strict=True):
                old.copy_(new)

        return replay, given

    monkeypatch.setattr(torch_gpu, "use_gpu", quiet)
    monkeypatch.setattr(torch_gpu, "capture", capture)
    monkeypatch.setattr(
        torch_gpu.torch.optim, "Adam", without_capturable(torch_gpu.torch.optim.Adam)
    )
    graph = torch_gpu.Graph(**SMALL, device="cpu", channels_last=channels_last)
    np.testing.assert_allclose(graph.losses(3), losses_of_minigan(), rtol=1e-3)
    graph.run(2)
    assert len(played) == 5


def without_capturable(adam):
    """capturable is for a GPU alone."""
    return lambda parameters, capturable, **options: adam(parameters, **options)


@pytest.mark.parametrize("captured", (False, True))
@pytest.mark.parametrize("wanted", precision.LIMITS)
def test_minigan_on_the_stand_in_plays_the_same_game(wanted, captured, device):
    ours = Step(**SMALL, device="cuda", precision=wanted, captured=captured)
    if wanted == "fp32":
        np.testing.assert_allclose(ours.losses(3), losses_of_minigan(), rtol=1e-4)
    else:  # so small a net goes other ways soon
        np.testing.assert_allclose(
            ours.losses(1), losses_of_minigan()[:1], rtol=precision.AGREE["tf32"]
        )
    found = blocks.time_blocks(ours, warm_up=1, blocks=2, steps=2)
    assert all(len(found[kind]) == 2 for kind in ("wall", "events", "launch"))


# -- a race ---------------------------------------------------------------------------------------


def test_a_race_names_who_is_absent_and_times_the_rest(device, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(contender("torch_step").torch.cuda, "is_available", lambda: False)
    file = tmp_path / "r.json"
    arguments = [
        "--backend",
        "cupy",
        "--precision",
        "tf32",
        "--preset",
        "fredriksson-mnist",
        "--width",
        "2",
        "--batch",
        "4",
    ]
    assert step.main([*arguments, "--against", "torch,torch-graph", "--json", str(file)]) == 0, (
        capsys.readouterr().err
    )
    printed = capsys.readouterr().out
    assert (
        "torch           this PyTorch sees no GPU" in printed
        and "fredriksson-mnist, width 2, batch 4, tf32: one step" in printed
    )
    (record,) = results.load(file)
    assert (
        record["precision"] == "tf32" and record["backend"] == "cupy" and record["gemm_gflops"] > 0
    )
    rows = {row["name"]: row for row in record["contenders"]}
    assert list(rows) == ["minigan", "minigan-graph", "torch", "torch-graph"]
    for name in contenders.OURS:
        assert (
            len(rows[name]["seconds"])
            == len(rows[name]["events"])
            == len(rows[name]["launch"])
            == gpu_step.TURNS * 2
        )
        assert 1e-4 < rows[name]["conv_error"] < 1e-3 and len(rows[name]["losses"]) == 3
    assert step.main([*arguments, "--precision", "fp32", "--against", "", "--json", str(file)]) == 0
    assert [each["precision"] for each in results.load(file)] == [
        "tf32",
        "fp32",
    ]  # two measurements, not one


class Odd(Step):
    """What goes wrong is in its name."""

    def __init__(self, wrong, **arguments):
        super().__init__(**arguments)
        self.wrong = wrong

    def losses(self, steps):
        return [
            [loss * (1.1 if self.wrong == "losses" else 1) for loss in losses]
            for losses in super().losses(steps)
        ]

    def conv_error(self):
        return 3e-4 if self.wrong == "precision" else 1e-7

    def launch(self, times):
        if self.wrong == "launch":
            raise RuntimeError("CUDA error: an illegal\nmemory access")
        super().launch(times)


@pytest.mark.parametrize(
    "wrong, why",
    (
        ("losses", "disagrees with minigan at the first step: losses "),
        ("precision", "does not compute in fp32: a convolution is 3.0e-04 off"),
        ("launch", "RuntimeError('CUDA error: an illegal"),
    ),
)
def test_who_is_wrong_or_breaks_is_left_out_and_named(wrong, why, device, monkeypatch):
    monkeypatch.setattr(
        contenders,
        "target",
        lambda name, device: (
            ("tests.test_gpu_benchmarks:Odd", {"wrong": wrong})
            if name == "torch"
            else ("benchmarks.contenders.minigan_step:Step", {})
        ),
    )
    with Team() as team:
        record = gpu_step.race(team, options(against=["torch", "jax"]), quiet)
    rows = {row["name"]: row for row in record["contenders"]}
    assert rows["torch"]["absent"].startswith(why) and "seconds" not in rows["torch"]
    assert len(rows["jax"]["seconds"]) == len(rows["minigan"]["seconds"]) == 4
    assert any(
        "torch " in line and rows["torch"]["absent"] in line for line in gpu_step.table(record)
    )


def test_who_comes_too_late_is_left_out(device, monkeypatch):
    """In time is who leaves the others time for their turns."""
    with Team() as team:
        monkeypatch.setattr(
            Here, "pace", 1.0
        )  # second: 2 turns of 1 + 2·2 steps, for each of those who are there
        monkeypatch.setattr(gpu_step, "perf_counter", iter([0.0, 0.0, 79.0, 71.0]).__next__)
        monkeypatch.setattr(
            contenders,
            "target",
            lambda name, device: ("benchmarks.contenders.minigan_step:Step", {}),
        )
        record = gpu_step.race(team, options(against=["torch", "jax"]), quiet, until=100.0)
    assert [row.get("absent") for row in record["contenders"]] == [
        None,
        None,
        None,
        "no time was left for it",
    ]  # jax at 71 s of 70


def test_minigan_that_fails_ends_the_race(device, monkeypatch):
    monkeypatch.setattr(
        contenders,
        "target",
        lambda name, device: ("tests.test_gpu_benchmarks:Odd", {"wrong": "precision"}),
    )
    with Team() as team, pytest.raises(BenchmarkError, match=r"^minigan: does not compute in fp32"):
        gpu_step.race(team, options(), quiet)


# -- ceilings -------------------------------------------------------------------------------------


def test_ceilings(device):
    of = ceilings.Ceilings("tf32")
    assert of.product(edge=33) > 0 and of.copy(mib=1) > 0 and min(of.empty_kernels()) > 0
    assert of.backend.precision == "tf32"


NAMES = (
    "void im2col<float, G14_14_128_7_7_256_5_5_2_2_1_1, 4>(float const*, float*, int)",
    "sm90_xmma_gemm_f32f32_tf32f32_f32_nn_n_tilesize64x128x32_warpgroupsize1x1x1_execute_segment_k_off_kernel__5x_cublas",
    "void cutlass::Kernel2<cutlass_80_tensorop_s1688gemm_128x64_16x6_tn_align4>(cutlass_80_tensorop_s1688gemm_128x64_16x6_tn_align4)",
    "Memset (Device)",
    "void fold<float>(float const*, float*, int)",
    "void fold_moments<float>(float const*, float*, int)",
    "void activate_backward<float, LeakyReLU, 4>(float const*)",
    "void norm_sums<float, ReLU, 4>(float)",
    "memcpy32_post",
    "void im2col<float, G14_14_128_7_7_256_5_5_2_2_1_1, 4>(float const*, float*, int)",
)


def test_kernels_by_kind():
    """Three replays, each node twice as slow in all but one of them; events in any order, and nodes that begin in another."""
    events = []
    for replay in range(3):
        for node, name in enumerate(NAMES):
            place = {2: 3, 3: 2}.get(node, node) if replay == 1 else node
            start = 1000 * replay + 10 * place
            events.append((start, start + (node + 1) * (1 if replay == node % 3 else 2), name))
    found = kernel_times.table(events[::-1], 3)
    assert found["nodes"] == len(NAMES)
    assert found["microseconds"] == {
        "columns": 11,
        "products": 2 + 3 + 4,
        "sums": 5,
        "BatchNorm": 6 + 8,
        "activations and biases": 7,
        "the rest": 9,
    }
    im2col = "im2col<float, G14_14_128_7_7_256_5_5_2_2_1_1, 4>"
    assert found["kernels"][im2col] == [2, 11] and found["kernels"]["Memset"] == [1, 4]
    assert all("(" not in name for name in found["kernels"])
    for other in (
        [*events, (5000, 5001, "Memcpy HtoD")],
        [*events[:-1], (5000, 5001, "another")],
        [],
    ):
        with pytest.raises(BenchmarkError, match="not 3 times the same"):
            kernel_times.table(other, 3)


def test_every_kernel_is_of_a_kind_that_is_not_cublas():
    for name in cupy_kernels.signatures():
        assert kernel_times.kind(f"{name}<float, 4>") != "products", name


def test_products_are_those_of_the_layers(device):
    """By hand: G.1 from one pixel, D.0 from one channel; operations of all three passes together are those of the layer."""
    rows = {
        (row["layer"], row["pass"]): row
        for row in ceilings.Ceilings().products("fredriksson-mnist", batch=4, width=2)
    }
    sizes = {name: tuple(row[letter] for letter in "mnk") for name, row in rows.items()}
    assert sizes["G.1", "forward"] == (4, 7 * 7 * 4, 100) and sizes["G.1", "dw"] == (
        7 * 7 * 4,
        100,
        4,
    )
    assert sizes["D.0", "forward"] == (4 * 14 * 14, 2, 25) and sizes["D.0", "dx"] == (
        4 * 14 * 14,
        25,
        2,
    )
    host = nets.build("fredriksson-mnist", 4, get_backend("numpy"), 2)
    for layer in {name for name, _ in rows}:
        flops = ceilings.forward_flops(getattr(host, layer[0]).layers[int(layer[2:])])
        assert {
            2 * row["m"] * row["n"] * row["k"] for (name, _), row in rows.items() if name == layer
        } == {4 * flops}


# -- everything -----------------------------------------------------------------------------------


def test_everything_by_one_command(device, tmp_path, capsys, monkeypatch):
    """All parts on the stand-in; the tests and the trainings in processes of their own, on a preset that needs no GPU."""
    monkeypatch.setattr(contender("torch_step").torch.cuda, "is_available", lambda: False)
    (tmp_path / "test_nothing.py").write_text("def test_nothing():\n    pass\n")
    monkeypatch.setattr(
        gpu_parts,
        "TESTS",
        ["-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path / "test_nothing.py")],
    )
    monkeypatch.setattr(gpu_parts, "TRAIN", [*gpu_parts.TRAIN[:-1], "numpy"])
    trained = gpu_parts.trained
    monkeypatch.setattr(
        gpu_parts,
        "trained",
        lambda arguments, *rest, **more: trained(
            [each for each in arguments if each not in ("--precision", "tf32")], *rest, **more
        ),
    )

    class Known:  # in the place of a profiler for GPUs
        def __init__(self, precision):
            pass

        def kernels(self, preset, batch, width):
            return {"step_ms": 2.5, **kernel_times.table([(0, 2000, NAMES[0])], 1)}

    monkeypatch.setattr(kernel_times, "KernelTimes", Known)
    file = tmp_path / "r.json"
    assert gpu.main(["--against", "torch", "--json", str(file)]) == 0, capsys.readouterr()
    printed = capsys.readouterr().out
    assert "1 passed" in printed and "first step after " in printed and "20 epochs on " in printed
    assert (
        f"all is in {file}" in printed and "fredriksson-mnist, fp32: at least 1, aim 1.2" in printed
    )
    records = results.load(file)
    assert [record["what"] for record in records] == [
        "gpu checks",
        "ceilings",
        "products",
        "kernels",
        "start",
        "epochs",
        *["step"] * 4,
    ]
    assert (
        records[0]["passed"]
        and set(records[1]["product"]) == {"fp32", "tf32"}
        and records[4]["cold"] > 0
    )
    assert (
        "pytorch-64, tf32: 2.500 ms, 1 nodes; us: columns 2,000" in printed
        and len(records[3]["steps"]) == 4
    )
    assert str(tmp_path) not in file.read_text()


def test_a_part_that_fails_is_written_down_and_the_rest_goes_on(
    device, tmp_path, capsys, monkeypatch
):
    def breaks(team, options, until, log):
        raise RuntimeError("CUDA error: out of\nmemory")

    def tests_fail(team, options, until, log):
        return {
            "what": "gpu checks",
            "passed": False,
            "outcome": "1 failed",
            "failures": ["FAILED test_x"],
            "seconds": 1.0,
        }

    monkeypatch.setattr(
        gpu,
        "PARTS",
        {"checks": (10, tests_fail), "broken": (10, breaks), "ceilings": (10, gpu_parts.highest)},
    )
    file = tmp_path / "r.json"
    assert gpu.main(["--json", str(file)]) == 2
    assert f"gpu.py: error: failed: checks; broken: see {file}\n" == capsys.readouterr().err
    records = results.load(file)
    assert [record["what"] for record in records] == ["gpu checks", "failed", "ceilings"]
    assert records[1]["why"] == "CUDA error: out of memory" and records[1]["part"] == "broken"


def test_a_program_that_takes_too_long_is_ended():
    with pytest.raises(BenchmarkError, match=r"^not done within 1 s$"):
        gpu_parts.run(["-c", "import time; time.sleep(60)"], time.perf_counter() + 0.5)


def test_without_a_gpu_one_line(capsys, monkeypatch):
    monkeypatch.setattr(race, "Worker", Here)
    for module, said in (
        (None, "CuPy is not installed"),
        (strict_cupy.make_module(devices=0), "shows no NVIDIA GPU"),
    ):
        monkeypatch.setitem(sys.modules, "cupy", module)
        assert gpu.main([]) == 2
        captured = capsys.readouterr()
        assert said in captured.err and captured.err.count("\n") == 1 and not captured.out


@pytest.mark.parametrize(
    "command, arguments, said",
    (
        (gpu, ["--minutes", "0"], "--minutes must be 1 to 600, got 0"),
        (
            gpu,
            ["--against", "keras"],
            "--against: unknown contender 'keras': choose of torch-graph-cl,",
        ),
        (gpu, ["--json", "no/such/folder/file.json"], "there is no such folder"),
        (
            step,
            ["--backend", "cupy", "--precision", "fp16"],
            "--precision must be one of fp32, tf32, got 'fp16'",
        ),
        (step, ["--precision", "tf32"], "--precision tf32 is a GPU's: add --backend cupy"),
        (
            step,
            ["--against", "torch-graph"],
            "--against: unknown contender 'torch-graph': choose of torch,torch-cl,",
        ),
        (
            step,
            ["--backend", "cupy", "--against", "dezero"],
            "--against: unknown contender 'dezero': choose of torch-graph-cl,",
        ),
    ),
)
def test_wrong_options_give_one_line(command, arguments, said, capsys):
    assert command.main(arguments) == 2
    captured = capsys.readouterr()
    assert said in captured.err and captured.err.count("\n") == 1 and not captured.out


def test_the_gpu_as_nvidia_smi_shows_it(tmp_path, monkeypatch):
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'NVIDIA H200, 580.65.06, 1980, 3201, 34, 118.25'\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert machine.gpu() == {
        "name": "NVIDIA H200",
        "driver": "580.65.06",
        "sm_mhz": "1980",
        "memory_mhz": "3201",
        "celsius": "34",
        "watts": "118.25",
    }
    program.write_text("#!/bin/sh\nexit 9\n")
    assert machine.gpu() == {}


# -- report ---------------------------------------------------------------------------------------


def record_of(preset, precision, absent=(), **milliseconds):
    rows = [
        {
            "name": name.replace("_", "-"),
            "seconds": [ms / 1000] * 3,
            "events": [],
            "launch": [1e-5] * 3,
            "gflops": 1.0,
            "conv_error": 3e-7,
            "versions": {"torch": "2.11"},
            "peak_mib": 1.0,
        }
        for name, ms in milliseconds.items()
    ]
    return {
        "what": "step",
        "backend": "cupy",
        "preset": preset,
        "width": 64,
        "batch": 128,
        "precision": precision,
        "gflop": 291.0,
        "machine": {"cpu": "Abacus", "threads": 2},
        "gpu": {"before": {"name": "NVIDIA H200"}, "after": {}},
        "gemm_gflops": 50_000.0,
        "contenders": [*rows, *({"name": name, "absent": "not installed"} for name in absent)],
    }


def test_verdicts_take_the_fastest_of_each_side():
    record = record_of(
        "pytorch-64",
        "tf32",
        minigan=4,
        minigan_graph=2,
        torch=6,
        torch_graph=3,
        torch_example=5,
        jax=1,
    )
    said = list(gpu_step.verdicts(record))
    assert said == [
        "minigan-graph plays 1.50 times as many steps in the same time as PyTorch at its fastest (torch-graph)",
        "minigan-graph plays 2.50 times as many steps in the same time as PyTorch as its own example is written (torch-example)",
    ]
    alone = record_of("pytorch-64", "tf32", absent=["torch"], minigan=4)
    assert list(gpu_step.verdicts(alone)) == []
    assert any("not installed" in line for line in gpu_step.table(alone))
    assert (
        next(iter(gpu.outcome([record])))
        == "pytorch-64, tf32: at least 0.8, aim 1; PyTorch's own example 2"
    )


def test_report_has_a_table_of_its_own_for_gpus(tmp_path):
    file, readme = tmp_path / "2026-01-01-nvidia-h200.json", tmp_path / "README.md"
    times = dict(minigan=4, minigan_graph=2, torch=6, torch_graph=3, torch_example=5, jax=1)
    file.write_text(
        json.dumps(
            [
                {"what": "ceilings", "machine": {}},
                record_of("pytorch-64", "fp32", absent=["torch-cl"], **times),
            ]
        )
    )
    readme.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    assert report.main([str(file), "--readme", str(readme)]) == 0
    written = readme.read_text()
    assert (
        "| PyTorch example 64x64x3, k4, width 64, batch 128, fp32 | 2.00 ms (graph) | " in written
    )
    assert (
        "| 1.50 (torch-graph) | 2.50 | 0.50 |" in written
        and "NVIDIA H200" in written
        and "`2026-01-01-nvidia-h200.json`" in written
    )
