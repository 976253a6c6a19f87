"""The session: two of them against each other in memory, on virtual time."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from routed.bgp.attributes import originate
from routed.bgp.capabilities import (
    NO_ADD_PATH,
    AddPathMode,
    Capabilities,
    GracefulRestart,
    LongLivedGracefulRestart,
)
from routed.bgp.errors import Cease, ErrorCode, FsmError, HeaderError, OpenError, UpdateError
from routed.bgp.fsm import State
from routed.bgp.message import (
    HEADER_OCTETS,
    KEEPALIVE,
    MARKER,
    MessageType,
    Open,
    RefreshSubtype,
    decode_notification,
    encode_message,
    encode_route_refresh,
)
from routed.bgp.nlri import Family
from routed.bgp.session import Session
from routed.bgp.session_types import (
    Close,
    Dial,
    Down,
    Established,
    RefreshRequested,
    Send,
    SessionConfig,
    Updates,
)
from routed.bgp.update import encode_announcements, encode_end_of_rib, encode_withdrawals
from tests.bgp.memory import Endpoint, Network, byte_by_byte, session_config, whole, with_changes

ROUTE = originate(next_hop=bytes((10, 0, 0, 1)), local_pref=100)
PREFIXES = [bytes((26, 10, 65, i, 0)) for i in range(8)]


def pair(
    seed: int = 0, cut: Callable[[bytes], list[bytes]] = whole, **changes: object
) -> tuple[Network, Endpoint, Endpoint]:
    """Two endpoints that are Established."""
    network = Network(seed, cut=cut)
    a, b = network.pair(session_config(1, 2, **changes), session_config(2, 1, **changes))
    network.run_until(lambda: a.up and b.up)
    return network, a, b


class Lone:
    """One session, with the test as its peer."""

    def __init__(self, **changes: object) -> None:
        self.now = 1000.0
        self.session = Session(with_changes(session_config(1), changes), random.Random(1))
        self.session.start(self.now)
        self.actions: list[Any] = []
        self.conn = -1

    def pull(self) -> list[Any]:
        new = self.session.pull()
        self.actions += new
        return list(new)

    def accept(self) -> int:
        conn = self.session.accepted(self.now)
        assert conn is not None
        self.conn = conn
        return conn

    def feed(self, *messages: bytes, conn: int | None = None) -> list[Any]:
        self.session.received(self.conn if conn is None else conn, b"".join(messages), self.now)
        return self.pull()

    def open_confirm(self, message: Open | None = None) -> None:
        self.accept()
        self.feed((message or peer_open()).encode())
        assert self.is_in(State.OPENCONFIRM)

    def establish(self, message: Open | None = None) -> None:
        self.open_confirm(message)
        self.feed(KEEPALIVE)
        assert self.is_in(State.ESTABLISHED)

    def reach(self, state: State) -> None:
        self.accept()
        if state > State.OPENSENT:
            self.feed(peer_open().encode())
        if state is State.ESTABLISHED:
            self.feed(KEEPALIVE)
        assert self.is_in(state)

    def is_in(self, state: State) -> bool:
        return self.session.state is state

    def notification(self) -> tuple[int, int]:
        """Code and subcode of the NOTIFICATION that was sent last."""
        self.pull()
        data = [
            a.data for a in self.actions if isinstance(a, Send) and a.data[18] == MessageType.NOTIFICATION
        ][-1]
        notification = decode_notification(data[HEADER_OCTETS:])
        return notification.code, notification.subcode

    def down(self) -> Down:
        self.pull()
        return [a for a in self.actions if isinstance(a, Down)][-1]


def peer_open(**changes: Any) -> Open:
    """The OPEN of a peer that suits `session_config(1)`."""
    capabilities = Capabilities(multiprotocol=((1, 1),), route_refresh=True, four_octet_as=64512)
    return replace(Open(64512, 90, bytes((10, 0, 0, 2)), capabilities), **changes)


@pytest.mark.parametrize("cut", [whole, byte_by_byte])
def test_two_sessions_establish_and_exchange_routes(cut: Callable[[bytes], list[bytes]]) -> None:
    network, a, b = pair(cut=cut)
    assert a.session.negotiated is not None
    assert b.session.negotiated is not None
    assert a.session.negotiated.ibgp
    assert a.session.negotiated.hold_time == 90
    assert a.session.negotiated.remote_router_id == bytes((10, 0, 0, 2))
    assert b.session.negotiated.families == {Family.IPV4}
    for message in encode_announcements(Family.IPV4, ROUTE, PREFIXES):
        a.send(message)
    a.send(b"".join(encode_withdrawals(Family.IPV4, PREFIXES[:2])) + encode_end_of_rib(Family.IPV4))
    network.run(1)
    announced, withdrawn, end = b.updates
    assert announced.announced == [(Family.IPV4, ROUTE, PREFIXES)]
    assert withdrawn.withdrawn == [(Family.IPV4, PREFIXES[:2])]
    assert end.end_of_rib is Family.IPV4
    assert b.session.counters.received[MessageType.UPDATE] == 3


def test_all_updates_of_one_read_come_as_one_action() -> None:
    lone = Lone()
    lone.establish()
    messages = [encode_announcements(Family.IPV4, ROUTE, [prefix])[0] for prefix in PREFIXES]
    (action,) = lone.feed(*messages)
    assert isinstance(action, Updates)
    assert len(action.updates) == len(PREFIXES)


def test_a_keepalive_between_updates_keeps_their_order() -> None:
    lone = Lone()
    lone.establish()
    one, two = (encode_announcements(Family.IPV4, ROUTE, [prefix])[0] for prefix in PREFIXES[:2])
    actions = lone.feed(one, KEEPALIVE, encode_route_refresh(Family.IPV4), two)
    assert [type(action) for action in actions] == [Updates, RefreshRequested, Updates]


def test_open_keepalive_and_updates_in_one_read() -> None:
    lone = Lone()
    lone.accept()
    actions = lone.feed(peer_open().encode(), KEEPALIVE, *encode_announcements(Family.IPV4, ROUTE, PREFIXES))
    assert isinstance(actions[-2], Established)
    assert isinstance(actions[-1], Updates)


def test_a_split_at_every_octet_is_the_same() -> None:
    stream = b"".join(
        (
            peer_open().encode(),
            KEEPALIVE,
            *encode_announcements(Family.IPV4, ROUTE, PREFIXES),
            encode_route_refresh(Family.IPV4),
            encode_end_of_rib(Family.IPV4),
        )
    )

    def outcome(pieces: list[bytes]) -> list[Any]:
        lone = Lone()
        lone.accept()
        lone.pull()
        actions = [action for piece in pieces for action in lone.feed(piece)]
        updates = [u for a in actions if isinstance(a, Updates) for u in a.updates]
        return [*[a for a in actions if not isinstance(a, Updates)], *updates]

    expected = outcome([stream])
    assert len(expected) == 5
    assert outcome(byte_by_byte(stream)) == expected
    for at in range(1, len(stream)):
        assert outcome([stream[:at], stream[at:]]) == expected


def test_the_buffer_that_was_handed_over_can_be_used_again() -> None:
    lone = Lone()
    lone.establish()
    buffer = bytearray(encode_announcements(Family.IPV4, ROUTE, PREFIXES)[0])
    half = len(buffer) // 2
    lone.session.received(lone.conn, memoryview(buffer)[:half], lone.now)
    rest = bytes(buffer[half:])
    buffer[:] = bytes(len(buffer))
    (action,) = lone.feed(rest)
    assert action.updates[0].announced == [(Family.IPV4, ROUTE, PREFIXES)]


def test_sessions_live_for_days_on_keepalives_alone() -> None:
    network, a, b = pair()
    before = a.session.counters.sent[MessageType.KEEPALIVE]
    network.run(48 * 3600)
    assert a.up
    assert b.up
    assert not a.downs
    sent = a.session.counters.sent[MessageType.KEEPALIVE] - before
    # One each 30 s, shortened by 0.75 to 1 (RFC 4271 section 10).
    assert 48 * 3600 / 30 <= sent <= 48 * 3600 / 30 / 0.75
    gaps = [
        y - x
        for (x, _, data), (y, _, _) in zip(a.sent[-500:], a.sent[-499:], strict=False)
        if data == KEEPALIVE
    ]
    assert len({round(gap, 3) for gap in gaps}) > 100


@pytest.mark.parametrize(("ours", "theirs", "negotiated"), [(90, 30, 30), (3, 90, 3), (0, 90, 0), (90, 0, 0)])
def test_the_shorter_hold_time_counts(ours: int, theirs: int, negotiated: int) -> None:
    network = Network()
    a, b = network.pair(session_config(1, 2, hold_time=ours), session_config(2, 1, hold_time=theirs))
    network.run_until(lambda: a.up and b.up)
    assert a.session.negotiated is not None
    assert a.session.negotiated.hold_time == negotiated
    sent = a.session.counters.sent[MessageType.KEEPALIVE]
    network.run(1000)
    assert a.up
    assert b.up
    assert (a.session.counters.sent[MessageType.KEEPALIVE] > sent) == bool(negotiated)
    assert (a.session.deadline is None) == (negotiated == 0)


@pytest.mark.parametrize(
    ("hold", "keepalive", "interval"),
    [(90, None, 30), (90, 0, 30), (90, 10, 10), (90, 60, 30), (3, 10, 1), (0, 10, 0), (0, None, 0)],
)
def test_the_keepalive_time_is_at_most_a_third_of_the_hold_time(
    hold: int, keepalive: int | None, interval: float
) -> None:
    assert session_config(1, keepalive_time=keepalive).keepalive_interval(hold) == interval


def test_a_silent_peer_is_given_up_after_the_hold_time() -> None:
    network, a, b = pair(hold_time=9)
    a.muted = b.muted = True
    cut_at = network.now
    network.run_until(lambda: bool(a.downs), 10)
    assert 9 - 3 <= network.now - cut_at <= 9.1
    (down,) = a.downs
    assert down.was_established
    assert down.sent is not None
    assert (down.sent.code, down.sent.subcode) == (ErrorCode.HOLD_TIMER_EXPIRED, 0)
    assert a.session.flaps == 1
    assert a.session.negotiated is None
    a.muted = b.muted = False
    network.run_until(lambda: a.up and b.up)


def test_updates_count_as_a_sign_of_life() -> None:
    lone = Lone(hold_time=9)
    lone.establish(peer_open(hold_time=9))
    for _ in range(10):
        lone.now += 8
        lone.feed(encode_end_of_rib(Family.IPV4))
        lone.session.tick(lone.now)
    assert lone.is_in(State.ESTABLISHED)
    lone.now += 9.1
    lone.session.tick(lone.now)
    assert not lone.is_in(State.ESTABLISHED)


def test_updates_sent_by_the_owner_put_keepalives_off() -> None:
    lone = Lone()
    lone.establish()
    lone.pull()
    for _ in range(100):
        lone.now += 10
        lone.session.sent(lone.conn, lone.now, updates=2)
        lone.feed(KEEPALIVE)
        lone.session.tick(lone.now)
    assert lone.session.counters.sent[MessageType.UPDATE] == 200
    assert not [a for a in lone.pull() if isinstance(a, Send)]


def test_a_passive_session_never_dials() -> None:
    network = Network()
    a, b = network.pair(session_config(1, 2, passive=True), session_config(2, 1, passive=True))
    network.run(1000)
    assert a.session.state is b.session.state is State.ACTIVE
    assert not a.dials
    assert not b.dials
    assert a.session.deadline is None


def test_a_passive_session_is_dialed() -> None:
    network = Network()
    a, b = network.pair(session_config(1, 2, passive=True), session_config(2, 1))
    network.run_until(lambda: a.up and b.up, 2)
    assert not a.dials
    assert len(b.dials) == 1


def test_dialing_backs_off_with_jitter() -> None:
    gaps: set[float] = set()
    for seed in range(5):
        network = Network(seed)
        a, b = network.pair(session_config(1, 2), session_config(2, 1), start=False)
        b.listening = False
        begin = network.now
        network.start(a)
        network.run(120)
        assert a.dials[0] - begin <= 1.0
        waits = [y - x for x, y in zip(a.dials, a.dials[1:], strict=False)]
        assert 1.5 <= waits[0] <= 2.1
        assert all(3.7 <= wait <= 5.1 for wait in waits[3:])
        assert "refused" in (a.session.last_error or "")
        gaps.update(round(wait, 4) for wait in waits)
        assert not a.downs
    assert len(gaps) > 80


def test_an_error_idles_longer_each_time_and_refuses_meanwhile() -> None:
    network = Network()
    a, b = network.pair(session_config(1, 2, remote_as=65000), session_config(2, 1))
    refusals = []
    idle: list[float] = []
    while len(idle) < 6:
        network.run_until(lambda: a.session.state is State.IDLE)
        began = network.now
        refusals.append(a.session.accepted(network.now))
        network.run_until(lambda: a.session.state is not State.IDLE)
        idle.append(network.now - began)
    assert refusals == [None] * 6
    for wait, most in zip(idle, (5, 10, 20, 30, 30, 30), strict=True):
        assert 0.74 * most <= wait <= most
    assert len({round(wait / most, 4) for wait, most in zip(idle, (5, 10, 20, 30, 30, 30), strict=True)}) > 3
    assert a.downs[0].sent is not None
    assert (a.downs[0].sent.code, a.downs[0].sent.subcode) == (ErrorCode.OPEN_MESSAGE, OpenError.BAD_PEER_AS)
    assert "AS 64512, configured is AS 65000" in a.downs[0].text
    assert b.downs[0].received == a.downs[0].sent
    assert not any(down.was_established for down in a.downs + b.downs)


def test_errors_long_ago_are_forgotten() -> None:
    lone = Lone(passive=True)

    def idle_time() -> float:
        lone.accept()
        lone.feed(encode_message(MessageType.KEEPALIVE)[:-1] + b"\x09")
        assert lone.is_in(State.IDLE)
        assert lone.session.deadline is not None
        wait = lone.session.deadline - lone.now
        lone.now = lone.session.deadline
        lone.session.tick(lone.now)
        return wait

    assert idle_time() <= 5
    assert 5 < idle_time() <= 10
    lone.now += 1000
    assert idle_time() <= 5


def test_start_cuts_an_idle_wait_short() -> None:
    lone = Lone(passive=True)
    lone.accept()
    lone.feed(bytes(19))
    assert lone.is_in(State.IDLE)
    lone.session.start(lone.now)
    assert lone.is_in(State.ACTIVE)
    lone.establish()


# OPEN (RFC 4271 section 6.2)


def open_body(message: Open) -> bytearray:
    return bytearray(message.encode()[HEADER_OCTETS:])


def with_version(version: int) -> bytes:
    body = open_body(peer_open())
    body[0] = version
    return encode_message(MessageType.OPEN, bytes(body))


def with_parameter(kind: int) -> bytes:
    body = open_body(peer_open())
    body[10] = kind
    return encode_message(MessageType.OPEN, bytes(body))


ipv6_only = Capabilities(multiprotocol=((2, 1),), four_octet_as=64512)


@pytest.mark.parametrize(
    ("message", "subcode"),
    [
        (with_version(3), OpenError.UNSUPPORTED_VERSION),
        (
            peer_open(asn=65001, capabilities=replace(ipv6_only, four_octet_as=65001)).encode(),
            OpenError.BAD_PEER_AS,
        ),
        (peer_open(router_id=bytes(4)).encode(), OpenError.BAD_BGP_IDENTIFIER),
        (peer_open(router_id=bytes((10, 0, 0, 1))).encode(), OpenError.BAD_BGP_IDENTIFIER),
        (with_parameter(1), OpenError.UNSUPPORTED_OPTIONAL_PARAMETER),
        (peer_open(hold_time=1).encode(), OpenError.UNACCEPTABLE_HOLD_TIME),
        (peer_open(hold_time=2).encode(), OpenError.UNACCEPTABLE_HOLD_TIME),
        (peer_open(capabilities=ipv6_only).encode(), OpenError.UNSUPPORTED_CAPABILITY),
        (peer_open().encode()[:-1] + b"\x02", OpenError.BAD_PEER_AS),
    ],
    ids=str,
)
def test_an_open_that_is_not_acceptable(message: bytes, subcode: OpenError) -> None:
    lone = Lone()
    lone.accept()
    lone.feed(message)
    assert lone.notification() == (ErrorCode.OPEN_MESSAGE, subcode)
    assert lone.is_in(State.IDLE)
    assert isinstance(lone.actions[-2], Close)
    assert lone.down().sent is not None
    assert not lone.down().was_established
    assert lone.session.last_error == lone.down().text


def test_the_missing_capability_is_named_in_the_notification() -> None:
    lone = Lone()
    lone.accept()
    lone.feed(peer_open(capabilities=ipv6_only).encode())
    assert lone.down().sent is not None
    assert lone.down().sent.data == bytes((1, 4, 0, 1, 0, 1))  # type: ignore[union-attr]


def test_an_external_peer_may_have_our_router_id() -> None:
    lone = Lone(remote_as=65001)
    capabilities = Capabilities(multiprotocol=((1, 1),), four_octet_as=65001)
    lone.establish(Open(65001, 90, bytes((10, 0, 0, 1)), capabilities))
    assert lone.session.negotiated is not None
    assert not lone.session.negotiated.ibgp


@pytest.mark.parametrize("asn", [64512, 65001, 4200000000])
def test_any_as_is_taken_where_none_is_configured(asn: int) -> None:
    lone = Lone(remote_as=None)
    lone.establish(Open(asn, 90, bytes((9, 9, 9, 9)), Capabilities(((1, 1),), four_octet_as=asn)))
    assert lone.session.negotiated is not None
    assert lone.session.negotiated.remote_as == asn
    assert lone.session.negotiated.ibgp == (asn == 64512)


def test_a_peer_without_capabilities_is_an_ipv4_peer_with_2_octet_as_numbers() -> None:
    lone = Lone(families=frozenset(Family))
    lone.establish(Open(64512, 90, bytes((9, 9, 9, 9)), Capabilities()))
    negotiated = lone.session.negotiated
    assert negotiated is not None
    assert negotiated.families == {Family.IPV4}
    assert not negotiated.four_octet_as
    assert not negotiated.route_refresh


def test_families_in_common_are_carried_and_others_ignored() -> None:
    network = Network()
    a, b = network.pair(
        session_config(1, 2, families=frozenset(Family)),
        session_config(2, 1, families=frozenset({Family.IPV6})),
    )
    network.run_until(lambda: a.up and b.up)
    assert a.session.negotiated is not None
    assert a.session.negotiated.families == {Family.IPV6}
    a.send(encode_announcements(Family.IPV4, ROUTE, PREFIXES)[0])
    network.run(1)
    (update,) = b.updates
    assert not update.announced
    assert "not negotiated" in update.errors[0].text
    assert b.up


BOTH_WAYS = AddPathMode.RECEIVE | AddPathMode.SEND


@pytest.mark.parametrize(
    ("ours", "theirs", "receive", "send"),
    [
        (BOTH_WAYS, BOTH_WAYS, True, True),
        (BOTH_WAYS, AddPathMode.RECEIVE, False, True),
        (BOTH_WAYS, AddPathMode.SEND, True, False),
        (AddPathMode.SEND, BOTH_WAYS, False, True),
        (AddPathMode.SEND, AddPathMode.SEND, False, False),
        (BOTH_WAYS, NO_ADD_PATH, False, False),
        (NO_ADD_PATH, BOTH_WAYS, False, False),
    ],
)
def test_path_identifiers_go_where_one_end_sends_and_the_other_receives_them(
    ours: AddPathMode, theirs: AddPathMode, receive: bool, send: bool
) -> None:
    """RFC 7911 section 4, in the families that both carry."""
    network = Network()
    a, b = network.pair(
        session_config(1, 2, add_path=ours, families=frozenset(Family)),
        session_config(2, 1, add_path=theirs),
    )
    network.run_until(lambda: a.up and b.up, 10)
    agreed, mirror = a.session.negotiated, b.session.negotiated
    assert agreed is not None
    assert mirror is not None
    assert agreed.add_path_receive == mirror.add_path_send == (frozenset({Family.IPV4} if receive else ()))
    assert agreed.add_path_send == mirror.add_path_receive == (frozenset({Family.IPV4} if send else ()))
    keys = [b"\0\0\0\7" + one for one in PREFIXES]
    for sender, receiver, with_ids in ((a, b, send), (b, a, receive)):
        (message,) = encode_announcements(Family.IPV4, ROUTE, keys if with_ids else PREFIXES)
        sender.send(message)
        network.run(1)
        (update,) = receiver.updates
        assert update.announced == [(Family.IPV4, ROUTE, keys if with_ids else PREFIXES)]


def test_what_needs_both_ends_is_off_where_one_does_not_offer_it() -> None:
    everything: dict[str, object] = {
        "enhanced_route_refresh": True,
        "long_lived_time": 3600,
        "extended_message": True,
        "add_path": BOTH_WAYS,
    }
    _, a, b = pair(**everything)  # type: ignore[arg-type]
    for end in (a, b):
        agreed = end.session.negotiated
        assert agreed is not None
        assert (agreed.enhanced_route_refresh, agreed.long_lived) == (True, True)
    for missing in everything:
        network = Network()
        a, b = network.pair(
            session_config(1, 2, **everything),
            session_config(2, 1, **{name: value for name, value in everything.items() if name != missing}),
        )
        network.run_until(lambda a=a, b=b: a.up and b.up, 10)  # type: ignore[misc]
        agreed = a.session.negotiated
        assert agreed is not None
        assert (
            agreed.enhanced_route_refresh,
            agreed.long_lived,
            agreed.max_message_size > 4096,
            bool(agreed.add_path_send),
        ) == tuple(name != missing for name in everything)


def test_who_keeps_nothing_says_that_it_knows_long_lived_stale_routes() -> None:
    """RFC 9494 section 4.3: only who says so is told of them. Here a keeps b's routes, and b none of a's."""
    network = Network()
    a, b = network.pair(
        session_config(1, 2, restart_time=120, long_lived_time=3600),
        session_config(2, 1, restart_time=120, long_lived_time=0),
    )
    network.run_until(lambda: a.up and b.up, 10)
    ours, theirs = a.session.negotiated, b.session.negotiated
    assert ours is not None
    assert theirs is not None
    assert ours.capabilities.long_lived_graceful_restart == LongLivedGracefulRestart()
    assert (ours.long_lived, theirs.long_lived) == (True, False)


def test_extended_messages_only_where_both_can() -> None:
    big = originate(next_hop=bytes((10, 0, 0, 1)), local_pref=1, communities=range(3000))
    network, a, b = pair(extended_message=True)
    assert a.session.negotiated is not None
    assert a.session.negotiated.max_message_size == 65535
    (message,) = encode_announcements(Family.IPV4, big, PREFIXES, max_size=65535)
    a.send(message)
    network.run(1)
    assert b.updates[0].announced == [(Family.IPV4, big, PREFIXES)]
    network, a, b = pair()
    a.send(message)
    network.run(1)
    assert b.downs[0].sent is not None
    assert (b.downs[0].sent.code, b.downs[0].sent.subcode) == (
        ErrorCode.MESSAGE_HEADER,
        HeaderError.BAD_LENGTH,
    )


# The header (RFC 4271 section 6.1), in each state


def header(length: int, kind: int, marker: bytes = MARKER) -> bytes:
    return marker + length.to_bytes(2) + bytes((kind,))


BAD_HEADERS = [
    (header(19, 4, b"\xff" * 15 + b"\xfe"), HeaderError.NOT_SYNCHRONIZED),
    (header(18, 4), HeaderError.BAD_LENGTH),
    (header(0, 4), HeaderError.BAD_LENGTH),
    (header(4097, 2), HeaderError.BAD_LENGTH),
    (header(20, 4), HeaderError.BAD_LENGTH),
    (header(28, 1), HeaderError.BAD_LENGTH),
    (header(22, 2), HeaderError.BAD_LENGTH),
    (header(20, 3), HeaderError.BAD_LENGTH),
    (header(22, 5), HeaderError.BAD_LENGTH),
    (header(19, 0), HeaderError.BAD_TYPE),
    (header(19, 6), HeaderError.BAD_TYPE),
    (header(19, 255), HeaderError.BAD_TYPE),
]


@pytest.mark.parametrize("state", [State.OPENSENT, State.OPENCONFIRM, State.ESTABLISHED])
@pytest.mark.parametrize(("octets", "subcode"), BAD_HEADERS, ids=[h.hex()[28:] for h, _ in BAD_HEADERS])
def test_a_bad_header(state: State, octets: bytes, subcode: HeaderError) -> None:
    lone = Lone()
    lone.reach(state)
    lone.feed(octets)
    assert lone.notification() == (ErrorCode.MESSAGE_HEADER, subcode)
    assert lone.is_in(State.IDLE)
    assert lone.down().was_established == (state is State.ESTABLISHED)
    sent = lone.down().sent
    assert sent is not None
    if subcode == HeaderError.BAD_LENGTH:
        assert sent.data == octets[16:18]
    elif subcode == HeaderError.BAD_TYPE:
        assert sent.data == octets[18:19]


MESSAGES = {
    "open": peer_open().encode(),
    "update": encode_end_of_rib(Family.IPV4),
    "keepalive": KEEPALIVE,
    "refresh": encode_route_refresh(Family.IPV4),
}


@pytest.mark.parametrize(
    ("state", "message", "subcode"),
    [
        (State.OPENSENT, "keepalive", FsmError.UNEXPECTED_IN_OPENSENT),
        (State.OPENSENT, "update", FsmError.UNEXPECTED_IN_OPENSENT),
        (State.OPENSENT, "refresh", FsmError.UNEXPECTED_IN_OPENSENT),
        (State.OPENCONFIRM, "open", FsmError.UNEXPECTED_IN_OPENCONFIRM),
        (State.OPENCONFIRM, "update", FsmError.UNEXPECTED_IN_OPENCONFIRM),
        (State.OPENCONFIRM, "refresh", FsmError.UNEXPECTED_IN_OPENCONFIRM),
        (State.ESTABLISHED, "open", FsmError.UNEXPECTED_IN_ESTABLISHED),
    ],
)
def test_a_message_that_has_no_place_here(state: State, message: str, subcode: FsmError) -> None:
    lone = Lone()
    lone.reach(state)
    lone.feed(MESSAGES[message])
    assert lone.notification() == (ErrorCode.FSM, subcode)


def test_nothing_is_read_behind_what_ended_the_session() -> None:
    lone = Lone()
    lone.establish()
    good = encode_announcements(Family.IPV4, ROUTE, PREFIXES)[0]
    actions = lone.feed(good, header(19, 9), good, KEEPALIVE)
    assert [type(action) for action in actions] == [Updates, Send, Close, Down]
    assert lone.feed(good) == []
    assert lone.session.counters.received[MessageType.UPDATE] == 1


def test_an_update_error_that_needs_a_reset() -> None:
    lone = Lone()
    lone.establish()
    good = encode_announcements(Family.IPV4, ROUTE, PREFIXES)[0]
    bad = encode_message(MessageType.UPDATE, b"\x00\x01\x21\x00\x00")
    actions = lone.feed(good, bad)
    assert [type(action) for action in actions] == [Updates, Send, Close, Down]
    assert lone.notification() == (ErrorCode.UPDATE_MESSAGE, UpdateError.INVALID_NETWORK_FIELD)
    assert lone.is_in(State.IDLE)


# The end


def test_stop_sends_the_shutdown_communication() -> None:
    network, a, b = pair()
    a.call(lambda: a.session.stop(network.now, message="bye \x1b[31mred"))
    network.run(0.1)
    assert a.session.state is State.IDLE
    assert a.session.deadline is None
    (down,) = b.downs
    assert down.was_established
    assert down.received is not None
    assert (down.received.code, down.received.subcode) == (ErrorCode.CEASE, Cease.ADMIN_SHUTDOWN)
    assert (
        down.text
        == 'received NOTIFICATION Cease/Administrative Shutdown: "bye \N{REPLACEMENT CHARACTER}[31mred"'
    )
    assert b.session.state in (State.ACTIVE, State.CONNECT)
    network.run(100)
    assert not a.up
    a.call(lambda: a.session.start(network.now))
    network.run_until(lambda: a.up and b.up)
    assert b.session.flaps == 1


def test_stop_before_there_is_a_connection() -> None:
    network = Network()
    a, _b = network.pair(session_config(1, 2), session_config(2, 1), start=False)
    network.start(a)
    network.run_until(lambda: a.session.state is State.CONNECT)
    a.call(lambda: a.session.stop(network.now))
    network.run(60)
    assert a.session.state is State.IDLE
    assert len(a.dials) == 1
    assert not a.downs


def test_a_dial_that_succeeds_after_stop_is_closed() -> None:
    lone = Lone()
    lone.now += 2
    lone.session.tick(lone.now)
    assert lone.pull() == [Dial()]
    lone.session.stop(lone.now)
    conn = lone.session.connected(lone.now)
    assert lone.pull() == [Close(conn)]
    assert lone.is_in(State.IDLE)


def test_start_after_stop_while_the_old_dial_is_out_does_not_dial_twice() -> None:
    lone = Lone()
    lone.now += 2
    lone.session.tick(lone.now)
    assert lone.pull() == [Dial()]
    lone.session.stop(lone.now)
    lone.session.start(lone.now)
    lone.now += 2
    lone.session.tick(lone.now)
    assert lone.pull() == []
    assert lone.is_in(State.CONNECT)
    lone.conn = lone.session.connected(lone.now)
    lone.feed(peer_open().encode(), KEEPALIVE)
    assert lone.is_in(State.ESTABLISHED)


def test_a_lost_connection_is_made_again_at_once() -> None:
    network, a, b = pair(seed=3)
    network.run(60)
    lost_at = network.now
    network.cut_off(a, a.of(Established)[-1].conn)
    network.run_until(lambda: a.up and b.up, 10)
    assert network.now - lost_at < 2
    assert a.downs[0].was_established
    assert a.downs[0].sent is None
    assert a.downs[0].text == "connection lost: connection reset"
    assert b.downs[0].text == "connection lost: closed by the peer"


def test_a_peer_that_hangs_up_on_open_is_not_dialed_in_a_loop() -> None:
    network = Network()
    a, b = network.pair(session_config(1, 2), session_config(2, 1, passive=True), start=False)
    network.start(a, b)
    dials = 0
    while network.now < 1100:
        network.run_until(lambda n=dials: len(a.dials) > n and bool(b.wires))  # type: ignore[misc]
        dials = len(a.dials)
        network.cut_off(b, max(b.wires))
        network.run(0.01)
        if dials > 40:
            break
    assert dials < 30
    assert all(not down.was_established for down in a.downs)


def test_a_silent_inbound_connection_does_not_keep_us_from_dialing() -> None:
    network = Network()
    a, b = network.pair(session_config(1, 2), session_config(2, 1, passive=True))
    a.session.accepted(network.now)
    network.carry_out(a)
    network.run_until(lambda: a.up and b.up, 20)


def test_a_silent_connection_is_given_up_after_the_open_time() -> None:
    lone = Lone(passive=True)
    lone.accept()
    lone.now += 239
    lone.session.tick(lone.now)
    assert lone.is_in(State.OPENSENT)
    lone.now += 2
    lone.session.tick(lone.now)
    assert lone.notification() == (ErrorCode.HOLD_TIMER_EXPIRED, 0)
    assert lone.is_in(State.ACTIVE)


def test_no_dial_while_a_connection_is_past_its_open() -> None:
    lone = Lone()
    lone.open_confirm()
    lone.now += 8
    lone.session.tick(lone.now)
    assert not [action for action in lone.pull() if isinstance(action, Dial)]


def test_after_a_long_session_the_first_dial_is_quick_again() -> None:
    network = Network(5)
    a, b = network.pair(session_config(1, 2), session_config(2, 1, passive=True), start=False)
    network.start(a)
    network.run(60)  # refused, until the waits are long
    network.start(b)
    network.run_until(lambda: a.up and b.up)
    network.run(60)
    a_dials = len(a.dials)
    lost_at = network.now
    network.cut_off(b, b.of(Established)[-1].conn)
    network.run_until(lambda: len(a.dials) > a_dials)
    assert network.now - lost_at <= 1.1


@pytest.mark.parametrize("state", [State.OPENSENT, State.OPENCONFIRM, State.ESTABLISHED])
@pytest.mark.parametrize(("code", "after"), [(6, State.ACTIVE), (2, State.IDLE), (4, State.IDLE)])
def test_a_cease_is_no_error_of_ours(state: State, code: int, after: State) -> None:
    lone = Lone(passive=True)
    lone.reach(state)
    lone.feed(encode_message(MessageType.NOTIFICATION, bytes((code, 2))))
    assert lone.is_in(after)
    assert lone.down().received is not None
    assert lone.down().sent is None
    assert not [a for a in lone.actions[-2:] if isinstance(a, Send)]


def test_what_a_peer_or_a_socket_says_is_made_printable() -> None:
    lone = Lone()
    lone.establish()
    lone.session.lost(lone.conn, lone.now, "reset\x1b[2J")
    assert lone.down().text == "connection lost: reset\N{REPLACEMENT CHARACTER}[2J"
    assert lone.session.last_error == lone.down().text


def test_an_error_is_told_even_while_a_dial_is_under_way() -> None:
    lone = Lone()
    lone.now += 2
    lone.session.tick(lone.now)
    assert lone.pull() == [Dial()]
    lone.accept()
    actions = lone.feed(bytes(19))
    assert isinstance(actions[-1], Down)
    assert lone.is_in(State.IDLE)
    conn = lone.session.connected(lone.now)
    assert lone.pull() == [Close(conn)]


# ROUTE-REFRESH (RFC 2918, RFC 7313)


def test_route_refresh() -> None:
    network, a, b = pair(families=frozenset(Family))
    a.send(encode_route_refresh(Family.IPV6))
    network.run(1)
    assert b.of(RefreshRequested) == [RefreshRequested(Family.IPV6, RefreshSubtype.REQUEST)]


def test_route_refresh_marks_where_both_know_them() -> None:
    network, a, b = pair(enhanced_route_refresh=True)
    for subtype in RefreshSubtype:
        a.send(encode_route_refresh(Family.IPV4, subtype))
    a.send(encode_message(MessageType.ROUTE_REFRESH, b"\0\1\x09\1"))
    network.run(1)
    assert b.of(RefreshRequested) == [RefreshRequested(Family.IPV4, subtype) for subtype in RefreshSubtype]
    assert b.up


@pytest.mark.parametrize(
    "body",
    [b"\0\2\0\1", b"\0\1\0\2", b"\0\1\1\1", b"\0\1\2\1", b"\0\1\x09\1", b"\x40\4\0\x47"],
    ids=bytes.hex,
)
def test_a_route_refresh_that_concerns_nothing_here_is_ignored(body: bytes) -> None:
    lone = Lone()
    lone.establish()
    assert lone.feed(encode_message(MessageType.ROUTE_REFRESH, body)) == []
    assert lone.is_in(State.ESTABLISHED)


def test_a_route_refresh_mark_of_a_wrong_length() -> None:
    lone = Lone()
    lone.establish()
    message = encode_message(MessageType.ROUTE_REFRESH, b"\0\1\1\1\0")
    lone.feed(message)
    assert lone.notification() == (ErrorCode.ROUTE_REFRESH, 1)
    assert lone.down().sent is not None
    assert lone.down().sent.data == message  # type: ignore[union-attr]


# A peer that restarts behind our back (RFC 4724 section 5)


@pytest.mark.parametrize("restart_time", [0, 120])
def test_the_open_of_a_restarted_peer_replaces_the_session_only_with_graceful_restart(
    restart_time: int,
) -> None:
    network, a, b = pair(restart_time=restart_time)
    network.run(60)
    # b loses power: nothing reaches a, and a new b comes up on the same address.
    b.muted = True
    reborn = network.add("reborn", replace(b.session.config))
    reborn.peer, a.peer = a, reborn
    network.endpoints.remove(b)
    began = network.now
    network.start(reborn)
    if restart_time:
        network.run_until(lambda: reborn.up and a.up and len(a.of(Established)) == 2, 3)
        (down,) = a.downs
        assert down.was_established
        assert (down.sent, down.received) == (None, None)
        assert down.text == "the peer has restarted"
    else:
        network.run_until(lambda: reborn.up and a.up, 120)
        assert network.now - began > 20
        assert a.downs[0].sent is not None
        assert a.downs[0].sent.code == ErrorCode.HOLD_TIMER_EXPIRED


def test_a_late_half_of_a_collision_is_no_restart() -> None:
    lone = Lone(restart_time=120)
    capabilities = replace(peer_open().capabilities, graceful_restart=GracefulRestart(120))
    lone.establish(peer_open(capabilities=capabilities))
    for seconds, taken in ((1, False), (3, False), (10, True)):
        lone.now += seconds
        conn = lone.session.accepted(lone.now)
        assert conn is not None
        closed = [action for action in lone.pull() if isinstance(action, Close)]
        assert (closed == []) == taken


def test_a_bogus_connection_does_not_disturb_an_established_session_with_graceful_restart() -> None:
    network, a, b = pair(restart_time=120)
    network.run(60)
    for octets in (b"", bytes(100), KEEPALIVE, peer_open(asn=65001, capabilities=Capabilities()).encode()):
        conn = a.session.accepted(network.now)
        assert conn is not None
        a.session.received(conn, octets, network.now)
        network.carry_out(a)
        network.run(1)
    network.run(600)
    assert a.up
    assert b.up
    assert not a.downs
    assert len(a.of(Established)) == 1


# A new configuration


@pytest.mark.parametrize(
    "change",
    [
        {"name": "other"},
        {"passive": True},
        {"keepalive_time": 5},
        {"connect_delay": 9.0, "connect_retry_time": 90.0},
        {"idle_hold_min": 1.0, "idle_hold_max": 2.0},
        {"open_time": 10.0},
    ],
    ids=str,
)
def test_what_open_does_not_say_takes_effect_in_place(change: dict[str, object]) -> None:
    network, a, b = pair()
    a.call(lambda: a.session.reconfigure(with_changes(a.session.config, change), network.now))
    sent = a.session.counters.sent[MessageType.KEEPALIVE]
    network.run(600)
    assert a.up
    assert b.up
    assert not a.downs
    if "keepalive_time" in change:
        assert a.session.negotiated is not None
        assert a.session.negotiated.keepalive == 5
        assert a.session.counters.sent[MessageType.KEEPALIVE] - sent >= 119


@pytest.mark.parametrize(
    "change",
    [
        {"hold_time": 30},
        {"families": frozenset(Family)},
        {"local_router_id": bytes((10, 0, 0, 9))},
        {"route_refresh": False},
        {"extended_message": True},
        {"enhanced_route_refresh": True},
        {"add_path": BOTH_WAYS},
        {"long_lived_time": 3600},
        {"long_lived_time": 0},
        {"four_octet_as": False},
    ],
    ids=str,
)
def test_what_open_says_resets_the_session(change: dict[str, object]) -> None:
    network, a, b = pair()
    a.call(lambda: a.session.reconfigure(with_changes(a.session.config, change), network.now))
    network.run_until(lambda: a.up and b.up and len(a.of(Established)) == 2, 10)
    assert b.downs[0].received is not None
    assert b.downs[0].received.subcode == Cease.CONFIGURATION_CHANGE


def test_a_mended_configuration_ends_the_wait_after_the_error() -> None:
    network = Network()
    a, b = network.pair(session_config(1, 2, remote_as=65000), session_config(2, 1, passive=True))
    network.run_until(lambda: a.session.state is State.IDLE)
    network.run(0.1)
    mended = replace(a.session.config, remote_as=64512)
    a.call(lambda: a.session.reconfigure(mended, network.now))
    b.call(lambda: b.session.start(network.now))
    network.run_until(lambda: a.up and b.up, 3)


def test_a_session_that_is_no_longer_passive_dials() -> None:
    network = Network()
    a, b = network.pair(session_config(1, 2, passive=True), session_config(2, 1, passive=True))
    network.run(10)
    a.call(lambda: a.session.reconfigure(replace(a.session.config, passive=False), network.now))
    network.run_until(lambda: a.up and b.up, 3)


def test_a_reconfigured_session_that_was_stopped_stays_stopped() -> None:
    lone = Lone()
    lone.session.stop(lone.now)
    lone.session.reconfigure(session_config(1, hold_time=30), lone.now)
    assert lone.is_in(State.IDLE)
    assert lone.session.deadline is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"hold_time": 2}, "hold time"),
        ({"hold_time": 65536}, "hold time"),
        ({"families": frozenset()}, "family"),
        ({"local_router_id": bytes(4)}, "router ID"),
        ({"local_router_id": b"\1"}, "router ID"),
        ({"local_as": 0}, "AS number"),
        ({"remote_as": 1 << 32}, "AS number"),
        ({"local_as": 70000, "four_octet_as": False}, "4-octet AS"),
    ],
)
def test_an_impossible_configuration_is_refused(change: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=f"r1-r0: .*{words}"):
        with_changes(session_config(1), change)


def test_the_default_configuration_offers_what_the_documentation_says() -> None:
    config: SessionConfig = session_config(1)
    assert config.capabilities() == Capabilities(((1, 1),), route_refresh=True, four_octet_as=64512)


def test_a_fault_of_ours_costs_the_session_and_not_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    lone = Lone()
    lone.establish()

    def broken(body: bytes) -> None:
        raise KeyError("a bug")

    from routed.bgp import update

    monkeypatch.setattr(update.UpdateParser, "parse", staticmethod(broken))
    lone.feed(encode_end_of_rib(Family.IPV4))
    assert isinstance(lone.down().cause, KeyError)
    assert lone.down().was_established
    assert lone.notification() == (ErrorCode.CEASE, Cease.OUT_OF_RESOURCES)
    assert lone.is_in(State.IDLE)
