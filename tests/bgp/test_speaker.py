"""Whole speakers against each other: in memory, on virtual time."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from routed.bgp.config import ClientRange, PeerConfig, SpeakerConfig
from routed.bgp.handover import MOST_TIME
from routed.bgp.nlri import Family, from_network, to_text
from routed.bgp.path import SourceKind
from routed.bgp.speaker import Speaker
from routed.bgp.transport import Endpoint
from routed.intent.types import ExportPolicy, NextHopMode
from tests.virtual import Wire, until, virtual

V4 = Family.IPV4


def nlri(text: str) -> bytes:
    return from_network(ip_network(text))


class Router:
    """A speaker with one address, and what it was told by it."""

    def __init__(self, wire: Wire, number: int, *, asn: int = 64512, cluster_id: str | None = None) -> None:
        self.address = f"10.0.0.{number}"
        self.asn = asn
        self.config = SpeakerConfig(
            router_id=ip_address(self.address).packed,
            local_as=asn,
            cluster_id=ip_address(cluster_id).packed if cluster_id else None,
            listen=(Endpoint(ip_address(self.address), 179),),
            local_addresses=((V4, ip_address(self.address)),),
        )
        self.changed: list[str] = []
        self.converged: str | None = None
        self.wire = wire
        self.start()
        wire.at_end.append(lambda: self.speaker.close(graceful=False))

    def start(self, extra_address: str | None = None) -> None:
        """Start it, or start it again after `kill`."""
        self.converged = None
        network = self.wire.host(self.address, *([extra_address] if extra_address else []))
        self.speaker = Speaker(self.config, self, network=network, rng=random.Random(7))

    def kill(self) -> None:
        """As `kill -9`: the kernel closes the sockets, nobody says goodbye."""
        speaker = self.speaker
        for peer in list(speaker.peers.values()):
            peer.abandon()
        speaker.close(graceful=True)

    def peer(self, other: Router, **changes: Any) -> PeerConfig:
        """A configuration to peer with `other`."""
        config = PeerConfig(
            name=f"to_{other.address}",
            remote=Endpoint(ip_address(other.address), 179),
            families=frozenset({V4}),
            local_as=self.asn,
            remote_as=other.asn,
            source=ip_address(self.address),
        )
        return replace(config, **changes)

    def set_peers(self, *configs: PeerConfig) -> None:
        for config in configs:
            self.speaker.set_peer(config)
        self.speaker.start()

    def originate(self, *prefixes: str) -> None:
        for prefix in prefixes:
            self.speaker.originate(V4, nlri(prefix))

    def table(self) -> dict[str, str]:
        """Loc-RIB: prefix to the next hop of the best path."""
        rib = self.speaker.ribs[V4]
        result = {}
        for one in rib.routes:
            path = rib.best(one)
            assert path is not None
            result[to_text(one, V4)] = str(ip_address(path.attributes.next_hop))
        return result

    def best(self, prefix: str) -> Any:
        path = self.speaker.ribs[V4].best(nlri(prefix))
        assert path is not None
        return path

    def established(self) -> int:
        return sum(peer.established for peer in self.speaker.peers.values())

    def on_routes(self, family: Family, changed: Sequence[bytes]) -> None:
        self.changed += [to_text(one, family) for one in changed]

    def on_converged(self, reason: str) -> None:
        self.converged = reason

    def on_status(self) -> None:
        pass


def join(*routers: Router) -> None:
    """A full mesh, in which both ends dial."""
    for one in routers:
        one.set_peers(*(one.peer(other) for other in routers if other is not one))


@virtual
async def test_two_speakers_exchange_routes_and_withdraw_them(wire: Wire) -> None:
    a, b = Router(wire, 1), Router(wire, 2)
    a.originate("10.1.0.0/26", "10.1.0.64/26")
    join(a, b)
    await until(lambda: len(b.table()) == 2)
    assert b.table() == {"10.1.0.0/26": "10.0.0.1", "10.1.0.64/26": "10.0.0.1"}
    assert b.best("10.1.0.0/26").attributes.local_pref == 2147483647 - 1024
    a.speaker.withdraw(V4, nlri("10.1.0.0/26"), SourceKind.STATIC)
    await until(lambda: len(b.table()) == 1)
    assert b.table() == {"10.1.0.64/26": "10.0.0.1"}
    # Both dialled and both accepted: the collision was judged, and one connection is left (RFC 4271
    # section 6.8).
    assert a.established() == b.established() == 1
    assert sum(not link.sock.fileno() < 0 for pair in wire.links for link in pair) == 2


@virtual
async def test_mesh_does_not_pass_on_what_it_learned_by_ibgp(wire: Wire) -> None:
    a, b, c = Router(wire, 1), Router(wire, 2), Router(wire, 3)
    a.originate("10.1.0.0/26")
    b.set_peers(b.peer(a), b.peer(c))
    a.set_peers(a.peer(b))
    c.set_peers(c.peer(b))
    await until(lambda: b.table() != {} and c.established() == 1)
    b.originate("10.2.0.0/26")
    await until(lambda: "10.2.0.0/26" in c.table())
    assert "10.1.0.0/26" not in c.table()  # RFC 4271 section 9.2


@virtual
async def test_reflector_passes_routes_between_clients(wire: Wire) -> None:
    a, reflector, c = Router(wire, 1), Router(wire, 2, cluster_id="10.0.0.2"), Router(wire, 3)
    a.originate("10.1.0.0/26")
    a.set_peers(a.peer(reflector))
    c.set_peers(c.peer(reflector))
    reflector.set_peers(
        reflector.peer(a, route_reflector_client=True), reflector.peer(c, route_reflector_client=True)
    )
    await until(lambda: "10.1.0.0/26" in c.table())
    attributes = c.best("10.1.0.0/26").attributes
    assert attributes.next_hop == ip_address("10.0.0.1").packed
    assert attributes.originator_id == ip_address("10.0.0.1").packed  # RFC 4456 section 8
    assert attributes.cluster_list == (ip_address("10.0.0.2").packed,)
    assert a.table() == {"10.1.0.0/26": "0.0.0.0"}  # not back to where it came from
    assert reflector.speaker.advertised(reflector.speaker.peers["to_10.0.0.1"]) == {V4: 1}


@virtual
async def test_ebgp_prepends_and_takes_itself_as_next_hop(wire: Wire) -> None:
    a, b, c = Router(wire, 1), Router(wire, 2), Router(wire, 3, asn=65001)
    a.originate("10.1.0.0/26")
    a.set_peers(a.peer(b))
    b.set_peers(b.peer(a), b.peer(c))
    c.set_peers(c.peer(b))
    await until(lambda: "10.1.0.0/26" in c.table())
    path = c.best("10.1.0.0/26")
    assert path.attributes.next_hop == ip_address("10.0.0.2").packed
    assert [list(segment.asns) for segment in path.attributes.as_path] == [[64512]]
    assert path.attributes.local_pref is None
    assert path.source.kind is SourceKind.EBGP


@virtual
async def test_a_wrong_as_is_refused_and_the_other_sessions_stay(wire: Wire) -> None:
    a, b, c = Router(wire, 1), Router(wire, 2), Router(wire, 3, asn=65001)
    a.originate("10.1.0.0/26")
    a.set_peers(a.peer(b), a.peer(c, remote_as=65002))
    b.set_peers(b.peer(a))
    c.set_peers(c.peer(a))
    await until(lambda: b.table() != {})
    await until(lambda: a.speaker.peers["to_10.0.0.3"].session.last_error is not None)
    assert "AS" in str(a.speaker.peers["to_10.0.0.3"].session.last_error)
    assert a.established() == 1
    assert c.table() == {}


@virtual
async def test_the_hold_timer_ends_a_session_whose_peer_is_silent(wire: Wire) -> None:
    a, b = Router(wire, 1), Router(wire, 2)
    b.originate("10.2.0.0/26")
    a.set_peers(a.peer(b, hold_time=9))
    b.set_peers(b.peer(a))
    at = await until(lambda: "10.2.0.0/26" in a.table())
    assert b.speaker.peers["to_10.0.0.1"].session.negotiated is not None
    hangs = b.speaker.peers["to_10.0.0.1"]  # the process does: its sockets live, nothing comes
    hangs._cancel_timer()
    hangs._arm = lambda: None  # type: ignore[method-assign]
    b.speaker.loop.remove_reader(next(iter(hangs.connections))._sock.fileno())
    wire.refuse |= {ip_address(a.address), ip_address(b.address)}
    down = await until(lambda: a.established() == 0)
    assert 6 <= down - at <= 10
    assert a.table() != {}  # both ends take a NOTIFICATION for a restart (RFC 8538 section 4)
    gone = await until(lambda: a.table() == {}, within=200)
    assert gone - down == pytest.approx(120, abs=1)


@virtual
async def test_routes_outlive_a_killed_peer_and_go_if_it_does_not_announce_them_again(wire: Wire) -> None:
    a, b = Router(wire, 1), Router(wire, 2)
    a.originate("10.1.0.0/26", "10.1.0.64/26")
    join(a, b)
    await until(lambda: len(b.table()) == 2 and a.converged is not None and b.converged is not None)
    b.changed.clear()
    a.kill()
    await until(lambda: b.established() == 0)
    assert len(b.table()) == 2  # kept, in use (RFC 4724 section 4.2)
    a.start()
    a.originate("10.1.0.0/26")
    a.set_peers(a.peer(b))
    await until(lambda: len(b.table()) == 1)
    assert b.table() == {"10.1.0.0/26": "10.0.0.1"}
    assert b.changed == ["10.1.0.64/26"]  # what was announced again was never disturbed


@virtual
async def test_routes_of_a_killed_peer_go_after_the_restart_time(wire: Wire) -> None:
    a, b = Router(wire, 1), Router(wire, 2)
    a.originate("10.1.0.0/26")
    a.set_peers(a.peer(b, restart_time=40))
    b.set_peers(b.peer(a))
    await until(lambda: len(b.table()) == 1)
    a.kill()
    at = await until(lambda: b.established() == 0)
    gone = await until(lambda: b.table() == {})
    assert 39 <= gone - at <= 41


@virtual
async def test_a_restarted_reflector_says_end_of_rib_only_when_it_has_heard_all(wire: Wire) -> None:
    """Else the client that is back first would drop the routes of the one that is not."""
    a, reflector, c = Router(wire, 1), Router(wire, 2, cluster_id="10.0.0.2"), Router(wire, 3)
    a.originate("10.1.0.0/26")
    c.originate("10.3.0.0/26")
    reflector_peers = [reflector.peer(one, route_reflector_client=True, passive=True) for one in (a, c)]
    reflector.set_peers(*reflector_peers)
    a.set_peers(a.peer(reflector))
    c.set_peers(c.peer(reflector))
    await until(lambda: len(a.table()) == len(c.table()) == 2)
    await until(lambda: a.converged is not None and c.converged is not None)
    a.changed.clear()
    c.changed.clear()
    reflector.kill()
    wire.refuse.add(ip_address("10.0.0.2"))
    await until(lambda: a.established() == c.established() == 0)
    reflector.start()
    reflector.set_peers(*reflector_peers)
    wire.refuse.clear()
    await until(lambda: a.established() == c.established() == 1)
    await until(lambda: reflector.converged is not None)
    await until(lambda: a.speaker.loop.time() > 100, within=200)
    assert a.changed == c.changed == []
    assert len(a.table()) == len(c.table()) == 2


@virtual
async def test_a_deconfigured_peer_loses_its_routes_at_once(wire: Wire) -> None:
    a, b, c = Router(wire, 1), Router(wire, 2), Router(wire, 3)
    a.originate("10.1.0.0/26")
    join(a, b, c)
    await until(lambda: b.table() != {} and c.table() != {})
    a.speaker.remove_peer("to_10.0.0.2")
    await until(lambda: b.table() == {})
    assert c.table() != {}
    assert c.established() == 2


@virtual
async def test_changed_options_of_one_peer_do_not_touch_its_session_or_any_other(wire: Wire) -> None:
    a, b, c = Router(wire, 1), Router(wire, 2), Router(wire, 3, asn=65001)
    a.originate("10.1.0.0/26")
    a.set_peers(a.peer(b))
    b.set_peers(b.peer(a), b.peer(c))
    c.set_peers(c.peer(b))
    await until(lambda: "10.1.0.0/26" in c.table())
    counters = a.speaker.peers["to_10.0.0.2"].session.counters
    before = [*counters.received], [*counters.sent]
    b.speaker.set_peer(b.peer(c, next_hop_mode=NextHopMode.KEEP))
    await until(lambda: c.table()["10.1.0.0/26"] == "10.0.0.1")
    b.speaker.set_peer(b.peer(c, next_hop_mode=NextHopMode.SELF))
    await until(lambda: c.table()["10.1.0.0/26"] == "10.0.0.2")
    assert b.speaker.peers["to_10.0.0.3"].session.flaps == 0
    assert (counters.received, counters.sent) == before


@virtual
async def test_a_changed_export_policy_sends_only_the_difference(wire: Wire) -> None:
    a, b = Router(wire, 1), Router(wire, 2)
    pool, other = ip_network("10.1.0.0/16"), ip_network("10.2.0.0/16")
    a.speaker.set_export_policy(V4, ExportPolicy(accepted=(pool,)))
    a.originate("10.1.0.0/26", "10.2.0.0/26", "192.168.0.0/24")
    join(a, b)
    await until(lambda: b.table() != {})
    assert b.table() == {"10.1.0.0/26": "10.0.0.1"}
    b.changed.clear()
    a.speaker.set_export_policy(V4, ExportPolicy(accepted=(pool, other)))
    await until(lambda: len(b.table()) == 2)
    assert b.changed == ["10.2.0.0/26"]
    a.speaker.set_export_policy(V4, ExportPolicy(accepted=(other,)))
    await until(lambda: len(b.table()) == 1)
    assert b.changed == ["10.2.0.0/26", "10.1.0.0/26"]
    assert b.established() == 1


@virtual
async def test_clients_of_a_range_come_and_go(wire: Wire) -> None:
    reflector = Router(wire, 254, cluster_id="10.0.0.254")
    reflector.speaker.set_client_ranges((ClientRange(ip_network("10.0.0.0/28")),))
    reflector.speaker.start()
    clients = [Router(wire, number) for number in range(1, 4)]
    for client in clients:
        client.originate(f"10.1.{client.address[-1]}.0/26")
        client.set_peers(client.peer(reflector))
    stranger = Router(wire, 100)
    stranger.set_peers(stranger.peer(reflector))
    await until(lambda: all(len(client.table()) == 3 for client in clients))
    assert stranger.established() == 0
    assert reflector.speaker.incidents.refused > 0
    clients[0].speaker.close(graceful=False)
    await until(lambda: len(clients[1].table()) == 2)
    await until(lambda: len(reflector.speaker.peers) == 2)


@virtual
async def test_a_listening_port_that_is_taken_is_asked_for_again(wire: Wire) -> None:
    a = Router(wire, 1)
    taken = {"yes": True}
    listen: Any = a.speaker.network.listen

    def refuse(*what: Any) -> Any:
        if taken["yes"]:
            raise OSError(98, "Address already in use")
        return listen(*what)

    a.speaker.network.listen = refuse  # type: ignore[method-assign, assignment]
    b = Router(wire, 2)
    b.originate("10.2.0.0/26")
    b.set_peers(b.peer(a, passive=True))
    a.set_peers(a.peer(b))
    await until(lambda: a.table() != {})  # the sessions that we dial go on
    assert a.speaker.listening == ()
    taken["yes"] = False
    await until(lambda: a.speaker.listening != ())


@virtual
async def test_another_identity_resets_the_sessions_and_comes_back(wire: Wire) -> None:
    a, b = Router(wire, 1), Router(wire, 2)
    a.originate("10.1.0.0/26")
    join(a, b)
    await until(lambda: b.table() != {})
    a.speaker.configure(replace(a.config, router_id=ip_address("10.9.9.9").packed))
    await until(lambda: b.established() == 0)
    await until(lambda: b.established() == 1 and b.table() != {})
    negotiated = b.speaker.peers["to_10.0.0.1"].session.negotiated
    assert negotiated is not None
    assert negotiated.remote_router_id == ip_address("10.9.9.9").packed


async def _close(wire: Wire, *, graceful: bool) -> None:
    a, b = Router(wire, 1), Router(wire, 2)
    a.originate("10.1.0.0/26")
    join(a, b)
    await until(lambda: b.table() != {})
    a.speaker.close(graceful=graceful, message="upgrade")
    await until(lambda: b.established() == 0)
    assert (b.table() != {}) is graceful


@pytest.mark.parametrize("graceful", [True, False])
def test_close_keeps_or_drops_our_routes_at_the_peer(graceful: bool) -> None:
    virtual(partial(_close, graceful=graceful))()


@virtual
async def test_a_retiring_peer_goes_when_its_routes_are_known_from_others(wire: Wire) -> None:
    """From mesh to reflector: no route is ever missing, and none is left for the old session to give."""
    a, b = Router(wire, 1), Router(wire, 2)
    reflector = Router(wire, 3, cluster_id="10.0.0.3")
    a.originate("10.1.0.0/26")
    b.originate("10.2.0.0/26")
    join(a, b)
    await until(lambda: len(a.table()) == len(b.table()) == 2)
    a.changed.clear()
    b.changed.clear()
    for node in (a, b):
        node.speaker.set_peer(node.peer(reflector))
    for old, other in ((a, b), (b, a)):
        old.speaker.retire_peer(f"to_{other.address}")
    await until(lambda: a.speaker.loop.time() > 12)
    assert len(a.table()) == len(b.table()) == 2  # nobody else has them yet
    reflector.set_peers(*(reflector.peer(node, route_reflector_client=True) for node in (a, b)))
    await until(lambda: list(a.speaker.peers) == list(b.speaker.peers) == ["to_10.0.0.3"])
    assert a.speaker.loop.time() < MOST_TIME
    assert a.table() == {"10.1.0.0/26": "0.0.0.0", "10.2.0.0/26": "10.0.0.2"}
    assert b.table() == {"10.1.0.0/26": "10.0.0.1", "10.2.0.0/26": "0.0.0.0"}
    assert b.best("10.1.0.0/26").source.name == "to_10.0.0.3"


@virtual
async def test_a_retiring_peer_that_lets_go_first_leaves_its_routes_for_a_while(wire: Wire) -> None:
    a, b = Router(wire, 1), Router(wire, 2)
    a.originate("10.1.0.0/26")
    join(a, b)
    await until(lambda: b.table() != {})
    b.speaker.retire_peer("to_10.0.0.1")
    at = b.speaker.loop.time()
    a.speaker.remove_peer("to_10.0.0.2")
    await until(lambda: b.established() == 0)
    assert b.table() != {}
    gone = await until(lambda: b.table() == {})
    assert gone - at == pytest.approx(MOST_TIME, abs=1)
    assert not b.speaker.peers


@virtual
async def test_a_retiring_peer_that_is_wanted_again_stays(wire: Wire) -> None:
    a, b = Router(wire, 1), Router(wire, 2)
    a.originate("10.1.0.0/26")
    join(a, b)
    await until(lambda: b.table() != {})
    b.speaker.retire_peer("to_10.0.0.1")
    b.speaker.set_peer(b.peer(a))
    await until(lambda: b.speaker.loop.time() > 60, within=70)
    assert b.established() == 1
    assert b.speaker.peers["to_10.0.0.1"].session.flaps == 0


@virtual
async def test_a_renamed_peer_keeps_its_session(wire: Wire) -> None:
    a, b = Router(wire, 1), Router(wire, 2, cluster_id="10.0.0.2")
    a.originate("10.1.0.0/26")
    join(a, b)
    await until(lambda: b.table() != {})
    b.speaker.rename_peer("to_10.0.0.1", b.peer(a, name="client", route_reflector_client=True))
    assert list(b.speaker.peers) == ["client"]
    a.originate("10.1.0.64/26")
    await until(lambda: len(b.table()) == 2)
    source = b.best("10.1.0.0/26").source
    assert (source.client, source.name) == (True, "client")
    assert b.speaker.peers["client"].session.flaps == 0
    assert a.speaker.peers["to_10.0.0.2"].session.flaps == 0


@virtual
async def test_another_port_of_a_peer_is_for_the_next_dial(wire: Wire) -> None:
    a, b = Router(wire, 1), Router(wire, 2)
    a.originate("10.1.0.0/26")
    join(a, b)
    await until(lambda: b.table() != {})
    b.speaker.set_peer(b.peer(a, remote=Endpoint(ip_address(a.address), 1790)))
    await until(lambda: b.speaker.loop.time() > 10)
    assert b.speaker.peers["to_10.0.0.1"].session.flaps == 0
    assert b.table() != {}
