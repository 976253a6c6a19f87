"""The sockets that accept, over TCP on loopback: kept, changed, refused, and what is said of them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from ipaddress import IPv4Network, ip_address, ip_network
from itertools import islice
from typing import Any

import pytest

from benchmarks.reflector.processes import free_port
from routed.bgp.listening import Listeners
from routed.bgp.network import TcpNetwork
from routed.bgp.transport import Endpoint, Link
from routed.secret import SecretValue
from tests.bgp.test_limits import Lines
from tests.bgp.test_network import signs
from tests.waiting import until

LOOPBACK = ip_address("127.0.0.1")
EVERYWHERE = ip_address("0.0.0.0")


class Scene:
    """Listeners, what they accepted and what they said."""

    def __init__(self) -> None:
        self.log = Lines()
        self.accepted: list[Link] = []
        log: Any = self.log
        loop = asyncio.get_running_loop()
        self.listeners = Listeners(loop, TcpNetwork(loop), self.accepted.append, lambda: None, log)

    def said(self, event: str) -> list[dict[str, Any]]:
        return [values for what, values in self.log.said if what.startswith(event)]

    def close(self) -> None:
        self.listeners.close()
        for link in self.accepted:
            link.sock.close()


def listening(test: Callable[[Scene], Awaitable[None]]) -> Callable[[], None]:
    def wrapper() -> None:
        async def main() -> None:
            scene = Scene()
            try:
                await test(scene)
            finally:
                scene.close()

        asyncio.run(main())

    wrapper.__name__ = getattr(test, "__name__", "test")
    return wrapper


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port))


@listening
async def test_what_is_wanted_stays_and_the_rest_is_opened_or_closed(scene: Scene) -> None:
    first, second, third = (Endpoint(LOOPBACK, free_port()) for _ in range(3))
    scene.listeners.want((first, second))
    scene.listeners.want((second, third))
    assert set(scene.listeners.endpoints) == {second, third}
    assert [values["endpoint"] for values in scene.said("listening")] == [str(first), str(second), str(third)]
    for endpoint in (second, third):
        connect(endpoint.port).close()
    with pytest.raises(ConnectionRefusedError):
        connect(first.port)
    await until(lambda: len(scene.accepted) == 2)


@listening
async def test_one_address_takes_the_place_of_all_and_back_and_nobody_who_waits_is_lost(scene: Scene) -> None:
    port = free_port()
    scene.listeners.want((Endpoint(EVERYWHERE, port),))
    clients = [connect(port)]
    scene.listeners.want((Endpoint(LOOPBACK, port),))
    clients.append(connect(port))
    scene.listeners.want((Endpoint(EVERYWHERE, port),))
    clients.append(connect(port))
    await until(lambda: len(scene.accepted) == 3)
    assert not scene.said("cannot listen")
    for client in clients:
        client.close()


@listening
async def test_a_port_that_is_taken_is_said_once_with_what_to_do(scene: Scene) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = Endpoint(LOOPBACK, other.getsockname()[1])
        for _ in range(3):
            scene.listeners.want((taken,))
        assert scene.listeners.errors == {taken: "Address already in use"}
        (said,) = scene.said("cannot listen")
        assert "another process listens there" in said["hint"]
    scene.listeners.want((taken,))
    assert scene.listeners.endpoints == (taken,)
    assert scene.listeners.errors == {}


@signs
@listening
async def test_more_passwords_than_a_socket_holds_are_said_once_and_their_addresses_known(
    scene: Scene,
) -> None:
    endpoint = Endpoint(LOOPBACK, free_port())
    scene.listeners.want((endpoint,))
    addresses = [IPv4Network(one) for one in islice(IPv4Network("10.0.0.0/16"), 2_000)]
    for address in addresses:
        scene.listeners.set_key(address, SecretValue(b"Zuccotto"))
    if not scene.listeners.unprotected(addresses[-1].network_address):
        pytest.skip("net.core.optmem_max is very large here")
    assert not scene.listeners.unprotected(addresses[0].network_address)
    (said,) = scene.said("password not in force")
    assert "net.core.optmem_max" in said["hint"]
    for address in addresses[1:]:
        scene.listeners.set_key(address, None)
    assert not scene.listeners.unprotected(addresses[-1].network_address)
    # A listener that comes later gets the keys that are wanted then.
    other = Endpoint(LOOPBACK, free_port())
    scene.listeners.set_key(ip_network("127.0.0.1"), SecretValue(b"Zuccotto"))
    scene.listeners.want((other,))
    with socket.socket() as sock:
        sock.settimeout(0.1)
        with pytest.raises(TimeoutError):
            sock.connect(("127.0.0.1", other.port))
    scene.listeners.set_key(ip_network("127.0.0.1"), None)
    connect(other.port).close()
    assert "Zuccotto" not in str(scene.log.said)
