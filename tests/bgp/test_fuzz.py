"""Nothing that a peer sends may raise out of a session, hang it, or leave it unable to go on."""

from __future__ import annotations

import random
import struct
from dataclasses import replace

from hypothesis import example, given, settings
from hypothesis import strategies as st

from routed.bgp.capabilities import AddPathMode, Capabilities
from routed.bgp.errors import Cease, ErrorCode, Notification
from routed.bgp.fsm import State
from routed.bgp.message import KEEPALIVE, MARKER, MessageType, Open, RouteRefresh, encode_message
from routed.bgp.nlri import Family
from routed.bgp.session import Session
from routed.bgp.session_types import Down, SessionConfig
from tests.bgp import strategies
from tests.bgp.memory import session_config

BOTH_WAYS = AddPathMode.RECEIVE | AddPathMode.SEND
EVERYTHING = {
    "extended_message": True,
    "enhanced_route_refresh": True,
    "add_path": BOTH_WAYS,
    "restart_time": 120,
    "long_lived_time": 3600,
}

configs = st.sampled_from(
    [
        session_config(1),
        session_config(1, remote_as=None, families=frozenset(Family), **EVERYTHING),
        session_config(1, remote_as=65001, hold_time=3, restart_time=120),
        session_config(1, passive=True, families=frozenset({Family.IPV6})),
    ]
)
capability_octets = st.lists(
    st.tuples(st.sampled_from([1, 2, 6, 64, 65, 69, 70, 71, 73, 255]), st.binary(max_size=9)), max_size=5
).map(lambda pairs: b"".join(bytes((code, len(value))) + value for code, value in pairs))
good_opens = st.builds(
    lambda asn, hold, families, more: Open(
        asn, hold, b"\x0a\0\0\2", replace(more, multiprotocol=families, four_octet_as=asn)
    ).encode(),
    st.sampled_from([64512, 65001]),
    st.sampled_from([0, 3, 90]),
    st.sampled_from([((1, 1),), ((1, 1), (2, 1)), ((2, 1),)]),
    st.sampled_from(
        [
            Capabilities(),
            session_config(2, families=frozenset(Family), **EVERYTHING).capabilities(),
            Capabilities(add_path=((1, 1, BOTH_WAYS),)),
        ]
    ),
)
odd_opens = st.builds(
    lambda version, asn, hold, router_id, value: encode_message(
        MessageType.OPEN,
        struct.pack("!BHH4sBBB", version, asn, hold, router_id, len(value) + 2, 2, len(value)) + value,
    ),
    st.sampled_from([4, 4, 4, 3, 255]),
    st.sampled_from([64512, 65001, 0, 23456]),
    st.integers(0, 65535),
    st.binary(min_size=4, max_size=4),
    capability_octets,
)
updates = st.tuples(st.booleans(), st.sampled_from([frozenset[Family](), frozenset(Family)])).flatmap(
    lambda pair: strategies.update_bodies(four_octet_as=pair[0], add_path=pair[1]).map(
        lambda body: encode_message(MessageType.UPDATE, body)
    )
)
notifications = st.binary(min_size=2, max_size=300).map(lambda b: encode_message(MessageType.NOTIFICATION, b))
refreshes = st.binary(min_size=4, max_size=8).map(lambda b: encode_message(MessageType.ROUTE_REFRESH, b))
framed_noise = st.tuples(st.integers(0, 6), st.binary(max_size=60)).map(
    lambda p: MARKER + struct.pack("!HB", len(p[1]) + 19, p[0]) + p[1]
)
messages = st.one_of(
    good_opens, odd_opens, st.just(KEEPALIVE), updates, updates, notifications, refreshes, framed_noise
)
handshake = good_opens.map(lambda message: message + KEEPALIVE)
streams = st.tuples(
    st.one_of(handshake, handshake, handshake, st.just(b"")), st.lists(messages, max_size=6).map(b"".join)
).map(b"".join)
anything = st.one_of(streams, strategies.mutated(streams), st.binary(max_size=200))


def state_of(session: Session) -> State:
    return session.state


def check_alive(session: Session, now: float) -> None:
    """The session made no error of its own, and can be brought to Established from where it is."""
    downs = [action for action in session.pull() if isinstance(action, Down)]
    assert all(down.cause is None for down in downs)
    assert all(down.text.isprintable() for down in downs)
    if state_of(session) is State.ESTABLISHED:
        return
    for _ in range(50):
        if session.state is not State.IDLE:
            break
        assert session.deadline is not None
        now = max(now, session.deadline)
        session.tick(now)
    now += 10  # any connection that said nothing is now no rival
    conn = session.accepted(now)
    assert conn is not None
    config = session.config
    asn = config.remote_as or config.local_as
    pairs = tuple((int(family), 1) for family in sorted(config.families))
    session.received(conn, Open(asn, 90, b"\x0a\0\0\3", Capabilities(pairs, four_octet_as=asn)).encode(), now)
    session.received(conn, KEEPALIVE, now)
    if state_of(session) is not State.ESTABLISHED:
        # It collided with one of the peer's that is past its OPEN: that one ends by its hold timer.
        assert state_of(session) is State.OPENCONFIRM


@settings(max_examples=300)
@given(configs, st.lists(anything, min_size=1, max_size=3), st.data())
def test_a_session_stands_every_sequence_of_octets(
    config: SessionConfig, sequence: list[bytes], data: st.DataObject
) -> None:
    session = Session(config, random.Random(0))
    now = 0.0
    session.start(now)
    for octets in sequence:
        conn = session.accepted(now)
        if conn is not None:
            at = 0
            while at < len(octets):
                step = data.draw(st.sampled_from([len(octets), len(octets), 1, 7, 19, 64]))
                session.received(conn, octets[at : at + step], now)
                at += step
        deadline = session.deadline
        if deadline is not None and data.draw(st.booleans()):
            now = max(now, deadline)
            session.tick(now)
    check_alive(session, now)


steps = st.one_of(
    st.tuples(st.just("accept"), st.none()),
    st.tuples(st.just("connected"), st.none()),
    st.tuples(st.just("connect_failed"), st.none()),
    st.tuples(st.just("lost"), st.integers(0, 5)),
    st.tuples(st.just("tick"), st.floats(0, 400)),
    st.tuples(st.just("start"), st.none()),
    st.tuples(st.just("stop"), st.text(max_size=300)),
    st.tuples(st.just("reconfigure"), configs),
    st.tuples(st.just("sent"), st.integers(0, 5)),
    st.tuples(st.just("pause"), st.one_of(st.none(), st.floats(0, 400))),
    st.tuples(st.just("keepalive"), st.none()),
    st.tuples(st.just("hurry"), st.none()),
    st.tuples(st.just("observed"), st.tuples(st.integers(0, 5), st.one_of(st.none(), st.floats(-600, 0)))),
    st.tuples(st.just("receive"), st.tuples(st.integers(0, 5), messages)),
    st.tuples(st.just("receive"), st.tuples(st.integers(0, 5), handshake)),
)


@settings(max_examples=300)
@example(session_config(1, passive=True), [("start", None), ("pause", 1.0), ("tick", 2.0)])
@given(configs, st.lists(steps, max_size=25))
def test_a_session_stands_every_sequence_of_calls(
    config: SessionConfig, calls: list[tuple[str, object]]
) -> None:
    session = Session(config, random.Random(0))
    now = 0.0
    dialing = 0
    conns: list[int] = []
    for name, argument in calls:
        match name, argument:
            case "accept", _:
                conn = session.accepted(now)
                conns += [] if conn is None else [conn]
            case "connected", _ if dialing:
                conns.append(session.connected(now))
                dialing -= 1
            case "connect_failed", _ if dialing:
                session.connect_failed(now, "no\x1b[1m route")
                dialing -= 1
            case "lost", int(index) if index < len(conns):
                session.lost(conns[index], now, "gone")
            case "tick", float(seconds):
                now += seconds
                session.tick(now)
            case "start", _:
                session.start(now)
            case "stop", str(message):
                session.stop(now, message=message)
                assert session.state is State.IDLE
            case "reconfigure", SessionConfig() as new:
                session.reconfigure(new, now)
            case "sent", int(index) if index < len(conns):
                session.sent(conns[index], now)
            case "pause", seconds if seconds is None or isinstance(seconds, float):
                was_up = session.state is State.ESTABLISHED
                session.pause(now, Notification(ErrorCode.CEASE, Cease.MAX_PREFIXES), seconds)
                assert not was_up or session.state is State.IDLE
            case "keepalive", _:
                session.keepalive(now)
            case "hurry", _:
                session.hurry(now)
            case "observed", (int(index), None) if index < len(conns):
                session.observed(conns[index], None)
            case "observed", (int(index), float(ago)) if index < len(conns):
                session.observed(conns[index], now + ago, "remark \x1b[1m")
            case "receive", (int(index), bytes(octets)) if index < len(conns):
                session.received(conns[index], octets, now)
        actions = session.pull()
        dialing += sum(type(action).__name__ == "Dial" for action in actions)
        assert dialing <= 1
        assert all(action.cause is None for action in actions if isinstance(action, Down))
        if session.deadline is not None and session.deadline <= now:
            session.tick(now)
            assert session.deadline is None or session.deadline > now  # the owner's loop does not spin
        assert (session.negotiated is not None) == (session.state is State.ESTABLISHED)
        assert (session.established_at is not None) == (session.state is State.ESTABLISHED)
    session.start(now)
    check_alive(session, now)


@given(st.integers(0, 65535), st.integers(0, 255), st.integers(0, 255))
def test_a_route_refresh_of_any_family(afi: int, safi: int, subtype: int) -> None:
    family = RouteRefresh(afi, safi, subtype).family
    assert (family is not None) == (safi == 1 and afi in (1, 2))
