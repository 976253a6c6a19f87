"""The simulation of growing clusters: its counts by arithmetic, and beside real speakers."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from benchmarks.growth import TOPOLOGIES, Network, Router, Row, calculate_mesh, simulate, table
from routed.bgp.capabilities import AddPathMode
from routed.bgp.config import PeerConfig
from routed.bgp.nlri import Family, from_network
from routed.bgp.transport import Endpoint
from tests.bgp import test_speaker
from tests.virtual import Wire, until, virtual

PREFIX = "10.1.0.0/26"


@pytest.mark.parametrize("nodes", [2, 3, 40])
def test_a_mesh_is_as_calculated(nodes: int) -> None:
    row = simulate("mesh", nodes, share=10)
    names = [name for name in Row.__slots__ if name != "simulated"]
    calculated = calculate_mesh(nodes)
    assert {name: getattr(row, name) for name in names} == {name: getattr(calculated, name) for name in names}


@pytest.mark.parametrize(("nodes", "share"), [(10, 10), (40, 10), (45, 10), (200, 20)])
@pytest.mark.parametrize("topology", ["flat", "levels"])
def test_what_reflectors_send(topology: str, nodes: int, share: int) -> None:
    row = simulate(topology, nodes, share)
    pairs = -(-nodes // share)
    above = 2 if topology == "levels" and pairs > 1 else 0
    assert row.reflectors == 2 * pairs + above
    assert row.node_sessions == row.node_paths == 2
    between = {"flat": 2 * pairs * (2 * pairs - 2) // 2, "levels": above * 2 * pairs}[topology]
    assert row.sessions == 2 * nodes + between
    # Every node hears of a change from both of its reflectors; the rest is among reflectors.
    assert 2 * nodes <= row.messages <= 2 * nodes + 4 * row.reflectors
    assert row.most_sent <= share + 2 * pairs
    # Nothing is lost for a moment: the others withdraw nothing, and have little to say.
    assert row.failure_messages <= 2


def test_the_table_has_a_row_each() -> None:
    rows = [simulate(topology, 30, 10) for topology in TOPOLOGIES]
    lines = table(rows, 4).splitlines()
    assert len(lines) == 2 + len(rows)
    assert {line.count("|") for line in lines} == {lines[0].count("|")}


@pytest.mark.parametrize("topology", list(TOPOLOGIES))
def test_real_speakers_keep_the_same_paths(topology: str) -> None:
    """Each router of a small cluster as a real speaker: the same best path, and as many paths kept."""
    network = Network()
    nodes, _ = TOPOLOGIES[topology](network, 6, 2)
    origin = nodes[0]
    network.originate(origin, 1)

    @virtual
    async def compare(wire: Wire) -> None:
        speakers = [speaker_for(wire, router) for router in network.routers]
        # The lower number dials, and has the lower address; the origin speaks when all sessions are up.
        for router, speaker in zip(network.routers, speakers, strict=True):
            speaker.set_peers(*(peer_for(speakers, router, number) for number in router.peers))
        await until(
            lambda: all(
                one.established() == len(router.peers)
                for one, router in zip(speakers, network.routers, strict=True)
            )
        )
        speakers[origin.number].originate(PREFIX)
        wanted = [len(router.adj_rib_in) for router in network.routers]
        await until(lambda: [kept(one) for one in speakers] == wanted)
        now = speakers[0].speaker.loop.time
        end = now() + 5
        await until(lambda: now() > end)  # and it stays so
        assert [kept(one) for one in speakers] == wanted
        assert all(PREFIX in one.table() for one in speakers)

    compare()


def address_of(number: int) -> str:
    return f"10.0.0.{number + 1}"


def speaker_for(wire: Wire, router: Router) -> test_speaker.Router:
    cluster = str(ip_address(router.cluster)) if router.cluster else None
    return test_speaker.Router(wire, router.number + 1, cluster_id=cluster)


def peer_for(speakers: list[test_speaker.Router], router: Router, number: int) -> PeerConfig:
    one = speakers[router.number]
    return PeerConfig(
        name=f"to_{number:03}",
        remote=Endpoint(ip_address(address_of(number)), 179),
        families=frozenset({Family.IPV4}),
        local_as=one.asn,
        remote_as=one.asn,
        source=ip_address(one.address),
        passive=router.number > number,
        route_reflector_client=router.peers[number],
        # The simulation follows best paths; with path identifiers a peer is told of others, too.
        add_path=AddPathMode(0),
    )


def kept(one: test_speaker.Router) -> int:
    """In how many Adj-RIBs-In the prefix is."""
    nlri = from_network(ip_network(PREFIX))
    sources = one.speaker.ribs[Family.IPV4].sources
    return sum(nlri in table.routes for source, table in sources.items() if source.kind.bgp)
