"""A page that shows a run: report.html, one file that needs no network, no server and no other file.

The page is in report.html as one reads it, with $names where the run's own things go.
Whatever comes from a run's files, which may be a stranger's, goes through `escape`; and
the page's policy allows its own script alone, by checksum, and pictures inside of it,
so that nothing else would run or be loaded even if some text slipped through.
"""

import base64
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any, TypeVar

import numpy as np

from minigan.errors import ConfigError
from minigan.files import write_atomically
from minigan.report.animation import save_animation
from minigan.report.history import History, evenly
from minigan.report.plots import draw_losses, title_of
from minigan.training.run_folder import Run

MOST_BYTES = 16 * 2**20  # of sample grids in a page: large ones are fewer
SHOWN = 560  # pixels: small grids are enlarged by a whole factor, up to this width
POINTS = 300  # of the line of images/s

Made = TypeVar("Made")


def save_report(
    path: str | Path, history: History, tables: Sequence[str] = (), curves: bytes | None = None
) -> str:
    """Write the page. -> what was written, in words.

    tables  the summary() of G and D
    curves  PNG of draw_losses, where it has been drawn already
    Raises RunError where the run has no samples or no rows yet, or the page cannot be written.
    """
    content = page(history, tables, curves).encode(
        "utf-8", "replace"
    )  # a name may hold bytes that are no text
    write_atomically(path, content)
    return f"{path}: {len(content) / 2**20:.1f} MiB"


def finish(run: Run, log: Callable[[str], object] = print, tables: Sequence[str] = ()) -> None:
    """What a finished run leaves to look at: progress.gif, losses.png, report.html.

    A failure is one line and no more: the run itself is done, and saved.
    """
    history = History(run, log)
    made: list[str] = []

    def attempt(name: str, make: Callable[[Path], Made]) -> Made | None:
        try:
            result = make(run.folder / name)
            made.append(name)
            return result
        except Exception as error:
            log(f"{name} was left out: {' '.join(str(error).split()) or type(error).__name__}")
            return None

    def plot(path: Path) -> bytes:
        curves = draw_losses(history)
        write_atomically(path, curves)
        return curves

    attempt("progress.gif", lambda path: save_animation(path, history))
    curves = attempt("losses.png", plot)
    attempt("report.html", lambda path: save_report(path, history, tables, curves))
    if made:
        log(f"to look at: {', '.join(made)} in {run.folder}")


def page(history: History, tables: Sequence[str] = (), curves: bytes | None = None) -> str:
    """-> the page as HTML; arguments and errors as of save_report."""
    template = files("minigan.report").joinpath("page.html").read_text("utf-8")
    config, metadata = history.record
    metrics, samples = history.metrics, history.samples
    sizes = [path.stat().st_size for _, path, _ in samples]
    shown = evenly(samples, max(2, MOST_BYTES // max(1, *sizes)))
    total = len(history.sample_files)
    script = template.partition("<script>")[2].partition("</script>")[0]
    return Template(template).substitute(
        script_hash="sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        title=escape(title_of(config)),
        subtitle=escape(history.run.folder.resolve().name),
        note=f'<p class="note">{escape(metadata["note"])}</p>'
        if isinstance(metadata.get("note"), str)
        else "",
        facts=facts(history, config.batch_size),
        samples="".join(
            image(path, picture, f"step {step:,}", hidden=step != shown[-1][0])
            for step, path, picture in shown
        ),
        real=real(history),
        last=len(shown) - 1,
        last_label=f"step {shown[-1][0]:,}",
        left_out=f"{len(shown)} of the run's {total} grids, spread evenly."
        if len(shown) < total
        else "",
        curves=curves_of(history, curves),
        rate=rate(metrics),
        nets=nets(tables),
        options=rows(asdict(config).items()),
        versions=rows(versions_of(metadata)),
    )


def image(path: Path, picture: np.ndarray, alt: str, hidden: bool = False) -> str:
    """A PNG file, as it is -> <img>, enlarged by a whole factor where it is small."""
    h, w, _ = picture.shape
    factor = max(1, SHOWN // w)
    data = base64.b64encode(path.read_bytes()).decode()
    return (
        f'<img alt="{escape(alt)}" width="{w * factor}" height="{h * factor}" decoding="sync"{" hidden" * hidden} '
        f'src="data:image/png;base64,{data}">'
    )


def real(history: History) -> str:
    """-> the grid of real pictures, or nothing where there is none."""
    if history.real is None:
        return ""
    return f"<figure><figcaption>real</figcaption>{image(history.run.real_file, history.real, 'real pictures')}</figure>"


def curves_of(history: History, curves: bytes | None) -> str:
    """PNG of the curves, or None to draw it now -> it, or why there is none."""
    try:
        data = base64.b64encode(curves or draw_losses(history)).decode()
    except ConfigError as missing:
        return f'<p class="soft">{escape(str(missing))}</p>'
    alt = "Losses of D and G, and what D thinks of real and generated pictures, over the steps"
    return f'<div class="scroll curves" tabindex="0"><img alt="{alt}" src="data:image/png;base64,{data}"></div>'


def facts(history: History, batch_size: int) -> str:
    """-> the numbers at the top of the page."""
    metrics = history.metrics
    rates = metrics["images_per_s"][metrics["images_per_s"] > 0]
    seconds = min(float(np.sum(batch_size / rates)), 1e9)
    found = {
        "steps": f"{metrics['step'][-1]:,.0f}",
        "epochs": f"{metrics['epoch'][-1]:,.0f}",
        "time in steps": str(timedelta(seconds=round(seconds))),
        "images/s, median": f"{np.median(rates):,.0f}" if len(rates) else "–",
        "last step logged": f"{datetime.fromtimestamp(history.run.metrics_file.stat().st_mtime):%Y-%m-%d %H:%M}",
    }
    return "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in found.items())


def rate(metrics: dict[str, np.ndarray]) -> str:
    """images/s over the run -> a line in SVG, from 0 to the highest."""
    there = metrics["images_per_s"] > 0
    if not there.any():
        return '<p class="soft">metrics.csv tells none.</p>'
    points = np.array(
        evenly(
            list(zip(metrics["step"][there], metrics["images_per_s"][there], strict=True)), POINTS
        )
    )
    first, most = points[0, 0], points[:, 1].max()
    x = 1000 * (points[:, 0] - first) / max(points[-1, 0] - first, 1)
    y = 98 - 96 * points[:, 1] / most
    line = " ".join(f"{a:.0f},{b:.1f}" for a, b in zip([*x, 1000], [*y, y[-1]], strict=True))
    return (
        '<svg class="rate" viewBox="0 0 1000 100" preserveAspectRatio="none" role="img" aria-label="images per second">'
        f'<polyline points="{line}" fill="none" stroke="currentColor" stroke-width="1.5" vector-effect="non-scaling-stroke"/></svg>'
        f'<p class="soft">From 0 to {most:,.0f}, over all steps; without the time of sampling and saving.</p>'
    )


def nets(tables: Sequence[str]) -> str:
    """Tables of layers as text -> their section, or nothing."""
    shown = "".join(f'<pre tabindex="0">{escape(table)}</pre>' for table in tables)
    return f'<section><h2>Nets</h2><div class="nets">{shown}</div></section>' if tables else ""


def versions_of(metadata: dict[str, Any]) -> Iterator[tuple[str, object]]:
    """What config.json says besides the options, of any shape -> (name, value) for the table."""
    versions, resumed = metadata.get("versions"), metadata.get("resumed")
    yield from versions.items() if isinstance(versions, dict) else ()
    if isinstance(resumed, list) and resumed:
        yield (
            "resumed at step",
            ", ".join(str(stop.get("step")) for stop in resumed if isinstance(stop, dict)),
        )


def rows(pairs: Iterable[tuple[str, object]]) -> str:
    """(name, value) -> rows of a table."""
    shown = (
        (escape(str(name)), "–" if value is None else escape(str(value))) for name, value in pairs
    )
    return "".join(f"<tr><th>{name}</th><td>{value}</td></tr>" for name, value in shown)
