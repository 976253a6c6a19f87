"""ADD-PATH (RFC 7911) between whole speakers: what a reflector passes on so that its clients can balance."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import Any

from routed.bgp.attributes import originate
from routed.bgp.capabilities import NO_ADD_PATH, AddPathMode
from routed.bgp.config import PeerConfig
from routed.bgp.kernel_routes import learned_route
from routed.bgp.nlri import Family
from routed.bgp.policy import compile_kernel
from routed.bgp.route import FibRoute
from routed.bgp.session_types import SessionConfig
from routed.bgp.transport import Endpoint
from routed.bgp.update import encode_announcements, encode_end_of_rib, encode_withdrawals
from routed.intent.types import ExportPolicy, KernelPolicy, NextHopMode
from tests.bgp.scripted import Scripted
from tests.bgp.test_speaker import Router, nlri
from tests.virtual import Wire, until, virtual

V4 = Family.IPV4
ANYCAST = "10.96.0.10/32"
BOTH = AddPathMode.RECEIVE | AddPathMode.SEND


def to(router: Router, number: int, **changes: Any) -> PeerConfig:
    """A configuration to peer with the host of this number."""
    address = f"10.0.0.{number}"
    config = PeerConfig(
        name=f"to_{address}",
        remote=Endpoint(ip_address(address), 179),
        families=frozenset({V4}),
        local_as=router.asn,
        remote_as=router.asn,
        source=ip_address(router.address),
    )
    return replace(config, **changes)


def paths(router: Router, prefix: str = ANYCAST) -> list[str]:
    """The next hops of all paths in Loc-RIB, best first."""
    ranked = router.speaker.ribs[V4].ranked(nlri(prefix))
    return [str(ip_address(path.attributes.next_hop)) for path in ranked]


def cluster(wire: Wire, clients: int, **changes: Any) -> tuple[Router, list[Router]]:
    """A reflector and its clients; `changes` of their peering configurations."""
    reflector = Router(wire, 100, cluster_id="10.0.0.100")
    workers = [Router(wire, number) for number in range(1, clients + 1)]
    reflector.set_peers(
        *(to(reflector, number, route_reflector_client=True, **changes) for number in range(1, clients + 1))
    )
    for worker in workers:
        worker.set_peers(to(worker, 100, **changes))
    return reflector, workers


@virtual
async def test_clients_of_a_reflector_get_every_path_and_share_the_load(wire: Wire) -> None:
    _, workers = cluster(wire, 4)
    for worker in workers[:3]:
        worker.originate(ANYCAST)
    await until(lambda: len(paths(workers[3])) == 3)
    assert paths(workers[3]) == ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
    await until(lambda: len(paths(workers[0])) == 3)
    assert paths(workers[0]) == ["0.0.0.0", "10.0.0.2", "10.0.0.3"], "its own, and those of the others"
    rib = workers[3].speaker.ribs[V4]
    assert len({path.source for path in rib.ranked(nlri(ANYCAST))}) == 1, "all from the reflector"
    policy = KernelPolicy()
    route = learned_route(
        nlri(ANYCAST), rib.multipath(nlri(ANYCAST)), policy, compile_kernel(policy, V4), None
    )
    assert isinstance(route, FibRoute)
    assert [str(hop.gateway) for hop in route.next_hops] == ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
    # One goes: the others were never away.
    workers[3].changed.clear()
    workers[0].speaker.remove_peer("to_10.0.0.100")
    await until(lambda: len(paths(workers[3])) == 2)
    assert paths(workers[3]) == ["10.0.0.2", "10.0.0.3"]
    assert workers[3].changed == [ANYCAST]


@virtual
async def test_without_add_path_a_client_gets_the_best_path_only(wire: Wire) -> None:
    reflector, workers = cluster(wire, 3)
    workers[2].set_peers(to(workers[2], 100, add_path=NO_ADD_PATH))
    for worker in workers[:2]:
        worker.originate(ANYCAST)
    await until(lambda: len(paths(workers[0])) == 2 and paths(workers[2]) != [])
    assert paths(workers[2]) == ["10.0.0.1"]
    # What it says itself reaches the others all the same.
    workers[2].originate(ANYCAST)
    await until(lambda: paths(workers[0]) == ["0.0.0.0", "10.0.0.2", "10.0.0.3"])
    assert len(reflector.speaker.groups[V4].groups) == 2


@virtual
async def test_each_direction_is_agreed_on_by_itself(wire: Wire) -> None:
    reflector, workers = cluster(wire, 3)
    workers[0].set_peers(to(workers[0], 100, add_path=AddPathMode.RECEIVE))
    workers[1].set_peers(to(workers[1], 100, add_path=AddPathMode.SEND))
    for worker in workers:
        worker.originate(ANYCAST)
    await until(lambda: len(paths(workers[0])) == 3)
    await until(lambda: len(paths(workers[1])) == 2)
    await until(lambda: len(paths(reflector)) == 3)
    assert paths(workers[1]) == ["0.0.0.0", "10.0.0.1"]


@virtual
async def test_two_levels_of_reflectors_pass_on_all_paths(wire: Wire) -> None:
    top = Router(wire, 200, cluster_id="10.0.0.200")
    left, workers = cluster(wire, 2)
    right = Router(wire, 101, cluster_id="10.0.0.101")
    reader = Router(wire, 50)
    top.set_peers(*(to(top, number, route_reflector_client=True) for number in (100, 101)))
    left.set_peers(to(left, 200))
    right.set_peers(to(right, 200), to(right, 50, route_reflector_client=True))
    reader.set_peers(to(reader, 101))
    for worker in workers:
        worker.originate(ANYCAST)
    await until(lambda: len(paths(reader)) == 2)
    assert paths(reader) == ["10.0.0.1", "10.0.0.2"]
    assert [len(path.attributes.cluster_list) for path in reader.speaker.ribs[V4].ranked(nlri(ANYCAST))] == [
        3,
        3,
    ]


@virtual
async def test_routes_by_path_identifier_outlive_a_killed_peer(wire: Wire) -> None:
    """RFC 4724 with route keys: what is not announced again under the same identifier goes."""
    router = Router(wire, 1)
    router.set_peers(to(router, 9, passive=True))
    peer = Scripted(wire, 9, router.address, add_path=BOTH, restart_time=100)
    await peer.connect()

    def announce(path_id: int, hop: int) -> bytes:
        attributes = originate(next_hop=bytes((10, 0, 0, hop)), local_pref=100)
        return b"".join(encode_announcements(V4, attributes, [path_id.to_bytes(4) + nlri(ANYCAST)]))

    peer.send(announce(7, 21), announce(8, 22), announce(0xFFFFFFFF, 23), encode_end_of_rib(V4))
    await until(lambda: len(paths(router)) == 3)
    assert router.speaker.received(router.speaker.peers["to_10.0.0.9"]) == {V4: 3}
    peer.send(b"".join(encode_withdrawals(V4, [(8).to_bytes(4) + nlri(ANYCAST), bytes(4) + nlri(ANYCAST)])))
    await until(lambda: len(paths(router)) == 2)
    peer.vanish()
    await until(lambda: router.established() == 0)
    assert paths(router) == ["10.0.0.21", "10.0.0.23"]
    router.changed.clear()
    await peer.connect()
    peer.send(announce(7, 21), announce(9, 24))
    await until(lambda: len(paths(router)) == 3)
    peer.send(encode_end_of_rib(V4))
    await until(lambda: len(paths(router)) == 2)
    assert paths(router) == ["10.0.0.21", "10.0.0.24"]


@virtual
async def test_a_peer_that_comes_back_without_add_path_leaves_nothing_behind(wire: Wire) -> None:
    router = Router(wire, 1)
    router.set_peers(to(router, 9, passive=True))
    attributes = originate(next_hop=bytes((10, 0, 0, 9)), local_pref=100)
    peer = Scripted(wire, 9, router.address, add_path=BOTH, restart_time=100)
    await peer.connect()
    peer.send(*encode_announcements(V4, attributes, [b"\0\0\0\5" + nlri(ANYCAST)]))
    await until(lambda: len(paths(router)) == 1)
    peer.vanish()
    await until(lambda: router.established() == 0)
    assert len(paths(router)) == 1
    again = Scripted(wire, 9, router.address, restart_time=100)
    await again.connect()
    again.send(*encode_announcements(V4, attributes, [nlri(ANYCAST)]), encode_end_of_rib(V4))
    await until(lambda: len(paths(router)) == 1)
    again.send(*encode_withdrawals(V4, [nlri(ANYCAST)]))
    await until(lambda: paths(router) == [])


@virtual
async def test_what_a_client_hears(wire: Wire) -> None:
    """A path keeps its identifier while its attributes change; it is withdrawn by it."""
    reflector, workers = cluster(wire, 2)
    reflector.set_peers(to(reflector, 9, route_reflector_client=True, passive=True))
    peer = Scripted(wire, 9, reflector.address, add_path=BOTH)
    agreed = await peer.connect()
    assert agreed.add_path_receive == agreed.add_path_send == {V4}
    for worker in workers:
        worker.originate(ANYCAST)
    await until(lambda: sum(len(update.announced) for update in peer.updates) == 2)
    ids = {
        attributes.next_hop[3]: key[:4]
        for update in peer.updates
        for _, attributes, keys in update.announced
        for key in keys
    }
    assert set(ids.values()) == {b"\0\0\0\1", b"\0\0\0\2"}
    peer.heard.clear()
    workers[0].speaker.set_export_policy(
        V4, ExportPolicy(normal_priority=512, accepted=(ip_network("10.96.0.0/16"),))
    )
    await until(lambda: bool(peer.updates))
    (update,) = peer.updates
    ((_, attributes, keys),) = update.announced
    assert keys == [ids[1] + nlri(ANYCAST)]
    assert attributes.local_pref == 2147483647 - 512
    assert update.withdrawn == []
    peer.heard.clear()
    workers[1].speaker.remove_peer("to_10.0.0.100")
    await until(lambda: bool(peer.updates))
    (update,) = peer.updates
    assert update.withdrawn == [(V4, [ids[2] + nlri(ANYCAST)])]


@virtual
async def test_the_limit_changes_without_a_reset(wire: Wire) -> None:
    reflector, workers = cluster(wire, 4)
    for worker in workers[:3]:
        worker.originate(ANYCAST)
    await until(lambda: len(paths(workers[3])) == 3)
    reflector.set_peers(to(reflector, 4, route_reflector_client=True, add_path_limit=2))
    await until(lambda: len(paths(workers[3])) == 2)
    assert paths(workers[3]) == ["10.0.0.1", "10.0.0.2"]
    reflector.set_peers(to(reflector, 4, route_reflector_client=True))
    await until(lambda: len(paths(workers[3])) == 3)
    assert all(peer.session.flaps == 0 for peer in workers[3].speaker.peers.values())


@virtual
async def test_switching_add_path_resets_that_session_only(wire: Wire) -> None:
    reflector, workers = cluster(wire, 3)
    for worker in workers[:2]:
        worker.originate(ANYCAST)
    await until(lambda: len(paths(workers[2])) == 2)
    reflector.set_peers(to(reflector, 3, route_reflector_client=True, add_path=NO_ADD_PATH))
    await until(lambda: len(paths(workers[2])) == 1)
    assert workers[2].speaker.peers["to_10.0.0.100"].session.flaps == 1
    for worker in workers[:2]:
        assert worker.speaker.peers["to_10.0.0.100"].session.flaps == 0


@virtual
async def test_external_peers_with_add_path(wire: Wire) -> None:
    """A node tells a router outside of every node's path: with `keep` as next hop the router can balance."""
    _, workers = cluster(wire, 3)
    outside = Router(wire, 60, asn=65001)
    workers[2].set_peers(
        to(workers[2], 60, remote_as=65001, next_hop_mode=NextHopMode.KEEP),
        to(workers[2], 100),
    )
    outside.set_peers(to(outside, 3, remote_as=64512))
    for worker in workers[:2]:
        worker.originate(ANYCAST)
    await until(lambda: len(paths(outside)) == 2)
    assert sorted(paths(outside)) == ["10.0.0.1", "10.0.0.2"]


def test_the_session_offers_it_by_default() -> None:
    """As Calico's BIRD does on every session (`add paths on`)."""
    assert PeerConfig.__dataclass_fields__["add_path"].default == BOTH
    assert SessionConfig.__dataclass_fields__["add_path"].default == NO_ADD_PATH
