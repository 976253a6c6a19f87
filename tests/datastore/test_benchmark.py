"""The benchmark from etcd to the wire runs; what it measures is for people to judge."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest


@pytest.mark.netns
@pytest.mark.daemon("bird2")
@pytest.mark.usefixtures("etcd")
def test_benchmark_prints_its_table() -> None:
    command = (sys.executable, "-W", "error", "-m", "benchmarks", "datastore_to_wire")
    done = subprocess.run((*command, "--nodes=20", "--changes=5"), capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done.stderr
    assert "of 20 nodes are in etcd" in done.stderr
    rows = [re.split(r" *\| *", row.strip("| ")) for row in done.stdout.splitlines()[2:]]
    assert [row[0].split(":")[0] for row in rows] == [
        "etcd alone",
        "the blackhole is in the node's kernel",
        "the UPDATE is at a peer",
        "the route is in BIRD's kernel",
    ]
    for _, median, p99, worst in rows:
        assert 0 < float(median) <= float(p99) <= float(worst)
