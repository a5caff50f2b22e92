"""The notebook runs from the first cell to the last, and is stored without outputs."""

import re
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parents[2] / "examples" / "minigan.ipynb"


def test_the_notebook_runs(tmp_path, monkeypatch):
    """With 20 steps instead of a minute's, on Strokes if there is no MNIST."""
    nbformat = pytest.importorskip("nbformat", reason="needs nbformat, nbclient and ipykernel")
    nbclient = pytest.importorskip("nbclient", reason="needs nbformat, nbclient and ipykernel")
    pytest.importorskip("ipykernel", reason="needs nbformat, nbclient and ipykernel")
    pytest.importorskip("matplotlib")
    monkeypatch.setenv("PYTHONPATH", str(NOTEBOOK.parents[1]))
    monkeypatch.setenv("PYTHONWARNINGS", "default")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells)
    first = next(cell for cell in notebook.cells if "STEPS = " in cell.source)
    first.source, count = re.subn(r"STEPS = \d+", "STEPS = 20", first.source)
    assert count == 1
    client = nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3")
    client.execute(cwd=str(tmp_path))
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    text = "".join(output.get("text", "") for output in outputs)
    assert text.count("gradients agree") == 2 and text.count("gradients DISAGREE") == 1
    shown = [output.data for output in outputs if output.output_type == "display_data"]
    shown += [output.data for output in outputs if output.output_type == "execute_result"]
    assert sum("image/png" in data for data in shown) == 2  # a grid, the curves
    assert any("explorer.html" in data.get("text/html", "") for data in shown)
    assert list(tmp_path.glob("runs/*/explorer.html"))
