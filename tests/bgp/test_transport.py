"""Connections on real sockets: order and bounds of what is sent, and how they end."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from ipaddress import ip_address

import pytest

from routed.bgp.tcp_options import Progress
from routed.bgp.transport import READ_OCTETS, Buffer, Connection, Endpoint, Link, plain_address
from tests.virtual import run
from tests.waiting import until

LOOPBACK = ip_address("127.0.0.1")


class Handler:
    """Remembers what came."""

    def __init__(self) -> None:
        self.data = b""
        self.lost: str | None = None

    def on_bytes(self, connection: Connection, data: memoryview) -> None:
        self.data += bytes(data)

    def on_lost(self, connection: Connection, reason: str) -> None:
        self.lost = reason


class Messages:
    """An outlet of whole messages of one length."""

    def __init__(self, message: bytes, count: int) -> None:
        self.length = len(message)
        self.pending = memoryview(message * count)

    @property
    def at_message_boundary(self) -> bool:
        return len(self.pending) % self.length == 0

    def collect(self, budget: int) -> Sequence[Buffer]:
        return [self.pending[: max(budget, self.length)]] if self.pending else []

    def collect_to_boundary(self) -> Sequence[Buffer]:
        return [self.pending[: len(self.pending) % self.length]]

    def advance(self, sent: int) -> bool:
        self.pending = self.pending[sent:]
        return bool(self.pending)


def link_pair() -> tuple[Link, socket.socket]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    end = Endpoint(LOOPBACK, 1)
    return Link(ours, end, end), theirs


def test_what_is_read_goes_to_the_handler_and_so_does_the_end() -> None:
    async def main() -> None:
        link, theirs = link_pair()
        handler = Handler()
        Connection(asyncio.get_running_loop(), link, handler, memoryview(bytearray(READ_OCTETS)))
        with theirs:
            theirs.sendall(b"x" * 100_000)
            await until(lambda: len(handler.data) == 100_000)
        await until(lambda: handler.lost is not None)
        assert handler.lost == "closed by the peer"

    asyncio.run(main())


def test_control_messages_go_between_updates_never_into_one() -> None:
    """With a peer that reads slowly, each KEEPALIVE arrives after at most what the socket held already."""

    async def main() -> None:
        link, theirs = link_pair()
        link.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4608)
        theirs.setblocking(False)
        connection = Connection(
            asyncio.get_running_loop(), link, Handler(), memoryview(bytearray(READ_OCTETS))
        )
        message = b"U" * 999 + b"."
        connection.outlets.append(Messages(message, 500))
        connection.pump()
        connection.send(b"KEEPALIVE")
        got = b""
        reads_until_keepalive = 0
        async with asyncio.timeout(10):
            while len(got) < 500 * len(message) + 9:
                try:
                    piece = theirs.recv(777)
                except BlockingIOError:
                    await asyncio.sleep(0)
                    continue
                got += piece
                reads_until_keepalive += b"KEEPALIVE" not in got
        assert got.replace(b"KEEPALIVE", b"", 1) == message * 500
        assert got.index(b"KEEPALIVE") % len(message) == 0
        assert got.index(b"KEEPALIVE") < 100 * len(message)
        theirs.close()
        connection.close()

    asyncio.run(main())


def test_two_outlets_and_control_messages_share_a_connection_in_whole_messages() -> None:
    """Each of them in order, and none inside another's message, however little the socket takes."""

    async def main() -> None:
        link, theirs = link_pair()
        link.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4608)
        theirs.setblocking(False)
        connection = Connection(
            asyncio.get_running_loop(), link, Handler(), memoryview(bytearray(READ_OCTETS))
        )
        ipv4, ipv6, keepalive = b"4" * 999 + b".", b"6" * 356 + b".", b"K" * 18 + b"."
        first, second = Messages(ipv4, 0), Messages(ipv6, 100)
        connection.outlets += (first, second)
        connection.pump()
        first.pending = memoryview(ipv4 * 100)
        got = b""
        sent = 0
        async with asyncio.timeout(10):
            while len(got) < 100 * (len(ipv4) + len(ipv6)) + sent * len(keepalive):
                if sent < 5:
                    connection.send(keepalive)
                    sent += 1
                try:
                    got += theirs.recv(777)
                except BlockingIOError:
                    await asyncio.sleep(0)
        messages = [message + b"." for message in got.split(b".")[:-1]]
        assert {one: messages.count(one) for one in set(messages)} == {ipv4: 100, ipv6: 100, keepalive: 5}
        theirs.close()
        connection.close()

    asyncio.run(main())


def test_what_comes_after_all_was_sent_is_sent_too() -> None:
    async def main() -> None:
        link, theirs = link_pair()
        connection = Connection(
            asyncio.get_running_loop(), link, Handler(), memoryview(bytearray(READ_OCTETS))
        )
        first, second = Messages(b"4", 1), Messages(b"6", 1)
        connection.outlets += (first, second)
        with theirs:
            for _ in range(3):
                connection.pump()
                assert theirs.recv(100) == b"46"
                connection.send(b"K")
                assert theirs.recv(100) == b"K"
                first.pending = memoryview(b"4")
                second.pending = memoryview(b"6")
        connection.close()

    asyncio.run(main())


def test_close_sends_what_the_socket_takes() -> None:
    async def main() -> None:
        link, theirs = link_pair()
        connection = Connection(
            asyncio.get_running_loop(), link, Handler(), memoryview(bytearray(READ_OCTETS))
        )
        connection.send(b"NOTIFICATION")
        connection.close()
        connection.send(b"never")
        with theirs:
            assert theirs.recv(100) == b"NOTIFICATION"
            assert theirs.recv(100) == b""

    asyncio.run(main())


@pytest.mark.parametrize(
    ("text", "address"),
    [("::ffff:10.0.0.1", "10.0.0.1"), ("fe80::1%eth0", "fe80::1"), ("10.0.0.1", "10.0.0.1")],
)
def test_plain_address(text: str, address: str) -> None:
    assert plain_address(text) == ip_address(address)


class Watched:
    """A control that says what a test wants."""

    def __init__(self) -> None:
        self.waiting = self.acknowledged = 0

    def set_key(self, key: object) -> None: ...

    def set_hops(self, hops: int | None) -> None: ...

    def progress(self) -> Progress:
        return Progress(self.waiting, self.acknowledged, 0, 0)


def test_since_when_the_peer_takes_nothing() -> None:
    """What TCP holds counts from the first look on that finds it unchanged; a full socket at once."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        link, theirs = link_pair()
        control = Watched()
        end = Endpoint(LOOPBACK, 1)
        link.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4608)
        connection = Connection(
            loop, Link(link.sock, end, end, control), Handler(), memoryview(bytearray(READ_OCTETS))
        )
        assert connection.stalled_since() is None
        control.waiting = 19
        assert connection.stalled_since() is None
        first = loop.time()
        await asyncio.sleep(10)
        assert connection.stalled_since() == first
        control.acknowledged = 19
        assert connection.stalled_since() is None
        await asyncio.sleep(10)
        assert connection.stalled_since() == loop.time() - 10
        control.waiting = 0
        assert connection.stalled_since() is None
        await asyncio.sleep(10)
        connection.outlets.append(Messages(b"U" * 100, 1000))
        connection.pump()
        full = loop.time()
        await asyncio.sleep(10)
        assert connection.stalled_since() == full
        theirs.setblocking(False)
        while True:  # until the peer has taken something
            try:
                theirs.recv(65536)
            except BlockingIOError:
                break
        await asyncio.sleep(0.1)
        assert connection.stalled_since() != full
        connection.close()
        theirs.close()

    run(main())
