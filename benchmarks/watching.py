"""What watching costs a reflector: the time of each question to its API, and its CPU while somebody looks.

Run: python -m benchmarks.watching [--sessions N] [--routes N] [--seconds S] [--json FILE]

Every session announces its part of the routes. Then each question is asked on its own: how long its answer
takes, how large it is, and the longest turn of the event loop meanwhile, in which no KEEPALIVE goes out. Then
routes change all the time, and the reflector's CPU is measured with nobody there and with somebody watching:
one listener to events, the status each second, metrics each 15 seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from ipaddress import IPv4Address, ip_address, ip_network
from pathlib import Path
from typing import Any

from benchmarks._fleet import Fleet, Settings
from benchmarks.reflector.processes import end, free_port, listens
from benchmarks.turns import TimedSelector
from routed import log
from routed.bgp.transport import Endpoint
from routed.observe.options import ObserveOptions
from routed.rr.process import ReflectorProcess
from routed.rr.standalone import Reflector, Running

API = "/api/v1"
#: Each question is asked so often; the median counts, and the longest turn of all.
TIMES = 5
#: It is quiet when nothing came for so long, seconds.
QUIET = 0.5
#: Routes that change together, and how often, while CPU is measured.
CHANGED, CHANGE_TIME = 100, 0.1
#: Between two questions of a watcher, seconds.
STATUS_TIME, METRICS_TIME = 1.0, 15.0
#: Spans with nobody there and spans with a watcher take turns; so many of each.
SPANS = 3


# --- the reflector's process


async def reflect(port: int, folder: Path, selector: TimedSelector) -> None:
    """Run a reflector until standard input ends; each line of it gets a line of JSON: the longest turn since
    the last one, and the CPU time of the process."""
    log.configure("error", "json")
    identity = IPv4Address("127.0.0.1")
    reflector = Reflector(
        listen=(Endpoint(ip_address("127.0.0.1"), port),),
        local_as=64512,
        router_id=identity,
        cluster_id=identity,
        clients=(ip_network("127.1.0.0/16"),),
    )
    running = Running(observe=ObserveOptions(api=folder / "api.sock"))
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()

    def on_command() -> None:
        if not sys.stdin.readline():
            stop.set()
            loop.remove_reader(sys.stdin)
        found = {"longest": selector.longest, "cpu": time.process_time()}
        selector.longest = 0.0
        print(json.dumps(found), flush=True)

    loop.add_reader(sys.stdin, on_command)
    await ReflectorProcess(reflector, running).run(stop)


class Child:
    """The reflector's process, and its API."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, api: Path) -> None:
        self.process = process
        self.port = port
        self.api = api

    def mark(self) -> dict[str, float]:
        """What was found since the last time."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(b"mark\n")
        self.process.stdin.flush()
        answer: dict[str, float] = json.loads(self.process.stdout.readline())
        return answer

    def connect(self) -> http.client.HTTPConnection:
        """A connection to the API."""
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(60)
        sock.connect(str(self.api))
        connection = http.client.HTTPConnection("localhost")
        connection.sock = sock
        return connection

    def ask(self, path: str) -> bytes:
        """One question on a connection of its own. Raises RuntimeError where it is refused."""
        connection = self.connect()
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            body = response.read()
        finally:
            connection.close()
        if response.status not in (200, 503):
            raise RuntimeError(f"{path}: {response.status} {body[:200]!r}")
        return body


@contextmanager
def reflector() -> Iterator[Child]:
    """One at work, in a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="bench-watching-") as folder:
        port = free_port()
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.watching", "--reflect", str(port), folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        try:
            while not listens(port):
                if process.poll() is not None:
                    raise RuntimeError("the reflector does not start")
                time.sleep(0.02)
            yield Child(process, port, Path(folder) / "api.sock")
        finally:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.close()
            end(process)
            process.stdout.close()


# --- the load


@dataclass(frozen=True)
class Question:
    """What a question costs."""

    path: str
    seconds: float
    cpu: float
    """Seconds of the reflector's."""
    octets: int
    longest_turn: float


@dataclass(frozen=True)
class Watching:
    """CPU of the reflector while routes change, as shares of one core."""

    alone: float
    watched: float
    events: int
    """Octets of events that the listener got."""
    slowest_status: float
    """Seconds."""

    @property
    def cost(self) -> float:
        """What watching costs, as a share of one core."""
        return self.watched - self.alone


@dataclass(frozen=True)
class Result:
    """All of it."""

    sessions: int
    routes: int
    questions: list[Question]
    watching: Watching


def questions(peer: str) -> list[str]:
    """What is asked."""
    return [
        "/liveness",
        "/readiness",
        f"{API}/status",
        f"{API}/peers",
        f"{API}/peers/{peer}",
        f"{API}/routes",
        f"{API}/routes?limit=1000000",
        f"{API}/routes?limit=1000000&scope=best",
        f"{API}/routes?prefix=10.0.0.7",
        f"{API}/routes?received_from={peer}",
        f"{API}/routes?advertised_to={peer}&limit=1000000",
        f"{API}/explain?target=10.0.0.7/32",
        f"{API}/explain?target={peer}",
        f"{API}/events",
        f"{API}/rates",
        f"{API}/openapi.json",
        "/metrics",
    ]


def ask_all(child: Child, peer: str) -> Iterator[Question]:
    """Each question on its own."""
    for path in questions(peer):
        times: list[float] = []
        child.ask(path)  # imports
        before = child.mark()
        for _ in range(TIMES):
            begun = time.monotonic()
            octets = len(child.ask(path))
            times.append(time.monotonic() - begun)
        after = child.mark()
        cpu = (after["cpu"] - before["cpu"]) / TIMES
        yield Question(path, statistics.median(times), cpu, octets, after["longest"])


class Watcher:
    """One listener to events, the status each second, metrics each 15 seconds; in threads."""

    def __init__(self, child: Child) -> None:
        self.octets = 0
        self.slowest = 0.0
        self._child = child
        self._end = threading.Event()
        self._stream = child.connect()
        # Kept apart: the response takes it from the connection.
        self._socket = self._stream.sock
        self._threads = [threading.Thread(target=one) for one in (self._listen, self._poll)]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Look no more."""
        self._end.set()
        assert self._socket is not None
        self._socket.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._stream.close()

    def _listen(self) -> None:
        self._stream.request("GET", f"{API}/events/stream")
        response = self._stream.getresponse()
        try:
            while piece := response.read1(1 << 16):
                self.octets += len(piece)
        except (OSError, http.client.HTTPException):
            assert self._end.is_set(), "the stream ended by itself"

    def _poll(self) -> None:
        metrics_at = 0.0
        while not self._end.is_set():
            begun = time.monotonic()
            self._child.ask(f"{API}/status")
            self.slowest = max(self.slowest, time.monotonic() - begun)
            if begun >= metrics_at:
                self._child.ask("/metrics")
                metrics_at = begun + METRICS_TIME
            self._end.wait(STATUS_TIME)


def churn(fleet: Fleet, routes: int, seconds: float, version: Callable[[], int]) -> None:
    """Change routes for so long."""
    session = fleet.sessions[0]
    share = max(1, routes // len(fleet.sessions))
    until = time.monotonic() + seconds
    while (now := time.monotonic()) < until:
        session.announce(range(min(share, CHANGED)), version())
        fleet.run(max(0.0, now + CHANGE_TIME - time.monotonic()))


def watch(child: Child, fleet: Fleet, routes: int, seconds: float) -> Watching:
    """Spans with nobody there and spans with a watcher, in turns."""
    shares: dict[bool, list[float]] = {False: [], True: []}
    octets, slowest, count = 0, 0.0, 1

    def version() -> int:
        nonlocal count
        count += 1
        return count

    for number in range(2 * SPANS):
        watched = bool(number % 2)
        watcher = Watcher(child) if watched else None
        before, begun = child.mark()["cpu"], time.monotonic()
        churn(fleet, routes, seconds, version)
        shares[watched].append((child.mark()["cpu"] - before) / (time.monotonic() - begun))
        if watcher is not None:
            watcher.close()
            octets += watcher.octets
            slowest = max(slowest, watcher.slowest)
    return Watching(statistics.median(shares[False]), statistics.median(shares[True]), octets, slowest)


def measure(sessions: int, routes: int, seconds: float) -> Result:
    """All of it."""
    with reflector() as child:
        fleet = Fleet(Settings(child.port, hold_time=0))
        fleet.add(sessions)
        fleet.connect(fleet.sessions)
        share = routes // sessions
        for number, session in enumerate(fleet.sessions):
            session.announce(range(number * share, (number + 1) * share), 1)
        seen = -1
        while fleet.counts.octets != seen:
            seen = fleet.counts.octets
            fleet.run(QUIET)
        status: dict[str, Any] = json.loads(child.ask(f"{API}/status"))
        assert status["peers_by_state"]["established"] == sessions, status
        assert status["routes"]["ipv4"] == share * sessions, status
        peer = json.loads(child.ask(f"{API}/peers"))["peers"][0]["name"]
        asked = list(ask_all(child, peer))
        watching = watch(child, fleet, routes, seconds)
        fleet.close()
    return Result(sessions, share * sessions, asked, watching)


def table(result: Result) -> str:
    """Markdown."""
    lines = ["| question | answer | CPU | size | longest turn |", "| --- | ---: | ---: | ---: | ---: |"]
    for one in result.questions:
        path = one.path.removeprefix(API)
        size = f"{one.octets / 1000:,.0f} kB" if one.octets >= 1000 else f"{one.octets} B"
        lines.append(
            f"| `{path}` | {one.seconds * 1000:.0f} ms | {one.cpu * 1000:.0f} ms | {size} "
            f"| {one.longest_turn * 1000:.0f} ms |"
        )
    found = result.watching
    lines += [
        "",
        f"{CHANGED / CHANGE_TIME:,.0f} changed routes a second: {found.alone:.1%} of a core with nobody "
        f"there, {found.watched:.1%} watched (a listener to events, the status each second, metrics each "
        f"15 s): watching costs {found.cost:.1%}. The slowest status took {found.slowest_status * 1000:.0f} "
        "ms.",
    ]
    return "\n".join(lines)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sessions", type=int, default=1000)
    parser.add_argument("--routes", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each span with and without a watcher")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--reflect", nargs=2, metavar=("PORT", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.reflect:
        port, folder = options.reflect
        selector = TimedSelector()
        with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selector)) as runner:
            runner.run(reflect(int(port), Path(folder), selector))
        return
    result = measure(options.sessions, options.routes, options.seconds)
    print(f"{result.sessions:,} sessions, {result.routes:,} routes\n\n{table(result)}")
    if options.json:
        options.json.write_text(json.dumps(asdict(result), indent=1) + "\n")


if __name__ == "__main__":
    main()
