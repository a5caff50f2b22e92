"""Networks without numbers."""

import numpy as np

import minigan as mg
from minigan.presets import MODULES, get_preset
from minigan.training.config import new_config
from minigan.training.outline import outline
from tests.support.preset_counts import counts_of


def test_an_outline_is_the_network_without_its_numbers():
    for name in MODULES:
        G, D = outline(new_config({"preset": name}))
        preset = get_preset(name)
        assert (G.count(), D.count()) == counts_of(name)
        assert D.out_shape == (1,) and G.out_shape == preset.image_shape
        for array in (*G.params.values(), *D.params.values()):
            assert not any(array.strides)  # one number, seen as all of them
    G, _ = outline(new_config({"preset": "mnist"}))
    made = mg.Sequential(get_preset("mnist").generator(16, 64, (28, 28, 1)), name="G")
    made.setup((64,), backend=mg.get_backend("plain"), rng=np.random.default_rng(0))
    assert G.summary() == made.summary()
