"""The results as a Markdown table, which is also readable on a terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from benchmarks.reflector.campaign import Cell, Results
from benchmarks.reflector.daemons import DAEMONS

BASE = "routed"
#: Other work on the machine up to this load average goes as noise.
QUIET_LOAD = 0.5


def seconds(value: float) -> str:
    """A time with the digits that mean something, in s or ms."""
    if value >= 0.9995:
        return f"{value:.3g} s" if value < 999.5 else f"{value:,.0f} s"
    return f"{value * 1000:.3g} ms"


def megabytes(value: float) -> str:
    """Octets as MB (10^6)."""
    return f"{value / 1e6:,.0f} MB"


def ratio(value: float, base: float | None) -> str:
    """` (4.2×)`: how many times the base; empty where there is none."""
    if not base:
        return ""
    times = value / base
    return f" ({times:.2g}×)" if times < 9.95 else f" ({times:,.0f}×)"


def rate(cell: Cell) -> float | None:
    """Deliveries a second until all had converged."""
    deliveries, took = cell.median("deliveries"), cell.median("converge")
    return deliveries / took if deliveries and took else None


Value = Callable[[Cell], float | None]
#: Heading, value, how it is written, whether its ratio to routed is.
COLUMNS: Sequence[tuple[str, Value, Callable[[float], str], bool]] = (
    ("converged", lambda cell: cell.median("converge"), seconds, True),
    ("routes/s", rate, lambda value: f"{value / 1e6:.3g} M", False),
    ("CPU", lambda cell: cell.median("converge_cpu"), seconds, True),
    ("peak memory", lambda cell: cell.median("memory_peak"), megabytes, True),
    ("one change to all, median", lambda cell: cell.percentile("change_times", 0.5), seconds, True),
    ("p99", lambda cell: cell.percentile("change_times", 0.99), seconds, False),
    ("late join", lambda cell: cell.percentile("late_times", 0.5), seconds, False),
)


def _row(results: Results, cell: Cell) -> list[str]:
    base = results.cell(cell.scenario, BASE)
    row = [DAEMONS[cell.daemon].label]
    for _, value_of, write, with_ratio in COLUMNS:
        value = value_of(cell)
        if value is None:
            row.append("-")
            continue
        compared = with_ratio and base is not None and base is not cell
        row.append(write(value) + (ratio(value, value_of(base)) if compared and base is not None else ""))
    if cell.missing:
        row[1] = (
            cell.missing.splitlines()[0][:60] if row[1] == "-" else f"{row[1]}, then: {cell.missing[:60]}"
        )
    return row


def rows(results: Results) -> list[list[str]]:
    """The heading and a row for each daemon and load."""
    out = [["load", "daemon", *(heading for heading, *_ in COLUMNS)]]
    for scenario, title in results.titles.items():
        shown = title
        for daemon in results.versions:
            cell = results.cell(scenario, daemon)
            if cell is not None:
                out.append([shown, *_row(results, cell)])
                shown = ""
    return out


def ratios(results: Results) -> str:
    """What the ratios in brackets mean, and on what they were taken."""
    machine = results.machine
    where = f"{machine['cores']} cores ({machine['processor']}), Linux {machine['kernel']}"
    busy = (
        f", load average {machine['load_at_start']:g} at the start"
        if machine["load_at_start"] > QUIET_LOAD
        else ""
    )
    runs = "One run" if results.runs == 1 else f"Medians of {results.runs} runs"
    versions = "; ".join(results.versions.values())
    return f"{runs}; in brackets: times what routed needs. {where}{busy}. {versions}."


def markdown(results: Results) -> str:
    """The table, and under it the machine and the versions."""
    table = rows(results)
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    rule = ["-" * width for width in widths]
    lines = [
        "| " + " | ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) + " |"
        for row in (table[0], rule, *table[1:])
    ]
    return "\n".join([*lines, "", ratios(results)])
