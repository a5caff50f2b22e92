"""The house itself: rooms, imports, words, metadata, and what a newcomer meets first."""

import ast
import configparser
import os
import re
import subprocess
import sys
from dataclasses import fields
from functools import partial
from pathlib import Path

import pytest

import minigan
from minigan.cli.main import build_parser
from minigan.presets import MODULES
from minigan.training.config import Config, new_config
from tests.support.count_lines import count, is_core
from tests.support.oldest_versions import oldest_versions

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "minigan").rglob("*.py"))
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
ROOMS = [  # lowest first; a file imports from its own room or from one below
    {"errors"},
    {"checks", "copying", "concurrency", "stop_signals"},
    {"files", "file_lock", "progress_bar"},
    {"arrays"},
    {"initializers", "parameters"},
    {"layers"},
    {"losses", "optimizers", "averaging", "frozen_statistics", "gradcheck"},
    {"objective", "r1"},
    {"gan"},
    {"parallel"},
    {"backends"},
    {"presets"},
    {"data"},
    {"evaluation"},
    {"training"},
    {"inspection"},
    {"export"},
    {"report"},
    {"cli"},
    {"api"},
    {"__main__", "__init__"},
]


def module_of(path):
    """minigan/layers/conv2d.py -> "minigan.layers.conv2d" """
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports(path):
    """-> the modules of minigan that a file imports; those inside functions too."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("minigan."))
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "minigan":
            inside = ROOT / Path(*node.module.split("."))
            for alias in node.names:
                is_module = (inside / f"{alias.name}.py").exists() or (inside / alias.name).is_dir()
                yield f"{node.module}.{alias.name}" if is_module else node.module


# ---- rooms and imports


def test_every_file_lives_in_a_room():
    tops = {path.relative_to(ROOT / "minigan").parts[0].removesuffix(".py") for path in SOURCES}
    assert tops == set.union(*ROOMS)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down(path):
    level = {name: i for i, names in enumerate(ROOMS) for name in names}
    room = path.relative_to(ROOT / "minigan").parts[0].removesuffix(".py")
    for imported in imports(path):
        _, target, *_ = (*imported.split("."), "__init__")
        assert level[target] <= level[room], f"{module_of(path)} imports {imported}"


def test_no_circle_of_files():
    graph = {module_of(path): set(imports(path)) for path in SOURCES}
    done, open_files = set(), []

    def visit(module):
        assert module not in open_files, f"{open_files[open_files.index(module) :]} is a circle"
        if module not in done:
            open_files.append(module)
            for imported in graph.get(module, ()):
                # a folder's __init__ may gather what is in the folder
                if not imported.startswith(f"{module}.") and imported != "minigan":
                    visit(imported)
            done.add(open_files.pop())

    for module in graph:
        if not (ROOT / Path(*module.split("."))).is_dir():
            visit(module)


def test_budget_of_lines():
    lines = count()
    assert sum(count for file, count in lines.items() if is_core(file)) <= 2_000
    assert sum(lines.values()) <= 13_640


def test_run_time_packages_are_the_promised_ones():
    optional = {"cupy", "cuda", "mpi4py", "scipy", "matplotlib", "onnx", "safetensors"}
    optional |= {"numba", "llvmlite"}
    allowed = {"minigan", "numpy", "PIL", "tqdm", *optional, *sys.stdlib_module_names}
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module]
            assert {name.split(".")[0] for name in names} <= allowed, path


def test_only_the_gpu_backend_knows_cupy_and_nothing_unpickles():
    for path in SOURCES:
        text = path.read_text("utf-8")
        if "gpu" not in path.parts and path.name != "nccl.py":
            assert not re.search(r"^\s*(import|from) cupy", text, re.MULTILINE), path
        unpickles = r"allow_pickle=True|^\s*(import|from) (pickle|shelve|marshal|dill|joblib)"
        assert not re.search(unpickles, text, re.MULTILINE), path


# ---- import and metadata


def seconds(code):
    """-> least CPU seconds of a few fresh processes, without the start of the interpreter."""
    timed = f"import time; start = time.process_time(); {code}; print(time.process_time() - start)"
    return min(float(run_python(timed)) for _ in range(7))


def run_python(code):
    """-> what a fresh process prints."""
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, check=True, text=True).stdout


def test_import_is_quick():
    beyond = (seconds("import numpy, minigan") - seconds("import numpy") for _ in range(3))
    assert any(each < 0.1 for each in beyond)  # a busy machine disturbs even the least of a few


def test_import_brings_nothing_that_a_network_does_not_need():
    names = "('cupy', 'PIL', 'tqdm', 'matplotlib', 'torch', 'numba')"
    found = run_python(f"import sys, minigan; print(*(set({names}) & set(sys.modules)))")
    assert found == "\n"


def test_the_folder_above_the_clone_does_not_hide_the_package(tmp_path):
    """A clone in it is named minigan, too: it is a folder without __init__.py."""
    (tmp_path / "minigan").symlink_to(ROOT)
    run = partial(subprocess.run, cwd=tmp_path, capture_output=True, text=True)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    found = run([sys.executable, "-m", "minigan", "--version"], env=environment)
    assert found.stdout == f"minigan {minigan.__version__}\n" and not found.stderr
    environment |= {"PYTHONPATH": str(ROOT)}  # as an editable installation does
    found = run([sys.executable, "-c", "import minigan; minigan.Sequential"], env=environment)
    assert found.returncode == 0
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", "utf-8")
    assert setup["options"]["package_dir"].split() == ["=", "."]  # without it there is no such path


def test_metadata():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", "utf-8")
    assert re.fullmatch(r"\d+\.\d+\.\d+", minigan.__version__)
    assert f"## {minigan.__version__}" in (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert f"version: {minigan.__version__}" in (ROOT / "CITATION.cff").read_text("utf-8")
    assert setup["options"]["python_requires"] == ">=3.10"
    lines = filter(None, setup["options"]["install_requires"].split("\n"))
    assert {re.match(r"\w+", line).group() for line in lines} == {"numpy", "pillow", "tqdm"}
    shipped = re.split(r",\s*", setup["options.package_data"]["minigan"])
    files = [
        path
        for path in (ROOT / "minigan").rglob("*")
        if path.is_file() and path.parent.name != "__pycache__"
    ]
    others = {path for path in files if path.suffix != ".py"}
    matched = {path for pattern in shipped for path in (ROOT / "minigan").glob(pattern)}
    assert matched == others
    assert "MIT" in (ROOT / "LICENSE").read_text("utf-8")


def test_extras_promise_one_oldest_version_of_each_package():
    """.ci/run installs them together and runs tests with them."""
    found = oldest_versions()
    assert {"numpy", "pillow", "tqdm", "matplotlib", "scipy", "pytest", "hypothesis"} <= set(found)
    assert all(len(versions) == 1 for versions in found.values())
    assert "tests/support/oldest_versions.py" in (ROOT / ".ci/run").read_text("utf-8")


# ---- pages


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text("utf-8").split()) <= 900


def test_readme_and_ci_give_the_same_test_command():
    readme = (ROOT / "README.md").read_text("utf-8")
    assert len(re.findall(r"^.*-m pytest$", readme, re.MULTILINE)) == 1
    # .ci/run takes the command from there, word by word
    assert "grep -- '-m pytest$' README.md" in (ROOT / ".ci/run").read_text("utf-8")


def test_readme_code_runs(capsys):
    readme = (ROOT / "README.md").read_text("utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    exec(compile(block, "README.md", "exec"), {"__name__": "readme"})
    assert "gradients agree" in capsys.readouterr().out


def test_ten_files_to_read_first():
    readme = (ROOT / "README.md").read_text("utf-8")
    files = re.findall(r"^(\d+)\. `([\w/]+\.py)`", readme, re.MULTILINE)
    assert [int(number) for number, _ in files] == list(range(1, 11))
    assert all((ROOT / "minigan" / file).exists() for _, file in files)


def test_reading_names_every_file_once():
    reading = (ROOT / "docs/reading.md").read_text("utf-8")
    named = re.findall(r"^- `([\w/]+\.py)`", reading, re.MULTILINE)
    files = {path.relative_to(ROOT / "minigan").as_posix() for path in SOURCES}
    files = {file for file in files if not file.endswith(("__init__.py", "__main__.py"))}
    assert len(named) == len(set(named))
    assert set(named) == files


@pytest.mark.parametrize(
    "page",
    [*PAGES, *ROOT.glob("*/README.md"), ROOT / "CONTRIBUTING.md"],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_links_and_files_of_a_page_exist(page):
    text = page.read_text("utf-8")
    for link in re.findall(r"\]\(([^)]+)\)", text):
        if "://" not in link and not link.startswith("#"):
            assert (page.parent / link.split("#")[0]).exists(), f"{page} leads to {link}"
    for file in re.findall(r"`((?:examples|benchmarks|tests|docs|minigan)/[\w./-]+)`", text):
        assert (ROOT / file).exists(), f"{page} names {file}"


def test_examples_show_every_picture_and_every_preset():
    """And the options of each command are accepted; training itself takes minutes."""
    page = (ROOT / "examples/README.md").read_text("utf-8")
    links = {ROOT / "examples" / link for link in re.findall(r"\]\(([^):]+\.png)\)", page)}
    assert links == set((ROOT / "examples").rglob("*.png"))
    shown = set()
    for line in re.findall(r"`minigan (train [^`]+)`", page):
        options = vars(build_parser().parse_args(line.split()))
        names = {field.name for field in fields(Config)}
        given = {name: value for name, value in options.items() if name in names}
        shown.add(new_config(given).preset)
    by_programs = {
        "mnist": "train_mnist.py",
        "image64": "train_folder.py",
        "jayathilaka-faces": "compare_optimizers.py",
    }
    assert shown | set(by_programs) == set(MODULES)
    for name, program in by_programs.items():
        assert f"**{name}**" in page and f"`python examples/{program}" in page


# ---- words


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_public_function_has_a_docstring(path):
    tree = ast.parse(path.read_text("utf-8"))
    assert ast.get_docstring(tree) or not tree.body, path
    is_table = path.parent.name == "presets" and path.name != "__init__.py"
    for node in tree.body:
        is_function = isinstance(node, ast.FunctionDef)
        if is_table and is_function:
            continue  # a preset is a table: its functions are their contents
        if (is_function or isinstance(node, ast.ClassDef)) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{path}: {node.name}"


def test_the_words_of_autograd_and_of_a_private_language_are_not_used():
    """A tape is autograd's record, which minigan does not have."""
    words = re.compile(
        r"\b(tape|crew|fellows?|inbox|astray|as remembered|neighbours?|colours?|"
        r"behaviour|normalis\w+|recognis\w+|initialis\w+|memoris\w+|anew|whoever)\b",
        re.IGNORECASE,
    )
    for path in [*SOURCES, *PAGES, *ROOT.glob("*/README.md")]:
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            found = words.search(line)
            assert not found, f"{path}:{number}: {found.group()}"
