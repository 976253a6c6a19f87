"""Clients of all ways to look that mean ill: sessions with the shortest hold time do not notice, memory and
descriptors are bounded, and others are answered meanwhile."""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from benchmarks._fleet import Fleet, Settings
from benchmarks.reflector.processes import free_port
from tests.cli.terminal import TIMEOUT, command
from tests.netns import wait_for

#: The shortest that RFC 4271 knows, seconds; KEEPALIVEs go each second.
HOLD_TIME: Final = 3
SESSIONS: Final = 10
ROUTES: Final = 20_000
#: Connections of one kind at a time: several times what is accepted.
MANY: Final = 100
#: What one listener may have open, with those that are told to come later.
MOST_DESCRIPTORS: Final = 64 + 16
#: What the listeners may hold together, for 64 connections each and 32 BIRD clients, MB.
MOST_MORE: Final = 150


class Attacked:
    """A reflector with sessions whose routes change all the time, and all its ways to look."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.api = folder / "api.sock"
        self.bird = folder / "bird.ctl"
        self.http, port = free_port(), free_port()
        arguments = ["rr", "--listen", f"127.0.0.1:{port}", "--as", "64512", "--router-id", "127.0.0.1"]
        arguments += ["--clients", "127.1.0.0/16", "--api", str(self.api), "--bird-sockets", str(folder)]
        arguments += ["--http", f"127.0.0.1:{self.http}", "--looking-glass", "--log-format", "json"]
        with (folder / "log").open("wb") as log:
            self.process = subprocess.Popen(command(*arguments), stdout=log, stderr=log)
        wait_for(self.api.exists, "the API listens", TIMEOUT)
        self.fleet = Fleet(Settings(port, hold_time=HOLD_TIME))
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._churn)
        self._feeder, *_ = self.fleet.add(SESSIONS)
        wait_for(self._listens, "BGP listens", TIMEOUT)
        self.fleet.connect(self.fleet.sessions)
        self._feeder.announce(range(ROUTES), 1)
        told = 5 * ROUTES * (SESSIONS - 1)  # octets of NLRI, of which each is a /32
        self.fleet.run_until(lambda: self.fleet.counts.octets >= told, TIMEOUT, "all have all routes")
        self._thread.start()

    def _listens(self) -> bool:
        return '"listening"' in (self.folder / "log").read_text()

    def _churn(self) -> None:
        version = 1
        while not self._over.is_set():
            version += 1
            self._feeder.announce(range(version % 200 * 100, version % 200 * 100 + 100), version)
            self.fleet.run(0.1)

    def close(self) -> None:
        self._over.set()
        self._thread.join()
        self.fleet.close()
        self.process.terminate()
        self.process.wait(TIMEOUT)

    @property
    def memory(self) -> int:
        """MB, resident."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) // 1024

    @property
    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def status(self) -> int:
        """The HTTP status of an ordinary question, over the Unix socket."""
        connection = http.client.HTTPConnection("localhost")
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(TIMEOUT)
            sock.connect(str(self.api))
            connection.sock = sock
            connection.request("GET", "/api/v1/status", headers={"Connection": "close"})
            response = connection.getresponse()
            response.read()
            return response.status

    def over_http(self) -> socket.socket:
        made = socket.create_connection(("127.0.0.1", self.http), TIMEOUT)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        return made

    def over_unix(self, path: Path) -> socket.socket:
        made = socket.socket(socket.AF_UNIX)
        try:
            made.settimeout(0.5)
            made.connect(str(path))
        except OSError:  # of those that wait to be accepted there are enough
            made.close()
            raise
        return made


@pytest.fixture(scope="module")
def attacked() -> Iterator[Attacked]:
    with tempfile.TemporaryDirectory(prefix="routed-") as folder:
        made = Attacked(Path(folder))
        yield made
        made.close()


def request(target: bytes, *headers: bytes, method: bytes = b"GET", body: bytes = b"") -> bytes:
    return b"\r\n".join((method + b" " + target + b" HTTP/1.1", b"Host: localhost", *headers, b"", body))


_JSON: Final = b"Content-Type: application/json"
#: What is sent on each connection, so often.
ATTACKS: Final[dict[str, tuple[str, bytes, int]]] = {
    "nothing": ("http", b"", 1),
    "half a request": ("http", b"GET /api/v1/status HTTP/1.1\r\nX: ", 1),
    "headers without end": ("http", b"GET / HTTP/1.1\r\nA: " + b"x" * 65536, 6),
    "a huge body": (
        "http",
        request(b"/api/v1/drain", _JSON, b"Content-Length: 99999999999", method=b"POST", body=b"x" * 65536),
        6,
    ),
    "chunks without end": (
        "http",
        request(
            b"/api/v1/drain",
            _JSON,
            b"Transfer-Encoding: chunked",
            method=b"POST",
            body=b"ffff\r\n" + b"x" * 65535 + b"\r\n",
        ),
        6,
    ),
    "TLS": ("http", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500), 6),
    "octets": ("http", bytes(range(256)) * 64, 6),
    "events, not read": ("http", request(b"/api/v1/events/stream"), 1),
    "tables, not read": ("http", request(b"/api/v1/routes?limit=1000000"), 1),
    "many questions, not read": ("http", request(b"/api/v1/events") * 100, 1),
    "events of the socket, not read": ("api", request(b"/api/v1/events/stream"), 1),
    # The kernel has taken some 200 kB, so that of the last answer a part waits, and the connection is idle.
    **{
        f"{number} documents of the socket, not read": ("api", request(b"/api/v1/openapi.json") * number, 1)
        for number in (6, 7, 8)
    },
    "tables of BIRD, not read": ("bird", b"show route all\n" * 3, 1),
    "lines of BIRD without end": ("bird", b"x" * 65536, 6),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_no_session_is_lost(attacked: Attacked, name: str) -> None:
    where, octets, times = ATTACKS[name]
    connect: Callable[[], socket.socket] = {
        "http": attacked.over_http,
        "api": lambda: attacked.over_unix(attacked.api),
        "bird": lambda: attacked.over_unix(attacked.bird),
    }[where]
    memory, descriptors = attacked.memory, attacked.descriptors
    with contextlib.ExitStack() as connections:
        for _ in range(MANY):
            with contextlib.suppress(OSError):  # it hangs up, or has no room
                sock = connections.enter_context(connect())
                sock.settimeout(0.1)
                for _ in range(times):
                    sock.sendall(octets)
        wait_for(lambda: attacked.status() == 200, "others are answered", TIMEOUT)
        wait_for(lambda: attacked.descriptors <= descriptors + MOST_DESCRIPTORS, "others go", TIMEOUT)
    wait_for(lambda: attacked.descriptors <= descriptors, "all are forgotten", TIMEOUT)
    assert attacked.memory < memory + MOST_MORE


def test_at_the_end_all_is_well(attacked: Attacked) -> None:
    now = time.monotonic()
    wait_for(lambda: all(one.heard_at > now for one in attacked.fleet.sessions[1:]), "all hear of changes")
    counts: Any = attacked.fleet.counts
    assert (counts.lost, counts.expired) == (0, 0), counts.reasons
    assert attacked.fleet.established() == SESSIONS
    assert attacked.status() == 200
    assert "Traceback" not in (attacked.folder / "log").read_text()
    assert "internal error" not in (attacked.folder / "log").read_text()
