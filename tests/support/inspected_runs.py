"""Short runs of unlike networks, on 50 images of noise, to inspect."""

import pytest

from minigan import training
from minigan.data.files.npz import load_arrays, save_arrays
from tests.support.pictures import noise
from tests.support.training_runs import SMALL, open_game_module

RUNS = {  # name -> options
    "conditional": dict(preset="radford-mnist-conditional", width=4, batch_size=20),
    "plain": SMALL,
    "color": dict(SMALL, preset="color32", image_size="16x24"),
    "linear": dict(preset="shibuya-fnn", batch_size=16),
    "dropout": dict(preset="tensorflow-mnist", width=4, batch_size=16),
}
SHAPES = {"color": (16, 24, 3)}  # of the others (28, 28, 1)


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    """-> name -> folder of a run of three steps; they are made once. Change only copies."""
    folder = tmp_path_factory.getbasetemp() / "inspected runs"
    if not folder.exists():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(open_game_module, "load_dataset", noise(50))
            for name, options in RUNS.items():
                train(folder / name, **options)
    return {name: folder / name for name in RUNS}


def train(folder, **options):
    """A run whose samples differ: G's weights are enlarged, since so young it draws only gray."""
    training.train({**options, "steps": 3}, out=folder, log=lambda line: None)
    file = folder / "generator.npz"
    arrays = load_arrays(file).items()
    save_arrays(file, {key: array * (10 if key.endswith("W") else 1) for key, array in arrays})


@pytest.fixture
def images_of_noise(monkeypatch):
    """Whatever is loaded, it is the noise that the runs were trained on."""
    monkeypatch.setattr(open_game_module, "load_dataset", noise(50))
