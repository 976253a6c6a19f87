"""What goes is freed at once: the garbage collector is asked to look seldom."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from ipaddress import ip_network

import pytest

from routed.bgp.config import ClientRange
from routed.bgp.peer import Peer
from tests.bgp.test_speaker import Router
from tests.virtual import Wire, until, virtual


@pytest.fixture(autouse=True)
def no_collector() -> Iterator[None]:
    """Only reference counts free."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@virtual
async def test_a_client_that_has_gone(wire: Wire) -> None:
    reflector = Router(wire, 1, cluster_id="10.0.0.1")
    reflector.speaker.set_client_ranges([ClientRange(ip_network("10.0.0.0/24"))])
    reflector.set_peers()
    stays, goes = Router(wire, 2), Router(wire, 3)
    for client in (stays, goes):
        client.set_peers(client.peer(reflector))
    goes.originate("10.1.0.0/26")
    await until(lambda: "10.1.0.0/26" in stays.table())
    peers = [weakref.ref(peer) for peer in reflector.speaker.peers.values() if peer.name.endswith("_3")]
    assert len(peers) == 1
    goes.speaker.close(graceful=False)
    await until(lambda: len(reflector.speaker.peers) == 1 and not stays.table())
    assert peers[0]() is None, gc.get_referrers(peers[0]())


@virtual
async def test_connections_that_come_to_nothing(wire: Wire) -> None:
    """They are accepted, say nothing or the wrong thing, and end."""
    reflector = Router(wire, 1, cluster_id="10.0.0.1")
    reflector.speaker.set_client_ranges([ClientRange(ip_network("10.0.0.0/24"))])
    reflector.set_peers()
    seen: list[weakref.ref[Peer]] = []
    for number in range(2, 6):
        wrong = Router(wire, number, asn=64999)  # not our AS: its OPEN is refused
        wrong.set_peers(wrong.peer(reflector))
        await until(lambda: bool(reflector.speaker.peers))
        seen += [weakref.ref(peer) for peer in reflector.speaker.peers.values()]
        wrong.speaker.close(graceful=False)
    await until(lambda: not reflector.speaker.peers, within=600)
    assert seen
    assert all(one() is None for one in seen)
