"""The kernels as a GPU gets them: compiled by NVIDIA's run-time compiler for three generations of GPUs, none of which need be here.

Where CuPy and NVRTC are installed: pip install cupy-cuda13x nvidia-cuda-nvrtc. Every variant that training a preset asks
for must compile, without a warning and without registers that spill into memory.
"""

import io
import re
import sys

import numpy as np
import pytest

import minigan as mg
from minigan.backends.gpu.kernels import OPTIONS, source
from minigan.presets import MODULES, get_preset
from tests.support.strict_cupy import make_module

ARCHITECTURES = ("sm_80", "sm_90", "sm_120")  # A100, H100 and H200, RTX 50


@pytest.fixture(scope="module")
def nvrtc():
    """-> function (code, expressions, architecture) -> the compiler's log"""
    try:
        from cupy.cuda.compiler import _NVRTCProgram as program
    except ImportError as error:
        pytest.skip(f"needs CuPy ({error}): pip install cupy-cuda13x nvidia-cuda-nvrtc")

    def compile_for(code, expressions, architecture):
        log = io.StringIO()
        try:
            built = program(
                code, "kernels.cu", (), (), name_expressions=tuple(expressions), method="cubin"
            )
        except (ImportError, RuntimeError) as error:
            pytest.skip(f"needs NVRTC ({error}): pip install nvidia-cuda-nvrtc")
        cubin, names = built.compile(
            (f"-arch={architecture}", *OPTIONS, "-ftz=true", "--ptxas-options=-v"), log
        )  # CuPy adds the second
        assert len(cubin) > 1000 and set(names) == set(expressions)
        return log.getvalue()

    return compile_for


def asked_for(preset, dtype="float32"):
    """-> text, expressions: of the module that this preset's training compiles. Its nets are set up without their numbers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "cupy", make_module())
        patch.setattr("minigan.parameters.Store.allocate", lambda store: None)
        patch.setattr("minigan.parameters.Store.parameter", declare)
        backend, system = mg.get_backend("cupy", dtype=dtype), get_preset(preset)
        for name, layers, shape in (
            (
                "G",
                system.generator(system.width, system.z_dim, system.image_shape),
                (system.z_dim,),
            ),
            ("D", system.discriminator(system.width, system.image_shape), system.image_shape),
        ):
            mg.Sequential(layers, name=name).setup(
                shape, backend=backend, rng=np.random.default_rng(0)
            )
    kernels = backend.kernels
    return source() + "".join(g.struct() for g in sorted(kernels.geometries)), [
        kernel.expression for kernel in kernels.pending
    ]


def declare(store, layer, name, *arguments, **options):
    """A parameter without numbers."""
    store.declared.append((layer, name, store.full_name(name), None))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_kernel_of_every_preset_compiles_without_spills(architecture, nvrtc):
    """On one generation of GPUs all of them, on the others those of two systems, and of gradient checks in float64."""
    presets = MODULES if architecture == "sm_90" else ("fredriksson-mnist", "pytorch-64")
    modules = [asked_for(preset) for preset in presets] + [asked_for("color32", "float64")]
    seen = set()
    for code, expressions in modules:
        new = [expression for expression in expressions if expression not in seen]
        if not new:
            continue
        seen.update(new)
        log = nvrtc(code, new, architecture)
        assert not re.search("warning|error", log, re.IGNORECASE), log
        spilled = [line for line in log.splitlines() if re.search(r"[1-9]\d* bytes spill", line)]
        assert not spilled, "\n".join(spilled)
        assert log.count("bytes spill stores") >= len(new)
    print(f"{architecture}: {len(seen)} kernels")


def test_presets_ask_for_all_their_kernels_before_the_first_launch():
    """What a preset's training launches is what was compiled above: see also test_a_run_compiles_one_module_..."""
    _, expressions = asked_for("fredriksson-mnist")
    names = {expression.split("<")[0] for expression in expressions}
    assert {
        "im2col",
        "col2im",
        "few_forward",
        "normalise",
        "norm_backward",
        "adam",
        "bce",
        "fold",
        "collect",
    } <= names
    assert len(expressions) == len(set(expressions)) < 80
