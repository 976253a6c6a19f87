"""What an operator asks of a running speaker: peers down and up, routes again, drain and back; on virtual
time."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from routed.bgp.communities import GRACEFUL_SHUTDOWN
from routed.bgp.config import ClientRange
from routed.bgp.errors import RefusedError
from routed.bgp.fsm import State
from routed.bgp.message import MessageType
from routed.bgp.nlri import Family
from routed.bgp.session_types import RefreshRequested
from routed.bgp.transport import Endpoint
from routed.observe.events import EventKind, EventLog
from routed.observe.recorder import SessionEvents
from routed.secret import SecretValue
from tests.bgp.scripted import Scripted
from tests.bgp.test_add_path import to
from tests.bgp.test_speaker import Router, join, nlri
from tests.virtual import Wire, until, virtual

HERE, THERE = "10.1.0.0/26", "10.2.0.0/26"
TO_B, TO_A = "to_10.0.0.2", "to_10.0.0.1"


async def pair(wire: Wire, **changes: Any) -> tuple[Router, Router]:
    """Two in a session, both of which dial, with a route each."""
    a, b = Router(wire, 1), Router(wire, 2)
    a.originate(HERE)
    b.originate(THERE)
    a.set_peers(a.peer(b, **changes))
    b.set_peers(b.peer(a))
    await both(a, b)
    return a, b


async def both(a: Router, b: Router) -> None:
    await until(lambda: len(a.table()) == len(b.table()) == 2, within=300)


async def passes(router: Router, seconds: float) -> None:
    end = router.speaker.loop.time() + seconds
    await until(lambda: router.speaker.loop.time() >= end, within=seconds + 1)


def watched(router: Router) -> EventLog:
    log = EventLog()
    router.speaker.sessions = SessionEvents(log)
    return log


def kinds(log: EventLog) -> list[EventKind]:
    return [one.kind for one in log.latest()]


# Down and up


@virtual
async def test_a_peer_is_told_why_and_stays_down_until_it_is_brought_up(wire: Wire) -> None:
    a, b = await pair(wire)
    log = watched(a)
    a.speaker.shut_down_peer(TO_B, "line card swap, back at 14:00 ☕")
    await until(lambda: len(b.table()) == len(a.table()) == 1)
    error = str(b.speaker.peers[TO_A].session.last_error)
    assert 'Administrative Shutdown: "line card swap, back at 14:00 ☕"' in error
    # b dials all the while; it is a passive open here.
    await passes(a, 600)
    peer = a.speaker.peers[TO_B]
    assert (peer.session.state, peer.shut_down) == (State.IDLE, "line card swap, back at 14:00 ☕")
    assert not peer.has_connections
    assert b.established() == 0
    a.speaker.bring_up_peer(TO_B)
    await both(a, b)
    assert peer.shut_down is None
    assert kinds(log) == [
        EventKind.PEER_SHUT_DOWN,
        EventKind.SESSION_DOWN,
        EventKind.PEER_BROUGHT_UP,
        EventKind.SESSION_UP,
    ]
    (event,) = log.latest(kinds=[EventKind.PEER_SHUT_DOWN])
    assert (event.peer, event.fields["message"]) == (TO_B, "line card swap, back at 14:00 ☕")


CHANGES: dict[str, dict[str, Any]] = {
    "hold time": {"hold_time": 30},
    "address of ours": {"source": ip_address("10.0.9.1")},
    "passive": {"passive": True},
    "held, and not any more": {"held": "no password"},
    "most prefixes": {"max_prefixes": 5},
    "local AS": {"local_as": 65001},
}


@pytest.mark.parametrize("name", CHANGES)
def test_no_change_of_its_record_brings_a_peer_up(name: str) -> None:
    async def body(wire: Wire) -> None:
        a, b = Router(wire, 1), Router(wire, 2)
        a.speaker.close(graceful=False)
        a.start(extra_address="10.0.9.1")
        join(a, b)
        await until(lambda: a.established() == 1)
        a.speaker.shut_down_peer(TO_B, "m")
        a.speaker.set_peer(a.peer(b, **CHANGES[name]))
        await passes(a, 60)
        a.speaker.set_peer(a.peer(b))
        a.speaker.configure(replace(a.config, router_id=bytes((10, 0, 0, 7))))
        await passes(a, 300)
        assert a.speaker.peers[TO_B].shut_down == "m"
        assert a.established() == b.established() == 0
        a.speaker.bring_up_peer(TO_B)
        await until(lambda: a.established() == 1, within=300)

    virtual(body)()


@virtual
async def test_it_stays_down_under_another_name_and_is_forgotten_with_the_peer(wire: Wire) -> None:
    a, b = await pair(wire)
    a.speaker.shut_down_peer(TO_B)
    a.speaker.rename_peer(TO_B, a.peer(b, name="other"))
    await passes(a, 300)
    assert a.speaker.peers["other"].shut_down == ""
    assert a.established() == 0
    a.speaker.remove_peer("other")
    a.speaker.set_peer(a.peer(b))
    await both(a, b)


@virtual
async def test_one_that_is_being_dialed_is_shut_down_too(wire: Wire) -> None:
    a, b = Router(wire, 1), Router(wire, 2)
    b.set_peers(b.peer(a, passive=True, password=SecretValue(b"x")))
    a.set_peers(a.peer(b))  # its SYNs are not answered
    peer = a.speaker.peers[TO_B]
    await until(lambda: peer.session.state is State.CONNECT)
    a.speaker.shut_down_peer(TO_B)
    b.speaker.set_peer(b.peer(a, passive=True))
    await passes(a, 300)
    assert peer.session.state is State.IDLE
    assert b.established() == 0
    a.speaker.bring_up_peer(TO_B)
    await until(lambda: b.established() == 1)


@virtual
async def test_a_peer_that_is_shut_down_is_not_waited_for_at_the_start(wire: Wire) -> None:
    a, b, c = Router(wire, 1), Router(wire, 2), Router(wire, 3)
    a.set_peers(a.peer(b), a.peer(c))
    b.set_peers(b.peer(a))
    await until(lambda: a.established() == 1)
    a.speaker.shut_down_peer("to_10.0.0.3")
    await until(lambda: a.converged is not None, within=5)


@virtual
async def test_a_client_of_a_range_stays_out_while_it_is_shut_down(wire: Wire) -> None:
    reflector, client = Router(wire, 1, cluster_id="10.0.0.1"), Router(wire, 2)
    reflector.speaker.set_client_ranges([ClientRange(ip_network("10.0.0.0/24"))])
    reflector.set_peers()
    client.originate(HERE)
    client.set_peers(client.peer(reflector))
    await until(lambda: reflector.table() != {})
    reflector.speaker.shut_down_peer("Client_10_0_0_2", "overloaded")
    await until(lambda: client.established() == 0)
    assert "overloaded" in str(client.speaker.peers[TO_A].session.last_error)
    await passes(reflector, 900)
    assert client.established() == 0
    assert reflector.table() == {}
    reflector.speaker.bring_up_peer("Client_10_0_0_2")
    await until(lambda: reflector.table() != {}, within=300)


@virtual
async def test_routes_that_outlived_their_session_go_too(wire: Wire) -> None:
    a, b = await pair(wire)
    await until(lambda: b.converged is not None)
    b.kill()
    await until(lambda: a.established() == 0)
    assert THERE in a.table(), "kept while b restarts"
    a.speaker.shut_down_peer(TO_B)
    await until(lambda: THERE not in a.table(), within=1)
    await passes(a, 500)
    assert list(a.table()) == [HERE]


@virtual
async def test_shutting_down_one_peer_does_not_touch_another(wire: Wire) -> None:
    a, b, c = Router(wire, 1), Router(wire, 2), Router(wire, 3)
    c.originate(HERE)
    join(a, b, c)
    await until(lambda: a.table() != {} and b.table() != {})
    a.speaker.shut_down_peer(TO_B, "x")
    await passes(a, 100)
    assert a.speaker.peers["to_10.0.0.3"].session.flaps == 0
    assert c.established() == 2
    assert HERE in a.table()


@virtual
async def test_unknown_peers_are_key_errors(wire: Wire) -> None:
    a = Router(wire, 1)
    with pytest.raises(KeyError):
        a.speaker.shut_down_peer("nobody")
    with pytest.raises(KeyError):
        a.speaker.bring_up_peer("nobody")
    with pytest.raises(KeyError):
        a.speaker.refresh_peer("nobody", ask=True, resend=False)


# Refresh


async def scripted(wire: Wire, **changes: Any) -> tuple[Router, Scripted]:
    router = Router(wire, 1)
    router.originate(HERE)
    router.set_peers(to(router, 9, passive=True))
    peer = Scripted(wire, 9, router.address, **changes)
    await peer.connect()
    await until(lambda: router.converged is not None and len(peer.heard) >= 2)
    peer.heard.clear()
    return router, peer


@virtual
async def test_a_refresh_asks_and_sends_as_it_is_told(wire: Wire) -> None:
    router, peer = await scripted(wire)
    log = watched(router)
    (name,) = router.speaker.peers
    router.speaker.refresh_peer(name, ask=True, resend=False)
    await until(lambda: bool(peer.heard))
    assert peer.heard == [RefreshRequested(Family.IPV4, 0)]
    session = router.speaker.peers[name].session
    assert session.counters.sent[MessageType.ROUTE_REFRESH] == 1
    router.speaker.refresh_peer(name, ask=False, resend=True)
    await until(lambda: bool(peer.updates))
    assert [key for one in peer.updates for _, _, keys in one.announced for key in keys] == [nlri(HERE)]
    assert [(one.fields["asked"], one.fields["resent"]) for one in log.latest()] == [
        (True, False),
        (False, True),
    ]


@virtual
async def test_a_peer_without_route_refresh_cannot_be_asked_but_sent_to(wire: Wire) -> None:
    router, peer = await scripted(wire, route_refresh=False)
    (name,) = router.speaker.peers
    with pytest.raises(RefusedError, match="RFC 2918"):
        router.speaker.refresh_peer(name, ask=True, resend=True)
    await passes(router, 5)
    assert peer.heard == []
    router.speaker.refresh_peer(name, ask=False, resend=True)
    await until(lambda: bool(peer.updates))
    assert peer.down is None


@virtual
async def test_there_is_nothing_to_refresh_without_a_session(wire: Wire) -> None:
    a = Router(wire, 1)
    a.set_peers(to(a, 9))
    with pytest.raises(RefusedError, match="no session"):
        a.speaker.refresh_peer(next(iter(a.speaker.peers)), ask=False, resend=True)


# Drain


@virtual
async def test_a_drain_is_taken_back_whole(wire: Wire) -> None:
    a, b, c = Router(wire, 1), Router(wire, 2), Router(wire, 3, asn=65001)
    log = watched(a)
    a.originate(HERE)
    a.set_peers(a.peer(b), a.peer(c))
    b.set_peers(b.peer(a))
    c.set_peers(c.peer(a))
    await until(lambda: b.table() != {} and c.table() != {})

    def seen() -> list[tuple[int | None, tuple[int, ...]]]:
        found = [one.best(HERE).attributes for one in (b, c)]
        return [(one.local_pref, one.communities) for one in found]

    before, listening = seen(), a.speaker.listening
    a.speaker.drain()
    a.speaker.drain()
    await until(lambda: all(GRACEFUL_SHUTDOWN in one[1] for one in seen()))
    assert seen()[0][0] == 0
    assert a.speaker.draining
    assert not a.speaker.listening
    a.speaker.undrain()
    a.speaker.undrain()
    await until(lambda: seen() == before)
    assert a.speaker.listening == listening
    assert not a.speaker.draining
    assert kinds(log)[-2:] == [EventKind.DRAINING, EventKind.DRAIN_ENDED]
    # What comes now is as it would have been, and a session that is new is taken.
    a.originate(THERE)
    await until(lambda: THERE in b.table())
    assert GRACEFUL_SHUTDOWN not in b.best(THERE).attributes.communities
    d = Router(wire, 4)
    a.speaker.set_peer(a.peer(d, passive=True))
    d.set_peers(d.peer(a))
    await until(lambda: d.established() == 1)
    assert a.speaker.peers[TO_B].session.flaps == 0


@virtual
async def test_a_process_that_stops_is_not_undrained(wire: Wire) -> None:
    a, _ = await pair(wire)
    a.speaker.drain()
    a.speaker.drain(to_stop=True)
    with pytest.raises(RefusedError, match="about to stop"):
        a.speaker.undrain()
    assert a.speaker.draining


@virtual
async def test_a_speaker_that_drains_before_it_starts_does_not_listen(wire: Wire) -> None:
    a = Router(wire, 1)
    a.speaker.drain()
    a.speaker.start()
    assert not a.speaker.listening
    a.speaker.undrain()
    assert a.speaker.listening == (Endpoint(ip_address(a.address), 179),)
