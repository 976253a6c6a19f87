"""What a NOTIFICATION means for routes: graceful restart after one (RFC 8538), Hard Reset; and what it says
to people (RFC 9003)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routed.bgp.capabilities import GracefulRestart
from routed.bgp.errors import (
    Cease,
    ErrorCode,
    Notification,
    UpdateError,
    encode_shutdown_communication,
)
from routed.bgp.message import HEADER_OCTETS, MessageType, decode_notification, decode_open, encode_message
from routed.bgp.restart import keeps_routes
from routed.bgp.session import Session
from routed.bgp.session_types import Down
from tests.bgp.memory import Endpoint, Network, session_config
from tests.bgp.test_speaker import Router, join
from tests.virtual import Wire, until, virtual

CEASE = ErrorCode.CEASE


def last_notification(endpoint: Endpoint) -> Notification:
    """The one that was sent last."""
    sent = [data for _, _, data in endpoint.sent if data[18] == MessageType.NOTIFICATION]
    return decode_notification(sent[-1][HEADER_OCTETS:])


def pair(ours: int, theirs: int) -> tuple[Network, Endpoint, Endpoint]:
    """Two Established ends with these restart times."""
    network = Network()
    a, b = network.pair(session_config(1, 2, restart_time=ours), session_config(2, 1, restart_time=theirs))
    network.run_until(lambda: a.up and b.up)
    return network, a, b


def negotiated(session: Session) -> bool:
    assert session.negotiated is not None
    return session.negotiated.restart_on_notification


@pytest.mark.parametrize(("ours", "theirs", "agreed"), [(120, 120, True), (120, 0, False), (0, 120, False)])
def test_it_is_agreed_on_where_both_ends_offer_it(ours: int, theirs: int, agreed: bool) -> None:
    _, a, b = pair(ours, theirs)
    assert negotiated(a.session) is negotiated(b.session) is agreed


def test_our_open_has_the_n_bit_with_graceful_restart() -> None:
    _, a, _ = pair(120, 0)
    message = next(data for _, _, data in a.sent if data[18] == MessageType.OPEN)
    restart = decode_open(message[HEADER_OCTETS:]).capabilities.graceful_restart
    assert restart is not None
    assert restart.notification
    assert not restart.restarted


HARD = (Cease.MAX_PREFIXES, Cease.ADMIN_SHUTDOWN, Cease.PEER_DECONFIGURED)


@pytest.mark.parametrize("subcode", list(Cease))
def test_which_ceases_go_as_a_hard_reset(subcode: Cease) -> None:
    """RFC 8538 section 5.1, and none where the peer does not know of it."""
    plain = Notification(CEASE, subcode, b"\4why?")
    for theirs in (120, 0):
        network, a, _ = pair(120, theirs)
        conn = next(iter(a.wires))
        a.call(lambda a=a, network=network: a.session.stop(network.now, subcode, "why?"))  # type: ignore[misc]
        sent = last_notification(a)
        if theirs and subcode in HARD:
            assert (sent.code, sent.subcode, sent.data[:2]) == (CEASE, Cease.HARD_RESET, bytes((6, subcode)))
            assert sent.reason.subcode == subcode
        else:
            assert sent.subcode == subcode
        assert a.downs[-1].sent == sent
        assert conn not in a.wires
    assert plain.as_hard_reset().hard_reset is (subcode in HARD or subcode is Cease.HARD_RESET)


RESTART = GracefulRestart(120, ((1, 1, True),), notification=True)


@pytest.mark.parametrize(
    ("notification", "kept"),
    [
        (None, True),
        (Notification(ErrorCode.HOLD_TIMER_EXPIRED), True),
        (Notification(ErrorCode.SEND_HOLD_TIMER_EXPIRED), True),
        (Notification(ErrorCode.UPDATE_MESSAGE, UpdateError.MALFORMED_AS_PATH), True),
        (Notification(CEASE, Cease.ADMIN_RESET), True),
        (
            Notification(CEASE, Cease.ADMIN_SHUTDOWN),
            True,
        ),  # as the peer means it: it could have wrapped it up
        (Notification(CEASE, Cease.HARD_RESET), False),
        (Notification(CEASE, Cease.ADMIN_SHUTDOWN).as_hard_reset(), False),
    ],
)
def test_routes_are_kept_after_all_but_a_hard_reset(notification: Notification | None, kept: bool) -> None:
    _, a, _ = pair(120, 120)
    agreed = a.session.negotiated
    assert agreed is not None
    assert agreed.capabilities.graceful_restart == RESTART
    for down in (
        Down(1, True, "received", received=notification),
        Down(1, True, "sent", sent=notification),
    ):
        assert bool(keeps_routes(agreed, down)) is kept
    _, a, _ = pair(0, 120)
    agreed = a.session.negotiated
    assert agreed is not None
    assert bool(keeps_routes(agreed, Down(1, True, "x", received=notification))) is (notification is None)


# Words for people


def test_a_hard_reset_is_shown_with_what_it_wraps_up() -> None:
    words = encode_shutdown_communication("upgrade of rack 7")
    notification = Notification(CEASE, Cease.ADMIN_SHUTDOWN, words).as_hard_reset()
    assert notification.describe() == (
        'Cease/Hard Reset (Cease/Administrative Shutdown: "upgrade of rack 7")'
    )
    assert Notification(CEASE, Cease.HARD_RESET).describe() == "Cease/Hard Reset"
    assert Notification(CEASE, Cease.HARD_RESET, b"\6").describe() == "Cease/Hard Reset"


def test_hard_resets_within_hard_resets_are_no_trap() -> None:
    nested = Notification(CEASE, Cease.HARD_RESET, bytes((6, 9)) * 2000)
    assert nested.describe() == "Cease/Hard Reset"


@given(st.integers(0, 255), st.integers(0, 255), st.binary(max_size=300))
def test_whatever_it_holds_a_line_is_printed(code: int, subcode: int, data: bytes) -> None:
    for one in (Notification(code, subcode, data), Notification(code, subcode, data).as_hard_reset()):
        text = one.describe()
        assert text.isprintable()
        again = decode_notification(
            encode_message(MessageType.NOTIFICATION, bytes((one.code, one.subcode)) + one.data)[19:]
        )
        assert again == one


# Speakers


@virtual
async def test_a_restart_with_a_reason_keeps_the_routes_and_says_it(wire: Wire) -> None:
    a, b = Router(wire, 1), Router(wire, 2)
    a.originate("10.1.0.0/26")
    join(a, b)
    await until(lambda: b.table() != {})
    a.speaker.close(graceful=True, message="upgrade")
    await until(lambda: b.established() == 0)
    assert b.table() != {}
    error = b.speaker.peers["to_10.0.0.1"].session.last_error
    assert error == 'received NOTIFICATION Cease/Administrative Reset: "upgrade"'
    await until(lambda: b.table() == {}, within=200)  # for the restart time


@virtual
async def test_an_error_of_ours_costs_no_route_at_either_end(wire: Wire) -> None:
    """A broken message ends the session; both ends keep what they have until it is back."""
    a, b = Router(wire, 1), Router(wire, 2)
    a.originate("10.1.0.0/26")
    b.originate("10.2.0.0/26")
    join(a, b)
    await until(lambda: len(a.table()) == len(b.table()) == 2)
    a.changed.clear()
    b.changed.clear()
    connection = a.speaker.peers["to_10.0.0.2"].connection
    assert connection is not None
    connection.send(b"\xff" * 16 + b"\0\x13\x63")  # a message of no type
    await until(lambda: a.speaker.peers["to_10.0.0.2"].session.flaps == 1)
    assert len(a.table()) == len(b.table()) == 2
    await until(lambda: a.established() == b.established() == 1)
    await until(lambda: a.speaker.loop.time() > 100, within=200)
    assert a.changed == b.changed == []


@virtual
async def test_a_deconfigured_peer_is_told_to_keep_nothing(wire: Wire) -> None:
    a, b = Router(wire, 1), Router(wire, 2)
    a.originate("10.1.0.0/26")
    join(a, b)
    await until(lambda: b.table() != {})
    a.speaker.remove_peer("to_10.0.0.2")
    await until(lambda: b.table() == {})
    error = b.speaker.peers["to_10.0.0.1"].session.last_error
    assert error == "received NOTIFICATION Cease/Hard Reset (Cease/Peer De-configured)"
