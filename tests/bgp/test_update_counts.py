"""UPDATEs are counted where they are written, once for all members of a group: what each peer received says
whether that is right."""

from __future__ import annotations

from ipaddress import ip_network

from routed.bgp.config import ClientRange
from routed.bgp.message import MessageType
from routed.bgp.path import SourceKind
from tests.bgp.test_speaker import V4, Router, nlri
from tests.virtual import Wire, until, virtual

UPDATE = MessageType.UPDATE


def towards(one: Router, other: Router) -> int:
    """UPDATEs that `one` says it wrote for `other`."""
    return sum(
        one.speaker.messages_of(peer).sent[UPDATE]
        for peer in one.speaker.peers.values()
        if str(peer.config.remote.address) == other.address
    )


def arrived(one: Router, other: Router) -> int:
    """UPDATEs that `other` had from `one`."""
    return sum(
        other.speaker.messages_of(peer).received[UPDATE]
        for peer in other.speaker.peers.values()
        if str(peer.config.remote.address) == one.address
    )


def same(*routers: Router) -> bool:
    pairs = [(one, other) for one in routers for other in routers if one is not other]
    return all(towards(*pair) == arrived(*pair) for pair in pairs)


async def site(wire: Wire) -> list[Router]:
    """A reflector and three clients, each with a route of its own."""
    reflector = Router(wire, 1, cluster_id="10.0.0.100")
    reflector.speaker.set_client_ranges([ClientRange(ip_network("10.0.0.0/24"))])
    reflector.set_peers()
    clients = [Router(wire, number) for number in (11, 12, 13)]
    for client in clients:
        client.originate(f"10.{client.address[-2:]}.0.0/16")
        client.set_peers(client.peer(reflector))
    await until(lambda: all(len(one.table()) == 3 for one in clients))
    return [reflector, *clients]


@virtual
async def test_counts_are_what_peers_receive(wire: Wire) -> None:
    routers = await site(wire)
    reflector, first, second, third = routers
    await until(lambda: reflector.speaker.converged and first.speaker.converged)
    await until(lambda: same(*routers))
    before = towards(reflector, second)
    for number in range(20):
        first.originate(f"10.1.{number}.0/24")
        await until(lambda: len(third.table()) == 4 + number)  # noqa: B023 (called at once)
    await until(lambda: same(*routers))
    assert towards(reflector, second) == before + 20
    first.speaker.withdraw(V4, nlri("10.1.3.0/24"), SourceKind.STATIC)
    second.originate("10.1.4.0/24")  # the same prefix from another: some are told by themselves
    await until(lambda: len(third.table()) == 22)
    await until(lambda: same(*routers))


@virtual
async def test_counts_go_on_when_a_peer_joins_late_or_comes_again(wire: Wire) -> None:
    routers = await site(wire)
    reflector, first, *_ = routers
    late = Router(wire, 14)
    late.set_peers(late.peer(reflector))
    routers.append(late)
    await until(lambda: len(late.table()) == 3)
    first.originate("10.1.0.0/24")
    await until(lambda: len(late.table()) == 4)
    await until(lambda: same(*routers))
    total = reflector.speaker.messages().sent[UPDATE]
    assert total == sum(towards(reflector, one) for one in routers[1:])
    late.speaker.remove_peer(f"to_{reflector.address}")
    await until(lambda: reflector.established() == 3)
    assert reflector.speaker.messages().sent[UPDATE] >= total, "the counts of one that is gone stay"


@virtual
async def test_a_table_that_is_sent_again_is_counted_again(wire: Wire) -> None:
    routers = await site(wire)
    reflector, first, *_ = routers
    await until(lambda: reflector.speaker.converged and first.speaker.converged)
    await until(lambda: same(*routers))
    (peer,) = [
        one for one in reflector.speaker.peers.values() if str(one.config.remote.address) == first.address
    ]
    before = towards(reflector, first)
    received = arrived(reflector, first)
    reflector.speaker.groups[V4].resend(reflector.speaker.attachment(peer).members[V4])
    peer.wake_writer()
    await until(lambda: arrived(reflector, first) > received)
    assert arrived(reflector, first) - received == 2, "the routes of the two others"
    assert towards(reflector, first) - before == 3, "and its own, which it is not sent"
