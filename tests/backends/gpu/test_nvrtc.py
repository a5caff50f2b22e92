"""The kernels as a GPU gets them: compiled by NVRTC for three generations, without any GPU.

Skipped without CuPy and NVRTC: pip install cupy-cuda13x nvidia-cuda-nvrtc. Every variant that the
training of a preset requests must compile, without a warning and without registers that spill.
"""

import io
import re
import sys

import numpy as np
import pytest

import minigan as mg
from minigan.backends.gpu.backend import GpuBackend
from minigan.backends.gpu.implicit import TILES
from minigan.backends.gpu.kernels import OPTIONS, source
from minigan.backends.gpu.table import OPERATIONS
from minigan.presets import MODULES
from minigan.training.config import new_config
from minigan.training.switches import switched_preset
from tests.support.strict_cupy import make_module

ARCHITECTURES = ("sm_75", "sm_80", "sm_90", "sm_120")  # T4, A100, H100 and H200, RTX 50
FEW = ("fredriksson-mnist", "pytorch-64")  # presets that two of them get


@pytest.fixture(scope="module")
def nvrtc():
    """-> function (code, expressions, architecture) -> the compiler's log"""
    try:
        from cupy.cuda.compiler import _NVRTCProgram as Program
    except ImportError as error:
        pytest.skip(f"needs CuPy ({error}): pip install cupy-cuda13x nvidia-cuda-nvrtc")

    def compile_for(code, expressions, architecture):
        log = io.StringIO()
        # CuPy adds the second option
        options = (f"-arch={architecture}", "-ftz=true", *OPTIONS, "--ptxas-options=-v")
        try:
            names = tuple(expressions)
            built = Program(code, "kernels.cu", (), (), name_expressions=names, method="cubin")
        except (ImportError, RuntimeError) as error:
            pytest.skip(f"needs NVRTC ({error}): pip install nvidia-cuda-nvrtc")
        cubin, names = built.compile(options, log)
        assert len(cubin) > 1000 and set(names) == set(expressions)
        return log.getvalue()

    return compile_for


def requested(preset, dtype="float32", **options):
    """-> text, expressions: of the module that training compiles. Nets have no numbers here."""

    def declare(store, layer, name, *arguments, **options):
        store.declared.append((layer, name, store.full_name(name), None))

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "cupy", make_module())
        patch.setattr("minigan.parameters.Store.allocate", lambda store: None)
        patch.setattr("minigan.parameters.Store.parameter", declare)
        backend = GpuBackend(dtype, operations=OPERATIONS, **options)
        system = switched_preset(new_config({"preset": preset}))
        width, shape, rng = system.width, system.image_shape, np.random.default_rng(0)
        for layers, in_shape in (
            (system.generator(width, system.z_dim, shape), (system.z_dim,)),
            (system.discriminator(width, shape), shape),
        ):
            mg.Sequential(layers).setup(in_shape, backend=backend, rng=rng)
    kernels = backend.kernels
    kernels.get("pool_moments")  # of several GPUs
    text = source() + "".join(geometry.struct() for geometry in sorted(kernels.geometries))
    return text, [kernel.expression for kernel in kernels.pending]


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_kernel_of_every_preset_compiles_without_spills(architecture, nvrtc):
    """On one generation all presets, on the others two, and gradient checks in float64."""
    modules = [requested(preset) for preset in (MODULES if architecture == "sm_90" else FEW)]
    seen = set()
    for code, expressions in [*modules, requested("color32", "float64")]:
        new = [expression for expression in expressions if expression not in seen]
        if not new:
            continue
        seen.update(new)
        log = nvrtc(code, new, architecture)
        assert not re.search("warning|error", log, re.IGNORECASE), log
        spilled = [line for line in log.splitlines() if re.search(r"[1-9]\d* bytes spill", line)]
        assert not spilled, "\n".join(spilled)
        assert log.count("bytes spill stores") >= len(new)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ("sm_80", "sm_90", "sm_100"))
def test_products_without_columns_share_a_multiprocessor(architecture, nvrtc):
    """Two blocks at least, one of the largest tile; on one generation with every tile."""
    for preset in FEW:
        code, expressions = requested(preset, precision="tf32", implicit=True)
        named = [e for e in expressions if e.startswith("implicit<")]
        tiles = TILES if architecture == "sm_90" and preset == FEW[0] else ()
        named += [re.sub(r"\d+, \d+>", f"{m}, {n}>", e) for e in named for m, n in tiles]
        assert len(named) >= 3
        for expression in dict.fromkeys(named):
            log = nvrtc(code, [expression], architecture)
            assert not re.search("warning|error", log, re.IGNORECASE), log
            assert not re.search(r"[1-9]\d* bytes (spill|stack)", log), log
            registers = int(re.search(r"Used (\d+) registers", log)[1])
            threads = 256 if ", 256, " in expression else 2 * 128
            assert registers * threads <= 65_536, log


def test_a_preset_requests_all_its_kernels_at_setup():
    """test_graph.py shows that a run compiles no other."""
    _, expressions = requested("fredriksson-mnist")
    names = {expression.partition("<")[0] for expression in expressions}
    assert {
        "im2col", "col2im", "few_forward", "normalize", "norm_backward", "adam",
        "loss_of_logits", "fold", "collect",
    } <= names  # fmt: skip
    assert len(expressions) == len(set(expressions)) < 80
