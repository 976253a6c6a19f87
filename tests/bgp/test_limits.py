"""What bounds a peer: its prefixes, its patience with what it is sent, connections without a session, log
lines."""

from __future__ import annotations

import asyncio
import socket
from ipaddress import ip_address, ip_network
from typing import Any, cast

import pytest

from routed.bgp import clients as clients_module
from routed.bgp.config import ClientRange
from routed.bgp.errors import Cease, ErrorCode
from routed.bgp.fsm import State
from routed.bgp.nlri import Family
from routed.bgp.path import SourceKind
from routed.bgp.prefix_limit import PrefixLimit, limit_notification
from routed.bgp.seldom import Seldom
from routed.bgp.transport import Endpoint, Link
from routed.log import Logger
from tests.bgp.memory import Network, session_config
from tests.bgp.test_speaker import Router, join, nlri
from tests.virtual import Wire, run, until, virtual

V4 = Family.IPV4


def prefixes(count: int) -> list[str]:
    return [f"10.1.{number}.0/26" for number in range(count)]


# Prefixes (RFC 4271 section 6.7, RFC 4486 section 4)


def test_the_notification_names_family_and_limit() -> None:
    notification = limit_notification(Family.IPV6, 1000)
    assert (notification.code, notification.subcode) == (ErrorCode.CEASE, Cease.MAX_PREFIXES)
    assert notification.data == b"\0\2\1\0\0\x03\xe8"


class Lines:
    """A log that remembers."""

    def __init__(self) -> None:
        self.said: list[tuple[str, dict[str, Any]]] = []

    def warning(self, event: str, **values: Any) -> None:
        self.said.append((event, values))

    info = error = warning

    def debug(self, event: str, **values: Any) -> None:
        """Nobody reads it."""

    def bind(self, **values: Any) -> Lines:
        return self


def test_it_warns_once_at_three_quarters_and_again_after_it_was_below() -> None:
    limit, log = PrefixLimit(), Lines()
    for count in (0, 74, 75, 90, 100, 74, 80):
        assert limit.exceeded(100, {V4: count}, cast(Logger, log)) is None
    assert [values["received"] for _, values in log.said] == [75, 80]
    assert limit.exceeded(100, {V4: 100, Family.IPV6: 101}, cast(Logger, log)) is Family.IPV6


@virtual
async def test_too_many_prefixes_end_the_session_for_a_time_and_no_other(wire: Wire) -> None:
    a, b, c = Router(wire, 1), Router(wire, 2), Router(wire, 3)
    b.originate(*prefixes(5))
    c.originate("10.3.0.0/26")
    a.set_peers(a.peer(b, max_prefixes=5, max_prefixes_time=100), a.peer(c))
    b.set_peers(b.peer(a))
    c.set_peers(c.peer(a))
    await until(lambda: len(a.table()) == 6)
    b.originate("10.1.9.0/26")
    at = await until(lambda: b.established() == 0)
    assert a.table() == {"10.3.0.0/26": "10.0.0.3"}  # a Hard Reset: nothing is kept (RFC 8538 section 5.1)
    error = b.speaker.peers["to_10.0.0.1"].session.last_error
    assert error is not None
    assert "Hard Reset (Cease/Maximum Number of Prefixes Reached" in error
    b.speaker.withdraw(V4, nlri("10.1.9.0/26"), SourceKind.STATIC)
    again = await until(lambda: len(a.table()) == 6, within=300)
    assert 100 <= again - at <= 110
    assert a.speaker.peers["to_10.0.0.3"].session.flaps == 0


@virtual
async def test_a_higher_limit_brings_the_session_back_at_once_and_a_lower_one_ends_it(wire: Wire) -> None:
    a, b = Router(wire, 1), Router(wire, 2)
    b.originate(*prefixes(5))
    a.set_peers(a.peer(b, max_prefixes=4, max_prefixes_time=None))
    b.set_peers(b.peer(a))
    await until(lambda: a.speaker.peers["to_10.0.0.2"].session.flaps == 1)
    await until(lambda: a.speaker.loop.time() > 1000, within=1100)
    assert a.established() == 0  # without a time it is for ever
    a.speaker.set_peer(a.peer(b, max_prefixes=5, max_prefixes_time=None))
    await until(lambda: len(a.table()) == 5, within=20)
    a.speaker.set_peer(a.peer(b, max_prefixes=4, max_prefixes_time=None))
    await until(lambda: a.established() == 0)


@virtual
async def test_a_client_that_sent_too_many_prefixes_is_not_let_in_again_before_its_time(wire: Wire) -> None:
    reflector = Router(wire, 254, cluster_id="10.0.0.254")
    clients = ClientRange(ip_network("10.0.0.0/28"), max_prefixes=3, max_prefixes_time=50)
    reflector.speaker.set_client_ranges((clients,))
    reflector.speaker.start()
    good, bad = Router(wire, 1), Router(wire, 2)
    good.originate("10.9.0.0/26")
    bad.originate(*prefixes(4))
    for client in (good, bad):
        client.set_peers(client.peer(reflector))
    at = await until(lambda: bad.speaker.peers["to_10.0.0.254"].session.flaps == 1)
    again = await until(lambda: bad.speaker.peers["to_10.0.0.254"].session.flaps == 2)
    assert 50 <= again - at <= 60
    assert good.established() == 1
    assert good.speaker.peers["to_10.0.0.254"].session.flaps == 0
    bad.speaker.close(graceful=False)
    await until(lambda: list(reflector.speaker.peers) == ["Client_10_0_0_1"], within=100)


# The send hold timer (RFC 9687)


def test_a_session_whose_peer_takes_nothing_ends_after_eight_minutes() -> None:
    network = Network()
    a, b = network.pair(session_config(1, 2), session_config(2, 1))
    network.run_until(lambda: a.up and b.up)
    conn = a.session.negotiated is not None and next(iter(a.wires))
    network.run(100)
    since = network.now
    a.session.observed(conn, since)
    network.run(479)
    assert a.up
    network.run(2)
    assert not a.up
    assert a.downs[-1].sent is not None
    assert a.downs[-1].sent.code == ErrorCode.SEND_HOLD_TIMER_EXPIRED
    assert "takes nothing" in a.downs[-1].text


@pytest.mark.parametrize(("hold_time", "wait"), [(3, 480), (300, 600), (0, None)])
def test_the_send_hold_time_is_eight_minutes_or_twice_the_hold_time(
    hold_time: int, wait: float | None
) -> None:
    network = Network()
    a, b = network.pair(session_config(1, 2, hold_time=hold_time), session_config(2, 1, hold_time=hold_time))
    network.run_until(lambda: a.up and b.up)
    a.session.observed(next(iter(a.wires)), network.now)
    network.run(479 if wait is None else wait - 1)
    assert a.up
    network.run(2000 if wait is None else 3)
    assert a.up is (wait is None)


def test_a_peer_that_takes_something_now_and_then_is_borne_with() -> None:
    network = Network()
    a, b = network.pair(session_config(1, 2), session_config(2, 1))
    network.run_until(lambda: a.up and b.up)
    for _ in range(10):
        a.session.observed(next(iter(a.wires)), network.now)
        network.run(400)
    assert a.up


@virtual
async def test_a_peer_that_does_not_read_loses_its_session(wire: Wire) -> None:
    """Over a socket: the peer goes on to send KEEPALIVEs, and reads nothing."""
    a, b = Router(wire, 1), Router(wire, 2)
    a.set_peers(a.peer(b))
    b.set_peers(b.peer(a))
    await until(lambda: a.established() == b.established() == 1)
    peer = b.speaker.peers["to_10.0.0.1"]
    (connection,) = peer._connections.values()
    b.speaker.loop.remove_reader(connection._sock.fileno())
    peer.session._connections[next(iter(peer._connections))].hold_deadline = None
    (sending,) = a.speaker.peers["to_10.0.0.2"]._connections.values()
    sending._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4608)
    for number in range(20_000):
        a.speaker.originate(V4, bytes((32, 10, 9, number >> 8, number & 0xFF)))
    at = a.speaker.loop.time()
    down = await until(lambda: a.established() == 0, within=1000)
    assert 480 <= down - at <= 520
    error = a.speaker.peers["to_10.0.0.2"].session.last_error
    assert error is not None
    assert "Send Hold Timer Expired" in error


# Connections without a session


class Bogus:
    """Connections from any address that never say a word."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.sockets: list[socket.socket] = []
        wire.at_end.append(self.close)

    def connect(self, source: str, remote: str = "10.0.0.254") -> None:
        near, far = socket.socketpair()
        near.setblocking(False)
        far.setblocking(False)
        local = Endpoint(ip_address(source), 4000 + len(self.sockets) % 60000)
        here = Endpoint(ip_address(remote), 179)
        self.sockets.append(near)
        self.wire.listeners[here].on_accept(Link(far, here, local))

    def open(self) -> int:
        """How many are not closed by the other end."""
        return sum(not _ended(sock) for sock in self.sockets)

    def close(self) -> None:
        for sock in self.sockets:
            sock.close()


def _ended(sock: socket.socket) -> bool:
    try:
        while data := sock.recv(65536):
            assert data
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True
    return True


@virtual
async def test_connections_from_an_address_without_a_peer_are_reset(wire: Wire) -> None:
    a = Router(wire, 254)
    a.speaker.start()
    bogus = Bogus(wire)
    for _ in range(200):
        bogus.connect("10.7.7.7")
    assert bogus.open() == 0
    assert a.speaker.incidents.refused == 200
    assert not a.speaker.peers


@virtual
async def test_a_peer_has_one_connection_without_an_open_at_most(wire: Wire) -> None:
    a, b = Router(wire, 254), Router(wire, 1)
    a.set_peers(a.peer(b, passive=True))
    bogus = Bogus(wire)
    for _ in range(300):
        bogus.connect("10.0.0.1")
        assert bogus.open() <= 1
    b.set_peers(b.peer(a))
    await until(lambda: a.established() == 1)  # the real one comes through all the same
    for _ in range(300):
        bogus.connect("10.0.0.1")
    await until(lambda: a.speaker.loop.time() > 300, within=400)
    assert bogus.open() == 0
    assert a.established() == 1
    assert a.speaker.peers["to_10.0.0.1"].session.flaps == 0


@virtual
async def test_clients_without_a_session_are_bounded_and_the_oldest_go_first(wire: Wire) -> None:
    reflector = Router(wire, 254, cluster_id="10.0.0.254")
    reflector.speaker.set_client_ranges((ClientRange(ip_network("10.0.0.0/16")),))
    reflector.speaker.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clients_module, "HALF_OPEN_CLIENTS", 50)
        bogus = Bogus(wire)
        client = Router(wire, 1)
        client.set_peers(client.peer(reflector))
        await until(lambda: client.established() == 1)
        for number in range(300):
            bogus.connect(f"10.0.{1 + number // 250}.{number % 250}")
        assert bogus.open() == 50
        assert len(reflector.speaker.peers) == 51
        late = Router(wire, 2)
        late.set_peers(late.peer(reflector))
        await until(lambda: late.established() == 1)
        assert client.speaker.peers["to_10.0.0.254"].session.flaps == 0
        # And all of them are gone when the time for an OPEN is over.
        await until(lambda: len(reflector.speaker.peers) == 2, within=200)
        assert bogus.open() == 0


@virtual
async def test_without_descriptors_silent_clients_make_room_and_sessions_stay(wire: Wire) -> None:
    reflector = Router(wire, 254, cluster_id="10.0.0.254")
    reflector.speaker.set_client_ranges((ClientRange(ip_network("10.0.0.0/16")),))
    reflector.speaker.start()
    client = Router(wire, 1)
    client.set_peers(client.peer(reflector))
    await until(lambda: client.established() == 1)
    bogus = Bogus(wire)
    for number in range(30):
        bogus.connect(f"10.0.1.{number}")
    exhausted = wire.listeners[Endpoint(ip_address(reflector.address), 179)].on_exhausted
    exhausted(5, None)
    assert bogus.open() == 30  # they may yet say something
    await asyncio.sleep(2)
    bogus.connect("10.0.2.1")
    exhausted(5, None)
    assert bogus.open() == 1
    assert client.established() == 1
    assert len(reflector.speaker.peers) == 2


@virtual
async def test_a_client_that_makes_an_error_waits_before_it_is_let_in_again(wire: Wire) -> None:
    reflector = Router(wire, 254, cluster_id="10.0.0.254")
    reflector.speaker.set_client_ranges((ClientRange(ip_network("10.0.0.0/16")),))
    reflector.speaker.start()
    bogus = Bogus(wire)
    bogus.connect("10.0.0.9")
    bogus.sockets[0].send(b"GET / HTTP/1.1\r\nHost: example\r\n\r\n")
    await until(lambda: reflector.speaker.peers["Client_10_0_0_9"].session.state is State.IDLE)
    for _ in range(20):
        bogus.connect("10.0.0.9")
    assert bogus.open() == 0
    await until(lambda: not reflector.speaker.peers, within=40)


# Log lines


def test_seldom_says_the_first_at_once_then_counts() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        said: list[tuple[float, int, str]] = []
        seldom = Seldom(
            loop, lambda count, what: said.append((loop.time(), count, what)), burst=2, seconds=10
        )
        for number in range(100):
            seldom(str(number))
            await asyncio.sleep(0.25)
        await asyncio.sleep(30)
        seldom("again")
        seldom.close()
        times = [(round(time), count) for time, count, _ in said]
        assert times == [(0, 1), (0, 1), (10, 38), (20, 40), (30, 20), (55, 1)]
        assert [what for _, _, what in said] == ["0", "1", "39", "79", "99", "again"]
        seldom("x")
        seldom("y")
        seldom("z")
        seldom("last")
        seldom.close()
        assert [(count, what) for _, count, what in said[-3:]] == [(1, "x"), (1, "y"), (2, "last")]

    run(main())


@virtual
async def test_a_session_that_flaps_is_counted_not_told_a_thousand_times(wire: Wire) -> None:
    a, b = Router(wire, 1), Router(wire, 2)
    log = Lines()
    speaker: Any = a.speaker
    speaker.log = log
    join(a, b)
    for _ in range(60):
        await until(lambda: a.established() == 1)
        b.kill()
        b.start()
        b.set_peers(b.peer(a))
        await until(lambda: a.established() == 0, within=100)
        await asyncio.sleep(2)
    await until(lambda: a.established() == 1)
    await asyncio.sleep(300)
    downs = [values for event, values in log.said if event == "session down"]
    ups = [values for event, values in log.said if event == "session established"]
    flaps = [values for event, values in log.said if event == "session flaps"]
    assert len(downs) <= 3
    assert len(ups) <= 4
    assert 1 <= len(flaps) <= 5
    assert sum(values["times"] for values in flaps) + len(downs) == 60
    b.kill()
    await until(lambda: a.established() == 0)
    assert [event for event, _ in log.said][-1] == "session down"  # calm since: told at once again
