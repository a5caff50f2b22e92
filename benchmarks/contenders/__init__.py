"""The contenders: one training step each, of the same nets from the same weights.

The step: z is drawn; D is updated on real images and on fakes, in separate passes (each with its
own BatchNorm statistics); D's forward runs again, as its weights changed, and G is updated by the
non-saturating loss through D, whose weights get no gradient there. G does not change in between, so
a contender may keep its forward. Adam 2e-4, 0.5, 0.999, 1e-8. No loss is read.

A contender is a class in a module here, made in its own process: see contender.py. This file names
them; those that train to the end are in training_task.py.
"""

from importlib import import_module

from minigan.errors import MiniganError

HERE = "benchmarks.contenders"
COMPILED = {"channels_last": True, "compiled": True}
CONTENDERS = {  # device -> name -> class, its own arguments
    "cpu": {
        "minigan": ("minigan_step:Step", {"captured": True}),
        "torch": ("torch_step:Step", {"channels_last": False}),
        "torch-cl": ("torch_step:Step", {"channels_last": True}),
        "torch-compile": ("torch_step:Step", COMPILED),
        "keras": ("keras_step:Step", {}),
        "jax": ("jax_step:Step", {}),
        "dezero": ("dezero_step:Step", {}),
        # with compiled kernels
        "minigan-numba": ("minigan_step:Step", {"captured": True, "numba": True}),
        "minigan-numba-threads": ("minigan_step:Step", {"numba": True}),
        # what the processes of a captured step gain, and what everything fast gains
        "minigan-threads": ("minigan_step:Step", {}),
        "minigan-plain": ("minigan_step:Step", {"backend": "plain"}),
    },
    "cuda": {
        "minigan": ("minigan_step:Step", {}),
        "minigan-graph": ("minigan_step:Step", {"captured": True}),
        "minigan-implicit": ("minigan_step:Step", {"captured": True, "implicit": True}),
        "torch-graph-cl": ("torch_gpu:Graph", {"channels_last": True}),
        "torch-graph": ("torch_gpu:Graph", {"channels_last": False}),
        "torch-cl": ("torch_step:Step", {"channels_last": True}),
        "torch": ("torch_step:Step", {"channels_last": False}),
        "torch-example": ("torch_gpu:Example", {}),
        "jax": ("jax_step:Step", {}),
        "torch-compile": ("torch_step:Step", COMPILED | {"compiled": "reduce-overhead"}),
        "torch-autotune": ("torch_step:Step", COMPILED | {"compiled": "max-autotune"}),
    },
}
LEARNERS = {  # the same for those that train to the end
    "minigan": ("minigan_learner:Learner", {}),
    "torch": ("torch_learner:Learner", {"channels_last": False}),
    "torch-cl": ("torch_learner:Learner", {"channels_last": True}),
}
ALWAYS = {"cpu": ("minigan",), "cuda": ("minigan", "minigan-graph")}  # the rest by --against
ON_REQUEST = ("minigan-implicit",)  # gpu_implicit.py alone
OURS = ("minigan", "minigan-numba", "minigan-graph")
PEERS = {
    device: tuple(name for name in table if name not in (*ALWAYS[device], *ON_REQUEST))
    for device, table in CONTENDERS.items()
}
TORCH_AT_ITS_BEST = tuple(
    name
    for name in dict.fromkeys((*PEERS["cpu"], *PEERS["cuda"]))
    if name.startswith("torch") and name != "torch-example"
)


class Missing(MiniganError):
    """A contender is not available here; the message says what is missing."""


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


def target(name, table):
    """Name in a table such as LEARNERS -> "module:class" for worker.py, its own arguments."""
    path, arguments = table[name]
    return f"{HERE}.{path}", arguments
