"""Control sockets in this process, on virtual time, and clients of theirs."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from ipaddress import ip_network
from pathlib import Path

from routed.bgp.attributes import originate
from routed.bgp.nlri import Family, from_network
from routed.bgp.speaker import Speaker
from routed.observe.bird.commands import Client, answer
from routed.observe.bird.outlet import BirdSockets
from routed.observe.bird.replies import Encoder, whole
from routed.observe.bird.view import View
from routed.observe.observed import Observed
from tests.observe.bird.replies import Reader, Reply


class Connection:
    """A client."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.heard = Reader()

    async def __call__(self, command: str) -> Reply:
        """The reply to one command."""
        self.writer.write(command.encode() + b"\n")
        return await self.reply()

    async def reply(self) -> Reply:
        """The next one."""
        while not self.heard.replies:
            data = await self._read()
            if not data:
                raise ConnectionError("hung up")
            self.heard.feed(data)
        return self.heard.replies.pop(0)

    async def event(self) -> str:
        """The next line that is of no reply."""
        while not self.heard.events:
            self.heard.feed(await self._read())
        return self.heard.events.pop(0)

    async def ended(self) -> bool:
        """True where the server hung up; whatever comes before is read."""
        with contextlib.suppress(ConnectionError):
            while await self._read():
                pass
        return True

    async def _read(self) -> bytes:
        """What comes; not waited for longer than a minute of virtual time."""
        async with asyncio.timeout(60):
            return await self.reader.read(1 << 16)

    def close(self) -> None:
        """Hang up."""
        self.writer.close()


class Here:
    """Both sockets."""

    def __init__(self, folder: Path, outlet: BirdSockets) -> None:
        self.folder = folder
        self.outlet = outlet
        self.clients: list[Connection] = []

    async def connect(self, name: str = "bird.ctl", *, buffer: int | None = None) -> Connection:
        """A new client, greeted; `buffer`: octets that its end takes before it reads."""
        sock = socket.socket(socket.AF_UNIX)
        if buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, str(self.folder / name))
        client = Connection(*await asyncio.open_unix_connection(sock=sock, limit=1 << 12))
        self.clients.append(client)
        greeting = await client.reply()
        assert greeting.code == 1
        assert greeting.last.endswith(" ready.")
        return client


@contextlib.asynccontextmanager
async def serving(observed: Observed) -> AsyncIterator[Here]:
    """Open the sockets of a process."""
    with tempfile.TemporaryDirectory(prefix="routed-bird-") as folder:
        outlet = BirdSockets(Path(folder), observed)
        await outlet.start()
        here = Here(Path(folder), outlet)
        try:
            yield here
        finally:
            await outlet.close()
            for client in here.clients:
                client.close()
            await asyncio.sleep(0.01)


def reply_of(view: View, command: str, client: Client | None = None) -> Reply:
    """The reply to a command without a socket, read as a client would."""
    encoder, reader = Encoder(), Reader()
    for line in whole(answer(view, client or Client(), command)):
        if line is not None:
            reader.feed(encoder.encode(line).encode())
    reader.end()
    (reply,) = reader.replies
    return reply


def many(count: int) -> Sequence[bytes]:
    """So many prefixes."""
    return [bytes((24, 10 + (one >> 16), one >> 8 & 255, one & 255)) for one in range(count)]


def fill(speaker: Speaker, nlri: Sequence[bytes], gateway: str = "10.0.0.2") -> None:
    """Put routes of one peer into Loc-RIB, without a session."""
    from routed.bgp.path import Source, SourceKind

    source = Source(
        "Mesh_10_0_0_2",
        SourceKind.IBGP,
        speaker.tables.router[Family.IPV4],
        address=bytes((10, 0, 0, 2)),
        router_id=bytes((10, 0, 0, 2)),
        remote_as=64512,
        local_as=64512,
    )
    hop = from_network(ip_network(gateway))[1:]
    speaker.ribs[Family.IPV4].announce(source, originate(next_hop=hop, local_pref=100), nlri)


def words(view: View) -> Iterator[str]:
    """What commands are made of."""
    from routed.observe.bird.commands import CHANGES, COMMANDS
    from routed.observe.bird.routes import _WORDS

    yield from (one for keys in COMMANDS for one in keys)
    yield from _WORDS
    yield from CHANGES
    yield from (
        "all",
        "summary",
        "in",
        "out",
        "soft",
        "check",
        "timeout",
        "undo",
        "confirm",
        "off",
        "restrict",
    )
    yield from (
        "echo",
        "master",
        "static1",
        "kernel1",
        "5",
        '"*"',
        '"Mesh*"',
        "'Mesh_10_0_0_2'",
        '"',
        "#",
        "{",
        "}",
    )
    yield from (
        "10.0.0.0/8",
        "10.0.0.1",
        "::1",
        "fd00::/64",
        "1.2.3",
        "10.0.0.0/99",
        "10.0.0.0/x",
        "/",
        "nosuch",
    )
    yield from (one.name for one in view.peers)
