"""What watching costs a reflector: the time of each question to its API, and its CPU while somebody looks.

Run: python -m benchmarks.watching [--sessions N] [--routes N] [--seconds S] [--json FILE]

Every session announces its part of the routes. Then each question is asked on its own: how long its answer
takes, how large it is, and the longest turn of the event loop meanwhile, in which no KEEPALIVE goes out. Then
routes change all the time, and the reflector's CPU is measured with nobody there and with somebody watching:
one listener to events, the status each second, metrics each 15 seconds.
"""

from __future__ import annotations

import argparse
import http.client
import json
import socket
import statistics
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from http import HTTPStatus
from itertools import count
from pathlib import Path
from typing import Any

from benchmarks._fleet import Fleet, Settings
from benchmarks._measured import Child, measured_reflector
from routed.cli.client import Client, Server

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


class Api:
    """The API of the reflector that is measured."""

    def __init__(self, path: Path) -> None:
        self._client = Client(Server(path), timeout=60.0)

    def connect(self) -> http.client.HTTPConnection:
        """A connection to it."""
        connection = self._client.connection()
        connection.connect()
        return connection

    def ask(self, path: str) -> bytes:
        """One question on a connection of its own. Raises RuntimeError where it is refused."""
        status, body = self._client.probe(path)
        if status not in (HTTPStatus.OK, HTTPStatus.SERVICE_UNAVAILABLE):
            raise RuntimeError(f"{path}: {status} {body[:200]!r}")
        return body


@dataclass(frozen=True)
class Question:
    """What a question costs."""

    path: str
    seconds: float
    cpu: float
    """Seconds of the reflector's."""
    octets: int
    longest_turn: float
    """Seconds of the processor."""
    first: float
    """Seconds of the reflector's for the first question of its kind, with what that imports."""
    first_turn: float
    """The longest turn of that, seconds of the processor."""


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


def ask_all(child: Child, api: Api, peer: str) -> Iterator[Question]:
    """Each question on its own."""
    for path in questions(peer):
        times: list[float] = []
        begun_at = child.ask()["cpu"]
        api.ask(path)
        before = child.ask()
        for _ in range(TIMES):
            begun = time.monotonic()
            octets = len(api.ask(path))
            times.append(time.monotonic() - begun)
        after = child.ask()
        cpu = (after["cpu"] - before["cpu"]) / TIMES
        yield Question(
            path,
            statistics.median(times),
            cpu,
            octets,
            after["longest"],
            before["cpu"] - begun_at,
            before["longest"],
        )


class Watcher:
    """One listener to events, the status each second, metrics each 15 seconds; in threads."""

    def __init__(self, api: Api) -> None:
        self.octets = 0
        self.slowest = 0.0
        self._api = api
        self._end = threading.Event()
        self._stream = api.connect()
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
            self._api.ask(f"{API}/status")
            self.slowest = max(self.slowest, time.monotonic() - begun)
            if begun >= metrics_at:
                self._api.ask("/metrics")
                metrics_at = begun + METRICS_TIME
            self._end.wait(STATUS_TIME)


def churn(fleet: Fleet, routes: int, seconds: float, versions: Iterator[int]) -> None:
    """Change routes for so long, each time to the next version."""
    session = fleet.sessions[0]
    share = max(1, routes // len(fleet.sessions))
    until = time.monotonic() + seconds
    while (now := time.monotonic()) < until:
        session.announce(range(min(share, CHANGED)), next(versions))
        fleet.run(max(0.0, now + CHANGE_TIME - time.monotonic()))


def watch(child: Child, api: Api, fleet: Fleet, routes: int, seconds: float) -> Watching:
    """Spans with nobody there and spans with a watcher, in turns."""
    shares: dict[bool, list[float]] = {False: [], True: []}
    octets, slowest, versions = 0, 0.0, count(2)
    for number in range(2 * SPANS):
        watched = bool(number % 2)
        watcher = Watcher(api) if watched else None
        before, begun = child.ask()["cpu"], time.monotonic()
        churn(fleet, routes, seconds, versions)
        shares[watched].append((child.ask()["cpu"] - before) / (time.monotonic() - begun))
        if watcher is not None:
            watcher.close()
            octets += watcher.octets
            slowest = max(slowest, watcher.slowest)
    return Watching(statistics.median(shares[False]), statistics.median(shares[True]), octets, slowest)


def measure(
    sessions: int, routes: int, seconds: float, *, alternate: bool = False, per_peer: bool = False
) -> Result:
    """All of it. `alternate`: neighbouring prefixes are of different sessions."""
    options = ["--api", "--processor-time", *(["--metrics-per-peer"] if per_peer else [])]
    with measured_reflector(*options) as child:
        api = Api(child.api)
        fleet = Fleet(Settings(child.port, hold_time=0))
        fleet.add(sessions)
        fleet.connect(fleet.sessions)
        share = routes // sessions
        for number, session in enumerate(fleet.sessions):
            own = range(number * share, (number + 1) * share)
            session.announce(range(number, share * sessions, sessions) if alternate else own, 1)
        seen = -1
        while fleet.counts.octets != seen:
            seen = fleet.counts.octets
            fleet.run(QUIET)
        status: dict[str, Any] = json.loads(api.ask(f"{API}/status"))
        assert status["peers_by_state"]["established"] == sessions, status
        assert status["routes"]["ipv4"] == share * sessions, status
        peer = json.loads(api.ask(f"{API}/peers"))["peers"][0]["name"]
        asked = list(ask_all(child, api, peer))
        watching = watch(child, api, fleet, routes, seconds)
        fleet.close()
    return Result(sessions, share * sessions, asked, watching)


def table(result: Result) -> str:
    """Markdown."""
    lines = [
        "| question | answer | CPU | size | longest turn | the first: CPU | its longest turn |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for one in result.questions:
        path = one.path.removeprefix(API)
        size = f"{one.octets / 1000:,.0f} kB" if one.octets >= 1000 else f"{one.octets} B"
        lines.append(
            f"| `{path}` | {one.seconds * 1000:.0f} ms | {one.cpu * 1000:.0f} ms | {size} "
            f"| {one.longest_turn * 1000:.0f} ms "
            f"| {one.first * 1000:.0f} ms | {one.first_turn * 1000:.0f} ms |"
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
    parser.add_argument(
        "--alternate", action="store_true", help="neighbouring prefixes are of different sessions"
    )
    parser.add_argument("--metrics-per-peer", action="store_true", help="as of routed")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    result = measure(
        options.sessions,
        options.routes,
        options.seconds,
        alternate=options.alternate,
        per_peer=options.metrics_per_peer,
    )
    print(f"{result.sessions:,} sessions, {result.routes:,} routes\n\n{table(result)}")
    if options.json:
        options.json.write_text(json.dumps(asdict(result), indent=1) + "\n")


if __name__ == "__main__":
    main()
