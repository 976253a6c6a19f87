"""What may change under a session does not end it, and never disturbs another one: sessions are counted, and
so is every message at the others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from routed.bgp.config import ClientRange, PeerConfig, SpeakerConfig
from routed.bgp.transport import Endpoint
from routed.intent.filters import CompiledFilter
from routed.resources import Key
from routed.secret import SecretValue
from tests.bgp.test_speaker import Router, join
from tests.virtual import Wire, until, virtual

PASSWORD, OTHER = SecretValue(b"Semifreddo"), SecretValue(b"Stracciatella")


def flaps(router: Router) -> dict[str, int]:
    return {name: peer.session.flaps for name, peer in router.speaker.peers.items()}


def messages(router: Router, peer: str) -> list[tuple[int, ...]]:
    """What came and went on one session, by type."""
    counters = router.speaker.peers[peer].session.counters
    return [tuple(counters.received), tuple(counters.sent)]


async def sleep_until(router: Router, time: float) -> None:
    await until(lambda: router.speaker.loop.time() >= time, within=1000)


# Options of one peer


CHANGES: dict[str, dict[str, Any]] = {
    "password": {"password": OTHER},
    "no password": {"password": None},
    "GTSM": {"ttl_security_hops": 1},
    "filters": {"filters": ("some",)},
    "keepalive time": {"keepalive_time": 7},
    "restart time": {"restart_time": 77},
    "allowed local AS": {"allowed_local_as": 2},
    "most prefixes": {"max_prefixes": 100},
    "passive": {"passive": True},
    "port": {"remote": Endpoint(ip_address("10.0.0.2"), 1790)},
}


async def _change_one(wire: Wire, change: dict[str, Any]) -> None:
    a, b, c = Router(wire, 1), Router(wire, 2), Router(wire, 3)
    a.originate("10.1.0.0/26")
    with_password = {"password": PASSWORD}
    a.set_peers(a.peer(b, **with_password), a.peer(c, keepalive_time=300, hold_time=900))
    b.set_peers(b.peer(a, **with_password))
    c.set_peers(c.peer(a, hold_time=900))
    await until(lambda: b.table() != {} and c.table() != {})
    await sleep_until(a, 40)  # converged, End-of-RIB included
    before = messages(a, "to_10.0.0.3")
    a.speaker.set_filters({"some": CompiledFilter(Key("BGPFilter", "some"))} if "filters" in change else {})
    a.speaker.set_peer(a.peer(b, **{**with_password, **change}))
    await sleep_until(a, 60)
    assert flaps(a) == {"to_10.0.0.2": 0, "to_10.0.0.3": 0}
    assert flaps(b) == flaps(c) == {"to_10.0.0.1": 0}
    assert messages(a, "to_10.0.0.3") == before
    a.originate("10.1.0.64/26")
    await until(lambda: len(b.table()) == len(c.table()) == 2)


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_option_of_a_peer_resets_nothing(name: str) -> None:
    virtual(partial(_change_one, change=CHANGES[name]))()


RESETS: dict[str, dict[str, Any]] = {
    "source address": {"source": ip_address("10.0.9.1")},
    "local AS": {"local_as": 65001},
    "hold time": {"hold_time": 30},
}


async def _reset_one(wire: Wire, change: dict[str, Any]) -> None:
    a, b, c = Router(wire, 1), Router(wire, 2), Router(wire, 3)
    a.speaker.close(graceful=False)
    a.start(extra_address="10.0.9.1")
    a.originate("10.1.0.0/26")
    a.set_peers(a.peer(b), a.peer(c, keepalive_time=300, hold_time=900))
    b.set_peers(b.peer(a))
    c.set_peers(c.peer(a, hold_time=900))
    await until(lambda: b.table() != {} and c.table() != {})
    await sleep_until(a, 40)
    before = messages(a, "to_10.0.0.3")
    a.speaker.set_peer(a.peer(b, **change))
    b.speaker.remove_peer("to_10.0.0.1")
    at = change.get("source", ip_address(a.address))
    b.set_peers(b.peer(a, remote=Endpoint(at, 179), remote_as=change.get("local_as", a.asn)))
    await until(lambda: b.established() == 1 and b.table() != {})
    assert flaps(c) == {"to_10.0.0.1": 0}
    assert messages(a, "to_10.0.0.3") == before


@pytest.mark.parametrize("name", RESETS)
def test_what_needs_another_session_resets_that_one_alone(name: str) -> None:
    virtual(partial(_reset_one, change=RESETS[name]))()


# Where we listen


def listen(router: Router, *endpoints: str) -> SpeakerConfig:
    made = []
    for text in endpoints:
        address, _, port = text.rpartition(":")
        made.append(Endpoint(ip_address(address), int(port)))
    return replace(router.config, listen=tuple(made))


async def _listen_elsewhere(wire: Wire, change: Callable[[Router], SpeakerConfig]) -> None:
    a, b = Router(wire, 1), Router(wire, 2)
    a.originate("10.1.0.0/26")
    join(a, b)
    await until(lambda: b.table() != {})
    config = change(a)
    a.speaker.configure(config)
    assert a.speaker.listening == config.listen
    await sleep_until(a, 30)
    assert flaps(a) == {"to_10.0.0.2": 0}
    assert flaps(b) == {"to_10.0.0.1": 0}
    # One that dials us where we listen now is let in.
    c = Router(wire, 3)
    port = config.listen[0].port
    a.speaker.set_peer(a.peer(c, passive=True))
    c.set_peers(c.peer(a, remote=Endpoint(ip_address(a.address), port)))
    await until(lambda: c.table() != {})


@pytest.mark.parametrize("endpoint", ["10.0.0.1:1790", "0.0.0.0:1790", "0.0.0.0:179"])
def test_another_listening_port_or_address_leaves_sessions_alone(endpoint: str) -> None:
    virtual(partial(_listen_elsewhere, change=lambda router: listen(router, endpoint)))()


@virtual
async def test_the_new_listener_is_open_before_the_old_one_closes(wire: Wire) -> None:
    a = Router(wire, 1)
    a.speaker.start()
    order: list[str] = []
    real: Any = a.speaker.network.listen

    def watched(endpoint: Endpoint, *rest: Any) -> Any:
        try:
            listener = real(endpoint, *rest)
        except OSError:
            order.append(f"taken {endpoint}")
            raise
        order.append(f"open {endpoint}")
        close = listener.close

        def watched_close() -> None:
            order.append(f"close {endpoint}")
            close()

        listener.close = watched_close
        return listener

    a.speaker.network.listen = watched  # type: ignore[method-assign, assignment]
    a.speaker.configure(listen(a, "0.0.0.0:1790"))
    a.speaker.configure(listen(a, "10.0.0.1:1791"))
    assert order == ["open 0.0.0.0:1790", "open 10.0.0.1:1791", "close 0.0.0.0:1790"]
    # All addresses and one of them cannot be listened on at the same time: there the old one goes first.
    order.clear()
    a.speaker.configure(listen(a, "0.0.0.0:1791"))
    assert order == ["taken 0.0.0.0:1791", "close 10.0.0.1:1791", "open 0.0.0.0:1791"]


# Passwords on virtual time: a SYN that is signed with another key is not answered


@virtual
async def test_a_password_is_needed_and_a_wrong_one_is_hinted_at(wire: Wire) -> None:
    a, b = Router(wire, 1), Router(wire, 2)
    a.originate("10.1.0.0/26")
    a.set_peers(a.peer(b, password=PASSWORD))
    b.set_peers(b.peer(a, password=OTHER))
    await sleep_until(a, 60)
    assert a.established() == b.established() == 0
    b.speaker.set_peer(b.peer(a, password=PASSWORD, passive=True))
    a.speaker.set_peer(a.peer(b, password=OTHER))
    await sleep_until(a, 70)
    a.speaker.set_peer(
        a.peer(b, password=PASSWORD)
    )  # it dials again at once, however long it would have waited
    await until(lambda: b.table() != {}, within=1.1)


@virtual
async def test_one_passive_end_is_reached_with_either_key_while_they_overlap(wire: Wire) -> None:
    """The listening end has the new password first; the other one dials with the old one, then with the new
    one."""
    a, b = Router(wire, 1), Router(wire, 2)
    a.set_peers(a.peer(b, password=PASSWORD, passive=True))
    b.set_peers(b.peer(a, password=PASSWORD))
    await until(lambda: a.established() == 1)
    a.speaker.set_peer(a.peer(b, password=OTHER, passive=True))
    b.kill()
    await until(lambda: a.established() == 0)
    b.start()
    b.set_peers(b.peer(a, password=PASSWORD))
    await until(lambda: a.established() == 1, within=30)
    assert a.speaker.peers["to_10.0.0.2"].protection.old_key_in_use
    b.kill()
    await until(lambda: a.established() == 0)
    b.start()
    b.set_peers(b.peer(a, password=OTHER))
    await until(lambda: a.established() == 1, within=30)
    assert not a.speaker.peers["to_10.0.0.2"].protection.old_key_in_use
    b.kill()
    b.start()
    b.set_peers(b.peer(a, password=PASSWORD))
    await sleep_until(b, a.speaker.loop.time() + 60)
    assert b.established() == 0  # the new one was seen to work: the old one is void


@virtual
async def test_the_old_password_counts_for_a_while_after_a_long_session_with_it(wire: Wire) -> None:
    a, b = Router(wire, 1), Router(wire, 2)
    a.set_peers(a.peer(b, password=PASSWORD, passive=True))
    b.set_peers(b.peer(a, password=PASSWORD))
    await until(lambda: a.established() == 1)
    a.speaker.set_peer(a.peer(b, password=OTHER, passive=True))
    await sleep_until(a, 900)
    b.kill()
    await until(lambda: a.established() == 0)
    await sleep_until(a, a.speaker.loop.time() + 300)
    b.start()
    b.set_peers(b.peer(a, password=PASSWORD))
    await until(lambda: a.established() == 1, within=30)


@virtual
async def test_the_old_password_is_void_after_a_while(wire: Wire) -> None:
    a, b = Router(wire, 1), Router(wire, 2)
    a.set_peers(a.peer(b, password=PASSWORD, passive=True))
    b.set_peers(b.peer(a, password=PASSWORD))
    await until(lambda: a.established() == 1)
    a.speaker.set_peer(a.peer(b, password=OTHER, passive=True))
    b.kill()
    await until(lambda: a.established() == 0)
    await sleep_until(a, a.speaker.loop.time() + 610)
    b.start()
    b.set_peers(b.peer(a, password=PASSWORD))
    await sleep_until(a, a.speaker.loop.time() + 60)
    assert a.established() == 0


@virtual
async def test_a_peer_whose_password_cannot_be_used_has_no_session_at_all(wire: Wire) -> None:
    a, b = Router(wire, 1), Router(wire, 2)
    a.originate("10.1.0.0/26")
    reason = "BGPPeer/x: spec.password.secretKeyRef: it has 97 octets"
    a.set_peers(a.peer(b, held=reason))
    b.set_peers(b.peer(a))
    await sleep_until(a, 30)
    assert a.established() == 0
    assert a.speaker.peers["to_10.0.0.2"].session.last_error == reason
    a.speaker.set_peer(a.peer(b))
    await until(lambda: b.table() != {})
    a.speaker.set_peer(a.peer(b, held=reason))
    await until(lambda: b.established() == 0)
    await sleep_until(a, a.speaker.loop.time() + 30)
    assert b.established() == 0


@virtual
async def test_clients_of_a_range_need_its_password(wire: Wire) -> None:
    reflector = Router(wire, 254, cluster_id="10.0.0.254")
    reflector.speaker.set_client_ranges((ClientRange(ip_network("10.0.0.0/28"), password=PASSWORD),))
    reflector.speaker.start()
    member, stranger = Router(wire, 1), Router(wire, 2)
    member.set_peers(member.peer(reflector, password=PASSWORD))
    stranger.set_peers(stranger.peer(reflector))
    await until(lambda: member.established() == 1)
    await sleep_until(member, 40)
    assert stranger.established() == 0
    assert list(reflector.speaker.peers) == ["Client_10_0_0_1"]
    assert not reflector.speaker.peers["Client_10_0_0_1"].protection.old_key_in_use


@virtual
async def test_an_address_whose_key_no_socket_took_is_not_let_in(wire: Wire) -> None:
    a, b = Router(wire, 1), Router(wire, 2)
    a.set_peers(a.peer(b, password=PASSWORD, passive=True))
    listener = wire.listeners[Endpoint(ip_address(a.address), 179)]
    listener.set_key(ip_network("10.0.0.2"), None)  # so that the connection comes through, unsigned
    listener.refused[ip_network("10.0.0.2")] = OSError(12, "Cannot allocate memory")
    b.set_peers(b.peer(a))
    await sleep_until(b, 20)
    assert a.established() == b.established() == 0
    assert "room for the password" in str(a.speaker.peers["to_10.0.0.2"].session.last_error)


def test_no_configuration_shows_its_password() -> None:
    config = PeerConfig(
        name="x",
        remote=Endpoint(ip_address("10.0.0.1"), 179),
        families=frozenset(),
        local_as=1,
        remote_as=1,
        password=PASSWORD,
    )
    assert "Semifreddo" not in repr(config) + repr(ClientRange(ip_network("10.0.0.0/8"), password=PASSWORD))
