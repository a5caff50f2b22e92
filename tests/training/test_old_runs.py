"""Runs of minigan 0.1.0: sampled, and resumed as 0.1.0 itself would.

run-0.1.0/ has two that were trained for a few steps, with the pictures left out. EXPECTED is what
0.1.0 printed when it went on; its samples are known by their mean. Another BLAS rounds differently.
"""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from minigan.data import load_dataset
from minigan.gan import MEASURED
from minigan.training import open_game, open_images
from minigan.training.run_folder import Run
from tests.support.training_runs import metrics, names, open_game_module, resume

FOLDER = Path(__file__).parent / "run-0.1.0"
EXPECTED = {  # run -> the next steps, as MEASURED
    "mnist": {
        49: (0.4421916, 0.8104052, 0.8214449, 0.6506220, 0.5467997, 5.1398153, 1.9531058),
        50: (0.4997337, 0.5602191, 0.9362320, 0.6130146, 0.4226989, 5.3095107, 2.3626146),
        51: (0.3404326, 0.7777295, 1.1125228, 0.7149809, 0.5248602, 6.1130723, 3.6545464),
        52: (0.4922340, 0.8339849, 1.0385746, 0.6298186, 0.5461370, 8.8070011, 2.1439604),
    },
    "shibuya-fnn": {
        13: (0.3265640, 1.7532739, 0.2297440, 0.9037290, 0.8032450, 1.0820080, 0.1331864),
        14: (0.3271508, 1.6634809, 0.2396905, 0.9124976, 0.7945579, 1.0375239, 0.0647309),
        15: (0.3281305, 2.0074191, 0.1839635, 0.9160621, 0.8402062, 1.2508500, 0.0699294),
        16: (0.3331153, 2.1217064, 0.1744855, 0.9299906, 0.8481529, 1.3246219, 0.0473338),
    },
}
SAMPLES = {  # means of the first four samples of `minigan sample`, of pixels 0 .. 255
    "mnist": (133.2678571, 117.2933673, 106.8380102, 117.3188775),
    "shibuya-fnn": (112.7142857, 102.7385204, 112.5701530, 112.5076530),
}
TOLERANCE = 1e-4


@pytest.fixture(params=EXPECTED)
def old_run(request, tmp_path, monkeypatch):
    """-> name, folder of a copy of the run; its images are the synthetic digits again."""
    monkeypatch.setattr(open_game_module, "load_dataset", load_dataset)
    with zipfile.ZipFile(FOLDER / f"{request.param}.zip") as file:
        file.extractall(tmp_path / "run")
    return request.param, tmp_path / "run"


def test_it_is_sampled(old_run):
    name, folder = old_run
    game, metadata = open_game(Run(folder))
    assert metadata["versions"]["minigan"] == "0.1.0"
    images = game.sample(4, game.stream("sample", seed=0))
    # a pixel on the edge between two values may fall to the other side
    np.testing.assert_allclose(images.mean(axis=(1, 2, 3)), SAMPLES[name], atol=0.02)
    assert np.ptp(images) > 100
    assert len(open_images(game, metadata, None, print).images) == 64


def test_it_resumes_as_it_would_have_gone_on(old_run):
    name, folder = old_run
    last = max(EXPECTED[name])
    begin = f"resuming {folder} at step {last - 4}, steps {last} (was {last - 4})"
    assert begin in resume(folder, steps=last)
    rows = metrics(folder)
    assert [int(row["step"]) for row in rows] == list(range(1, last + 1))
    assert len({tuple(row) for row in rows}) == 1  # all with today's columns
    for row in rows[-4:]:
        found = [float(row[column]) for column in MEASURED]
        np.testing.assert_allclose(found, EXPECTED[name][int(row["step"])], rtol=TOLERANCE)
    assert names(folder / "checkpoints")[-1] == f"step-{last:08d}.npz"
