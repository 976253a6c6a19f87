"""How long the commands that ask a running routed take, beside a Python that does nothing.

Run: python -m benchmarks.cli_start [--clients N] [--routes N] [--runs N]

A `routed rr` with N sessions and N routes answers; each command is a process, and takes turns with
`python -c pass`. The difference is what the command needs more: its imports, the question, the server's
answer and the output, which goes into a file.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks._fleet import Fleet, Settings
from benchmarks.reflector.processes import free_port, running

#: Routes of one attribute set.
ROUTES_A_SET = 800
COMMANDS: tuple[tuple[str, ...], ...] = (
    ("--version",),
    ("healthcheck",),
    ("status",),
    ("peers",),
    ("peers", "-o", "json"),
    ("peers", "127.1.0.1"),
    ("events",),
    ("explain", "10.0.0.1"),
    ("routes", "10.0.0.1"),
    ("routes", "--limit", "20"),
    ("routes", "--count"),
    ("routes",),
    ("routes", "-o", "json"),
)


@contextmanager
def reflector(folder: Path, clients: int, routes: int) -> Iterator[Path]:
    """A reflector with sessions and routes; the socket of its API."""
    port, api = free_port(), folder / "api.sock"
    command = [sys.executable, "-m", "routed", "rr", "--listen", f"127.0.0.1:{port}", "--as", "64512"]
    command += ["--router-id", "127.0.0.1", "--clients", "127.1.0.0/16", "--api", str(api)]
    with running(command, folder, port):
        fleet = Fleet(Settings(port))
        feeder, *_ = fleet.add(clients)
        fleet.connect(fleet.sessions)
        for number, first in enumerate(range(0, routes, ROUTES_A_SET)):
            community = b"\xc0\x08\x04" + (0xFC000000 + number).to_bytes(4)
            feeder.announce(range(first, min(first + ROUTES_A_SET, routes)), 1, community)
        told = 5 * routes * (clients - 1)  # octets of NLRI, of which each is a /32
        fleet.run_until(lambda: fleet.counts.octets >= told, 120, "every client has all routes")
        over = threading.Event()

        def keep_alive() -> None:
            while not over.is_set():
                fleet.run(0.5)

        thread = threading.Thread(target=keep_alive)
        thread.start()
        try:
            yield api
        finally:
            over.set()
            thread.join()
            fleet.close()


def timed(command: Sequence[str], environment: dict[str, str], output: Path) -> tuple[float, float]:
    """How long one process took, and the CPU time that it used, seconds. Raises RuntimeError where it
    fails."""
    with output.open("wb") as stream:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        begun = time.perf_counter()
        done = subprocess.run(command, stdout=stream, stderr=subprocess.PIPE, env=environment)
        took = time.perf_counter() - begun
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.decode(errors='replace')}")
    return took, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure(clients: int, routes: int, runs: int) -> list[tuple[str, float, float, float]]:
    """Each command with the medians of its time, of the difference to a bare Python, and of the difference in
    CPU time, seconds."""
    found = []
    with tempfile.TemporaryDirectory(prefix="bench-cli-") as name:
        folder = Path(name)
        with reflector(folder, clients, routes) as api:
            environment = {**os.environ, "ROUTED_SOCKET": str(api)}
            bare = [sys.executable, "-c", "pass"]
            for command in COMMANDS:
                whole = [sys.executable, "-m", "routed", *command]
                timed(whole, environment, folder / "out")  # imports on the server's side, once
                pairs = [
                    (timed(bare, environment, folder / "out"), timed(whole, environment, folder / "out"))
                    for _ in range(runs)
                ]
                took = statistics.median(one[0] for _, one in pairs)
                more = statistics.median(one[0] - nothing[0] for nothing, one in pairs)
                cpu = statistics.median(one[1] - nothing[1] for nothing, one in pairs)
                found.append((" ".join(("routed", *command)), took, more, cpu))
    return found


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--routes", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=7)
    options = parser.parse_args()
    rows = measure(options.clients, options.routes, options.runs)
    print(f"{options.clients:,} sessions, {options.routes:,} routes\n")
    print("| command | takes | more than a bare Python | CPU of that |\n| --- | ---: | ---: | ---: |")
    for command, took, more, cpu in rows:
        print(f"| `{command}` | {took:.2f} s | {more:.2f} s | {cpu:.2f} s |")


if __name__ == "__main__":
    main()
