"""Where the time of a recorded step goes on a GPU: each kernel of it, as the driver's profiler (CUPTI) times it within the graph.

PyTorch brings CUPTI, and its profiler sees what any library launches in the same process, minigan's kernels too. It is needed for
nothing else here.
"""

import re
from collections import Counter, defaultdict
from time import perf_counter

from benchmarks import contenders
from benchmarks.contenders.minigan_step import Step
from benchmarks.race import BenchmarkError

WARM_UP, STEPS, REPLAYS = 20, 100, 5
LISTED = 24  # kernels that are named one by one
KINDS = {  # in words -> names of minigan's kernels; "products" are everybody else's, cuBLAS' and what it sets to zero
    "columns": "im2col|col2im",
    "few_forward": "few_forward",
    "BatchNorm": "strip_moments|fold_moments|set_scale|frozen_scale|normalise|norm_\\w+",
    "activations and biases": "activate\\w*|sum_rows",
    "Adam": "adam\\w*",
    "sums": "fold|squares|root_of_sum",
    "neighbours": "centre_bytes|square_rows|nearest_\\w+",
    "the rest": "bce|probabilities|collect|gather_images|approach|random_\\w+|cupy_\\w+|mem(cpy|set)32_post|memset32|Memcpy.*",
}


class KernelTimes:
    def __init__(self, precision="fp32"):
        self.profiler = contenders.need("torch.profiler", "torch")
        contenders.need("torch").zeros(
            1, device="cuda"
        )  # its profiler wants to have seen the device
        self.precision = precision

    def kernels(self, preset, batch, width):
        """-> {"step_ms": by the wall clock, without the profiler, "nodes", "microseconds" by kind, "kernels" by name: count, us}"""
        step = Step(preset, batch, width, None, "cuda", precision=self.precision, captured=True)
        step.run(WARM_UP)
        start = perf_counter()
        step.run(STEPS)
        seconds = (perf_counter() - start) / STEPS
        with self.profiler.profile(activities=[self.profiler.ProfilerActivity.CUDA]) as profile:
            step.run(REPLAYS)
        events = [event for event in profile.events() if event.device_type.name == "CUDA"]
        spent = [(event.time_range.start, event.time_range.end, event.name) for event in events]
        return {"step_ms": 1000 * seconds, **table(spent, REPLAYS)}


def table(events, replays):
    """events: (start, end, name) in us of several replays of the same graph -> as `kernels`, of each node its quickest replay.

    Nodes that do not wait for one another may begin in another order at each replay: the k-th of a name is the same node.
    Raises BenchmarkError where the replays are not the same: then something else was seen too.
    """
    events, nodes = sorted(events), len(events) // replays
    seen = []  # of each replay: name -> durations
    for replay in range(replays):
        spent = defaultdict(list)
        for start, end, name in events[replay * nodes : (replay + 1) * nodes]:
            spent[name].append(end - start)
        seen.append(spent)
    if (
        not nodes
        or len(events) != nodes * replays
        or any(counts(spent) != counts(seen[0]) for spent in seen)
    ):
        raise BenchmarkError(
            f"the profiler saw {len(events)} events in {replays} replays, which are not {replays} times the same"
        )
    kinds, times = Counter(), Counter()
    for name in seen[0]:
        quickest = sum(map(min, zip(*(spent[name] for spent in seen), strict=True)))
        kinds[kind(short(name))] += quickest
        times[short(name)] += quickest
    number = Counter(short(name) for *_, name in events[:nodes])
    return {
        "nodes": nodes,
        "microseconds": {name: round(spent, 1) for name, spent in kinds.most_common()},
        "kernels": {
            name: [number[name], round(spent, 1)] for name, spent in times.most_common(LISTED)
        },
    }


def counts(spent):
    """-> how many nodes each name has"""
    return {name: len(durations) for name, durations in spent.items()}


def short(name):
    """A kernel's signature -> its name, with what it was compiled for."""
    return re.sub(r"_execute.*|\(.*", "", name.removeprefix("void ")).strip()[:90]


def kind(name):
    """A kernel's short name -> one of KINDS, or "products"."""
    return next(
        (words for words, names in KINDS.items() if re.fullmatch(rf"({names})(<.*)?", name)),
        "products",
    )
