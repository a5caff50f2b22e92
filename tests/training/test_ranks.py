"""A run on several ranks: the numbers, the files and the end are those of one process."""

import csv
import shutil
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest

import minigan as mg
from minigan.data.files.npz import pack, save_arrays
from minigan.gan import LOSSES
from minigan.parallel.group import Group
from minigan.training import ranks as ranks_module
from minigan.training.run_folder import Run
from tests.support.noise_games import make_batches, make_game
from tests.support.ranks import SMALL, job, minigan, needs_mpi
from tests.support.training_runs import checkpoint, content, metrics, names


def train(size, out, *words, steps=12, **options):
    return minigan(size, "train", *SMALL.split(), "--steps", steps, "--out", out, *words, **options)


def resume(size, folder, steps, **options):
    return minigan(size, "train", "--resume", folder, "--steps", steps, **options)


def steps_of(folder):
    with open(folder / "metrics.csv", newline="") as file:
        return [int(row["step"]) for row in csv.DictReader(file)]


@needs_mpi
def test_a_signal_to_any_rank_stops_all_after_the_same_step(tmp_path):
    run = tmp_path / "run"
    done = train(2, run, fault="SIGTERM-step", rank=1, step=6)
    assert (done.returncode, done.stderr) == (143, "")
    assert done.stdout.count("stopped after step 6, everything is saved") == 1
    assert done.stdout.count("ranks 2: ") == 1
    assert steps_of(run) == [1, 2, 3, 4, 5, 6]
    assert names(run / "checkpoints") == ["step-00000004.npz", "step-00000006.npz"]


@needs_mpi
@pytest.mark.slow
def test_resume_on_any_number_of_ranks(tmp_path):
    """All three kinds of numbers go on: parameters, z, and the order of the data."""
    run, one = tmp_path / "run", tmp_path / "one"
    # in float32, rounding turns signs in Adam's first steps
    given = {"FLOAT64": "1"}
    assert train(4, run, steps=3, environment=given).returncode == 0
    for size, steps in ((2, 5), (1, 6), (3, 8)):
        done = resume(size, run, steps, environment=given)
        assert done.returncode == 0, done.stderr
    assert train(1, one, "--threads", "1", steps=8, environment=given).returncode == 0
    assert steps_of(run) == steps_of(one)
    (found, record), (expected, of_one) = checkpoint(run, 8), checkpoint(one, 8)
    assert record["generators"] == of_one["generators"]
    assert (record["epoch"], record["position"]) == (of_one["epoch"], of_one["position"])
    for name, array in expected["G"].items():
        np.testing.assert_allclose(found["G"][name], array, rtol=1e-7, atol=1e-9, err_msg=name)
    config, metadata = Run(run).load_config()
    assert config.threads is None and metadata["versions"]["ranks"] == "4"
    assert [entry["versions"].get("ranks") for entry in metadata["resumed"]] == ["2", None, "3"]
    assert metadata["ranks"].startswith("3: ")
    assert metadata["ranks"] in (run / "report.html").read_text()


FAULTS = [
    (fault, rank) for fault in ("load", "step", "sample", "save") for rank in (0, 1)
    if rank == 0 or fault != "save"
]  # fmt: skip


@needs_mpi
@pytest.mark.slow
@pytest.mark.parametrize("fault, rank", FAULTS)
def test_an_exception_on_any_rank_ends_the_job_with_one_line(fault, rank, tmp_path):
    done = train(3, tmp_path / "run", fault=f"raise-{fault}", rank=rank, step=8)
    place = f"rank {rank} of 3" + (", step 8" if fault != "load" else "")
    assert done.stderr.count("\n") == 1 and f"minigan: error: {place}: " in done.stderr
    assert done.returncode == (2 if fault in ("load", "sample") else 1)


@needs_mpi
@pytest.mark.slow
@pytest.mark.parametrize(
    "where, rank",
    [
        pytest.param(*fault, marks=() if fault in FAULTS[::3] else pytest.mark.long)
        for fault in FAULTS
    ],
)
def test_a_rank_that_is_killed_ends_the_job_and_the_run_goes_on(where, rank, tmp_path):
    run = tmp_path / "run"
    done = train(3, run, fault=f"SIGKILL-{where}", rank=rank, step=8)
    assert done.returncode and time.time() - float(done.stderr) < 5
    if where == "load":
        assert not run.exists()
        return
    assert names(run / "checkpoints")[-1] == "step-00000004.npz", "the newest is whole"
    assert resume(2, run, 12).returncode == 0 and steps_of(run) == list(range(1, 13))


@needs_mpi
@pytest.mark.slow
@pytest.mark.parametrize("fault", ("SIGINT", "SIGTERM", "SIGHUP"))
@pytest.mark.parametrize("rank", (0, 1))
def test_every_stop_signal(fault, rank, tmp_path):
    code = {"SIGINT": 130, "SIGTERM": 143, "SIGHUP": 129}[fault]
    done = train(2, tmp_path / "run", fault=f"{fault}-step", rank=rank, step=3)
    assert (done.returncode, done.stderr) == (code, "")
    assert names(tmp_path / "run/checkpoints")[-1] == "step-00000003.npz"


@needs_mpi
@pytest.mark.slow
@pytest.mark.parametrize(
    "words, message",
    [
        (["--wdith", "4"], "unknown option --wdith"),
        (["--preset", "tensorflow-mnist"], "Dropout"),
        (["--backend", "plain"], "several ranks are for numpy and cupy"),
        (["--batch-size", "5"], "start at most 2"),
        (["--threads", "2"], "--threads is for one process"),
    ],
)
def test_mistakes_are_one_line(words, message, tmp_path):
    done = train(3, tmp_path / "run", *words)
    assert done.returncode == 2 and done.stdout == ""
    assert message in done.stderr and done.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()


GPUS = ["--backend", "cupy", "--drop-last"]


@needs_mpi
@pytest.mark.slow
def test_ranks_on_gpus_are_one_process_and_stop_together(tmp_path):
    environment, runs = dict(GPUS="2"), [tmp_path / "one", tmp_path / "two"]
    assert train(1, runs[0], *GPUS, steps=6, environment=environment).returncode == 0
    done = train(2, runs[1], *GPUS, fault="SIGTERM-step", rank=1, step=3, environment=environment)
    assert (done.returncode, done.stderr) == (143, "")
    assert "in collectives of MPI; those of NCCL are part of the graph, and not" in done.stdout
    done = resume(2, runs[1], 6, environment=environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert steps_of(runs[0]) == steps_of(runs[1]) == [1, 2, 3, 4, 5, 6]
    (_, one), (_, two) = (checkpoint(run, 6) for run in runs)
    assert one["generators"] == two["generators"]
    # later ones differ more: in float32 a ReLU at its kink goes either way
    (first, *_), (other, *_) = map(metrics, runs)
    for name in LOSSES:
        assert float(other[name]) == pytest.approx(float(first[name]), rel=1e-6)


@needs_mpi
@pytest.mark.slow
@pytest.mark.parametrize(
    "words, environment, message",
    [
        ([], dict(GPUS="2"), "more ranks than GPUs, of which it shows 2 to rank 2"),
        ([], dict(GPUS="3", NCCL="0"), "backend cupy on 3 ranks needs NCCL: pip install nvidia-"),
        ([], dict(GPUS="0"), "CUDA sees no NVIDIA GPU"),
        (["--preset", "jayathilaka-faces:sgd"], dict(GPUS="3"), "SGD or RMSprop; train it in one"),
        (["--spectral-norm"], dict(GPUS="3"), "on GPUs none with SpectralNorm"),
        (["--threads", "2"], dict(GPUS="3"), "threads are for the numpy backend"),
    ],
)
def test_mistakes_on_gpus_are_one_line(words, environment, message, tmp_path):
    done = train(3, tmp_path / "run", *GPUS, *words, environment=environment)
    assert done.returncode == 2 and done.stdout == ""
    assert message in done.stderr and done.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()


@needs_mpi
@pytest.mark.slow
def test_a_folder_that_only_rank_0_sees(tmp_path):
    run = tmp_path / "run"
    assert train(1, run, steps=2).returncode == 0
    words = ["-m", "minigan", "train", "--steps", "4", "--resume"]
    other = [":", "-n", "1", sys.executable, *words, str(tmp_path / "elsewhere")]
    done = job(1, *words, run, *other)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "rank 1 of 2" in done.stderr and "is not the folder of a run" in done.stderr


@needs_mpi
@pytest.mark.slow
@pytest.mark.parametrize("mistake", ("an older checkpoint", "another number"))
def test_a_rank_that_reads_another_checkpoint_ends_the_run_before_a_step(mistake, tmp_path):
    run, other = tmp_path / "run", tmp_path / "other"
    assert train(1, run, steps=8).returncode == 0
    shutil.copytree(run, other)
    newest = other / "checkpoints/step-00000008.npz"
    if mistake == "an older checkpoint":
        newest.unlink()
    else:
        sections, record = checkpoint(other, 8)
        sections["D"]["0.W"] = sections["D"]["0.W"] * 1.5
        save_arrays(newest, pack(sections, record))
    before = content(run)
    words = ["-m", "minigan", "train", "--steps", "12", "--resume"]
    done = job(1, *words, run, ":", "-n", "1", sys.executable, *words, other)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "after step 8 the parameters of rank 1 are not those of rank 0" in done.stderr
    assert content(run) == before


@needs_mpi
@pytest.mark.slow
def test_other_commands_run_once(tmp_path):
    run = tmp_path / "run"
    assert train(1, run, steps=2).returncode == 0
    done = minigan(3, "sample", run, "--n", "3", "--out", tmp_path / "a.npy")
    assert done.returncode == 0 and done.stdout.count("\n") == 1
    done = minigan(3, "filters", run)
    assert done.returncode == 0 and done.stdout.count("\n") == 1
    assert minigan(3, "--version").stdout.count("\n") == 1


# ---- what must hold, on a made-up rank


class Two(Group):
    """Rank 0 of two; rank 1 has the same, but for what is `other`."""

    size = 2

    def __init__(self, other=None):
        self.other = other

    def unlike_first(self, *contents):
        return [1] if self.other and any(self.other in bytes(each) for each in contents) else []


@pytest.mark.parametrize(
    "preset, options, given, other, message",
    [
        ("mnist", {}, {}, b"batch_size=14", "rank 1 has other options than rank 0"),
        ("mnist", {}, {}, np.__version__.encode(), "rank 1 has other versions than rank 0"),
        ("mnist", dict(batch_size=3), {}, None, "too few images for 2 ranks: start at most 1"),
        ("mnist", {}, dict(threads=2), None, "--threads is for one process"),
        ("tensorflow-mnist", {}, {}, None, "Dropout"),
    ],
)
def test_ranks_that_cannot_train_a_game_are_refused(preset, options, given, other, message):
    game = make_game(preset, threads=1, **options)
    ranks_module.expect_ranks_fit(Group(), game, given)
    with pytest.raises(mg.ConfigError, match=message):
        ranks_module.expect_ranks_fit(Two(other), game, given)


def test_a_rank_with_other_parameters_ends_the_run():
    game = make_game("mnist", threads=1)
    batches, W = make_batches(game), game.G.params["0.W"]
    ranks_module.expect_same_state(Two(), game, batches, 5)
    with pytest.raises(mg.TrainingError, match="after step 5 the parameters of rank 1 are not"):
        ranks_module.expect_same_state(Two(W.tobytes()), game, batches, 5)


def test_a_silent_run_writes_nothing(tmp_path):
    run = ranks_module.SilentRun(tmp_path / "run")
    config = SimpleNamespace()
    with run.create(config, {}, another_name=True).locked(), run.metrics() as write:
        write([{"step": 1}], True)
        run.save_config(config, {})
        run.save_real(None, (1, 1))
        run.save_samples(None, 1, (1, 1))
        run.forget_after(3)
    assert list(tmp_path.iterdir()) == []
