"""The kernel benchmark runs; what it measures is for people to judge."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.netns
def test_benchmark_prints_its_table() -> None:
    command = [sys.executable, "-W", "error", "-m", "benchmarks.kernel_batch", "--routes=60", "--runs=1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    rows = done.stdout.splitlines()
    assert [row.split(":")[0] for row in rows[3:]] == ["routed"] * 5
    assert all(float(row.split()[-1]) > 0 for row in rows[1:])
