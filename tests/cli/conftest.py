"""The commands, against a small server that answers as a test wants."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from routed.cli import app
from tests.cli.server import ApiServer, serving


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
    """One command; what it prints is in `stdout` and `stderr`."""
    return CliRunner().invoke(app, list(arguments))
