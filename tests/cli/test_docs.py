"""docs/commands.md and the commands know of each other."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer

from routed.cli import application

PAGE = (Path(__file__).parents[2] / "docs" / "commands.md").read_text()
#: The commands that the page is about.
COMMANDS = ("status", "peers", "routes", "blocks", "events", "explain", "healthcheck", "drain", "undrain")
ACTIONS = ("refresh", "shutdown", "up")


def command(*names: str) -> Any:
    found: Any = typer.main.get_command(application())
    for name in names:
        found = found.commands[name]
    return found


def options(*names: str) -> set[str]:
    """With two hyphens."""
    return {
        option
        for parameter in command(*names).params
        for option in (*parameter.opts, *parameter.secondary_opts)
        if option.startswith("--")
    }


ALL: dict[tuple[str, ...], set[str]] = {(name,): options(name) for name in COMMANDS}
ALL |= {("peer", name): options("peer", name) for name in ACTIONS}


@pytest.mark.parametrize("names", ALL, ids=" ".join)
def test_every_command_and_option_is_described(names: tuple[str, ...]) -> None:
    assert " ".join(names) in PAGE
    missing = {option for option in ALL[names] if option not in PAGE} - {"--help", "--number", "--follow"}
    missing -= {"--output", "--ready", "--message"}  # by their short form, or as what goes without saying
    assert not missing


def test_every_option_of_the_page_is_one() -> None:
    known = set().union(*ALL.values()) | options() | options("run") | options("rr")
    described = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", PAGE))
    assert described <= known | {"--install-completion", "--show-completion"}
