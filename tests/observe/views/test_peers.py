"""Peerings, the process as a whole, and counters over time."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import ip_address, ip_network
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Never
from unittest import mock

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routed.bgp.capabilities import (
    AddPathMode,
    Capabilities,
    GracefulRestart,
    LongLivedGracefulRestart,
)
from routed.bgp.config import ClientRange
from routed.bgp.errors import Cease, ErrorCode, Notification
from routed.bgp.message import encode_notification
from routed.bgp.nlri import Family
from routed.bgp.peer import Peer
from routed.observe import documents
from routed.observe.events import EventKind
from routed.observe.observed import DatastoreState, Observed
from routed.observe.views.peer_fields import PeerSummaries, capability_texts
from routed.observe.views.peers import HISTORY, peer, peers
from routed.observe.views.rates import KEPT, Rates
from routed.observe.views.routes import RouteQuery, routes
from routed.observe.views.status import status
from routed.resources import SecretValue
from tests import test_agent
from tests.bgp.scripted import Scripted
from tests.bgp.test_filters import REJECT, bgp_filter
from tests.bgp.test_speaker import Router, join
from tests.observe.views.scene import observed
from tests.virtual import Wire, until, virtual

V4 = Family.IPV4
HOSTILE = "\udcff\x1b[2J</script>\u202e\n"


def checked(document: Any) -> Any:
    """What comes through JSON, which is the same."""
    data = msgspec.json.encode(document)
    assert b"\x1b" not in data
    assert b"\n" not in data
    assert msgspec.json.decode(data, type=type(document)) == document
    return document


def one(watched: Observed, name: str) -> documents.Peer:
    found = peer(watched, name)
    assert found is not None
    line = next(line for line in peers(watched).peers if line.name == found.name)
    for field in documents.PeerSummary.__struct_fields__:
        if field not in ("established_for", "since", "rejected"):
            assert getattr(line, field) == getattr(found, field), field
    checked(line)
    return checked(found)  # type: ignore[no-any-return]


@virtual
async def test_the_life_of_a_peering(wire: Wire) -> None:
    a, b = Router(wire, 1), Router(wire, 2, asn=65001)
    watched = observed(a)
    a.originate("10.1.0.0/26", "10.1.0.64/26")
    b.originate("10.2.0.0/26")
    a.set_peers(a.peer(b, keepalive_time=20, max_prefixes=100, filters=("later",), ttl_security_hops=1))
    before = one(watched, "to_10.0.0.2")
    assert (before.state, before.established_for, before.since, before.router_id) == (
        "active",
        None,
        None,
        None,
    )
    assert (before.local_as, before.remote_as, before.kind) == (64512, 65001, "ebgp")
    assert (before.received, before.advertised, before.rejected) == ({}, {}, {})
    assert (before.agreed, before.capabilities, before.hold_timer, before.keepalive_timer) == (
        None,
        [],
        None,
        None,
    )
    assert (before.configured_hold_time, before.configured_keepalive, before.restart_time) == (90, 20, 120)
    assert (before.max_prefixes, before.filters, before.next_hop_mode) == (100, ["later"], "Auto")
    assert before.protection == documents.Protection(
        tcp_md5=False, old_password_in_use=False, ttl_security_hops=1, segments_dropped=0
    )
    assert [event.kind for event in before.history] == ["peer-added"]

    b.set_peers(b.peer(a, ttl_security_hops=1))
    await until(lambda: len(a.table()) == len(b.table()) == 3)
    await asyncio.sleep(4)
    up = one(watched, "to_10.0.0.2")
    assert up.established_for == pytest.approx(4, abs=1)
    assert datetime.now(UTC).timestamp() - datetime.fromisoformat(str(up.since)).timestamp() < 10
    assert (up.state, up.router_id, up.local_address) == ("established", "10.0.0.2", "10.0.0.1")
    assert (up.received, up.advertised, up.rejected) == ({"ipv4": 1}, {"ipv4": 2}, {"ipv4": 0})
    assert up.export_groups == {"ipv4": 1}
    assert up.agreed is not None
    assert (up.agreed.hold_time, up.agreed.keepalive, up.agreed.restart_time) == (90, 20, 120)
    assert up.agreed.families == up.agreed.add_path_send == ["ipv4"]
    assert up.hold_timer == pytest.approx(86, abs=2)
    assert up.keepalive_timer is not None
    assert 10 < up.keepalive_timer < 20
    assert up.messages_received.open >= 1
    assert (up.messages_received.update, up.messages_sent.update) == (2, 2), "End-of-RIB is one"
    assert "multiprotocol: IPv4 unicast" in up.capabilities

    a.speaker.set_filters({"later": bgp_filter("later", importV4=[REJECT])})
    assert one(watched, "to_10.0.0.2").rejected == {"ipv4": 1}
    assert peers(watched).peers[0].rejected is None, "not counted for all"

    b.kill()
    await until(lambda: a.established() == 0)
    down = one(watched, "to_10.0.0.2")
    assert (down.stale, down.flaps, down.since, down.advertised) == (True, 1, None, {})
    assert down.received == {"ipv4": 1}, "kept while it restarts"
    assert "connection lost" in str(down.last_error)
    assert down.capabilities == up.capabilities
    assert [event.kind for event in down.history][-2:] == ["session-up", "session-down"]
    assert down.messages_sent.update >= 1, "no count ever goes down"

    a.speaker.shut_down_peer("to_10.0.0.2", HOSTILE)
    assert one(watched, "to_10.0.0.2").shut_down == "\ufffd\x1b[2J</script>\u202e\n"
    assert peer(watched, "nobody") is None


@virtual
async def test_since_when_a_session_is_up_does_not_move(wire: Wire) -> None:
    """Though time goes on while peer after peer is looked at."""
    a, *others = (Router(wire, number) for number in range(1, 6))
    watched = observed(a)
    join(a, *others)
    await until(lambda: a.established() == 4)
    now, chance = a.speaker.loop.time(), random.Random(1)

    def slow(summaries: PeerSummaries, peer: Peer) -> dict[str, Any]:
        nonlocal now
        now += chance.uniform(0, 0.6)
        return of(summaries, peer)

    of, seen = PeerSummaries.of, set()
    with (
        mock.patch.object(PeerSummaries, "of", slow),
        mock.patch.object(a.speaker, "loop", SimpleNamespace(time=lambda: now)),
        mock.patch("time.time", side_effect=lambda: 1763624040.0 + now),
    ):
        for _ in range(10):
            seen.add(tuple(line.since for line in peers(watched).peers))
    assert len(seen) == 1


@virtual
async def test_messages_are_counted_also_of_peers_that_are_gone(wire: Wire) -> None:
    a, b = Router(wire, 1), Router(wire, 2)
    watched = observed(a)
    a.originate("10.1.0.0/26")
    rates = Rates(watched)
    rates.start()
    rates.start()
    join(a, b)
    await until(lambda: len(b.table()) == 1)
    b.originate("10.2.0.0/26")
    await until(lambda: len(a.table()) == 2)
    before = status(watched)
    assert before.updates_received >= 1
    assert before.updates_sent >= 1
    a.speaker.remove_peer("to_10.0.0.2")
    await until(lambda: b.established() == 0)
    after = status(watched)
    assert (after.updates_received, after.updates_sent) == (before.updates_received, before.updates_sent)
    assert after.peers == 0

    await asyncio.sleep(25)
    samples = rates.rates().samples
    assert [sample.updates_received for sample in samples] == [0] + [after.updates_received] * 3
    assert [sample.established for sample in samples] == [0, 0, 0, 0]
    assert samples[-1].routes == 1
    assert rates.rates().interval == 10
    await asyncio.sleep(10 * KEPT)
    assert len(rates.rates().samples) == KEPT + 1
    rates.close()
    await asyncio.sleep(100)
    assert len(rates.rates().samples) == KEPT + 1
    checked(rates.rates())


@virtual
async def test_what_a_peer_is_told_is_counted_without_its_own_routes(wire: Wire) -> None:
    reflector, a, b = Router(wire, 1, cluster_id="10.0.0.1"), Router(wire, 2), Router(wire, 3)
    watched = observed(reflector, reflector=True)
    a.originate("10.1.0.0/26", "10.1.0.64/26", "10.9.0.0/24")
    b.originate("10.2.0.0/26", "10.9.0.0/24")
    reflector.speaker.set_client_ranges([ClientRange(ip_network("10.0.0.0/24"))])
    reflector.set_peers()
    for router in (a, b):
        router.set_peers(router.peer(reflector))
    await until(lambda: len(a.table()) == len(b.table()) == 4)
    found = {line.address: line for line in peers(watched).peers}
    for address, line in found.items():
        page = routes(watched, RouteQuery(advertised_to=line.name))
        assert line.advertised == {"ipv4": len(page.routes)}, address
        assert line.dynamic
        assert line.route_reflector_client
        assert one(watched, line.name).export_groups == {"ipv4": 2}
    assert found["10.0.0.2"].advertised == {"ipv4": 2}
    assert status(watched).role == "reflector"
    assert status(watched).paths == {"ipv4": 5, "ipv6": 0}
    assert status(watched).routes == {"ipv4": 4, "ipv6": 0}


@virtual
async def test_the_status_counts_states_and_wrongs(wire: Wire) -> None:
    a, b = Router(wire, 1), Router(wire, 2)
    watched = observed(a)
    empty = checked(status(watched))
    assert (empty.peers, empty.ready, empty.draining, empty.converged) == (0, False, False, False)
    assert empty.datastore is None
    assert empty.kernel is None
    watched.node = HOSTILE
    watched.problems = lambda: [HOSTILE]
    watched.datastore = DatastoreState(True, datetime.now(UTC), HOSTILE, 1763624040.0, 3)
    a.set_peers(
        a.peer(b),
        replace(a.peer(b), name="other", remote=replace(a.peer(b).remote, address=ip_address("10.0.0.77"))),
    )
    b.set_peers(b.peer(a))
    await until(lambda: a.established() == 1)
    a.speaker.incidents.attempts[HOSTILE] = 1
    found = checked(status(watched))
    assert found.peers_by_state["established"] == 1
    assert sum(found.peers_by_state.values()) == found.peers == 2
    assert found.node == found.problems[0] == "\ufffd\x1b[2J</script>\u202e\n"
    assert found.datastore.losses == 3
    assert found.datastore.changed_at == "2025-11-20T07:34:00Z"
    assert found.datastore.lost_reason == found.node
    assert found.incidents["attempts_failed"][found.node] == 1
    watched.problems = lambda: [HOSTILE] * 20_000
    assert len(status(watched).problems) == 1_001
    assert status(watched).problems[-1].startswith("and 19000 more problems")
    a.speaker.drain()
    assert status(watched).draining
    assert status(watched).listening == []


@virtual
async def test_what_peers_choose_to_say_is_data(wire: Wire) -> None:
    """A shutdown message with escapes and octets that are no UTF-8 (RFC 9003)."""
    router = Router(wire, 1)
    watched = observed(router)
    name = f"peer {HOSTILE}"
    address = replace(router.config.listen[0], address=ip_address("10.0.0.9"))
    router.set_peers(replace(router.peer(router), name=name, remote=address, passive=True))
    for _ in range(3):
        hostile = Scripted(wire, 9, router.address)
        await hostile.connect()
        message = b"\x1b[2J\xff\xfe</script>\xed\xa0\x80\n"
        hostile.send(
            encode_notification(
                Notification(ErrorCode.CEASE, Cease.ADMIN_SHUTDOWN, bytes((len(message),)) + message)
            )
        )
        await until(lambda: router.established() == 0)
        hostile.vanish()
        router.speaker.peers[name].session.start(router.speaker.loop.time())
    found = checked(peer(watched, name))
    assert "</script>" in found.last_error
    assert "\x1b" not in found.last_error
    assert found.name == "peer \ufffd\x1b[2J</script>\u202e\n"
    assert found.history[-1].fields["reason"] == found.last_error
    for _ in range(HISTORY):
        watched.events.publish(EventKind.STALE_ROUTES, HOSTILE, name)
    assert len(checked(peer(watched, name)).history) == HISTORY
    checked(peers(watched))
    checked(status(watched))


@virtual
async def test_no_document_has_the_password(wire: Wire) -> None:
    a, b = Router(wire, 1), Router(wire, 2)
    watched = observed(a)
    a.set_peers(a.peer(b, password=SecretValue(b"hunter2")))
    b.set_peers(b.peer(a, password=SecretValue(b"hunter2")))
    await until(lambda: a.established() == 1)
    found = one(watched, "to_10.0.0.2")
    assert found.protection.tcp_md5
    for document in (found, peers(watched), status(watched), routes(watched, RouteQuery())):
        assert b"hunter2" not in msgspec.json.encode(document)


def test_capabilities_are_told_in_words() -> None:
    known = Capabilities(
        multiprotocol=((1, 1), (2, 1), (25, 70), (1, 128)),
        route_refresh=True,
        four_octet_as=4200000000,
        extended_message=True,
        enhanced_route_refresh=True,
        graceful_restart=GracefulRestart(
            120, ((1, 1, True), (2, 1, False)), restarted=True, notification=True
        ),
        long_lived_graceful_restart=LongLivedGracefulRestart(((1, 1, True, 3600),)),
        add_path=((1, 1, AddPathMode.RECEIVE), (2, 1, AddPathMode.SEND | AddPathMode.RECEIVE)),
        others=((73, b"\x04host\xff"), (128, b""), (65, b"\1")),
    )
    assert list(capability_texts(known)) == [
        "multiprotocol: IPv4 unicast",
        "multiprotocol: IPv6 unicast",
        "multiprotocol: AFI 25 SAFI 70",
        "multiprotocol: IPv4 VPN",
        "route refresh",
        "enhanced route refresh",
        "extended messages",
        "4-octet AS: 4200000000",
        "graceful restart: 120 s, restarted, N bit, IPv4 unicast forwarding, IPv6 unicast",
        "long-lived graceful restart, IPv4 unicast 3600 s forwarding",
        "ADD-PATH: IPv4 unicast receive",
        "ADD-PATH: IPv6 unicast send and receive",
        "capability 73 (unknown): 04686f7374ff",
        "capability 128 (unknown): no value",
        "capability 65 (four_octet_as): 01",
    ]
    assert list(capability_texts(Capabilities())) == []


@settings(deadline=None)
@given(st.binary(max_size=40))
def test_any_capabilities_that_were_understood_have_words(value: bytes) -> None:
    from routed.bgp.capabilities import decode_capabilities
    from routed.bgp.errors import SessionError

    try:
        known = decode_capabilities([value])
    except SessionError:
        return
    assert all(text.isascii() and text.isprintable() for text in capability_texts(known))


def test_records_are_named(tmp_path: Path) -> None:
    """An agent with records: which of them asks for a peering, and for a route."""
    cluster = test_agent.Cluster(tmp_path)
    cluster.put("nodes", test_agent.node(1), test_agent.node(2))
    cluster.put("blocks", test_agent.affinity(1, "10.1.1.0/26"), test_agent.affinity(2, "10.1.2.0/26"))

    async def main() -> None:
        async with cluster.agent(1) as agent, cluster.agent(2) as other:
            both = {"10.1.1.0/26", "10.1.2.0/26"}
            await test_agent.until(lambda: test_agent.table(agent) == test_agent.table(other) == both)
            watched = agent._observed(None)
            found = one(watched, "Mesh_127_0_7_2")
            assert (found.record, found.node) == ("BGPConfiguration default", "node2")
            whole = checked(status(watched))
            assert (whole.originated, whole.blocks, whole.kernel) == (1, 1, None)  # --no-kernel
            assert whole.datastore.synced
            (own,) = routes(watched, RouteQuery(received_from="static")).routes
            assert (own.prefix, own.origin_record) == ("10.1.1.0/26", "BlockAffinity node1-10-1-1-0-26")
            assert own.origin_reason == "confirmed affinity"
            (told,) = routes(watched, RouteQuery(advertised_to="Mesh_127_0_7_2")).routes
            assert (told.origin_record, told.next_hop) == (own.origin_record, "127.0.7.1")
            (learned,) = routes(watched, RouteQuery(received_from="Mesh_127_0_7_2")).routes
            assert (learned.origin_record, learned.best) == (None, True)

    asyncio.run(main())


def test_problems_are_told_without_the_whole_intent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The status is asked for every second, and an intent is large."""
    cluster = test_agent.Cluster(tmp_path)
    cluster.put("nodes", test_agent.node(1))

    async def main() -> None:
        async with cluster.agent(1) as agent:
            await test_agent.until(lambda: agent.document()["datastore"]["synced"])
            watched = agent._observed(None)

            def intent(_agent: object) -> Never:
                raise AssertionError("the whole intent was made")

            with monkeypatch.context() as patch:
                patch.setattr(type(agent._compiler), "intent", property(intent))
                assert status(watched).problems == []
                assert peers(watched).peers == []

    asyncio.run(main())
