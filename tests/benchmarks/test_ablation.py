"""ablation.py: a step without one idea is the same step."""

import pytest

from benchmarks import ablation
from minigan.backends.cpu.gathering import Gathering
from minigan.backends.cpu.im2col import Im2col
from minigan.backends.cpu.trace import TracingBackend
from minigan.backends.cpu.winograd import Winograd

SMALL = ["--preset", "mnist", "--width", "4", "--batch", "4", "--rounds", "1"]


def test_a_step_without_any_of_the_ideas_is_the_same_step(capsys):
    assert ablation.main(SMALL) == 0, capsys.readouterr().err
    rows = capsys.readouterr().out.splitlines()
    assert [row[:30].strip() for row in rows] == [
        ablation.ALL,
        *(f"without {name}" for name in ablation.IDEAS),
    ]


def kernels(share):
    """-> the kernels of D's convolutions"""
    (steps,) = share.players.D.steps
    return [type(step.operation.kernel) for step in steps.steps if getattr(step, "core", None)]


def test_the_ideas_are_left_out_and_come_back():
    make = lambda without: ablation.Share("fredriksson-mnist", 2, 32, without)  # noqa: E731
    assert Winograd in kernels(make(ablation.ALL))
    assert Winograd not in kernels(make("Winograd"))
    own = lambda without: ablation.Share("mnist", 2, 16, without)  # noqa: E731
    assert Gathering in kernels(own(ablation.ALL))
    assert set(kernels(own("gathering"))) >= {Im2col} and Gathering not in kernels(own("gathering"))
    count = len(own(ablation.ALL).players.D.steps[0].steps)
    assert len(own("fused blocks").players.D.steps[0].steps) > count
    assert not isinstance(own("trace and replay").players.D.backend, TracingBackend)
    assert Gathering in kernels(own(ablation.ALL))


def test_an_unknown_idea_is_refused(capsys):
    assert ablation.main([*SMALL, "--without", "luck"]) == 2
    assert "unknown name 'luck'" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("preset", ("fredriksson-mnist", "shibuya-mnist"))
def test_other_nets(preset, capsys):
    assert ablation.main(["--preset", preset, *SMALL[2:]]) == 0, capsys.readouterr().err
