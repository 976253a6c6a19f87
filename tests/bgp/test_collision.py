"""Connection collision (RFC 4271 section 6.8, RFC 6286 section 2.3)."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from routed.bgp.capabilities import Capabilities
from routed.bgp.errors import Cease, ErrorCode
from routed.bgp.fsm import State
from routed.bgp.message import HEADER_OCTETS, KEEPALIVE, MessageType, Open, decode_notification
from routed.bgp.nlri import Family
from routed.bgp.session import Session
from routed.bgp.session_types import Close, Down, Established, Send
from tests.bgp.memory import Endpoint, Network, session_config


def established_wires(endpoint: Endpoint) -> set[int]:
    """The connections, by object, on which an endpoint went to Established."""
    return {
        id(endpoint.wires[action.conn])
        for action in endpoint.of(Established)
        if action.conn in endpoint.wires
    }


@example(1046, [0.25] * 6 + [0.375] + [0.25] * 8 + [0.375], 0.0, False)  # a dial succeeds in OPENCONFIRM
@example(149, [0.0625, 0.25], 0.25, True)  # a Cease for the loser, when our own dial is about to succeed
@given(
    st.integers(0, 2**32),
    st.lists(st.floats(0.0001, 0.4), min_size=1, max_size=20),
    st.floats(0, 1.5),
    st.booleans(),
)
def test_two_dialing_ends_always_agree_on_one_connection(
    seed: int, delays: list[float], head_start: float, higher_first: bool
) -> None:
    """Whatever the latencies and the order, both ends end up on the same single connection."""
    rng = random.Random(seed)
    network = Network(seed, delay=lambda: rng.choice(delays))
    a, b = network.pair(session_config(1, 2), session_config(2, 1), start=False)
    first, second = (b, a) if higher_first else (a, b)
    network.start(first)
    network.at(network.now + head_start, lambda: network.start(second))
    network.run_until(lambda: a.up and b.up, 60)
    network.run(5)
    assert a.up
    assert b.up
    assert len(a.wires) == len(b.wires) == 1
    assert set(a.wires.values()) == set(b.wires.values())
    assert established_wires(a) == established_wires(b)
    network.run(1000)
    for endpoint in (a, b):
        # Both connections of an attempt may be given up, each by one end; never a session.
        assert not any(down.was_established for down in endpoint.downs)
        assert len(endpoint.of(Established)) == 1


@given(st.integers(0, 2**32), st.lists(st.floats(0.0001, 0.5), min_size=1, max_size=20))
def test_sessions_come_back_whatever_is_cut(seed: int, delays: list[float]) -> None:
    rng = random.Random(seed)
    network = Network(seed, delay=lambda: rng.choice(delays))
    a, b = network.pair(session_config(1, 2), session_config(2, 1))
    for _ in range(6):
        network.run(rng.random() * 4)
        end = rng.choice((a, b))
        if end.wires:
            network.cut_off(end, rng.choice(sorted(end.wires)))
    network.run_until(lambda: a.up and b.up and set(a.wires.values()) == set(b.wires.values()), 90)
    network.run(200)
    assert a.up
    assert b.up


def peer_open(router_id: bytes, asn: int = 64512) -> bytes:
    return Open(asn, 90, router_id, Capabilities(((1, 1),), four_octet_as=asn)).encode()


def collided(remote_as: int = 64512) -> tuple[Session, int, int]:
    """A session of router 10.0.0.5 with a dialed and an accepted connection, both in OPENSENT."""
    session = Session(session_config(5, remote_as=remote_as), random.Random(1))
    session.start(0)
    session.tick(2)
    accepted = session.accepted(2)
    assert accepted is not None
    dialed = session.connected(2)
    session.pull()
    return session, dialed, accepted


def dumped(session: Session) -> list[int]:
    """The connections that were closed with Cease/Connection Collision Resolution."""
    actions = session.pull()
    assert not [action for action in actions if isinstance(action, Down)]
    ends = []
    for action in actions:
        if isinstance(action, Send) and action.data[18] == MessageType.NOTIFICATION:
            notification = decode_notification(action.data[HEADER_OCTETS:])
            assert (notification.code, notification.subcode) == (ErrorCode.CEASE, Cease.COLLISION)
            ends.append(action.conn)
    assert ends == [action.conn for action in actions if isinstance(action, Close)]
    return ends


LOWER, HIGHER, SAME = bytes((10, 0, 0, 4)), bytes((10, 0, 0, 6)), bytes((10, 0, 0, 5))


@pytest.mark.parametrize("first", ["dialed", "accepted"])
@pytest.mark.parametrize(
    ("remote_id", "remote_as", "kept"),
    [
        (LOWER, 64512, "dialed"),
        (HIGHER, 64512, "accepted"),
        (bytes((9, 255, 255, 255)), 64512, "dialed"),
        (bytes((192, 0, 2, 1)), 64512, "accepted"),
        (SAME, 64511, "dialed"),
        (SAME, 64513, "accepted"),
    ],
    ids=str,
)
def test_the_connection_of_the_higher_identifier_is_kept(
    first: str, remote_id: bytes, remote_as: int, kept: str
) -> None:
    session, dialed, accepted = collided(remote_as)
    ids = {"dialed": dialed, "accepted": accepted}
    lost = ids["accepted" if kept == "dialed" else "dialed"]
    session.received(ids[first], peer_open(remote_id, remote_as), 2.1)
    assert dumped(session) == [lost]
    if ids[first] == lost:
        session.received(ids[kept], peer_open(remote_id, remote_as), 2.2)
    session.received(lost, peer_open(remote_id, remote_as), 2.3)
    session.received(ids[kept], KEEPALIVE, 2.4)
    assert session.state is State.ESTABLISHED
    assert [a.conn for a in session.pull() if isinstance(a, Established)] == [ids[kept]]


def test_a_connection_without_an_open_for_long_is_no_rival() -> None:
    session, dialed, accepted = collided()
    session.received(dialed, peer_open(HIGHER), 9)
    assert dumped(session) == [accepted]
    assert session.state is State.OPENCONFIRM


def test_a_second_connection_while_established_is_refused_with_a_reason() -> None:
    session, dialed, accepted = collided()
    session.received(dialed, peer_open(LOWER) + KEEPALIVE, 3)
    assert session.state is State.ESTABLISHED
    assert dumped(session) == [accepted]
    for now in (3, 4, 50):
        conn = session.accepted(now)
        assert conn is not None
        assert dumped(session) == [conn]
    assert session.state is State.ESTABLISHED


def test_a_new_inbound_connection_replaces_one_that_never_spoke() -> None:
    session, _, accepted = collided()
    again = session.accepted(2.5)
    assert again is not None
    assert dumped(session) == [accepted]
    session.received(again, peer_open(HIGHER) + KEEPALIVE, 2.6)
    assert session.state is State.ESTABLISHED


def test_a_new_inbound_connection_does_not_replace_one_that_said_open() -> None:
    session = Session(session_config(5, passive=True), random.Random(1))
    session.start(0)
    first = session.accepted(1)
    assert first is not None
    session.received(first, peer_open(HIGHER), 1)
    session.pull()
    second = session.accepted(1.5)
    assert second is not None
    assert dumped(session) == [second]
    session.received(first, KEEPALIVE, 2)
    assert session.state is State.ESTABLISHED


def test_a_dial_that_succeeds_when_the_session_is_up_is_closed() -> None:
    session = Session(session_config(5), random.Random(1))
    session.start(0)
    session.tick(2)
    conn = session.accepted(2)
    assert conn is not None
    session.received(conn, peer_open(HIGHER) + KEEPALIVE, 2)
    assert session.negotiated is not None
    session.pull()
    late = session.connected(3)
    assert session.pull() == [Close(late)]
    assert session.negotiated is not None
    session.lost(conn, 4, "gone")
    assert session.state is State.ACTIVE
    assert session.deadline is not None


def test_two_sessions_between_the_same_routers_are_no_collision() -> None:
    """Calico runs a session a family between the same two routers, with the same BGP identifiers."""
    network = Network()
    config4, peer4 = session_config(1, 2), session_config(2, 1)
    config6 = replace(config4, name="v6", families=frozenset({Family.IPV6}))
    peer6 = replace(peer4, name="v6", families=frozenset({Family.IPV6}))
    a4, b4 = network.pair(config4, peer4)
    a6, b6 = network.pair(config6, peer6)
    network.run_until(lambda: a4.up and b4.up and a6.up and b6.up)
    network.run(1000)
    assert all(endpoint.up and not endpoint.downs for endpoint in (a4, b4, a6, b6))
