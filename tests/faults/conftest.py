"""What the fault tests counted is printed at the end of the run, passed or not."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Report = Callable[[str], None]
#: A property of a test, which comes with its report also from another process.
_COUNTED = "counted"
_SAID = pytest.StashKey[bool]()


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Report:
    """Takes a line for the summary of the run."""

    def take(line: str) -> None:
        request.node.user_properties.append((_COUNTED, f"{request.node.name}: {line}"))

    return take


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if config.stash.get(_SAID, False):
        return
    config.stash[_SAID] = True  # said once, whichever folders share this hook
    reports = [one for reports in terminalreporter.stats.values() for one in reports]
    lines = [
        str(text)
        for one in reports
        if isinstance(one, pytest.TestReport) and one.when == "call"
        for name, text in one.user_properties
        if name == _COUNTED
    ]
    if lines:
        terminalreporter.section("counted")
        for line in lines:
            terminalreporter.line(line)
