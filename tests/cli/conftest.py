"""The commands, against a small server that answers as a test wants."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer

from routed.cli import application
from tests.cli.server import ApiServer, serving

#: Made once: it takes longer than most commands.
_COMMAND = typer.main.get_command(application())


@dataclass(frozen=True)
class Result:
    """What a command printed, and its exit status."""

    exit_code: int
    stdout: str
    stderr: str


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No routed of this machine is asked, and its terminal does not matter."""
    monkeypatch.delenv("ROUTED_SOCKET", raising=False)
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setattr("routed.observe.options.runtime_folder", lambda: tmp_path / "run")


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ApiServer]:
    """A server that the commands ask without being told."""
    with serving(tmp_path / "api.sock") as server:
        monkeypatch.setenv("ROUTED_SOCKET", str(server.path))
        yield server


def run(*arguments: str) -> Result:
    """One command, in this process; an exception that nobody expects is the test's."""
    stdout, stderr = io.StringIO(), io.StringIO()
    status: object = 0
    with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
        try:
            _COMMAND.main(list(arguments), prog_name="routed")
        except SystemExit as ended:
            status = ended.code
    assert isinstance(status, int)
    return Result(status, stdout.getvalue(), stderr.getvalue())
