"""What good clients feel of bad ones: the time of a change to all, while each kind of bad client does its
worst.

Run: python -m benchmarks.bad_clients [--clients N] [--seconds N] [--only KIND] [--json FILE]

`routed rr` with a limit of 10,000 prefixes a client serves good clients that keep timers of 1 s and 3 s. Ten
times a second one of them changes a route, and the time until all others have it is taken: first alone, then
beside each kind of bad client, which runs in a process of its own. No good session may be lost, and what the
bad one did must be in the status document.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import multiprocessing
import random
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks._fleet import (
    KEEPALIVE_MESSAGE,
    MARKER,
    UPDATE,
    Fleet,
    Session,
    Settings,
    announcement,
    message,
    nlri,
    open_message,
)
from benchmarks.soak import reflector

LIMIT = 10_000
#: Before each row, so that the bad client is at work, and after it, so that all is counted; seconds.
SETTLE = 1.0
Stop = Callable[[], bool]
#: Bad clients' routes: far from those of the good ones.
_FIRST_BAD = 1 << 20
_HOP = b"\x7f\x01\xc8\x01"


# --- bad clients


def connect(port: int, address: str) -> socket.socket:
    """A connection from an address. Raises OSError."""
    sock = socket.socket()
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((address, 0))
        sock.settimeout(2.0)
        sock.connect(("127.0.0.1", port))
    except OSError:
        sock.close()
        raise
    return sock


def establish(port: int, address: str, hold_time: int = 90) -> socket.socket:
    """A session. Raises OSError where there is none."""
    sock = connect(port, address)
    try:
        sock.sendall(open_message(64512, socket.inet_aton(address), hold_time))
        heard = b""
        while heard.count(MARKER) < 1:
            data = sock.recv(4096)
            if not data:
                raise ConnectionError("refused")
            heard += data
        sock.sendall(KEEPALIVE_MESSAGE)
        while heard.count(MARKER) < 2:
            data = sock.recv(4096)
            if not data:
                raise ConnectionError("refused")
            heard += data
    except OSError:
        sock.close()
        raise
    return sock


def _wait(seconds: float, stop: Stop) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and not stop():
        time.sleep(0.01)


def garbage(port: int, stop: Stop) -> None:
    """Random octets, at once or in place of an UPDATE."""
    rng = random.Random(1)
    for number in itertools.count():
        if stop():
            return
        with contextlib.suppress(OSError):
            address = f"127.1.201.{1 + number % 200}"
            with establish(port, address) if number % 2 else connect(port, address) as sock:
                sock.sendall(rng.randbytes(4096))
                sock.recv(4096)
        time.sleep(0.005)


def bad_updates(port: int, stop: Stop) -> None:
    """UPDATEs whose attributes are wrong (RFC 7606), as fast as they are taken."""
    wrong = b"\x40\x01\x01\x07\x40\x02\0\x40\x03\x04" + _HOP + b"\x40\x05\x04\0\0\0\x64"  # ORIGIN 7
    update = message(
        UPDATE, b"\0\0" + len(wrong).to_bytes(2) + wrong + nlri(range(_FIRST_BAD, _FIRST_BAD + 10))
    )
    with establish(port, "127.1.202.1") as sock:
        while not stop():
            sock.sendall(update * 10)
            time.sleep(0.01)


def stops_reading(port: int, stop: Stop) -> None:
    """A session that sends KEEPALIVEs and reads nothing."""
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(establish(port, f"127.1.203.{n}")) for n in range(1, 11)]
        for sock in socks:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        while not stop():
            for sock in socks:
                sock.sendall(KEEPALIVE_MESSAGE)
            _wait(1.0, stop)


def flaps(port: int, stop: Stop) -> None:
    """A hundred times a second: a session, ten routes, gone."""
    due = time.monotonic()
    for number in itertools.count():
        if stop():
            return
        with contextlib.suppress(OSError), establish(port, f"127.1.204.{1 + number % 10}") as sock:
            sock.sendall(announcement(range(_FIRST_BAD, _FIRST_BAD + 10), 1, _HOP))
        due += 0.01
        time.sleep(max(0.0, due - time.monotonic()))


def too_many(port: int, stop: Stop) -> None:
    """A million routes; and again as soon as it is let in."""
    everything = announcement(range(_FIRST_BAD, _FIRST_BAD + 1_000_000), 1, _HOP)
    while not stop():
        with contextlib.suppress(OSError), establish(port, "127.1.205.1") as sock:
            sock.settimeout(30.0)
            sock.sendall(everything)
            _wait(1.0, stop)
        _wait(0.05, stop)


def connects_twice(port: int, stop: Stop) -> None:
    """A second connection with an OPEN beside an Established one, again and again."""
    with establish(port, "127.1.206.1") as first:
        first.settimeout(0.0)
        while not stop():
            with contextlib.suppress(OSError), connect(port, "127.1.206.1") as second:
                second.sendall(open_message(64512, socket.inet_aton("127.1.206.1"), 90))
                second.recv(4096)
            with contextlib.suppress(BlockingIOError):
                first.recv(1 << 20)
            first.sendall(KEEPALIVE_MESSAGE)
            time.sleep(0.005)


def from_outside(port: int, stop: Stop) -> None:
    """Connections from outside the clients' range."""
    while not stop():
        with contextlib.suppress(OSError), connect(port, "127.2.0.1") as sock:
            sock.recv(1)
        time.sleep(0.002)


def never_opens(port: int, stop: Stop) -> None:
    """Two hundred connections that say nothing."""
    with contextlib.ExitStack() as stack:
        for number in range(1, 201):
            stack.enter_context(connect(port, f"127.1.207.{number}"))
        while not stop():
            time.sleep(0.05)


def loops(port: int, stop: Stop) -> None:
    """Routes with the reflector's own cluster ID, and with its own identifier as originator."""
    own_cluster = b"\x80\x09\x04\x01\x02\x03\x04\x80\x0a\x04\x7f\0\0\1"
    own_originator = b"\x80\x09\x04\x7f\0\0\1"
    with establish(port, "127.1.208.1") as sock:
        sock.settimeout(0.0)
        for version in itertools.count(1):
            if stop():
                return
            routes = range(_FIRST_BAD, _FIRST_BAD + 100)
            with contextlib.suppress(BlockingIOError):
                sock.sendall(announcement(routes, version, _HOP, own_cluster))
                sock.sendall(announcement(routes, version, _HOP, own_originator))
                sock.sendall(KEEPALIVE_MESSAGE)
                sock.recv(1 << 20)
            time.sleep(0.01)


BAD: dict[str, Callable[[int, Stop], None]] = {
    one.__name__: one
    for one in (
        garbage,
        bad_updates,
        stops_reading,
        flaps,
        too_many,
        connects_twice,
        from_outside,
        never_opens,
        loops,
    )
}


def _run_bad(name: str, port: int, begun: Any, event: Any) -> None:
    """In a process of its own. What ends it early is said, and is no failure of the reflector."""
    begun.set()
    try:
        BAD[name](port, event.is_set)
    except OSError as error:
        print(f"{name}: {error}", file=sys.stderr)


@contextlib.contextmanager
def at_work(name: str, port: int) -> Iterator[Callable[[], bool]]:
    """A bad client in a process of its own, which takes its time; the function says whether it has begun."""
    context = multiprocessing.get_context("spawn")
    begun, event = context.Event(), context.Event()
    process = context.Process(target=_run_bad, args=(name, port, begun, event))
    process.start()
    try:
        yield begun.is_set
    finally:
        event.set()
        process.join(10)
        if process.is_alive():
            process.kill()
            process.join()


# --- good clients


class Good:
    """Sessions that behave, and the time a change of one takes to all others."""

    def __init__(self, port: int, clients: int, routes: int = 20, hold_time: int = 3) -> None:
        self.routes = routes
        self.fleet = Fleet(Settings(port, hold_time=hold_time, routes=clients * routes))
        self.sessions = self.fleet.add(clients)
        self._version = 1
        self._next = itertools.cycle(range(clients))

    def own(self, session: Session) -> range:
        """What a session announces."""
        return range(session.number * self.routes, (session.number + 1) * self.routes)

    def begin(self) -> None:
        """All up, with all routes everywhere."""
        self.fleet.connect(self.sessions)
        for session in self.sessions:
            session.announce(self.own(session), 1)
        whole = len(self.sessions) * self.routes - self.routes
        self.fleet.run_until(lambda: all(one.held() == whole for one in self.sessions), 60, "all is told")

    def change(self, timeout: float = 20.0) -> float:
        """One route changes; seconds until all others have it. Raises TimeoutError."""
        session = self.sessions[next(self._next)]
        route = self.own(session).start
        self._version += 1
        session.announce([route], self._version)
        others = [one for one in self.sessions if one is not session]
        begun = time.monotonic()
        self.fleet.run_until(
            lambda: all(one.table[route] == self._version for one in others), timeout, "a change to all"
        )
        return time.monotonic() - begun

    def changes(self, seconds: float, pause: float = 0.1) -> list[float]:
        """So many seconds of changes."""
        end = time.monotonic() + seconds
        times = []
        while time.monotonic() < end:
            times.append(self.change())
            self.fleet.run(pause)
        return times


@dataclass
class Row:
    """What the good clients felt beside one kind of bad ones."""

    name: str
    times: list[float]
    lost: int
    incidents: dict[str, Any]
    """What the status document counted more."""


def incidents(status: Path) -> dict[str, Any]:
    """What peers did wrong so far, flat: `attempts_failed: sent OPEN Message Error/Bad Peer AS`: 7."""
    document = json.loads(status.read_text())
    flat: dict[str, Any] = {}
    for kind, counted in document["incidents"].items():
        if isinstance(counted, dict):
            flat |= {f"{kind}: {name}": number for name, number in counted.items()}
        else:
            flat[kind] = counted
    flat["announcements_ignored"] = sum(one["ignored"]["announcements"] for one in document["sessions"])
    return flat


def measure(clients: int, seconds: float, names: list[str]) -> list[Row]:
    """A row for the good clients alone, then one for each kind of bad ones, then one alone again."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="bench-bad-") as folder:
        status = Path(folder) / "status.json"
        options = ("--max-prefixes", str(LIMIT), "--status-file", str(status), "--log-level", "error")
        with reflector(Path(folder), *options) as (port, _process):
            good = Good(port, clients)
            good.begin()
            good.fleet.run_until(status.exists, 10, "the first status")
            for name in ("(none)", *names, "(none, after)"):
                before, lost = incidents(status), good.fleet.counts.lost
                alone = contextlib.nullcontext(lambda: True)
                with alone if name.startswith("(") else at_work(name, port) as begun:
                    good.fleet.run_until(begun, 60, f"{name} begins")
                    good.fleet.run(SETTLE)
                    times = good.changes(seconds)
                    after = incidents(status)
                good.fleet.run(SETTLE)
                more = {key: value - before.get(key, 0) for key, value in after.items()}
                rows.append(
                    Row(name, times, good.fleet.counts.lost - lost, {k: v for k, v in more.items() if v > 0})
                )
            good.fleet.close()
    return rows


def table(rows: list[Row]) -> str:
    """Markdown."""
    lines = ["| beside | median | 99 % | sessions lost | counted |", "| --- | ---: | ---: | ---: | --- |"]
    for row in rows:
        times = sorted(row.times)
        late = times[min(len(times) - 1, int(len(times) * 0.99))]
        counted = ", ".join(f"{name} {number:,}" for name, number in row.incidents.items())
        name, median = row.name.replace("_", " "), statistics.median(times)
        figures = f"{median * 1000:.1f} ms | {late * 1000:.1f} ms | {row.lost}"
        lines.append(f"| {name} | {figures} | {counted} |")
    return "\n".join(lines)


def main() -> int:
    """See the module; the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=5.0, help="with each kind of bad client")
    parser.add_argument("--only", action="append", choices=list(BAD), help="just this kind; may be repeated")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    rows = measure(options.clients, options.seconds, options.only or list(BAD))
    print(f"{options.clients} good clients\n\n{table(rows)}")
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    return 1 if any(row.lost for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
