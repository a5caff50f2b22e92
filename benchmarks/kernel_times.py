"""Where the time of a captured step goes on a GPU: each kernel, as CUPTI times it in the graph.

CUPTI, the driver's profiler, comes with PyTorch, whose profiler sees what any library launches in
the same process. PyTorch is needed for nothing else here.
"""

import re
from collections import Counter, defaultdict
from time import perf_counter

from benchmarks.contenders import need
from benchmarks.contenders.minigan_step import Step
from benchmarks.interleaved import BenchmarkError

WARM_UP, STEPS, REPLAYS = 20, 100, 5
LISTED = 24  # kernels that are named one by one
KINDS = {  # name -> minigan's kernels; all others are "products": cuBLAS's, and its memsets
    "columns": "im2col|col2im",
    "few_forward": "few_forward",
    "products without columns": "implicit",
    "BatchNorm": r"\w+_moments|set_scale|frozen_scale|normalize|norm_\w+",
    "activations and biases": r"activate\w*|sum_rows",
    "Adam": r"adam\w*",
    "sums": "fold|squares|root_of_sum",
    "neighbors": r"center_bytes|square_rows|nearest_\w+",
    "the rest": r"loss_of_logits|probabilities|collect|gather_images|ema_update|random_\w+|cupy_\w+"
    r"|mem(cpy|set)32_post|memset32|Memcpy.*",
}


class KernelTimes:
    def __init__(self, precision="fp32"):
        self.profiler = need("torch.profiler", "torch")
        need("torch").zeros(1, device="cuda")  # its profiler must have seen the device
        self.precision = precision

    def kernels(self, preset, batch, width):
        """-> {"step_ms" by the wall clock, without the profiler, "nodes", "microseconds" by kind,
        "kernels": name -> count, us}"""
        step = Step(preset, batch, width, device="cuda", precision=self.precision, captured=True)
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
    """(start, end, name) in us, of replays of one graph -> as `kernels`, of each node's quickest.

    Nodes that do not wait for one another may start in another order at each replay: the k-th of a
    name is the same node.
    Raises BenchmarkError if the replays differ: then something else was recorded as well.
    """
    events, nodes = sorted(events), len(events) // replays
    seen = []  # of each replay: name -> durations
    for replay in range(replays):
        durations = defaultdict(list)
        for start, end, name in events[replay * nodes : (replay + 1) * nodes]:
            durations[name].append(end - start)
        seen.append(durations)
    counts = [{name: len(spent) for name, spent in durations.items()} for durations in seen]
    if not nodes or len(events) != nodes * replays or any(c != counts[0] for c in counts):
        raise BenchmarkError(
            f"the profiler recorded {len(events)} events in {replays} replays, which are not "
            f"{replays} times the same"
        )
    kinds, times, numbers = Counter(), Counter(), Counter()
    for name, count in counts[0].items():
        nodes_of_name = zip(*(durations[name] for durations in seen), strict=True)
        quickest, label = sum(map(min, nodes_of_name)), short(name)
        kinds[kind(label)] += quickest
        times[label] += quickest
        numbers[label] += count
    listed = times.most_common(LISTED)
    return {
        "nodes": nodes,
        "microseconds": {name: round(spent, 1) for name, spent in kinds.most_common()},
        "kernels": {name: [numbers[name], round(spent, 1)] for name, spent in listed},
    }


def short(name):
    """A kernel's signature -> its name, with what it was compiled for."""
    return re.sub(r"_execute.*|\(.*", "", name.removeprefix("void ")).strip()[:90]


def kind(name):
    """A kernel's short name -> one of KINDS, or "products"."""
    for label, names in KINDS.items():
        if re.fullmatch(rf"({names})(<.*)?", name):
            return label
    return "products"
