"""Debian's Chromium, for the tests of pages."""

from __future__ import annotations

import functools
import importlib.util
import shutil


@functools.cache
def chromium() -> str | None:
    """The program, or None where there is none."""
    return shutil.which("chromium")


def unavailable() -> str | None:
    """Why there is no browser to test with, or None where there is one."""
    if chromium() is None:
        return "no Chromium: scripts/bootstrap test installs it (Debian's package chromium)"
    if importlib.util.find_spec("playwright") is None:
        return "no playwright: scripts/bootstrap test installs it"
    return None
