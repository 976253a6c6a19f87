"""AS numbers on external sessions: a local AS of a peering, our own AS in a received path, the first AS."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest

from routed.bgp.message import MessageType, encode_message
from tests.bgp.test_speaker import Router
from tests.raw_peer import attributes, update
from tests.virtual import Wire, until, virtual

NODE, LOCAL, PEER = 64512, 65001, 65100


def as_path(router: Router, prefix: str) -> list[int]:
    return [asn for segment in router.best(prefix).attributes.as_path for asn in segment.asns]


async def _local_as(wire: Wire, allowed: int) -> None:
    """`mesh` and `node` are in our AS; `node` is AS 65001 to `tor`, and so is `other`, behind `tor`."""
    mesh, node = Router(wire, 1, asn=NODE), Router(wire, 2, asn=NODE)
    tor, other = Router(wire, 3, asn=PEER), Router(wire, 4, asn=LOCAL)
    mesh.originate("10.1.0.0/26")
    other.originate("10.4.0.0/26")
    tor.originate("10.3.0.0/26")
    mesh.set_peers(mesh.peer(node))
    node.set_peers(node.peer(mesh), node.peer(tor, local_as=LOCAL, allowed_local_as=allowed))
    tor.set_peers(tor.peer(node, remote_as=LOCAL), tor.peer(other))
    other.set_peers(other.peer(tor))
    await until(lambda: "10.1.0.0/26" in tor.table() and "10.3.0.0/26" in node.table())
    # The peer sees the local AS alone, as BIRD has it.
    assert as_path(tor, "10.1.0.0/26") == [LOCAL]
    assert as_path(mesh, "10.3.0.0/26") == [PEER]
    # A path with the local AS in it is a loop, unless so many are allowed.
    await until(lambda: node.speaker.loop.time() > 20)
    assert ("10.4.0.0/26" in node.table()) is bool(allowed)
    # Allowed or not is changed live.
    config = node.peer(tor, local_as=LOCAL, allowed_local_as=1 - allowed)
    node.speaker.set_peer(config)
    await until(lambda: ("10.4.0.0/26" in node.table()) is not bool(allowed))
    assert node.speaker.peers["to_10.0.0.3"].session.flaps == 0


@pytest.mark.parametrize("allowed", [0, 1])
def test_local_as_and_allowed_local_as(allowed: int) -> None:
    virtual(partial(_local_as, allowed=allowed))()


@pytest.mark.parametrize("path", [(), (65009, PEER), (PEER, 65009)])
def test_the_first_as_of_a_path_is_not_enforced(path: tuple[int, ...]) -> None:
    """Neither does BIRD, 1.6 or 2: RFC 4271 section 6.3 leaves it open, and route servers do not prepend."""

    async def test(wire: Wire) -> None:
        node, tor = Router(wire, 1, asn=NODE), Router(wire, 2, asn=PEER)
        node.set_peers(node.peer(tor))
        tor.set_peers(tor.peer(node))
        await until(lambda: node.established() == tor.established() == 1)
        connection = tor.speaker.peers["to_10.0.0.1"].connection
        assert connection is not None
        body = update(["10.9.0.0/26"], "10.0.0.2", attributes(as_path=path), path_id=1)
        connection.send(encode_message(MessageType.UPDATE, body))
        await until(lambda: "10.9.0.0/26" in node.table())
        assert as_path(node, "10.9.0.0/26") == list(path)

    virtual(test)()


@virtual
async def test_a_local_as_that_is_the_peers_makes_the_session_internal(wire: Wire) -> None:
    node, tor = Router(wire, 1, asn=NODE), Router(wire, 2, asn=PEER)
    node.originate("10.1.0.0/26")
    node.set_peers(node.peer(tor, local_as=PEER))
    tor.set_peers(replace(tor.peer(node), remote_as=PEER))
    await until(lambda: tor.table() != {})
    assert as_path(tor, "10.1.0.0/26") == []
    assert tor.best("10.1.0.0/26").attributes.local_pref == 2147483647 - 1024
