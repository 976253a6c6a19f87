"""A speaker that drains, on virtual time."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network

from routed.bgp.communities import GRACEFUL_SHUTDOWN
from routed.bgp.config import ClientRange
from tests.bgp.test_speaker import Router
from tests.virtual import Wire, until, virtual


async def site(wire: Wire) -> tuple[Router, Router, Router, Router]:
    """Two reflectors, and two clients of both."""
    reflectors = [Router(wire, number, cluster_id="10.0.0.100") for number in (1, 2)]
    clients = [Router(wire, number) for number in (11, 12)]
    for reflector in reflectors:
        reflector.speaker.set_client_ranges([ClientRange(ip_network("10.0.0.0/24"))])
        reflector.set_peers()
    for client in clients:
        client.set_peers(*(client.peer(reflector) for reflector in reflectors))
    clients[0].originate("10.1.0.0/26")
    await until(lambda: clients[1].table() != {} and all(one.established() == 2 for one in clients))
    return reflectors[0], reflectors[1], clients[0], clients[1]


def reflected_by(client: Router) -> str:
    path = client.best("10.1.0.0/26")
    name: str = path.source.name
    return name.removeprefix("to_")


@virtual
async def test_clients_go_to_the_other_reflector_while_this_one_still_works(wire: Wire) -> None:
    first, second, _, client = await site(wire)
    assert reflected_by(client) == first.address
    first.speaker.drain()
    await until(lambda: reflected_by(client) == second.address)
    assert client.established() == 2
    first.speaker.close(graceful=False)
    await until(lambda: client.established() == 1)
    assert client.table() == {"10.1.0.0/26": "10.0.0.11"}
    assert client.best("10.1.0.0/26").attributes.communities == ()


@virtual
async def test_a_client_of_this_reflector_alone_keeps_its_routes_until_the_end(wire: Wire) -> None:
    first, second, _, client = await site(wire)
    second.speaker.close(graceful=False)
    await until(lambda: client.established() == 1)
    first.speaker.drain()
    await until(lambda: GRACEFUL_SHUTDOWN in client.best("10.1.0.0/26").attributes.communities)
    assert client.best("10.1.0.0/26").attributes.local_pref == 0


@virtual
async def test_what_the_records_say_opens_no_door_again(wire: Wire) -> None:
    first, *_ = await site(wire)
    assert first.speaker.listening
    first.speaker.drain()
    first.speaker.configure(replace(first.config, local_addresses=()))
    assert not first.speaker.listening
