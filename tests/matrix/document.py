"""The table of docs/interoperability.md: read, and written anew by `python -m tests.matrix`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "interoperability.md"
BEGIN = "<!-- written by python -m tests.matrix -->"
END = "<!-- until here -->"
Table = dict[str, dict[str, str]]
"""Cells by feature, by daemon with its version."""


def read(text: str) -> Table:
    """The table between the marks. ValueError where they are not there, or a row has cells too many or too
    few."""
    start, end = text.find(BEGIN), text.find(END)
    if not 0 <= start < end:
        raise ValueError(f"{DOCUMENT.name}: no table between {BEGIN} and {END}")
    lines = [line for line in text[start:end].splitlines() if line.startswith("|")]
    if len(lines) < 2:
        return {}
    head, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    table: Table = {}
    for name, *cells in rows:
        table[name] = dict(zip(head[1:], cells, strict=True))
    return table


def formatted(table: Mapping[str, Mapping[str, str]], features: Iterable[str]) -> str:
    """The table as Markdown; a feature that a row lacks is `not run`."""
    names = list(features)
    lines = [["", *names], ["---"] * (len(names) + 1)]
    lines += [[daemon, *(cells.get(name, "not run") for name in names)] for daemon, cells in table.items()]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def written(text: str, table: Mapping[str, Mapping[str, str]], features: Iterable[str]) -> str:
    """The document with another table."""
    start, end = text.index(BEGIN), text.index(END)
    return f"{text[:start]}{BEGIN}\n\n{formatted(table, features)}\n\n{text[end:]}"
