"""What the fault tests counted is printed at the end of the run, passed or not."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Report = Callable[[str], None]
_LINES = pytest.StashKey[list[str]]()


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Report:
    """Takes a line for the summary of the run."""
    lines = request.config.stash.setdefault(_LINES, [])
    name = request.node.name

    def take(line: str) -> None:
        lines.append(f"{name}: {line}")

    return take


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    lines = config.stash.get(_LINES, [])
    config.stash[_LINES] = []  # said once, whichever folders share this hook
    if lines:
        terminalreporter.section("counted")
        for line in lines:
            terminalreporter.line(line)
