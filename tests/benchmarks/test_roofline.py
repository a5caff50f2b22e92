"""roofline.py: what a machine can do at most."""

import pytest

from benchmarks import nets, roofline
from minigan import get_backend
from minigan.cli.costs import forward_flops


def test_products_are_those_of_the_layers(quick):
    """By hand: G.1 from one pixel, D.0 from one channel; each has its layer's operations."""
    net = dict(preset="fredriksson-mnist", batch=4, width=2)
    rows = roofline.Roofline("numpy").products(**net)
    sizes = {(row["layer"], row["pass"]): (row["m"], row["n"], row["k"]) for row in rows}
    assert sizes["G.1", "forward"] == (4, 7 * 7 * 4, 100)
    assert sizes["G.1", "dw"] == (7 * 7 * 4, 100, 4)
    assert sizes["D.0", "forward"] == (4 * 14 * 14, 2, 25)
    assert sizes["D.0", "dx"] == (4 * 14 * 14, 25, 2)
    host = nets.build(net["preset"], net["batch"], get_backend("plain"), net["width"])
    for (name, _), (m, n, k) in sizes.items():
        layer = getattr(host, name[0]).layers[int(name[2:])]
        assert 2 * m * n * k == 4 * forward_flops(layer)
    assert all(row["gflops"] > 0 for row in rows)


def test_the_largest_product(quick):
    limit = roofline.Roofline("numpy", edge=33)
    limit.run(2)
    assert limit.product() > 0


@pytest.mark.slow
def test_on_the_stand_in_for_a_gpu(device):
    limit = roofline.Roofline("cupy", "tf32", edge=33)
    assert limit.product() > 0 and limit.copy(mib=1) > 0 and min(limit.empty_kernels()) > 0
    assert limit.backend.precision == "tf32" and limit.versions()["gpu"] == "Abacus 200"
