"""The contenders: one training step each, of the same nets from the same weights.

A contender is a class `Step` in a module here, made in a process of its own by worker.py:
    Step(preset, batch, width, image, device, **variant)
    losses(steps)  -> [[loss_d_real, loss_d_fake, loss_g], ...] of the first steps, on the z that all share
    probes()       -> some pixels of the first images sampled from z that all share
    run(times)     plays so many steps, z drawn in each, and waits for the device
    sample(times)  draws so many batches of pictures, uint8 on the host
    versions()     -> package -> version

On a GPU (device "cuda") it is also given a precision, "fp32" or "tf32", and has besides:
    conv_error()     -> relative error of one convolution, as it computes it, against float64; see precision.py
    launch(times)    plays so many steps, as `run`, but does not wait; wait() does
    mark()           -> an event in the device's queue, or None where the framework shows none
    between(a, b)    -> seconds between two of them

The step: z is drawn; D is updated on real images and on fakes, in separate passes (each its
own BatchNorm statistics); D's forward is run again, as its weights changed, and G is updated
by the non-saturating loss through D, whose weights get no gradient there. G does not change
in between, so a contender may keep its forward. Adam 2e-4, 0.5, 0.999, 1e-8. No loss is read.
"""

from importlib import import_module

from minigan.errors import ConfigError, MiniganError

HERE = "benchmarks.contenders"
CONTENDERS = {  # name -> module, arguments of its Step
    "minigan": ("minigan_step", {"captured": True}),
    "torch": ("torch_step", {"channels_last": False}),
    "torch-cl": ("torch_step", {"channels_last": True}),
    "torch-compile": ("torch_step", {"channels_last": True, "compiled": True}),
    "keras": ("keras_step", {}),
    "jax": ("jax_step", {}),
    "dezero": ("dezero_step", {}),
    "minigan-threads": (
        "minigan_step",
        {},
    ),  # for itself: what the processes of a captured step gain
}
ON_GPU = {  # the same for device "cuda"
    "minigan": ("minigan_step", {}),
    "minigan-graph": ("minigan_step", {"captured": True}),
    "torch-graph-cl": ("torch_gpu", {"channels_last": True}, "Graph"),
    "torch-graph": ("torch_gpu", {"channels_last": False}, "Graph"),
    "torch-cl": ("torch_step", {"channels_last": True}),
    "torch": ("torch_step", {"channels_last": False}),
    "torch-example": ("torch_gpu", {}, "Example"),
    "jax": ("jax_step", {}),
    "torch-compile": ("torch_step", {"channels_last": True, "compiled": "reduce-overhead"}),
    "torch-autotune": ("torch_step", {"channels_last": True, "compiled": "max-autotune"}),
}
OURS = ("minigan", "minigan-graph")
TORCH_AT_ITS_BEST = tuple(
    name for name in ON_GPU if name.startswith("torch") and name != "torch-example"
)
LEARNERS = {  # the same for those that train to the end: see lesson.py
    "minigan": ("minigan_learner", {}),
    "torch": ("torch_learner", {"channels_last": False}),
    "torch-cl": ("torch_learner", {"channels_last": True}),
}
PEERS = {  # device -> whom minigan can be measured against there
    device: tuple(name for name in table if name not in OURS)
    for device, table in (("cpu", CONTENDERS), ("cuda", ON_GPU))
}


def chosen(text, device):
    """ "torch,jax" -> ["torch", "jax"], each once. Raises ConfigError for who is no contender on that device."""
    names = list(dict.fromkeys(name for name in text.split(",") if name))
    for name in names:
        if name not in PEERS[device]:
            raise ConfigError(
                f"--against: unknown contender {name!r}: choose of {','.join(PEERS[device])}"
            )
    return names


class Missing(MiniganError):
    """A contender cannot be had here; the message says what is lacking."""


class NoTwin(MiniganError):
    """A layer has no counterpart in a contender's framework."""


def need(package, install=None):
    """-> the imported package. Raises Missing."""
    try:
        return import_module(package)
    except ImportError as error:
        top = package.split(".")[0]
        if isinstance(error, ModuleNotFoundError) and error.name == top:
            raise Missing(f"not installed: pip install {install or top}") from error
        raise Missing(f"does not load: {error}") from error


def target(name, device="cpu"):
    """-> "module:Step" and its own arguments, for worker.py."""
    module, variant, *kind = (ON_GPU if device == "cuda" else CONTENDERS)[name]
    return f"{HERE}.{module}:{kind[0] if kind else 'Step'}", variant


def learner(name):
    """-> "module:Learner" and its own arguments, likewise."""
    module, variant = LEARNERS[name]
    return f"{HERE}.{module}:Learner", variant
