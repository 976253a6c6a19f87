"""Listening sockets: whose they are, what is replaced, what is left alone."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from ipaddress import ip_address
from pathlib import Path

import pytest

from routed.bgp.transport import Endpoint
from routed.observe.http import sockets
from routed.observe.http.sockets import LONGEST_PATH, listen_tcp, listen_unix, remove_unix


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """As short as it must be."""
    found = Path(os.path.relpath(tmp_path))
    return found if len(str(tmp_path)) > 60 else tmp_path


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_socket_is_its_owners_alone(folder: Path) -> None:
    os.umask(before := os.umask(0))
    path = folder / "sub" / "node.sock"
    try:
        os.umask(0)
        with closing(listen_unix(path)):
            assert (mode(path), mode(path.parent)) == (0o600, 0o700)
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(path))
    finally:
        os.umask(before)


def test_a_folder_that_is_there_keeps_its_mode_unless_it_is_the_runtime_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = folder / "there"
    inside.mkdir()
    inside.chmod(0o755)
    listen_unix(inside / "a.sock").close()
    assert mode(inside) == 0o755
    monkeypatch.setattr(sockets, "runtime_folder", lambda: inside)
    listen_unix(inside / "b.sock").close()
    assert mode(inside) == 0o700


def test_a_runtime_folder_of_somebody_else_is_not_used(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = folder / "real"
    real.mkdir()
    inside = folder / "run"
    inside.symlink_to(real.resolve())
    monkeypatch.setattr(sockets, "runtime_folder", lambda: inside)
    with pytest.raises(OSError, match="another user's"):
        listen_unix(inside / "a.sock")
    monkeypatch.setattr(sockets, "runtime_folder", lambda: real)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(OSError, match="--api"):
        listen_unix(real / "a.sock")


def test_a_dead_socket_is_replaced(folder: Path) -> None:
    path = folder / "a.sock"
    listen_unix(path).close()  # as after kill -9: nobody removed it
    assert path.is_socket()
    with closing(listen_unix(path)), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


def test_the_socket_of_a_process_that_lives_is_left_alone(folder: Path) -> None:
    path = folder / "a.sock"
    with closing(listen_unix(path)) as first:
        before = path.stat().st_ino
        with pytest.raises(OSError, match="another process answers there"):
            listen_unix(path)
        assert path.stat().st_ino == before
        clients = []
        for _ in range(sockets.BACKLOG + 1):  # nobody accepts: its backlog is full
            client = socket.socket(socket.AF_UNIX)
            client.setblocking(False)
            clients.append(client)
            try:
                client.connect(str(path))
            except BlockingIOError:
                break
        with pytest.raises(OSError, match="another process answers there"):
            listen_unix(path)
        for client in clients:
            client.close()
        assert first.fileno() > 0


def test_what_is_no_socket_is_left_alone(folder: Path) -> None:
    path = folder / "a.sock"
    path.write_text("precious")
    with pytest.raises(OSError, match="is no socket"):
        listen_unix(path)
    assert path.read_text() == "precious"
    with pytest.raises(OSError, match=r"a\.sock"):
        listen_unix(path / "b.sock")


def test_a_path_that_is_too_long_is_said(folder: Path) -> None:
    with pytest.raises(OSError, match="shorter"):
        listen_unix(folder / ("a" * LONGEST_PATH))


def test_only_the_file_that_was_made_is_removed(folder: Path) -> None:
    path = folder / "a.sock"
    first = listen_unix(path)
    made = path.lstat()
    first.close()
    with closing(listen_unix(path)):
        remove_unix(path, made)
        assert path.is_socket()
        remove_unix(path, path.lstat())
        assert not path.exists()
        remove_unix(path, made)


def test_a_port_that_is_taken_is_said() -> None:
    with closing(listen_tcp(Endpoint(ip_address("127.0.0.1"), 0))) as first:
        port = first.getsockname()[1]
        with pytest.raises(OSError, match=f"127.0.0.1:{port}: another process listens there"):
            listen_tcp(Endpoint(ip_address("127.0.0.1"), port))


def test_ipv6_loopback_is_listened_on() -> None:
    if not Path("/proc/net/if_inet6").exists():
        pytest.skip("this kernel has no IPv6")
    with closing(listen_tcp(Endpoint(ip_address("::1"), 0))) as first:
        assert first.getsockname()[0] == "::1"
        assert first.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 1


@contextmanager
def running_reflector(*options: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "routed", "rr", "--listen", "127.0.0.1:17911", "--as", "64512"),
            *("--router-id", "127.0.0.1", "--clients", "127.1.0.0/16", *options),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=60)


def test_nothing_is_imported_before_somebody_asks() -> None:
    """A reflector's memory is that of its modules."""
    program = (
        "import asyncio, sys, tempfile, pathlib\n"
        "sys.modules['ssl'] = None\n"
        "from routed.rr.process import ReflectorProcess\n"
        "from routed.observe.http import outlet\n"
        "from routed.observe.events import EventLog\n"
        "from routed.observe.observed import Observed\n"
        "from routed.observe.options import ObserveOptions\n"
        "from routed.bgp.config import SpeakerConfig\n"
        "from routed.bgp.speaker import Speaker\n"
        "from routed.observe.route_changes import RouteChanges\n"
        "class Listener:\n"
        "    def on_status(self): pass\n"
        "    def on_routes(self, *a): pass\n"
        "async def ask(path):\n"
        "    reader, writer = await asyncio.open_unix_connection(path)\n"
        "    writer.write(b'GET /api/v1/status HTTP/1.1\\r\\nHost: a\\r\\nConnection: close\\r\\n\\r\\n')\n"
        "    data = await reader.read()\n"
        "    writer.close()\n"
        "    return data\n"
        "async def main(folder):\n"
        "    speaker = Speaker(SpeakerConfig(router_id=bytes((1, 2, 3, 4)), local_as=1), Listener())\n"
        "    events = EventLog()\n"
        "    observed = Observed('n', speaker, events, RouteChanges(speaker.ribs, events))\n"
        "    path = pathlib.Path(folder) / 'a.sock'\n"
        "    one = outlet.api_outlet(ObserveOptions(api=path), observed)\n"
        "    await one.start()\n"
        "    print(*(name for name, module in sys.modules.items() if module is not None))\n"
        "    print((await ask(str(path)))[:15].decode())\n"
        "    await one.close()\n"
        "    speaker.close(graceful=False)\n"
        "    print(path.exists())\n"
        "with tempfile.TemporaryDirectory() as folder:\n"
        "    asyncio.run(main(folder))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    imported, answered, left = [
        line for line in done.stdout.splitlines() if "room=" not in line and "{" not in line
    ]
    assert "routed.observe.http.outlet" in imported.split()
    assert set(imported.split()).isdisjoint(
        {
            *("h11", "msgspec", "prometheus_client", "email", "email.utils", "http", "ssl", "_hashlib"),
            *("routed.observe.documents", "routed.observe.http.serving", "routed.observe.views.routes"),
        }
    )
    assert answered == "HTTP/1.1 200 OK"
    assert left == "False"


def test_a_second_process_of_the_name_says_so_and_goes_on(folder: Path) -> None:
    path = folder / "a.sock"
    with closing(listen_unix(path)) as first, running_reflector("--api", str(path)) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if "speaking BGP" in line:
                break
        assert any("no --api" in line and "another process answers there" in line for line in lines)
        process.terminate()
        process.communicate(timeout=60)
        assert process.returncode == 0
        assert path.is_socket()
        assert first.fileno() > 0
