"""How long one turn of a reflector's event loop lasts: its longest while it does what keeps it longest.

Run: python -m benchmarks.turns [--routes N] [--clients N] [--json FILE]

A turn is the time from one look at the sockets to the next. While it lasts no KEEPALIVE goes out and none
is read, so with timers of 1 s and 3 s a turn may take a second and no more. One session announces all
routes; the others read. The reflector runs in a process of its own, with a selector that looks at the
clock.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import selectors
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address, ip_address, ip_network
from pathlib import Path
from typing import Any

from benchmarks._fleet import Fleet, Session, Settings
from benchmarks.reflector.processes import end, free_port, listens
from routed import log
from routed.bgp.transport import Endpoint
from routed.event_loop import FairSelector
from routed.rr.process import ReflectorProcess
from routed.rr.standalone import Reflector, Running

#: A feed of this many routes shares one attribute set, as a session's routes do in Calico; see
#: --routes-a-set.
ROUTES_A_SET = 800
#: It is over when nothing came for so long, seconds.
QUIET = 0.3


# --- the reflector's process


class TimedSelector(FairSelector):
    """Knows how long the loop was away between two looks at the sockets."""

    def __init__(self) -> None:
        super().__init__()
        self.longest = 0.0
        self.count = 0
        self._left_at = time.perf_counter()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """See `selectors.BaseSelector.select`."""
        self.count += 1
        self.longest = max(self.longest, time.perf_counter() - self._left_at)
        ready = super().select(timeout)
        self._left_at = time.perf_counter()
        return ready

    def take(self) -> dict[str, float]:
        """What was found since the last call."""
        found = {"longest": self.longest, "turns": self.count}
        self.longest, self.count = 0.0, 0
        return found


async def reflect(port: int, status_file: Path, selector: TimedSelector) -> None:
    """Run a reflector until standard input ends; each line of it is a command, and gets a line of JSON."""
    log.configure("error", "json")
    identity = IPv4Address("127.0.0.1")
    reflector = Reflector(
        listen=(Endpoint(ip_address("127.0.0.1"), port),),
        local_as=64512,
        router_id=identity,
        cluster_id=identity,
        clients=(ip_network("127.1.0.0/16"),),
    )
    process = ReflectorProcess(reflector, Running(status_file=status_file))
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()

    def on_command() -> None:
        line = sys.stdin.readline().strip()
        if not line:
            stop.set()
            loop.remove_reader(sys.stdin)
        elif line == "drain":
            process._speaker.drain()
        print(json.dumps(selector.take()), flush=True)

    loop.add_reader(sys.stdin, on_command)
    await process.run(stop)


# --- the load


class Child:
    """The reflector's process, by its standard input and output."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.process = process
        self.port = port

    def ask(self, command: str = "mark") -> dict[str, Any]:
        """What was found since the last time."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(command.encode() + b"\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer


@contextmanager
def reflector() -> Iterator[Child]:
    """One at work, in a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="bench-turns-") as folder:
        port = free_port()
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.turns", "--reflect", str(port), folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        try:
            while not listens(port):
                if process.poll() is not None:
                    raise RuntimeError("the reflector does not start")
                time.sleep(0.02)
            yield Child(process, port)
        finally:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.close()
            end(process)
            process.stdout.close()


def announce_all(feeder: Session, routes: int, version: int, a_set: int) -> None:
    """All routes, so many an attribute set (by a community)."""
    for number, first in enumerate(range(0, routes, a_set)):
        community = b"\xc0\x08\x04" + (0xFC000000 + number).to_bytes(4)
        feeder.announce(range(first, min(first + a_set, routes)), version, community)


def measure(routes: int, clients: int, a_set: int) -> list[tuple[str, float, float]]:
    """What was done, how long it took, and the longest turn, seconds."""
    rows: list[tuple[str, float, float]] = []
    with reflector() as process:
        fleet = Fleet(Settings(process.port, hold_time=0))
        feeder, *others = fleet.add(clients + 1)
        fleet.connect(fleet.sessions)

        def step(what: str, begin: Callable[[], object], octets: int = 0, sessions: int = clients) -> None:
            """Do something, and work until all of so many octets a session have come and it is quiet."""
            process.ask()
            begun = time.monotonic()
            before = fleet.counts.octets
            begin()
            while True:
                seen = fleet.counts.octets
                fleet.run(QUIET)
                if (
                    fleet.counts.octets == seen
                    and not any(one.backlog for one in fleet.sessions)
                    and (seen - before >= octets * sessions)
                ):
                    break
                if time.monotonic() - begun > 300:
                    raise TimeoutError(what)
            took = time.monotonic() - begun - QUIET
            rows.append((what, took, process.ask()["longest"]))

        size = 5 * routes
        step("a feed of all routes", lambda: announce_all(feeder, routes, 1, a_set), size)
        (late,) = fleet.add(1)
        step("one joins", lambda: fleet.connect([late]), size, 1)
        some = fleet.add(50)
        step("50 join together", lambda: fleet.connect(some), size, 50)
        everybody = [*others, late, *some]
        refresh = b"\xff" * 16 + b"\0\x17\x05\0\1\0\1"
        step("one asks for all again", lambda: late.send(refresh), size, 1)

        def all_refresh() -> None:
            for one in everybody:
                one.send(refresh)

        step("all ask for all again", all_refresh, size, len(everybody))
        other = Fleet(Settings(process.port, hold_time=0, four_octet_as=False), "127.1.128.1")
        (old,) = other.add(1)

        def join_other() -> None:
            other.connect([old])
            other.run_until(lambda: other.counts.octets >= size, 300)

        step("one joins that needs another encoding", join_other, 0)
        step("all routes change", lambda: announce_all(feeder, routes, 2, a_set), size, len(everybody))
        for one in everybody:
            one.pause()

        def change_unread() -> None:
            for version in (3, 4, 5):
                announce_all(feeder, routes, version, a_set)

        step("all routes change three times, and nobody reads", change_unread)

        def read_again() -> None:
            for one in everybody:
                one.pause(False)

        step("all read again", read_again)
        step("drain: every route is sent again", lambda: process.ask("drain"), size, len(everybody))
        step("the feeder goes", feeder.close)
        fleet.close()
        other.close()
    return rows


def table(rows: list[tuple[str, float, float]]) -> str:
    """Markdown."""
    lines = ["| what | takes | longest turn |", "| --- | ---: | ---: |"]
    lines += [f"| {what} | {took:.2f} s | {longest * 1000:.0f} ms |" for what, took, longest in rows]
    return "\n".join(lines)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--routes", type=int, default=100_000)
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--routes-a-set", type=int, default=ROUTES_A_SET)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--reflect", nargs=2, metavar=("PORT", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.reflect:
        port, folder = options.reflect
        selector = TimedSelector()
        with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selector)) as runner:
            runner.run(reflect(int(port), Path(folder) / "status.json", selector))
        return
    rows = measure(options.routes, options.clients, options.routes_a_set)
    print(f"{options.routes:,} routes, {options.clients} clients\n\n{table(rows)}")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
