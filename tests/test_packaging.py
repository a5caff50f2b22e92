"""What a new user meets before the first line of code: import, metadata, the commands of the README."""

import ast
import configparser
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

import minigan
from minigan.cli.main import build_parser
from minigan.presets import MODULES
from minigan.training.config import Config, new_config

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "minigan").rglob("*.py"))


def seconds(code):
    """-> least CPU seconds of a few fresh processes, import of the interpreter's own things left out"""
    timed = f"import time; start = time.process_time(); {code}; print(time.process_time() - start)"
    return min(
        float(subprocess.run([sys.executable, "-c", timed], capture_output=True, check=True).stdout)
        for _ in range(7)
    )


def test_import_is_quick():
    beyond = (seconds("import numpy, minigan") - seconds("import numpy") for _ in range(3))
    assert any(each < 0.1 for each in beyond)  # a busy machine disturbs even the least of a few


def test_import_brings_nothing_that_a_network_does_not_need():
    code = "import sys, minigan; print(*(name for name in ('cupy', 'PIL', 'tqdm', 'matplotlib', 'torch') if name in sys.modules))"
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, check=True, text=True
        ).stdout
        == "\n"
    )


def test_run_time_packages_are_the_promised_ones():
    allowed = {
        "minigan",
        "numpy",
        "PIL",
        "tqdm",
        "cupy",
        "cuda",
        "scipy",
        *sys.stdlib_module_names,
    }  # three of them optional
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module]
            extra = {"matplotlib"} if path.name == "plots.py" else set()
            assert {name.split(".")[0] for name in names} <= allowed | extra, path


REGISTERS = ("minigan.backends.cpu.backend", "minigan.backends.gpu.backend")
BELOW_THE_LAYERS = ("numpy_backend", "cupy_backend", "cupy_kernels", "cupy_gemm")


def room(module):
    """-> the room that a module of minigan lives in: "minigan.layers.conv2d" -> "layers"."""
    parts = module.split(".")[1:]
    if (
        parts[:1] == ["backends"]
        and parts[1:]
        and re.match("(numpy|cupy|fused)_", parts[1])
        and parts[1] not in BELOW_THE_LAYERS
    ):
        return "fast"  # versions of the operations of layers, optimizers and the game: they know what they take the place of
    return parts[0]


def imports(path):
    """-> modules of minigan that a file imports, as full names; those inside of functions too."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "minigan":
            inside = ROOT / Path(*node.module.split("."))
            for alias in node.names:
                is_module = (inside / f"{alias.name}.py").exists() or (inside / alias.name).is_dir()
                yield f"{node.module}.{alias.name}" if is_module else node.module


def test_imports_only_go_down():
    """The rooms of the house, lowest first: a file imports from its own room or one below."""
    rooms = [
        {"errors"},
        {"checks"},
        {"backends"},
        {"initializers", "parameters"},
        {"layers"},
        {"averaging", "losses", "optimizers", "gradcheck", "neighbours", "softmax"},
        {"gan"},
        {"fast"},
        {"presets"},
        {"locks"},
        {"data"},
        {"config"},
        {"checkpoint"},
        {"images"},
        {"run"},
        {"progress"},
        {"alarms", "astray"},
        {"history"},
        {"animation", "plots"},
        {"comparison", "report"},
        {"evaluation"},
        {"training", "recorded"},
        {"costs"},
        {"catalogue"},
        {"latent"},
        {"cli"},
        {"__main__"},
    ]
    level = {name: i for i, names in enumerate(rooms) for name in names}
    for path in SOURCES:
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        if module == "minigan":
            continue
        for imported in imports(path):
            if module in REGISTERS and room(imported) in (
                "fast",
                "averaging",
                "gan",
                "layers",
                "losses",
                "neighbours",
                "optimizers",
            ):
                continue  # where the faster versions are hung up, in a function that runs when a backend is made
            assert imported == "minigan" or level[room(imported)] <= level[room(module)], (
                f"{module} imports {imported}"
            )


def test_only_backends_know_cupy_and_nothing_unpickles():
    for path in SOURCES:
        text = path.read_text("utf-8")
        if "backends" not in path.parts:
            assert not re.search(r"^\s*(import|from) cupy", text, re.MULTILINE), path
        assert not re.search(
            r"allow_pickle=True|^\s*(import|from) (pickle|shelve|marshal|dill|joblib)",
            text,
            re.MULTILINE,
        ), path


def test_metadata():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", "utf-8")
    assert re.fullmatch(r"\d+\.\d+\.\d+", minigan.__version__)
    assert {"cuda12", "cuda13", "plots", "svhn", "svm", "test", "lint", "bench"} <= set(
        setup["options.extras_require"]
    )
    assert setup["options"]["python_requires"] == ">=3.10"
    required = {
        re.match(r"\w+", line).group()
        for line in setup["options"]["install_requires"].split("\n")
        if line
    }
    assert required == {"numpy", "pillow", "tqdm"}
    shipped = re.split(r",\s*", setup["options.package_data"]["minigan"])
    sources = [
        path
        for path in (ROOT / "minigan").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    ]
    assert set(shipped) == {
        path.relative_to(ROOT / "minigan").as_posix() for path in sources if path.suffix != ".py"
    }
    assert (ROOT / "minigan/py.typed").exists() and "MIT" in (ROOT / "LICENSE").read_text()


def test_readme_and_ci_give_the_same_test_command():
    readme = (ROOT / "README.md").read_text("utf-8")
    commands = re.findall(r"^.*-m pytest$", readme, re.MULTILINE)
    assert len(commands) == 1
    ci = (ROOT / ".ci/run").read_text("utf-8")
    assert "grep -- '-m pytest$' README.md" in ci  # it takes the command from there, word by word


@pytest.mark.parametrize("page", ["README.md", "examples/README.md", "benchmarks/README.md"])
def test_pages_show_pictures_and_files_that_exist(page):
    """And every picture of the examples is shown."""
    links = re.findall(r"\]\(([^)]+)\)", (ROOT / page).read_text("utf-8"))
    targets = [(ROOT / page).parent / link.split("#")[0] for link in links if "://" not in link]
    assert targets or page.startswith("benchmarks")
    for target in targets:
        assert target.exists(), f"{page} leads to {target}"
    if page == "examples/README.md":
        assert {target for target in targets if target.suffix == ".png"} == set(
            (ROOT / "examples").rglob("*.png")
        )


def test_the_examples_show_every_preset_and_its_command_works():
    """As far as its options: training itself takes minutes."""
    page = (ROOT / "examples/README.md").read_text("utf-8")
    shown = set()
    for line in re.findall(r"`minigan (train [^`]+)`", page):
        options = vars(build_parser().parse_args(line.split()))
        names = {field.name for field in fields(Config)}
        shown.add(
            new_config({name: value for name, value in options.items() if name in names}).preset
        )
    by_programs = {
        "mnist": "train_mnist.py",
        "image64": "train_folder.py",
        "jayathilaka-faces": "compare_optimizers.py",
    }
    assert shown | set(by_programs) == set(MODULES)
    for name, program in by_programs.items():
        assert f"**{name}**" in page and f"`python examples/{program}" in page


def test_readme_code_runs(capsys):
    """The API in 20 lines, as it stands there."""
    readme = (ROOT / "README.md").read_text("utf-8")
    blocks = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {"__name__": "readme"})
    assert "gradients agree" in capsys.readouterr().out


def test_readme_names_every_file_of_the_layers():
    readme = (ROOT / "README.md").read_text("utf-8")
    for path in SOURCES:
        name = str(path.relative_to(ROOT / "minigan"))
        if path.name not in ("__init__.py", "__main__.py"):
            assert name in readme or (f"{path.parent.name}/" in readme and path.name in readme), (
                f"README.md does not lead to {name}"
            )


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_public_function_says_what_it_does(path):
    tree = ast.parse(path.read_text("utf-8"))
    assert ast.get_docstring(tree) or not tree.body, path
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            if (
                path.parent.name == "presets"
                and isinstance(node, ast.FunctionDef)
                and path.name != "__init__.py"
            ):
                continue  # a preset is a table: its functions are their contents
            assert ast.get_docstring(node), f"{path}: {node.name}"
