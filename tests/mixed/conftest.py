"""Fixtures of the fault tests: what was counted is printed at the end of the run."""

from tests.faults.conftest import pytest_terminal_summary, report

__all__ = ["pytest_terminal_summary", "report"]
