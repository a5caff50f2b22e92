"""The parser, and how errors are reported."""

import errno
import os
import subprocess
import sys

import pytest

import minigan as mg
from minigan.cli import show
from minigan.cli.main import answer, build_parser, main
from minigan.training.progress import Interrupted
from tests.support.commands import refused, run
from tests.support.pictures import noise
from tests.support.training_runs import open_game_module

COMMANDS = (
    "train", "sample", "presets", "train-classifier", "evaluate", "animate", "plot", "compare",
    "report", "explore", "interpolate", "arithmetic", "filters", "activations", "features",
    "export", "import",
)  # fmt: skip


def test_minigan_alone_lists_the_commands_one_a_line(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "50")  # a narrow terminal
    assert run() == 0
    out = capsys.readouterr().out
    assert out.startswith("usage: minigan COMMAND ...\n")
    lines = out.partition("commands:\n")[2].splitlines()
    assert [line.split()[0] for line in lines] == list(COMMANDS)
    assert all(len(line) < 80 and line[:2] == "  " for line in lines)
    with pytest.raises(SystemExit) as stop:
        run("--help")
    assert stop.value.code == 0 and capsys.readouterr().out == out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command, capsys):
    with pytest.raises(SystemExit) as stop:
        run(command, "--help")
    assert stop.value.code == 0
    out = capsys.readouterr().out
    assert out.startswith(f"usage: minigan {command} ") and "  -h, --help" in out


def test_version(capsys):
    with pytest.raises(SystemExit) as stop:
        run("--version")
    assert stop.value.code == 0 and capsys.readouterr().out == f"minigan {mg.__version__}\n"


def test_what_train_gets_is_what_the_user_gave():
    def parse(line):
        options = vars(build_parser().parse_args(line.split()))
        return {name: options[name] for name in options if name not in ("command", "module")}

    assert parse("train") == {}
    line = "train --flip --no-drop-last --size 48x64 --sample-every epoch --lr-g 1e-3 --seed 7"
    assert parse(line) == {
        "flip": True,
        "drop_last": False,
        "image_size": "48x64",
        "sample_every": "epoch",
        "lr_g": 1e-3,
        "seed": 7,
    }
    assert parse("train --sample-every 10 --joint-upd") == {
        "sample_every": 10,
        "joint_update": True,
    }


@pytest.mark.parametrize(
    "command, names",
    (
        ("sample", ["n", "seed"]),
        ("animate", ["seconds"]),
        ("interpolate", ["seed"]),
        ("arithmetic", ["seed"]),
        ("activations", ["layer", "image"]),
    ),
)
def test_defaults_are_what_the_help_says(command, names, capsys):
    given = build_parser().parse_args([command, "RUN"])
    with pytest.raises(SystemExit):
        run(command, "--help")
    text = " ".join(capsys.readouterr().out.split())
    for name in names:
        about = text.rpartition(f"--{name} ")[2]
        default = about.partition("(default ")[2].partition(")")[0]
        assert default == str(getattr(given, name)).removesuffix(".0")


@pytest.mark.parametrize(
    "line, message",
    (
        ("trian", "unknown command 'trian': did you mean train? (see minigan --help)"),
        ("xyz", "unknown command 'xyz' (see minigan --help)"),
        ("train --widht 4", "unknown option --widht: did you mean --width? (see minigan train -"),
        ("train --btach-size=4", "unknown option --btach-size: did you mean --batch-size?"),
        ("sample --otu a.png", "unknown option --otu: did you mean --out? (see minigan sample -"),
        ("--versoin", "unknown option --versoin: did you mean --version? (see minigan --help)"),
        ("train --label 3", "unknown option --label (see minigan train --help)"),
        ("train --qqq", "unknown option --qqq (see minigan train --help)"),
        ("train mnist", "unexpected 'mnist': did you mean --dataset mnist? (see minigan train --h"),
        ("train photos", "unexpected 'photos': did you mean --images photos? (see minigan train -"),
        ("presets mnist extra", "unexpected 'extra' (see minigan presets --help)"),
        ("train -5", "unexpected '-5' (see minigan train --help)"),
        ("train --preset mnits", "unknown preset 'mnits': did you mean mnist?"),
        ("presets shibuya", "unknown preset 'shibuya': did you mean shibuya-fnn?"),
        ("presets xyz", "unknown preset 'xyz': choose one of mnist, color32, image64, "),
        ("presets shibuya-svhn:T9", "has no variant 'T9': choose one of shibuya-svhn:T1, "),
        (
            "train --dataset cifar",
            "--dataset must be one of auto, mnist, fashion-mnist, kmnist, cifar10, svhn, celeba, "
            "folder, strokes, got 'cifar': did you mean cifar10?",
        ),
        ("train --z nomral", "--z must be one of normal, uniform, got 'nomral': did you mean norm"),
        (
            "train --steps ten",
            "argument --steps: expected a whole number, got 'ten' (see minigan t",
        ),
        ("train --lr-g x", "argument --lr-g: expected a number, got 'x'"),
        ("train --sample-every x", "--sample-every: expected a whole number or epoch, got 'x'"),
        ("train --z-dim -5", "--z-dim must be a whole number of at least 1, got -5"),
        ("train --backend plain --compile", "compile is for the numpy backend: leave it out"),
        ("train --backend plain --threads 2", "threads are for the numpy backend: leave them out"),
        ("train --images nowhere", "nowhere"),
        ("-v", "the following arguments are required: command (see minigan --help)"),
        ("train --resume runs/none", "runs/none is not the folder of a run: it does not exist"),
        ("train --resume a --out b", "--resume continues in the run's folder: omit --out"),
        ("train-classifier --preset mnits", "unknown preset 'mnits': did you mean mnist?"),
        ("judge --x 3", "unknown option --x (see minigan train-classifier --help)"),
    ),
)
def test_a_mistake_is_one_line(line, message, capsys, tmp_path, monkeypatch):
    def load_dataset(name, data_dir=None, *, images=None, **options):
        if images is not None:
            return load(name, data_dir, images=images, **options)
        return noise(40)(name, **options)

    load = open_game_module.load_dataset
    monkeypatch.setattr(open_game_module, "load_dataset", load_dataset)
    monkeypatch.chdir(tmp_path)
    assert message in refused(capsys, *line.split())
    assert list(tmp_path.iterdir()) == []


def because(error, code):
    """-> the error, caused by an error of the system."""
    error.__cause__ = OSError(code, os.strerror(code))
    return error


@pytest.mark.parametrize(
    "error, code, line",
    (
        (mg.RunError("the folder\nis gone"), 2, "the folder is gone"),
        (mg.ConfigError("a mistake"), 2, "a mistake"),
        (mg.DataError("a damaged file"), 2, "a damaged file"),
        (mg.TrainingError("step 3: loss_g is nan"), 1, "step 3: loss_g is nan"),
        (because(mg.RunError("cannot write"), errno.ENOSPC), 1, "cannot write"),
        (because(mg.DataError("cannot read"), errno.EIO), 1, "cannot read"),
        (because(mg.RunError("cannot write"), errno.EACCES), 2, "cannot write"),
        (because(mg.RunError("cannot write"), errno.ENOENT), 2, "cannot write"),
        (mg.RunError("\x1b[31m\x9b\u202e\0\x7f"), 2, r"\x1b[31m\x9b\u202e\x00\x7f"),
        (MemoryError("1 TiB"), 2, "not enough memory (1 TiB): use a smaller --batch-size, --width"),
        (OSError(5, "Input/output error"), 1, "Input/output error"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), 2, "use a smaller --batch-size, --width"),
        (KeyboardInterrupt(), 130, "stopped"),
    ),
)
def test_exit_codes(error, code, line, capsys, monkeypatch):
    def fail(arguments, log):
        raise error

    monkeypatch.setattr(show, "plot", fail)
    assert line in refused(capsys, "plot", "somewhere", code=code)


def test_a_long_message_is_cut_in_its_middle(capsys, monkeypatch):
    def fail(arguments, log):
        raise mg.RunError("a" * 10**6 + "the end")

    monkeypatch.setattr(show, "plot", fail)
    line = refused(capsys, "plot", "somewhere")
    assert len(line) < 2100 and line.endswith("the end") and " ... " in line


def test_what_is_printed_obeys_nobody_else(capsys, monkeypatch):
    monkeypatch.setattr(show, "plot", lambda arguments, log: log("a table\n\x1b[2J\x9b\u2066 é 日"))
    assert run("plot", "somewhere") == 0
    assert capsys.readouterr().out == "a table\n\\x1b[2J\\x9b\\u2066 é 日\n"


def test_an_interruption_that_was_reported_is_not_reported_again(capsys):
    def work():
        raise Interrupted(15)

    assert answer("program", work) == 143 and capsys.readouterr().err == ""
    assert answer("program", lambda: None) == 0


def test_a_bug_is_not_hidden(monkeypatch):
    monkeypatch.setattr(show, "plot", lambda arguments, log: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["plot", "somewhere"])


def test_a_whole_process():
    """It starts without what only some commands need, and shows no traceback."""
    code = (
        "import sys; from minigan.cli.main import main; code = main(['train', '--widht', '4']);"
        "heavy = ('PIL', 'tqdm', 'matplotlib', 'minigan.training', 'minigan.inspection');"
        "print([name for name in heavy if name in sys.modules]); sys.exit(code)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (2, "[]\n")
    hint = "did you mean --width? (see minigan train --help)"
    assert result.stderr == f"minigan: error: unknown option --widht: {hint}\n"


@pytest.mark.slow
@pytest.mark.parametrize("stderr", ("2>&-", "2>/dev/full"))
def test_a_mistake_that_cannot_be_shown_has_its_exit_code(stderr, tmp_path):
    command = f"{sys.executable} -m minigan sample nowhere --out a.png {stderr}"
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    done = subprocess.run(
        command, shell=True, cwd=tmp_path, stdout=subprocess.PIPE, env=environment
    )
    assert (done.returncode, done.stdout) == (2, b"")
