"""Which routed is asked, and what is said where there is none, or several."""

from __future__ import annotations

import http.server
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import msgspec
import pytest

from routed.cli import servers
from routed.cli.client import Server
from routed.cli.failure import CommandError
from routed.cli.servers import Asked
from tests.cli.conftest import run
from tests.cli.server import STATUS, serving


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The runtime folder."""
    made = tmp_path / "run"
    made.mkdir()
    return made


def left_behind(path: Path) -> None:
    """The socket of a process that was killed."""
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


def test_the_only_one_is_asked(folder: Path) -> None:
    with serving(folder / "worker01.sock"):
        assert run("status").exit_code == 0
        left_behind(folder / "worker02.sock")
        (folder / "notes.sock").write_text("no socket")
        (folder / "other.txt").write_text("")
        assert run("status").exit_code == 0


def test_several_are_listed(folder: Path) -> None:
    with ExitStack() as running:
        for name in ("worker02", "worker\x1b[2J", "worker01"):
            running.enter_context(serving(folder / f"{name}.sock"))
        assert servers.names("worker") == ["worker01", "worker02"]
        result = run("status")
        assert result.exit_code == 2
        assert result.stderr == (
            "routed: 3 routeds run here: say which with --node, one of worker\\x1b[2J, worker01, worker02\n"
        )
        assert run("status", "--node", "worker02").exit_code == 0
        assert run("status", "--socket", str(folder / "worker01.sock")).exit_code == 0


def test_none_is_said_with_where_it_was_looked_for(folder: Path, tmp_path: Path) -> None:
    result = run("status")
    assert result.exit_code == 3
    assert str(folder) in result.stderr
    assert servers.names("") == []
    left_behind(folder / "a.sock")
    assert "nobody answers" in run("status").stderr
    left_behind(folder / "b.sock")
    assert "2 that were left behind" in run("status").stderr
    folder.rename(tmp_path / "elsewhere")
    assert run("status").exit_code == 3
    (tmp_path / "run").write_text("a file")
    assert run("status").exit_code == 3


def test_the_command_line_wins_over_the_environment(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROUTED_SOCKET", "/from/environment")
    assert servers.server(Asked()) == Server(Path("/from/environment"))
    assert servers.server(Asked(socket=Path("/given"))) == Server(Path("/given"))
    assert servers.server(Asked(node="a/b")).path == folder / "a_b.sock"
    assert servers.server(Asked(http="http://127.0.0.1:9179/")) == Server(None, "127.0.0.1", 9179)
    assert servers.server(Asked(http="http://[::1]:9179")) == Server(None, "::1", 9179)
    monkeypatch.setenv("ROUTED_SOCKET", "")
    with pytest.raises(CommandError, match="no routed is running"):
        servers.server(Asked())


@pytest.mark.parametrize(
    "options",
    [
        ["--socket", "/a", "--node", "b"],
        ["--node", "b", "--http", "http://127.0.0.1:1"],
        *(
            ["--http", url]
            for url in ("127.0.0.1:9179", "https://127.0.0.1:9", "http://127.0.0.1", "http://[")
        ),
        *(["--http", url] for url in ("http://x:99999", "http://127.0.0.1:9179/api", "http://:1")),
    ],
)
def test_wrong_options_are_usage(options: list[str]) -> None:
    result = run("status", *options)
    assert result.exit_code == 2
    assert result.stderr.startswith("routed: ")


def test_what_is_no_socket_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file"):
        result = run("status", "--socket", str(path))
        assert result.exit_code == 3
        assert f"{path} is no socket" in result.stderr


def test_a_path_that_is_too_long_for_a_socket() -> None:
    result = run("status", "--socket", "/" + "x" * 200)
    assert result.exit_code == 3
    assert len(result.stderr.splitlines()) == 1


def test_permission_is_explained(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    with serving(folder / "a.sock"):
        monkeypatch.setattr(socket.socket, "connect", refuse)
        result = run("status")
    assert result.exit_code == 3
    assert "its owner's alone" in result.stderr


@pytest.fixture
def silent(folder: Path) -> Iterator[Path]:
    """A server that takes connections and says nothing."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / "silent.sock"))
        listening.listen()
        yield folder / "silent.sock"


def test_silence_is_given_up(silent: Path) -> None:
    result = run("healthcheck", "--timeout", "0.1")
    assert (result.exit_code, result.stderr) == (1, f"routed: no answer from {silent} within 0.1 s\n")


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"0001 BIRD ready.\r\n",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n\x1b[2J",
        b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n{"routes"\r\n',
        b"HTTP/1.1 \x1b[2J\r\n\r\n",
    ],
)
def test_a_server_that_is_none(folder: Path, answer: bytes) -> None:
    """A connection that ends at once, other protocols, and answers that break off."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / "a.sock"))
        listening.listen()

        def serve() -> None:
            for _ in range(2):
                connection, _ = listening.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        for command in ("status", "routes"):
            result = run(command)
            assert result.exit_code == 3
            assert result.stdout in ("", "   PREFIX  NEXT HOP  SOURCE  STATUS\n")
            assert len(result.stderr.splitlines()) == 1
            assert "\x1b" not in result.stderr
        thread.join()


def test_over_http() -> None:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(msgspec.json.encode(STATUS))

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            assert "worker01" in run("status", "--http", url).stdout
        finally:
            server.shutdown()
            thread.join()
    result = run("status", "--http", url)
    assert result.exit_code == 3
    assert "--http" in result.stderr
