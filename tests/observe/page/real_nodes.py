"""Two nodes of a small cluster as processes on loopback, without kernel routes: one with a looking glass."""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Final

from benchmarks.reflector.processes import free_port
from tests.routed_process import Record, Records, block, configuration, pool, record

_REPOSITORY: Final = Path(__file__).resolve().parents[3]
ADDRESSES: Final = {"alpha": "127.0.0.11", "bravo": "127.0.0.12", "charlie": "127.0.0.13"}
POOL: Final = "10.66.0.0/16"


def cluster(port: int) -> list[Record]:
    """Three nodes in a mesh, of which charlie never comes, a pool, blocks, and borrowed addresses."""
    nodes = [record("Node", name, bgp={"ipv4Address": f"{address}/8"}) for name, address in ADDRESSES.items()]
    return [
        configuration(mesh=True, listenPort=port, bindMode="NodeIP"),
        *nodes,
        pool(POOL),
        *block("alpha", "10.66.1.0/26", {"10.66.1.1": ("shop", "alpha"), "10.66.1.2": ("cart", "bravo")}),
        *block("bravo", "10.66.2.0/26", {"10.66.2.9": ("pay", "alpha")}),
        *block("bravo", "10.66.3.0/26"),
        *block("charlie", "10.66.4.0/26"),
    ]


class RealNodes:
    """Close it at the end."""

    def __init__(self, folder: Path) -> None:
        self.records = Records(folder / "records")
        self.records.put("cluster", cluster(free_port(ADDRESSES["alpha"])))
        self.http = f"127.0.0.1:{free_port('127.0.0.1')}"
        self.url = f"http://{self.http}/"
        self._folder = folder
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self.start("alpha", "--http", self.http, "--looking-glass")
        self.start("bravo")
        self._wait_for_page()

    def start(self, name: str, *options: str) -> None:
        """Start a node."""
        command = [sys.executable, "-m", "routed", "run", "--node", name, "--datastore", self.records.url]
        command += ["--no-kernel", "--api", "none", "--on-stop", "shutdown", *options]
        with (self._folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(command, cwd=_REPOSITORY, stdout=log, stderr=log)

    def stop(self, name: str) -> None:
        """Stop a node."""
        process = self._processes.pop(name)
        process.terminate()
        process.wait(60)

    def close(self) -> None:
        """Stop all."""
        for name in list(self._processes):
            self.stop(name)

    def _wait_for_page(self) -> None:
        until = time.monotonic() + 60
        while True:
            try:
                with urllib.request.urlopen(self.url, timeout=2):
                    return
            except urllib.error.URLError:
                if time.monotonic() > until:
                    raise AssertionError((self._folder / "alpha.log").read_text()) from None
                time.sleep(0.05)
