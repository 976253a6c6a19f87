"""The kernel benchmarks run; what they measure is for people to judge."""

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


@pytest.mark.netns
@pytest.mark.parametrize("daemon", ["routed", pytest.param("bird2", marks=pytest.mark.daemon("bird2"))])
def test_learn_prints_its_table(daemon: str) -> None:
    command = [sys.executable, "-W", "error", "-m", "benchmarks.learn", f"--daemon={daemon}", "--runs=1"]
    command += ["--routes=300", "--next-hops=100", "--sessions=3", "--rest=0.1", "--settle=0.1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr
    rows = [row.strip("| ").split(" | ") for row in done.stdout.splitlines()]
    assert rows[0] == ["routed" if daemon == "routed" else "BIRD 2"]
    names = [name for name, value in rows[2:] if float(value.split()[0].rstrip("%")) >= 0]
    assert [name.partition(":")[0] for name in names if "routes by" in name] == [
        "300 routes by 50 next hops",
        "300 routes by 100 next hops",
        "300 routes by 100 next hops, in the order of prefixes",
    ]
    assert "longest wait for a keepalive (hold time 3 s)" in names
