"""The commands against real processes: a reflector with clients, and a node with records."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks._fleet import Fleet, Session, Settings, message
from benchmarks.reflector.processes import free_port
from tests import routed_process as records
from tests.cli.conftest import run
from tests.cli.terminal import TIMEOUT, command
from tests.cli.test_text import harmless
from tests.netns import wait_for


@contextlib.contextmanager
def daemon(api: Path, log: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A routed that answers at a socket."""
    with log.open("ab") as output:
        process = subprocess.Popen(command(*arguments, "--api", str(api)), stdout=output, stderr=output)
    try:

        def answers() -> bool:
            assert process.poll() is None, log.read_text()
            return run("healthcheck", "--live", "--socket", str(api)).exit_code == 0

        wait_for(answers, "routed answers", timeout=TIMEOUT)
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.wait(TIMEOUT)


class Clients:
    """BGP clients of a reflector, kept alive by a thread of their own."""

    def __init__(self, port: int, number: int) -> None:
        self._fleet = Fleet(Settings(port, routes=64))
        self.sessions: list[Session] = self._fleet.add(number)
        self._fleet.connect(self.sessions, timeout=TIMEOUT)
        self._over = threading.Event()
        self._todo: list[Callable[[], None]] = []
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def do(self, what: Callable[[], None]) -> None:
        """Have it done by the thread."""
        self._todo.append(what)

    def _run(self) -> None:
        while not self._over.is_set():
            while self._todo:
                self._todo.pop()()
            self._fleet.run(0.05)

    def close(self) -> None:
        self._over.set()
        self._thread.join()
        self._fleet.close()


@pytest.fixture
def reflector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Clients]:
    """A reflector with three clients; the first has announced 32 routes, and all have them."""
    api, port = tmp_path / "rr.sock", free_port()
    monkeypatch.setenv("ROUTED_SOCKET", str(api))
    with daemon(api, tmp_path / "log", *reflector_arguments(port)), contextlib.ExitStack() as closing:
        clients = Clients(port, 3)
        closing.callback(clients.close)
        clients.do(lambda: clients.sessions[0].announce(range(32), 1))
        wait_for(lambda: all(one.held() == 32 for one in clients.sessions[1:]), "routes", timeout=TIMEOUT)
        yield clients


def reflector_arguments(port: int) -> list[str]:
    listen = ["--listen", f"127.0.0.1:{port}", "--as", "64512", "--router-id", "127.0.0.1"]
    return ["rr", *listen, "--clients", "127.1.0.0/16", "--name", "rr1"]


def asked(*arguments: str) -> Any:
    """The document of a command."""
    result = run(*arguments, "-o", "json")
    assert result.exit_code in (0, 1), result.stderr
    return json.loads(result.stdout)


def test_a_reflector_is_seen(reflector: Clients) -> None:
    status = asked("status")
    assert (status["role"], status["peers"], status["routes"]["ipv4"]) == ("reflector", 3, 32)
    assert "3 of 3 established" in run("status").stdout
    assert run("healthcheck").exit_code == 0
    peers = {peer["address"]: peer for peer in asked("peers")["peers"]}
    feeder, other = (peers[reflector.sessions[at].address]["name"] for at in (0, 1))
    assert run("peers", "--check").exit_code == 0
    assert asked("peers", feeder)["received"]["ipv4"] == 32
    assert run("peers", reflector.sessions[0].address).stdout.startswith("peer")

    assert run("routes", "--count").stdout == "32\n"
    assert run("routes", "--count", "--received-from", feeder).stdout == "32\n"
    assert run("routes", "--count", "--received-from", other).stdout == "0\n"
    assert run("routes", "--count", "--advertised-to", other).stdout == "32\n"
    assert len(run("routes", "--no-headers").stdout.splitlines()) == 32
    assert asked("routes") == json.loads(run("routes", "-o", "json").stdout)
    assert yaml.safe_load(run("routes", "-o", "yaml").stdout) == asked("routes")
    prefix = asked("routes", "--limit", "1")["routes"][0]["prefix"]
    assert run("routes", prefix).stdout.startswith(f"{prefix}  best path\n")
    address = prefix.partition("/")[0]
    assert asked("routes", address)["routes"][0]["prefix"] == prefix
    assert run("routes", "203.0.113.7").exit_code == 1
    assert run("routes", "no-prefix").exit_code == 2
    assert run("routes", "--received-from", "nobody").exit_code == 1

    assert asked("explain", prefix)["kind"] == "prefix"
    assert asked("explain", feeder)["kind"] == "peer"
    assert run("explain", "203.0.113.7").exit_code == 1
    kinds = [one["kind"] for one in asked("events")["events"]]
    assert kinds.count("session-up") == 3
    assert len(asked("events", "--kind", "session-up", "--peer", feeder)["events"]) == 1


def test_actions_are_carried_out(reflector: Clients) -> None:
    names = {peer["address"]: peer["name"] for peer in asked("peers")["peers"]}
    name = names[reflector.sessions[2].address]
    assert run("peer", "refresh", name).exit_code in (0, 1)  # 1: it does not know route refresh
    assert run("peer", "refresh", name, "--direction", "out").exit_code == 0
    assert run("peer", "up", "nobody").exit_code == 1
    assert run("drain").exit_code == 0
    assert asked("status")["draining"]
    assert "draining" in run("status").stdout
    assert run("undrain").exit_code == 0
    assert not asked("status")["draining"]
    assert run("peer", "shutdown", name, "--message", "\x1b[2J").exit_code == 2
    assert run("peer", "shutdown", name, "--message", "maintenance until noon").exit_code == 0
    wait_for(lambda: not reflector.sessions[2].established, "the session ends", timeout=TIMEOUT)
    assert "peer-shut-down" in run("events").stdout


def test_a_hostile_shutdown_message_is_data(reflector: Clients) -> None:
    """From the wire to the terminal (RFC 9003)."""
    text = "\x1b]0;owned\x07\x1b[2J\u202egone\r\n".encode()
    shutdown = message(3, bytes((6, 2, len(text))) + text)
    reflector.do(lambda: reflector.sessions[2].send(shutdown))

    def told() -> bool:
        return "gone" in run("events").stdout

    wait_for(told, "the session's end is told", timeout=TIMEOUT)
    for output in ("table", "json", "yaml"):
        shown = run("events", "-o", output).stdout
        assert "gone" in shown
        assert all(harmless(line) for line in shown.split("\n"))


def test_events_are_followed_through_a_restart(tmp_path: Path) -> None:
    api, port, log = tmp_path / "rr.sock", free_port(), tmp_path / "log"
    arguments = command("events", "-f", "-o", "json", "--socket", str(api))
    with contextlib.ExitStack() as reflector:
        reflector.enter_context(daemon(api, log, *reflector_arguments(port)))
        with subprocess.Popen(
            arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as following:
            assert following.stdout is not None
            assert following.stderr is not None
            events = (json.loads(line) for line in following.stdout)
            assert next(events)["kind"] == "started"
            Clients(port, 1).close()
            assert [next(events)["kind"] for _ in range(2)] == ["session-up", "session-down"]
            reflector.close()
            assert next(events)["kind"] == "stopping"
            reflector.enter_context(daemon(api, log, *reflector_arguments(port)))
            first = next(events)
            assert (first["kind"], first["number"]) == ("started", 1)
            following.send_signal(signal.SIGINT)
            said = following.stderr.read()
            assert following.wait(TIMEOUT) == 130
    assert said.count("waiting for it") == 1
    assert "routed was started anew" in said


def test_a_node_with_records_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks, pools, borrowed addresses, and explanations that name records."""
    folder = records.Records(tmp_path / "records")
    folder.put(
        "cluster",
        [
            records.configuration(bindMode="NodeIP"),
            records.record("Node", "a", bgp={"ipv4Address": "127.0.5.1/24"}),
            records.record("Node", "b", bgp={"ipv4Address": "127.0.5.2/24"}),
            records.pool("10.244.0.0/16"),
            *records.block("a", "10.244.0.0/26", {"10.244.0.1": ("web", "a"), "10.244.0.2": ("lent", "b")}),
            *records.block("b", "10.244.0.64/26"),
            records.record("BGPPeer", "broken", peerIP="nowhere", asNumber=64512),
        ],
    )
    api = tmp_path / "a.sock"
    monkeypatch.setenv("ROUTED_SOCKET", str(api))
    arguments = ["run", "--node", "a", "--datastore", folder.url, "--no-kernel", "--port", str(free_port())]
    with daemon(api, tmp_path / "log", *arguments):
        wait_for(lambda: asked("status")["datastore"]["synced"], "records are read", timeout=TIMEOUT)
        status = run("status").stdout
        assert "broken" in status
        assert "in sync" in status
        assert run("peers").stdout == "no peers\n"
        shown = run("blocks").stdout
        assert "10.244.0.0/26" in shown
        assert "10.244.0.64/26" not in shown
        assert run("blocks", "--borrowed", "--no-headers").stdout.split()[:4] == [
            "10.244.0.2",
            "10.244.0.0/26",
            "a",
            "b",
        ]
        assert "10.244.0.64/26" in run("blocks", "--all").stdout
        assert [pool["cidr"] for pool in asked("blocks")["pools"]] == ["10.244.0.0/16"]
        assert "BlockAffinity" in run("explain", "10.244.0.0/26").stdout
        assert run("explain", "10.244.7.0/26").exit_code == 1
