"""The presets, to choose from: a table of all of them, and one in detail with its layers."""

from collections.abc import Iterator, Sequence

from minigan.cli.costs import Machine, measure_machine, step_bytes, step_flops, step_seconds
from minigan.data import IMAGES
from minigan.presets import MODULES, Preset, get_preset
from minigan.training.config import new_config
from minigan.training.game import Game

SOME = 10_000  # images of a folder of unknown size
HEADINGS = ("preset", "source", "data", "image", "G", "D", "GFLOP/step", "memory", "an epoch")


def catalogue() -> Iterator[str]:
    """-> yields lines: a row for each preset, as soon as it is known."""
    machine, names = measure_machine(), list(MODULES)
    presets = [get_preset(name) for name in names]
    named = max(len(name) for name in names)
    sourced = max(len(preset.source) for preset in presets)

    def line(cells: Sequence[str]) -> str:
        name, source, data, *others = cells
        return f"{name:<{named}}  {source:<{sourced}}  {data:<8} " + "".join(
            f"{cell:>11}" for cell in others
        )

    yield line(HEADINGS)
    for preset in presets:
        h, w, c = preset.image_shape
        game, flops, memory, seconds = costs(preset, machine)
        sizes = [f"{sum(net.count()):,}" for net in (game.G, game.D)]
        star = "" if preset.data in IMAGES else "*"
        yield line(
            (
                preset.name,
                preset.source,
                preset.data,
                f"{h}x{w}x{c}",
                *sizes,
                f"{flops * 1e-9:.1f}",
                f"{memory / 2**20:,.0f} MiB",
                star + clock(seconds),
            )
        )
        if preset.variants:
            yield f"{'':<{named}}  variants: {', '.join(f'{preset.name}:{variant}' for variant in preset.variants)}"
    yield "G, D: parameters, running statistics counted in. Memory and time are estimates for the CPU of this machine."
    yield f"* for {SOME:,} images of a folder. One in detail, with its layers: minigan presets NAME"


def costs(preset: Preset, machine: Machine) -> tuple[Game, int, float, float]:
    """-> Game, FLOPs of a step, bytes of memory and seconds of an epoch."""
    game = Game(new_config(dict(preset=preset.name)))
    flops = step_flops(game.G, game.D, preset.batch_size, preset.rules)
    memory = step_bytes(game.G, game.D, preset.batch_size)
    images = min(IMAGES.get(preset.data, SOME), preset.limit or 10**9)
    steps = images / preset.batch_size / preset.rules.batches
    return (
        game,
        flops,
        memory,
        steps * step_seconds(game.G, game.D, preset.batch_size, preset.rules, machine),
    )


def details(name: str) -> Iterator[str]:
    """-> yields lines: what a preset is, and its layers. Raises ConfigError."""
    preset = get_preset(name)
    game, flops, memory, seconds = costs(preset, measure_machine())
    rules, standard = preset.rules, type(preset.rules)()
    changed = [
        f"{field}={getattr(rules, field)!r}"
        for field in vars(rules)
        if getattr(rules, field) != getattr(standard, field)
    ]
    adam = "" if preset.beta1 is None else f", beta1 {preset.beta1:g}"
    further = "".join(f", {key} {value}" for key, value in preset.settings.items())
    yield f"{preset.name}: {preset.source} (minigan/presets/{MODULES[name.partition(':')[0]]}.py)"
    limit = f", {preset.limit:,} images" if preset.limit else ""
    yield f"data       {preset.data}, {'x'.join(map(str, preset.image_shape))}, fit {preset.fit}{limit}"
    yield f"training   {preset.epochs} epochs of batches of {preset.batch_size}, shuffled {SHUFFLED[preset.shuffle]}"
    yield f"optimizer  {preset.optimizer}, lr {preset.lr_g:g} of G and {preset.lr_d:g} of D{adam}{further}"
    yield f"z          {preset.z_dim}, {preset.z}"
    yield f"rules      {', '.join(changed) or 'the standard ones'}"
    yield f"costs      {flops * 1e-9:.1f} GFLOP a step; about {memory / 2**20:,.0f} MiB and {clock(seconds)} an epoch on the CPU here"
    yield ""
    yield game.G.summary()
    yield ""
    yield game.D.summary()


SHUFFLED = {"epoch": "every epoch", "once": "once", "never": "never"}


def clock(seconds: float) -> str:
    """-> "0:28", minutes and seconds; "1:02:30" from an hour on."""
    minutes, seconds = divmod(max(1, round(seconds)), 60)
    return (
        f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"
        if minutes >= 60
        else f"{minutes}:{seconds:02}"
    )
