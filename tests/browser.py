"""Debian's Chromium, for the tests of pages."""

from __future__ import annotations

import functools
import importlib.util
import shutil
import subprocess
import sys


@functools.cache
def chromium() -> str | None:
    """The program, or None where there is none."""
    return shutil.which("chromium")


@functools.cache
def unavailable() -> str | None:
    """Why there is no browser to test with, or None where there is one."""
    if chromium() is None:
        return "no Chromium: scripts/bootstrap test installs it (Debian's package chromium)"
    if importlib.util.find_spec("playwright") is None:
        return "no playwright: scripts/bootstrap test installs it"
    # It drives the browser with a program of its own, which wants libraries of the system.
    command = [sys.executable, "-m", "playwright", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
    if done.returncode:
        return f"playwright does not run: {done.stderr.strip()}"
    return None
