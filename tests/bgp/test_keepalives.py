"""The shortest hold time there is, 3 s, beside a full table: a KEEPALIVE each second, never late."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Iterator
from ipaddress import ip_address
from itertools import pairwise

from benchmarks.reflector.processes import free_port
from routed.bgp.capabilities import Capabilities
from routed.bgp.config import PeerConfig, SpeakerConfig
from routed.bgp.message import KEEPALIVE, MessageType, Open
from routed.bgp.nlri import Family
from routed.bgp.path import SourceKind
from routed.bgp.speaker import Speaker
from routed.bgp.transport import Endpoint, Link
from tests.bgp.test_speaker import Router
from tests.virtual import Wire, until, virtual

V4 = Family.IPV4
ROUTES = 100_000


def prefixes(count: int) -> Iterator[bytes]:
    return (
        bytes((32, 10, 1 + number // 65536, number // 256 % 256, number % 256)) for number in range(count)
    )


class Reader:
    """A peer that reads at its own pace and remembers when which message came."""

    def __init__(self, sock: socket.socket, octets_a_second: int) -> None:
        self._sock = sock
        self._octets = octets_a_second // 20
        self._data = b""
        self.heard: list[tuple[float, int]] = []
        self.ended = False

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        capabilities = Capabilities(multiprotocol=((1, 1),), four_octet_as=64512)
        self._sock.send(Open(64512, 3, bytes((10, 0, 0, 2)), capabilities).encode() + KEEPALIVE)
        next_keepalive = loop.time() + 1
        while not self.ended:
            self._read(loop.time())
            if loop.time() >= next_keepalive and not self.ended:
                next_keepalive += 1
                self._sock.send(KEEPALIVE)
            await asyncio.sleep(0.05)

    def _read(self, now: float) -> None:
        try:
            data = self._sock.recv(self._octets)
        except BlockingIOError:
            return
        self.ended = not data
        self._data += data
        at = 0
        while len(self._data) >= at + 19:
            length = int.from_bytes(self._data[at + 16 : at + 18])
            if len(self._data) < at + length:
                break
            self.heard.append((now, self._data[at + 18]))
            at += length
        self._data = self._data[at:]

    def times(self, *kinds: int) -> list[float]:
        return [time for time, kind in self.heard if not kinds or kind in kinds]


def gaps(times: list[float]) -> list[float]:
    return [later - earlier for earlier, later in pairwise(times)]


@virtual
async def test_keepalives_overtake_a_full_table_that_is_read_slowly(wire: Wire) -> None:
    a = Router(wire, 1)
    peer = PeerConfig(
        name="slow",
        remote=Endpoint(ip_address("10.0.0.2"), 179),
        families=frozenset({V4}),
        local_as=64512,
        remote_as=64512,
        passive=True,
        hold_time=3,
    )
    a.set_peers(peer)
    near, far = socket.socketpair()
    far.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16384)
    near.setblocking(False)
    far.setblocking(False)
    here, there = Endpoint(ip_address("10.0.0.1"), 179), Endpoint(ip_address("10.0.0.2"), 40000)
    wire.listeners[here].on_accept(Link(far, here, there))
    reader = Reader(near, 50_000)
    job = asyncio.create_task(reader.run())
    wire.at_end.append(near.close)
    await until(lambda: a.established() == 1)
    for one in prefixes(ROUTES):
        a.speaker.originate(V4, one)
    end = a.speaker.loop.time() + 12  # the table takes about ten seconds at that pace
    await until(lambda: a.speaker.loop.time() > end)
    assert a.established() == 1
    updates = reader.times(MessageType.UPDATE)
    assert updates[-1] - updates[0] > 8  # they came beside the table, not before or after it
    assert max(gaps(reader.times(MessageType.KEEPALIVE))) < 1.9
    assert a.speaker.peers["slow"].session.flaps == 0
    job.cancel()


class _Nobody:
    """A listener of the speaker that does not care."""

    def on_routes(self, family: Family, nlri: object) -> None: ...

    def on_converged(self, reason: str) -> None: ...

    def on_status(self) -> None: ...


def test_a_full_table_in_and_out_holds_up_no_keepalive_over_tcp() -> None:
    """In real time: 100,000 routes come up, and go to a slow reader and to a quick one, both with a hold time
    of 3 s; then they all go."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        config = SpeakerConfig(
            router_id=bytes((10, 0, 0, 1)),
            local_as=64512,
            listen=(Endpoint(ip_address("127.0.0.1"), free_port()),),
            local_addresses=((V4, ip_address("10.0.0.1")),),
        )
        speaker = Speaker(config, _Nobody(), rng=random.Random(1))
        readers = []
        for number, pace in ((2, 400_000), (3, 10_000_000)):
            speaker.set_peer(
                PeerConfig(
                    name=f"reader{number}",
                    remote=Endpoint(ip_address(f"127.0.0.{number}"), 179),
                    families=frozenset({V4}),
                    local_as=64512,
                    remote_as=64512,
                    passive=True,
                    hold_time=3,
                )
            )
            readers.append((number, pace))
        speaker.start()
        (here,) = speaker.listening
        running = []
        for number, pace in readers:
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
            sock.bind((f"127.0.0.{number}", 0))
            sock.setblocking(False)
            await loop.sock_connect(sock, ("127.0.0.1", here.port))
            reader = Reader(sock, pace)
            running.append((sock, reader, asyncio.create_task(reader.run())))
        async with asyncio.timeout(10):
            while not all(peer.established for peer in speaker.peers.values()):
                await asyncio.sleep(0.01)
        for one in prefixes(ROUTES):
            speaker.originate(V4, one)
        await asyncio.sleep(2.5)
        for one in prefixes(ROUTES):
            speaker.withdraw(V4, one, SourceKind.STATIC)
        await asyncio.sleep(1.0)
        assert [peer.session.flaps for peer in speaker.peers.values()] == [0, 0]
        for sock, reader, job in running:
            assert not reader.ended
            assert max(gaps(reader.times())) < 3.0
            job.cancel()
            sock.close()
        speaker.close(graceful=False)

    asyncio.run(main())
