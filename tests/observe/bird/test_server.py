"""The sockets and the line protocol: many commands at once, slow clients, garbage, hostile texts."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import structlog.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from routed.bgp.nlri import Family
from routed.observe.bird.connection import MAX_COMMAND, MOST_UNREAD, Commands
from routed.observe.bird.outlet import MOST_CLIENTS, BirdSockets
from routed.observe.bird.view import View
from routed.observe.events import EventKind
from tests.bgp.test_speaker import Router
from tests.observe.bird.here import fill, many, reply_of, serving, words
from tests.observe.bird.replies import routes
from tests.observe.views.scene import observed
from tests.virtual import Wire, until, virtual

V4 = Family.IPV4


@virtual
async def test_sockets_come_and_go(wire: Wire) -> None:
    async with serving(observed(Router(wire, 1))) as here:
        for name in ("bird.ctl", "bird6.ctl"):
            mode = (here.folder / name).stat().st_mode
            assert stat.S_ISSOCK(mode)
            assert stat.S_IMODE(mode) == 0o660
        clients = [await here.connect(name) for name in ("bird.ctl", "bird6.ctl")]
        assert "Router ID is 10.0.0.1" in (await clients[1]("show status")).texts()
        await here.outlet.close()
        assert list(here.folder.iterdir()) == []
        for client in clients:
            assert await client.ended()


@virtual
async def test_a_dead_socket_is_replaced_and_a_live_one_is_left_alone(wire: Wire) -> None:
    """Nor is anything else that has the name."""
    watched = observed(Router(wire, 1))
    with tempfile.TemporaryDirectory() as folder:
        path, other = Path(folder, "bird6.ctl"), Path(folder, "bird.ctl")
        with socket.socket(socket.AF_UNIX) as live:
            live.bind(str(path))
            live.listen(1)
            outlet = BirdSockets(Path(folder), watched)
            with pytest.raises(OSError, match=r"bird6\.ctl: another process answers .* --bird-sockets DIR"):
                await outlet.start()
            assert not other.exists()
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(path))
        assert path.exists()  # what a process leaves that was killed
        outlet = BirdSockets(Path(folder), watched)
        await outlet.start()
        await outlet.close()
        assert not path.exists()
        path.write_text("precious")
        with pytest.raises(OSError, match="is no socket"):
            await BirdSockets(Path(folder), watched).start()
        assert path.read_text() == "precious"


@virtual
async def test_the_socket_of_another_process_stays_at_the_end(wire: Wire) -> None:
    async with serving(observed(Router(wire, 1))) as here:
        path = here.folder / "bird.ctl"
        path.unlink()
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(str(path))
            await here.outlet.close()
            assert path.exists()


@virtual
async def test_many_commands_in_one_write_and_one_in_many(wire: Wire) -> None:
    async with serving(observed(Router(wire, 1))) as here:
        client = await here.connect()
        client.writer.write(b"show status\nfoo\nshow symbols table\n" * 300)
        codes = [(await client.reply()).code for _ in range(900)]
        assert codes == [13, 9001, 0] * 300
        for octet in b"show memory\r\n":
            client.writer.write(bytes((octet,)))
            await asyncio.sleep(0)
        assert (await client.reply()).texts(1018)[0] == "BIRD memory usage"


@virtual
async def test_a_client_that_has_said_all_gets_all(wire: Wire) -> None:
    """As `socat` and `nc -N` do: they shut down their side, and read."""
    router = Router(wire, 1)
    fill(router.speaker, many(3000))
    async with serving(observed(router)) as here:
        client = await here.connect()
        client.writer.write(b"show route\nshow status\nshow route cou")  # the last one is no line
        client.writer.write_eof()
        assert len((await client.reply()).texts(1007)) == 3000
        assert (await client.reply()).code == 13
        assert await client.ended()


@virtual
async def test_what_the_system_does_not_say_is_an_error(wire: Wire) -> None:
    def refuse(self: Path) -> str:
        raise PermissionError(13, "Permission denied")

    async with serving(observed(Router(wire, 1))) as here:
        client = await here.connect()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Path, "read_text", refuse)
            assert (await client("show memory")).lines == ((8002, "cannot be read: Permission denied"),)
        assert (await client("show memory")).code == 0


@virtual
async def test_a_command_that_is_too_long_is_dropped(wire: Wire) -> None:
    async with serving(observed(Router(wire, 1))) as here:
        client = await here.connect()
        for _ in range(50):
            client.writer.write(b"x" * 10_000)
        client.writer.write(b"\nshow symbols table\n")
        assert (await client.reply()).code == 9000
        assert (await client.reply()).code == 0


@given(st.lists(st.binary(max_size=40)), st.integers(1, 7))
def test_lines_are_cut_alike_however_they_come(lines: list[bytes], size: int) -> None:
    data = b"".join(line.replace(b"\n", b"") + b"\n" for line in lines)
    whole, parts = Commands(), Commands()
    expected = whole.feed(data)
    assert len(expected) == len(lines)
    assert [one for at in range(0, len(data), size) for one in parts.feed(data[at : at + size])] == expected


def test_what_is_kept_of_a_line_is_bounded() -> None:
    assert Commands().feed(b"x" * (MAX_COMMAND + 1) + b"\n") == [None]
    commands = Commands()
    for _ in range(1000):
        assert commands.feed(b"x" * MAX_COMMAND) == []
    assert len(commands._rest) <= MAX_COMMAND
    assert commands.feed(b"\n" + b"y" * MAX_COMMAND + b"\nz\n") == [None, "y" * MAX_COMMAND, "z"]


@virtual
async def test_a_slow_reader_gets_all_and_costs_no_memory(wire: Wire) -> None:
    """While it does not read, others are served, and changes go on."""
    router = Router(wire, 1)
    fill(router.speaker, many(20_000))
    async with serving(observed(router)) as here:
        slow, fast = await here.connect(buffer=2048), await here.connect()
        slow.writer.write(b"show route\n")
        for _ in range(20):
            assert (await fast("show route count")).last == "20000 of 20000 routes for 20000 networks"
        (serving_slow,) = (one for one in here.outlet._clients if one._replying.locked())
        assert serving_slow._writer.transport.get_write_buffer_size() < MOST_UNREAD + 32 * 1024
        router.speaker.ribs[V4].withdraw(next(iter(router.speaker.ribs[V4].sources)), many(20_000)[10_000:])
        reply = await slow.reply()
        assert 10_000 <= len(routes(reply.texts(1007))) < 20_000
        assert (await slow("show route count")).last == "10000 of 10000 routes for 10000 networks"


@virtual
async def test_the_loop_turns_while_a_table_is_shown(wire: Wire) -> None:
    router = Router(wire, 1)
    fill(router.speaker, many(10_000))
    rib = router.speaker.ribs[V4]
    rib.recheck(next(iter(rib.sources)))  # from here on some of it may be hidden
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with serving(observed(router)) as here:
        client = await here.connect()
        for command, least in (
            ("show route all", 40),
            ("show route count", 10),
            ("show route filtered", 10),
            ("show protocols all", 3),
        ):
            turns = 0
            task = asyncio.ensure_future(count())
            await client(command)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            assert turns >= least, command


@virtual
async def test_clients_that_go_in_the_middle_leave_nothing(wire: Wire) -> None:
    router = Router(wire, 1)
    fill(router.speaker, many(20_000))
    async with serving(observed(router)) as here:
        for _ in range(10):
            client = await here.connect(buffer=2048)
            client.writer.write(b"echo all\nshow route all\n" * 5)
            await client.reply()
            client.writer.transport.abort()
        await until(lambda: not here.outlet._clients)
        assert not here.outlet._observed.events._listeners


@virtual
async def test_of_too_many_clients_the_one_that_is_silent_longest_goes(wire: Wire) -> None:
    async with serving(observed(Router(wire, 1))) as here:
        first, second = await here.connect(), await here.connect()
        for _ in range(MOST_CLIENTS - 2):
            await here.connect()
        other = await here.connect("bird6.ctl")
        await asyncio.sleep(1)
        await first("show status")
        with structlog.testing.capture_logs() as logs:
            last = await here.connect()
        assert [one["log_level"] for one in logs] == ["warning"]
        assert await second.ended()
        for client in (first, last, other):
            assert (await client("show status")).code == 13


@virtual
async def test_echo_tells_of_events_between_replies(wire: Wire) -> None:
    watched = observed(Router(wire, 1))
    async with serving(watched) as here:
        client = await here.connect()
        assert (await client("echo { states, routes } 4096")).code == 0
        watched.events.publish(EventKind.SESSION_UP, "session\nestablished\x1b[2J", "Mesh_1")
        assert await client.event() == "Mesh_1: session\ufffdestablished\ufffd[2J"
        assert (await client("show status")).code == 13
        assert (await client("echo off")).code == 0
        watched.events.publish(EventKind.SESSION_UP, "again", "Mesh_1")
        assert (await client("show status")).code == 13
        assert client.heard.events == []


@virtual
async def test_a_restricted_client_only_looks(wire: Wire) -> None:
    a, b = Router(wire, 1), Router(wire, 2)
    a.set_peers(a.peer(b))
    async with serving(observed(a)) as here:
        client = await here.connect()
        assert (await client("restrict")).lines == ((16, "Access restricted"),)
        for command in ("disable all", "configure", "down", "reload all", "debug all all"):
            assert (await client(command)).lines == ((8007, "Access denied"),)
        assert (await client("show protocols")).code == 0
        assert a.speaker.peers["to_10.0.0.2"].shut_down is None
        assert (await (await here.connect())("disable all")).code == 0
        assert a.speaker.peers["to_10.0.0.2"].shut_down is not None


@virtual
async def test_a_fault_of_ours_costs_one_answer(wire: Wire) -> None:
    watched = observed(Router(wire, 1))
    async with serving(watched) as here:
        client = await here.connect()
        started, watched.started_at = watched.started_at, float("nan")
        assert (await client("show status")).code == 9000
        watched.started_at = started
        assert (await client("show status")).code == 13


HOSTILE = "a\n0000 \r\x1b[2J\u202e\x00 b\udc80"


@virtual
async def test_hostile_texts_are_data(wire: Wire) -> None:
    """Names and errors that hold lines, commands for terminals, and what UTF-8 cannot write."""
    a, b = Router(wire, 1), Router(wire, 2)
    a.set_peers(a.peer(b, name=f"evil{HOSTILE}"))
    peer = a.speaker.peers[f"evil{HOSTILE}"]
    a.originate("10.1.0.0/16")
    await until(lambda: peer.session.last_error is not None)
    peer.session.last_error = HOSTILE
    async with serving(observed(a)) as here:
        client = await here.connect()
        for command in (
            "show protocols",
            "show protocols all",
            "show route all",
            "show symbols",
            "show status",
        ):
            reply = await client(command)
            assert reply.code in (0, 13)
            assert not any(character in str(reply.lines) for character in ("\\x1b", "\\u202e", "\\n"))
        (row,) = (text for text in (await client("show protocols")).texts(1002) if "BGP" in text)
        assert row.split()[1] == "BGP"
        name = row.split()[0]
        assert (await client(f"disable '{name}'")).code in (0, 9002)


@virtual
async def test_any_words_in_any_order_get_one_reply(wire: Wire) -> None:
    a, b = Router(wire, 1), Router(wire, 2)
    a.set_peers(a.peer(b, name="Mesh_10_0_0_2"))
    b.set_peers(b.peer(a))
    a.originate("10.1.0.0/16")
    b.originate("10.2.0.0/16")
    await until(lambda: a.established() == 1)
    views = [View(observed(a), family) for family in Family]
    vocabulary = sorted(set(words(views[0])))
    commands = st.lists(st.sampled_from(vocabulary), max_size=6).map(" ".join)

    @settings(max_examples=300, deadline=None)
    @given(
        st.one_of(commands, st.text(max_size=60).filter(lambda text: "\n" not in text)),
        st.sampled_from(views),
    )
    def check(command: str, view: View) -> None:
        reply = reply_of(view, command)
        assert reply.code < 10_000

    check()


@virtual
async def test_garbage_gets_a_reply_for_each_line(wire: Wire) -> None:
    async with serving(observed(Router(wire, 1))) as here:
        for data in (
            bytes(range(256)) * 8,
            b"\n" * 3000,
            b"\0" * 5000 + b"\n",
            b"show route for \xff\xfe\n" * 20,
        ):
            client = await here.connect()
            client.writer.write(data + b"\nshow symbols table\n")
            replies = [await client.reply() for _ in range(data.count(b"\n") + 2)]
            assert all(9000 <= one.code < 9999 for one in replies[:-1])
            assert replies[-1].code == 0


def test_a_reflector_with_sockets_imports_no_more_than_it_needs() -> None:
    """As without them: its memory is that of its modules."""
    program = (
        "import sys\n"
        "from routed.daemon import reflector\n"
        "reflector._without_tls()\n"
        "import routed.rr.process\n"
        "before = set(sys.modules)\n"
        "import routed.observe.bird.outlet\n"
        "print(*(name for name, module in sys.modules.items() if module and name not in before))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    others = {name for name in done.stdout.split() if not name.startswith("routed.observe")}
    assert others <= {
        "routed.next_hops",
        "routed.kernel",
        "routed.kernel.base",
        "array",
        "fcntl",
        "resource",
        "fnmatch",
    }
