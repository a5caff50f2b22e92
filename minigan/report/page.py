"""report.html: a page that shows a run, in one file that needs no network and no other file.

page.html is the page with $names where the parts of a run go. All text from the files of a
run, which may be a stranger's, goes through `escape`. And the page's Content-Security-Policy allows
only its own script, by checksum, and embedded images: even if a text were not escaped, nothing
would run or load.
"""

import base64
import hashlib
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime, timedelta
from html import escape as html_escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from minigan.data.batches import batches_in_epoch
from minigan.data.files.messages import escaped
from minigan.data.files.png import to_png
from minigan.errors import ConfigError
from minigan.files import read_regular, write_atomically
from minigan.report.animation import save_animation
from minigan.report.history import History, evenly
from minigan.report.plots import draw_losses, title_of
from minigan.training import Config, Log, Run
from minigan.training.outline import outline
from minigan.training.switches import switched_preset

MOST_BYTES = 16 * 2**20  # of sample grids in a page
SHOWN = 560  # pixels: small grids are enlarged by a whole factor, up to this width
POINTS = 300  # of the line of images/s


def save_report(path: str | Path, history: History) -> str:
    """Write the page -> a line for the user.

    Raises RunError if the run has no samples or rows yet, or the page cannot be written.
    """
    content = page(history).encode("utf-8", "replace")  # a name may hold any bytes
    write_atomically(path, content)
    return f"{path}: {len(content) / 2**20:.1f} MiB"


def finish(run: Run, log: Log = print) -> None:
    """Make progress.gif, losses.png and report.html of a finished run.

    A failure is reported in one line: the run itself is done and saved.
    """
    history = History(run, log)
    makers: dict[str, Callable[[Path], object]] = {
        "progress.gif": lambda path: save_animation(path, history),
        "losses.png": lambda path: write_atomically(path, draw_losses(history)),
        "report.html": lambda path: save_report(path, history),
    }
    made = []
    for name, make in makers.items():
        try:
            make(run.folder / name)
            made.append(name)
        except Exception as error:
            log(f"{name} was left out: {' '.join(str(error).split()) or type(error).__name__}")
    if made:
        log(f"to look at: {', '.join(made)} in {run.folder}")


def page(history: History) -> str:
    """-> the page as HTML; errors as of save_report."""
    template = text_of("page.html")
    config, metadata = history.record
    samples, (rate_line, rate_note) = history.samples, rate(history.metrics)
    largest = max(len(content_of(path, picture)) for _, path, picture in samples)
    shown = evenly(samples, max(2, MOST_BYTES // largest))
    total, last = len(history.sample_files), f"step {shown[-1][0]:,}"
    script = template.partition("<script>")[2].partition("</script>")[0]
    images = [
        image(path, picture, f"step {step:,}", hidden=step != shown[-1][0])
        for step, path, picture in shown
    ]
    note, real = metadata.get("note"), ""
    if history.real is not None:
        real_image = image(history.run.real_file, history.real, "real images")
        real = f"<figure><figcaption>real</figcaption>{real_image}</figure>"
    return Template(template).substitute(
        script_hash=checksum(script),
        style=text_of("base.css"),
        title=escape(title_of(config)),
        subtitle=escape(history.run.folder.resolve().name),
        note=f'<p class="note">{escape(note)}</p>' if isinstance(note, str) else "",
        facts=facts(history, images_in_step(config, metadata)),
        samples="".join(images),
        real=real,
        last=len(shown) - 1,
        last_label=last,
        left_out=f"Shown: {len(shown)} of {total} grids." if len(shown) < total else "",
        curves=curves(history),
        rate_line=rate_line,
        rate_note=rate_note,
        nets=nets(config),
        options=rows(asdict(config).items()),
        versions=rows(versions_of(metadata).items()),
    )


def text_of(name: str) -> str:
    """-> a file of this folder."""
    return files("minigan.report").joinpath(name).read_text("utf-8")


def checksum(script: str) -> str:
    """-> what allows a script in a Content-Security-Policy."""
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}"


def escape(text: object) -> str:
    """-> the text as HTML, with control characters as in \\x1b."""
    return html_escape(escaped(text))


def image(path: Path, picture: np.ndarray, alt: str, hidden: bool = False) -> str:
    """A PNG file -> <img> with its bytes, enlarged by a whole factor if it is small."""
    h, w, _ = picture.shape
    factor = max(1, SHOWN // w)
    data = base64.b64encode(content_of(path, picture)).decode()
    size = f'width="{w * factor}" height="{h * factor}" decoding="sync"{" hidden" * hidden}'
    return f'<img alt="{escape(alt)}" {size} src="data:image/png;base64,{data}">'


def content_of(path: Path, picture: np.ndarray) -> bytes:
    """-> the bytes of a PNG file; if it is much larger than its picture, those of the picture."""
    with suppress(OSError):
        return read_regular(path, picture.nbytes + 2**12)
    return to_png(picture)


def curves(history: History) -> str:
    """-> the plot of draw_losses as <img>, or the reason why there is none."""
    try:
        data = base64.b64encode(draw_losses(history)).decode()
    except ConfigError as missing:
        return f'<p class="soft">{escape(missing)}</p>'
    alt = "losses of D and G, and D's outputs for real and generated images, over the steps"
    img = f'<img alt="{alt}" src="data:image/png;base64,{data}">'
    return f'<div class="scroll curves" tabindex="0">{img}</div>'


def images_in_step(config: Config, metadata: dict[str, Any]) -> float:
    """-> real images, in the mean: the last batch of an epoch may be smaller, see Batches."""
    n, size = metadata.get("images"), config.batch_size
    n = max(n, size) if isinstance(n, int) else size
    batches = batches_in_epoch(n, size, config.drop_last)
    return min(n, batches * size) / batches * switched_preset(config).images_per_round


def facts(history: History, images: float) -> str:
    """-> the numbers at the top of the page; images: real ones in a step."""
    metrics = history.metrics
    rates = metrics["images_per_s"][metrics["images_per_s"] > 0]
    seconds = min(history.metrics_read.merged * float(np.sum(images / rates)), 1e9)
    logged = history.run.metrics_file.stat().st_mtime
    found = {
        "steps": f"{metrics['step'][-1]:,.0f}",
        "epochs": f"{metrics['epoch'][-1]:,.0f}",
        "training time": str(timedelta(seconds=round(seconds))),
        "images/s, median": f"{np.median(rates):,.0f}" if len(rates) else "–",
        "last step logged": f"{datetime.fromtimestamp(min(max(logged, 0), 1e11)):%Y-%m-%d %H:%M}",
    }
    return "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in found.items())


def rate(metrics: dict[str, np.ndarray]) -> tuple[str, str]:
    """images/s over the run -> points of a polyline in SVG, 1000 x 100, and its caption."""
    there = metrics["images_per_s"] > 0
    if not there.any():
        return "", "metrics.csv has none."
    pairs = zip(metrics["step"][there], metrics["images_per_s"][there], strict=True)
    points = np.array(evenly(list(pairs), POINTS))
    first, most = points[0, 0], points[:, 1].max()
    x = 1000 * (points[:, 0] - first) / max(points[-1, 0] - first, 1)
    y = 98 - 96 * points[:, 1] / most
    line = " ".join(f"{a:.0f},{b:.1f}" for a, b in zip([*x, 1000], [*y, y[-1]], strict=True))
    return line, f"From 0 to {most:,.0f}. Sampling and saving are not counted."


def nets(config: Config) -> str:
    """-> the layers of G and D."""
    tables = (html_escape(net.summary()) for net in outline(config))
    return "".join(f'<pre tabindex="0">{table}</pre>' for table in tables)


def versions_of(metadata: dict[str, Any]) -> dict[str, object]:
    """What config.json records besides the options, of any shape -> name -> value."""
    versions, resumed = metadata.get("versions"), metadata.get("resumed")
    found: dict[str, object] = dict(versions) if isinstance(versions, dict) else {}
    if "ranks" in metadata:  # when it last ended
        found["ranks"] = metadata["ranks"]
    if isinstance(resumed, list) and resumed:
        found["resumed at step"] = "; ".join(resumed_at(e) for e in resumed if isinstance(e, dict))
    return found


def resumed_at(entry: dict[str, Any]) -> str:
    """An entry of "resumed" in config.json, of any shape -> "400, lr_g 0.0002 → 0.0001"."""
    changed = entry.get("changed")
    pairs = changed.items() if isinstance(changed, dict) else ()
    texts = [f"{name} {' → '.join(map(str, two))}" for name, two in pairs if isinstance(two, list)]
    return ", ".join([str(entry.get("step")), *texts])


def rows(pairs: Iterable[tuple[str, object]]) -> str:
    """(name, value) -> rows of a table."""
    return "".join(
        f"<tr><th>{escape(name)}</th><td>{'–' if value is None else escape(value)}</td></tr>"
        for name, value in pairs
    )
