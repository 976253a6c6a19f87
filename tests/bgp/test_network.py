"""Real sockets on loopback: listen, accept, dial; keys and TTLs on them; what happens without descriptors."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Network, ip_address, ip_network
from itertools import islice, pairwise
from typing import Any

import pytest

from routed.bgp.network import (
    ACCEPTS_A_TURN,
    AcceptCallback,
    Listener,
    TcpNetwork,
    descriptors_for_connections,
)
from routed.bgp.nlri import Network as Prefix
from routed.bgp.route import Address
from routed.bgp.tcp_options import MAX_KEY_OCTETS, Progress, TcpOptions, key_problem, set_key
from routed.bgp.transport import Endpoint, Link
from routed.resources import SecretValue
from tests.waiting import until

LOOPBACK = ip_address("127.0.0.1")
LOOPBACK6 = ip_address("::1")


def listen(
    on_accept: AcceptCallback, address: Address = LOOPBACK, keys: Mapping[Prefix, SecretValue] | None = None
) -> Listener:
    """On a free port."""
    return Listener(
        asyncio.get_running_loop(), Endpoint(address, 0), on_accept, lambda *what: None, keys or {}
    )


async def dial(remote: Endpoint, **options: Any) -> Link | str:
    """The connection, or why there is none."""
    done: list[Link | str] = []
    source = options.pop("source", None)
    network = TcpNetwork(asyncio.get_running_loop())
    network.dial(remote, source, lambda link, why: done.append(link or why), TcpOptions(**options))
    await until(lambda: done)
    return done[0]


def test_dial_and_accept_know_both_ends() -> None:
    async def main() -> None:
        accepted: list[Link] = []
        listener = listen(accepted.append)
        ours = await dial(listener.endpoint, source=ip_address("127.0.0.7"))
        await until(lambda: accepted)
        assert isinstance(ours, Link)
        assert ours.local == accepted[0].remote
        assert ours.local.address == ip_address("127.0.0.7")
        assert ours.remote == accepted[0].local
        for link in (ours, accepted[0]):
            link.sock.close()
        listener.close()

    asyncio.run(main())


def test_a_dial_that_fails_says_why_and_a_closed_one_says_nothing() -> None:
    async def main() -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            nobody = Endpoint(LOOPBACK, free.getsockname()[1])
        assert await dial(nobody) == "Connection refused"
        assert await dial(nobody, source=ip_address("203.0.113.9")) == "Cannot assign requested address"
        network = TcpNetwork(asyncio.get_running_loop())
        said: list[str] = []
        for source in (None, ip_address("203.0.113.9")):
            network.dial(nobody, source, lambda link, why: said.append(why), TcpOptions()).close()
        await asyncio.sleep(0.01)
        assert not said

    asyncio.run(main())


def test_a_port_that_is_taken_is_an_os_error() -> None:
    async def main() -> None:
        first = listen(lambda link: None)
        network = TcpNetwork(asyncio.get_running_loop())
        with pytest.raises(OSError, match="Address already in use"):
            network.listen(first.endpoint, lambda link: None, lambda *what: None, {})
        first.close()

    asyncio.run(main())


# TCP-MD5 (RFC 2385). Linux asks for no privilege.


def secret(text: str) -> SecretValue:
    return SecretValue(text.encode())


def can_sign() -> bool:
    with socket.socket() as sock:
        try:
            set_key(sock, ip_network("127.0.0.1"), secret("x"))
        except OSError:
            return False
        return True


signs = pytest.mark.skipif(not can_sign(), reason="no TCP-MD5 in this kernel")


@signs
@pytest.mark.parametrize("address", [LOOPBACK, LOOPBACK6])
def test_a_connection_needs_the_key_of_its_address(address: Address) -> None:
    async def main() -> None:
        accepted: list[Link] = []
        listener = listen(accepted.append, address, {ip_network(address): secret("right")})
        link = await dial(listener.endpoint, key=secret("right"))
        assert isinstance(link, Link)
        for wrong in (secret("wrong"), None):
            failed = await dial(listener.endpoint, key=wrong, connect_time=0.05)
            assert failed == (
                "timed out" if wrong is None else "timed out (is the password at the other end the same?)"
            )
        await until(lambda: accepted)
        listener.close()
        assert len(accepted) == 1
        accepted[0].sock.close()
        link.sock.close()

    asyncio.run(main())


@signs
def test_a_range_has_a_key_and_an_address_in_it_another() -> None:
    async def main() -> None:
        keys = {ip_network("127.0.0.0/8"): secret("range"), ip_network("127.0.0.9"): secret("nine")}
        links: list[Link] = []
        listener = listen(links.append, keys=keys)
        for source, key, works in (
            ("127.0.0.1", "range", True),
            ("127.0.0.9", "nine", True),
            ("127.0.0.9", "range", False),
        ):
            link = await dial(listener.endpoint, source=ip_address(source), key=secret(key), connect_time=0.1)
            assert isinstance(link, Link) is works
            if isinstance(link, Link):
                links.append(link)
        listener.set_key(ip_network("127.0.0.9"), None)
        link = await dial(listener.endpoint, source=ip_address("127.0.0.9"), key=secret("range"))
        assert isinstance(link, Link)
        listener.close()
        for one in (*links, link):
            one.sock.close()

    asyncio.run(main())


@signs
def test_another_key_on_an_established_connection_counts_from_the_next_segment_on() -> None:
    async def main() -> None:
        accepted: list[Link] = []
        listener = listen(accepted.append, keys={ip_network(LOOPBACK): secret("one")})
        ours = await dial(listener.endpoint, key=secret("one"))
        await until(lambda: accepted)
        theirs = accepted[0]
        assert isinstance(ours, Link)
        listener.set_key(ip_network(LOOPBACK), secret("two"))
        ours.sock.send(b"a")  # the listening socket's key is no matter of theirs
        await until(lambda: theirs.control.progress().received == 1)
        for key in (secret("two"), None, secret("three")):  # changed, removed, added
            before = theirs.control.progress()
            ours.control.set_key(key)
            ours.sock.send(b"b")
            await until(lambda: theirs.control.progress().dropped > before.dropped)  # noqa: B023
            assert theirs.control.progress().received == before.received
            assert ours.control.progress().waiting == 1
            theirs.control.set_key(key)
            await until(lambda: theirs.control.progress().received == before.received + 1)  # noqa: B023
            await until(lambda: ours.control.progress().waiting == 0)
        listener.close()
        ours.sock.close()
        theirs.sock.close()

    asyncio.run(main())


@signs
def test_a_listening_socket_without_room_for_a_key_says_which() -> None:
    async def main() -> None:
        net = IPv4Network("10.0.0.0/16")
        keys: dict[Prefix, SecretValue] = {IPv4Network(one): secret("x") for one in islice(net, 2000)}
        listener = listen(lambda link: None, keys=keys)
        if not listener.refused:
            pytest.skip("net.core.optmem_max is very large here")
        first = next(iter(listener.refused))
        assert listener.refused[first].strerror == "Cannot allocate memory"
        listener.set_key(first, None)
        assert first not in listener.refused
        listener.close()

    asyncio.run(main())


def test_a_key_that_is_too_long_is_named_by_its_length_only() -> None:
    assert key_problem(secret("k" * MAX_KEY_OCTETS)) is None
    problem = key_problem(secret("k" * 81))
    assert problem == "it has 81 octets, TCP-MD5 takes at most 80"
    with socket.socket() as sock, pytest.raises(OSError, match="too long") as caught:
        set_key(sock, ip_network("10.0.0.1"), secret("k" * 81))
    assert "kkk" not in str(caught.value)


def test_options_do_not_show_their_key() -> None:
    assert "hidden" not in repr(TcpOptions(secret("hidden")))


# GTSM (RFC 5082)


@pytest.mark.parametrize("address", [LOOPBACK, LOOPBACK6])
def test_segments_from_too_far_away_are_dropped(address: Address) -> None:
    async def main() -> None:
        accepted: list[Link] = []
        listener = listen(accepted.append, address)
        # A dial with GTSM takes the SYN-ACK of any listening socket: those send with 255.
        ours = await dial(listener.endpoint, hops=1)
        await until(lambda: accepted)
        assert isinstance(ours, Link)
        theirs = accepted[0]
        ours.sock.send(b"a")
        await until(lambda: theirs.control.progress().received == 1)
        theirs.control.set_hops(None)  # 64
        theirs.sock.send(b"b")
        await until(lambda: ours.control.progress().dropped > 0)
        assert ours.control.progress().received == 0
        ours.control.set_hops(192)  # 64 is just enough
        await until(lambda: ours.control.progress().received == 1)
        ours.control.set_hops(1)
        theirs.control.set_hops(1)
        theirs.sock.send(b"c")
        await until(lambda: ours.control.progress().received == 2)
        listener.close()
        ours.sock.close()
        theirs.sock.close()

    asyncio.run(main())


# Descriptors


@contextlib.contextmanager
def descriptor_limit(limit: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def lowest_free() -> int:
    with socket.socket() as sock:
        return sock.fileno()


def test_without_descriptors_connections_wait_and_some_are_left_for_others() -> None:
    async def main() -> None:
        accepted: list[Link] = []
        waiting: list[int] = []
        loop = asyncio.get_running_loop()
        listener = Listener(
            loop, Endpoint(LOOPBACK, 0), accepted.append, lambda count, error: waiting.append(count), {}
        )
        clients = [socket.socket() for _ in range(40)]
        with descriptor_limit(lowest_free() + 40):
            possible = descriptors_for_connections() - lowest_free()
            for client in clients:
                client.connect(("127.0.0.1", listener.endpoint.port))
            await until(lambda: waiting)
            assert 0 < possible == len(accepted) < 40
            assert waiting[0] == 40 - possible
            socket.socket().close()  # there are some left
            first = [link.sock for link in accepted]
            for sock in first:
                sock.close()
            await until(lambda: len(accepted) > len(first))
        await until(lambda: len(accepted) >= 38)  # one or two were refused
        for one in (*clients, *(link.sock for link in accepted)):
            one.close()
        listener.close()

    asyncio.run(main())


def test_who_connects_without_end_does_not_have_the_loop_for_itself() -> None:
    async def main() -> None:
        accepted = 0
        turns: list[int] = []
        clients: list[socket.socket] = []
        loop = asyncio.get_running_loop()

        def on_accept(link: Link) -> None:
            nonlocal accepted
            accepted += 1
            link.sock.close()
            if accepted < 2000:  # the next one is there before this one is done
                clients.append(socket.create_connection(("127.0.0.1", listener.endpoint.port)))
                clients.pop(0).close()

        def turn() -> None:
            turns.append(accepted)
            if accepted < 2000:
                loop.call_soon(turn)

        listener = listen(on_accept)
        clients.append(socket.create_connection(("127.0.0.1", listener.endpoint.port)))
        turn()
        await until(lambda: accepted >= 2000)
        assert max(later - earlier for earlier, later in pairwise(turns)) <= ACCEPTS_A_TURN
        listener.close()
        for client in clients:
            client.close()

    asyncio.run(main())


def test_a_dial_without_descriptors_fails_as_any_other() -> None:
    async def main() -> None:
        network = TcpNetwork(asyncio.get_running_loop())
        said: list[str] = []
        with descriptor_limit(lowest_free()):
            network.dial(Endpoint(LOOPBACK, 1), None, lambda link, why: said.append(why), TcpOptions())
        await until(lambda: said)
        assert said == ["Too many open files"]

    asyncio.run(main())


def test_progress_of_what_is_no_tcp() -> None:
    ours, theirs = socket.socketpair()
    link = Link(ours, Endpoint(LOOPBACK, 1), Endpoint(LOOPBACK, 2))
    link.control.set_key(None)
    link.control.set_hops(3)
    assert link.control.progress() == Progress(0, 0, 0, 0)
    ours.close()
    theirs.close()
