"""The benchmarks measure what they say: the load generator against a reflector that is right and one that is
wrong, and the numbers on their way into the table and the picture."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import threading
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks import __main__ as listing
from benchmarks.reflector import plot, table
from benchmarks.reflector.__main__ import BEGIN, END, README
from benchmarks.reflector.campaign import Cell, Plan, Results, fan_out, run
from benchmarks.reflector.daemons import DAEMONS
from benchmarks.reflector.load import Load, Measured, compiler, measure
from benchmarks.reflector.processes import DaemonError, free_port, listens, running

needs_compiler = pytest.mark.skipif(compiler() is None, reason="no C compiler for the load generator")


@needs_compiler
def test_every_route_reaches_every_other_client() -> None:
    """A whole run against `routed rr`: all to all, single changes, a late join."""
    load = Load(12, 7, changes=6, joins=2)
    results = Results({}, {"routed": "x"}, 1)
    scenario = fan_out(12).__class__("small", "12 clients", load)
    run(Plan((scenario,), ("routed",), runs=1, limit=30), results, lambda text: None)
    (cell,) = results.cells
    assert cell.missing == ""
    (measured,) = cell.runs
    assert measured.deliveries == 12 * 11 * 7
    assert (measured.repeats, measured.echoes, measured.retries) == (0, 0, 0)
    assert len(measured.change_times) == 6
    assert len(measured.late_times) == 2
    assert measured.converge is not None
    assert 0 < measured.converge < 30
    assert measured.memory_peak is not None
    assert measured.memory_before is not None
    assert measured.memory_peak >= measured.memory_before > 1e6


@needs_compiler
def test_one_feed_in_attribute_sets() -> None:
    """A lone feeder: nobody waits for it, and 3 prefixes share a set of attributes."""
    results = Results({}, {"routed": "x"}, 1)
    load = Load(4, 1000, feeders=1, routes_a_set=3, prefix_length=24, changes=2, joins=1)
    scenario = fan_out(4).__class__("feed", "a feed", load)
    run(Plan((scenario,), ("routed",), runs=1, limit=30), results, lambda text: None)
    (measured,) = results.cells[0].runs
    assert measured.problem == ""
    assert measured.deliveries == 3 * 1000
    assert measured.updates is not None
    assert measured.updates >= 3 * 334


MARKER = b"\xff" * 16
ROUTER_1, ROUTER_2 = bytes((172, 16, 0, 1)), bytes((172, 16, 0, 2))
HEAD = bytes.fromhex("400101 00 400200 400504 00000064".replace(" ", ""))
NEXT_HOP, ORIGINATOR, CLUSTERS = b"\x40\x03\x04", b"\x80\x09\x04", b"\x80\x0a\x04" + bytes((127, 0, 0, 1))
#: 10.0.0.64/26, the one prefix of the second router.
PREFIX = bytes((26, 10, 0, 0, 64))


def message(kind: int, body: bytes = b"") -> bytes:
    """A BGP message."""
    return MARKER + struct.pack("!HB", 19 + len(body), kind) + body


def announcement(attributes: bytes, prefix: bytes = PREFIX) -> bytes:
    """An UPDATE."""
    return message(2, struct.pack("!HH", 0, len(attributes)) + attributes + prefix)


@contextmanager
def answering(update: bytes) -> Iterator[int]:
    """A listener that is no reflector: it says OPEN, KEEPALIVE, and one UPDATE to each that connects. Its
    port."""
    opening = message(1, struct.pack("!BHH4sB", 4, 64512, 180, bytes((127, 0, 0, 1)), 0)) + message(4)
    with socket.create_server(("127.0.0.1", 0)) as server:
        held: list[socket.socket] = []

        def serve() -> None:
            while True:
                try:
                    sock, _ = server.accept()
                except OSError:
                    return
                sock.sendall(opening + update)
                held.append(sock)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()
            for sock in held:
                sock.close()


@needs_compiler
@pytest.mark.parametrize(
    ("update", "complaint"),
    [
        (announcement(HEAD + NEXT_HOP + ROUTER_2 + ORIGINATOR + ROUTER_2), "without CLUSTER_LIST"),
        (announcement(HEAD + NEXT_HOP + ROUTER_2 + CLUSTERS), "ORIGINATOR_ID"),
        (announcement(HEAD + NEXT_HOP + ROUTER_2 + ORIGINATOR + ROUTER_1 + CLUSTERS), "ORIGINATOR_ID"),
        (
            announcement(HEAD + NEXT_HOP + bytes((192, 0, 2, 1)) + ORIGINATOR + ROUTER_2 + CLUSTERS),
            "no router",
        ),
        (
            announcement(HEAD + NEXT_HOP + ROUTER_1 + ORIGINATOR + ROUTER_1 + CLUSTERS),
            "attributes of another",
        ),
        (announcement(HEAD + NEXT_HOP + b"\xac"), "cut short"),
        (message(2, b"\0\x09\0\0"), "bad lengths"),
        (message(2, struct.pack("!H5sH", 5, bytes((26, 11, 0, 0, 0)), 0)), "nobody announced"),
        (MARKER + b"\0\x05\x04", "a message of 5 octets"),
        (message(3, b"\6\2"), "NOTIFICATION 6/2"),
    ],
)
def test_what_a_reflector_must_not_send_ends_the_run(update: bytes, complaint: str) -> None:
    """Else a daemon could win by being wrong."""
    with answering(update) as port:
        measured = measure(Load(2, 1), port, os.getpid(), limit=10)
    assert complaint in measured.problem
    assert measured.converge is None


@needs_compiler
def test_the_time_limit_ends_a_run() -> None:
    """A target that sends nothing: the limit is kept, and what was measured before is there."""
    with answering(b"") as port:
        measured = measure(Load(2, 1), port, os.getpid(), limit=1)
    assert measured.problem == "the time limit is over"
    assert measured.establish is not None


def cell(daemon: str, converge: float, changes: list[float], missing: str = "") -> Cell:
    """A cell of one run."""
    measured = Measured(converge=converge, deliveries=1000, memory_peak=5e7, change_times=changes)
    return Cell("fan-out-100", daemon, [measured], missing=missing)


def results() -> Results:
    """Two daemons with figures, one that did not get to its end."""
    machine = {"cores": 2, "processor": "a < b", "kernel": "6", "load_at_start": 0.1}
    found = Results(
        machine, {"routed": "routed 1", "bird2": "BIRD 2.0", "frr": "FRR 8"}, 1, {"fan-out-100": "load"}
    )
    found.cells = [
        cell("routed", 0.2, [0.001, 0.003]),
        cell("bird2", 9.0, [0.006]),
        Cell(
            "fan-out-100", "frr", [Measured(problem="the time limit is over")], "not within 60 s", over=True
        ),
    ]
    return found


def test_table() -> None:
    """Ratios are to routed; a daemon that did not get to its end says why."""
    _, routed, bird, frr = table.rows(results())
    assert routed[:4] == ["load", "routed", "200 ms", "0.005 M"]
    assert bird[1:3] == ["BIRD 2", "9 s (45×)"]
    assert bird[6] == "6 ms (6×)"
    assert frr[2:4] == ["not within 60 s", "-"]


def test_picture_is_well_formed_and_ends_with_the_longest_bar() -> None:
    """Whatever the texts hold."""
    picture = ElementTree.fromstring(plot.svg(results()))
    widths = [float(bar.get("width", "0")) for bar in picture.iter("{http://www.w3.org/2000/svg}rect")]
    assert max(widths[1:3]) == widths[2]
    texts = [text.text for text in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert "9 s (45×)" in texts
    assert "not within 60 s" in texts


@pytest.mark.parametrize(
    ("share", "expected"), [(0.5, 2.0), (0.99, 4.0), (1.0, 4.0), (0.01, 1.0), (0.25, 1.0)]
)
def test_percentile(share: float, expected: float) -> None:
    """The smallest time that so many do not exceed, over all runs together."""
    both = Cell("x", "routed", [Measured(change_times=[4.0, 1.0]), Measured(change_times=[3.0, 2.0])])
    assert both.percentile("change_times", share) == expected
    assert Cell("x", "routed").percentile("change_times", share) is None


def test_results_survive_the_file(tmp_path: Path) -> None:
    """JSON and back."""
    results().save(tmp_path / "results.json")
    assert Results.load(tmp_path / "results.json") == results()


def test_a_daemon_that_does_not_start_is_named_with_its_last_words(tmp_path: Path) -> None:
    """And is gone."""
    command = [sys.executable, "-c", "print('first'); print('no such option')"]
    with pytest.raises(DaemonError, match="no such option"), running(command, tmp_path, free_port()):
        pass


def test_a_daemon_is_ended_whatever_happens(tmp_path: Path) -> None:
    """An error in the measurement does not leave it behind."""
    port = free_port()
    program = f"import socket, signal; s = socket.create_server(('127.0.0.1', {port})); signal.pause()"
    started: list[subprocess.Popen[bytes]] = []

    def fail() -> None:
        with running([sys.executable, "-c", program], tmp_path, port) as process:
            started.append(process)
            assert listens(port)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert started[0].returncode is not None
    assert not listens(port)


def test_every_benchmark_is_listed() -> None:
    """By name, with what it says of itself."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "list"], capture_output=True, text=True, check=True, timeout=30
    )
    assert "reflector" in listing.known()
    for name in listing.known():
        line = next(line for line in done.stderr.splitlines() if line.split()[:1] == [name])
        assert len(line.split()) > 3


def test_readme_has_the_place_for_the_table() -> None:
    """--update needs both marks, once; and every daemon of the table is described."""
    text = README.read_text()
    assert text.count(BEGIN) == text.count(END) == 1
    assert text.index(BEGIN) < text.index(END)
    for daemon in DAEMONS.values():
        assert daemon.label in text
