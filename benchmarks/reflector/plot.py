"""The results as one SVG picture, for the README: a panel a measure, a bar a daemon.

python -m benchmarks.reflector.plot results.json docs/images/reflector.svg
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path

from benchmarks.reflector.campaign import Results
from benchmarks.reflector.daemons import DAEMONS
from benchmarks.reflector.table import Value, megabytes, ratio, seconds

WIDTH, MARGIN, GAP = 960, 24, 32
PANEL_HEAD, BAR, BAR_GAP = 44, 18, 8
LABEL_WIDTH, VALUE_WIDTH = 56, 118
FONT = "font-family='system-ui, sans-serif'"
BASE_COLOR, OTHER_COLOR = "#0b7a75", "#b8bfc6"


@dataclass(frozen=True)
class Panel:
    """One measure of one load."""

    title: str
    scenario: str
    value: Value
    memory: bool = False


def panels(results: Results) -> list[Panel]:
    """Those whose load was run: the largest fan-out, and the feed."""
    sizes = [int(name.rpartition("-")[2]) for name in results.titles if name.startswith("fan-out-")]
    found: list[Panel] = []
    if sizes:
        name, clients = f"fan-out-{max(sizes)}", f"{max(sizes):,} clients"
        found += [
            Panel(f"{clients} × 20 routes: until all have all", name, lambda cell: cell.median("converge")),
            Panel(f"one change to all of {clients}", name, lambda cell: cell.percentile("change_times", 0.5)),
            Panel(f"{clients} × 20 routes: peak memory", name, lambda cell: cell.median("memory_peak"), True),
        ]
    if "feed" in results.titles:
        found.append(Panel("1,000,000 routes to 10 clients", "feed", lambda cell: cell.median("converge")))
    return found


def _text(x: float, y: float, text: str, size: int = 13, extra: str = "") -> str:
    return f"<text x='{x:g}' y='{y:g}' {FONT} font-size='{size}' fill='#1f2933' {extra}>{escape(text)}</text>"


def _bars(results: Results, panel: Panel, left: float, top: float, width: float) -> Iterator[str]:
    cells = [cell for name in results.versions if (cell := results.cell(panel.scenario, name)) is not None]
    most = max((value for cell in cells if (value := panel.value(cell)) is not None), default=0) or 1
    base = next((panel.value(cell) for cell in cells if cell.daemon == "routed"), None)
    full = width - LABEL_WIDTH - VALUE_WIDTH
    yield _text(left, top + 16, panel.title, 15, "font-weight='600'")
    for number, cell in enumerate(cells):
        y = top + PANEL_HEAD - 14 + number * (BAR + BAR_GAP)
        yield _text(left, y + 14, DAEMONS[cell.daemon].label)
        value = panel.value(cell)
        at = left + LABEL_WIDTH
        if value is None:
            yield _text(at, y + 14, cell.missing or "not measured", 12, "font-style='italic'")
            continue
        own = cell.daemon == "routed"
        octets = max(1.5, full * value / most)
        color = BASE_COLOR if own else OTHER_COLOR
        yield f"<rect x='{at:g}' y='{y:g}' width='{octets:.1f}' height='{BAR}' rx='2' fill='{color}'/>"
        written = megabytes(value) if panel.memory else seconds(value)
        yield _text(at + octets + 6, y + 14, written + ("" if own else ratio(value, base)))


def svg(results: Results) -> str:
    """The picture as SVG text."""
    shown = panels(results)
    width = (WIDTH - 2 * MARGIN - GAP) / 2
    height = PANEL_HEAD + len(results.versions) * (BAR + BAR_GAP) + 10
    lines = -(-len(shown) // 2)
    total = 2 * MARGIN + lines * height + 34
    machine = results.machine
    body = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {total}'"
        f" width='{WIDTH}' height='{total}'>",
        # GitHub shows it on dark pages too.
        f"<rect width='{WIDTH}' height='{total}' rx='8' fill='#ffffff'/>",
    ]
    for number, panel in enumerate(shown):
        left = MARGIN + number % 2 * (width + GAP)
        body += _bars(results, panel, left, MARGIN + number // 2 * height, width)
    medians = f"Medians of {results.runs} runs on {machine['cores']} cores"
    foot = f"Shorter is better. {medians}; in brackets: times what routed needs."
    body.append(_text(MARGIN, total - MARGIN - 12, foot, 12))
    body.append(_text(MARGIN, total - MARGIN + 6, "; ".join(results.versions.values()), 12))
    return "\n".join([*body, "</svg>", ""])


def write(results: Results, path: Path) -> None:
    """Write the picture to a file; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(svg(results))


if __name__ == "__main__":
    write(Results.load(Path(sys.argv[1])), Path(sys.argv[2]))
