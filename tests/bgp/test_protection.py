"""Passwords and TTLs of two speakers over real TCP on loopback, in real time with short trials."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Awaitable, Callable
from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from benchmarks.reflector.processes import free_port
from routed.bgp import keys, protection
from routed.bgp.config import PeerConfig, SpeakerConfig
from routed.bgp.nlri import Family, from_network
from routed.bgp.peer import Peer
from routed.bgp.speaker import Speaker
from routed.bgp.tcp_options import Progress
from routed.bgp.transport import Connection, Endpoint, Link
from routed.log import get
from routed.secret import SecretValue
from tests.bgp.test_network import signs
from tests.virtual import run
from tests.waiting import until

V4 = Family.IPV4
OLD, NEW = SecretValue(b"Cassata"), SecretValue(b"Granita")


class Nobody:
    """A listener of the speaker that does not care."""

    def on_routes(self, family: Family, nlri: object) -> None: ...

    def on_converged(self, reason: str) -> None: ...

    def on_status(self) -> None: ...


class Pair:
    """Two speakers at 127.0.0.1 and 127.0.0.2, each the other's only peer."""

    def __init__(self) -> None:
        port = free_port()
        self.speakers: list[Speaker] = []
        self.configs: list[PeerConfig] = []
        for number, other in ((1, 2), (2, 1)):
            address = ip_address(f"127.0.0.{number}")
            config = SpeakerConfig(
                router_id=bytes((10, 0, 0, number)),
                local_as=64512,
                listen=(Endpoint(address, port),),
                local_addresses=((V4, ip_address(f"10.0.0.{number}")),),
            )
            self.speakers.append(Speaker(config, Nobody(), rng=random.Random(number)))
            peer = PeerConfig(
                name=f"to{other}",
                remote=Endpoint(ip_address(f"127.0.0.{other}"), port),
                families=frozenset({V4}),
                local_as=64512,
                remote_as=64512,
                source=address,
            )
            self.configs.append(peer)

    def configure(self, which: int, **changes: Any) -> None:
        self.configs[which] = replace(self.configs[which], **changes)
        self.speakers[which].set_peer(self.configs[which])

    @property
    def peers(self) -> list[Peer]:
        return [peer for speaker in self.speakers for peer in speaker.peers.values()]

    @property
    def up(self) -> bool:
        return all(peer.established for peer in self.peers)

    @property
    def settled(self) -> bool:
        return self.up and not any(peer.protection.old_key_in_use for peer in self.peers)

    @property
    def flaps(self) -> list[int]:
        return [peer.session.flaps for peer in self.peers]

    async def carries(self, prefix: str) -> None:
        """A route gets through from the first to the second."""
        nlri = from_network(ip_network(prefix))
        self.speakers[0].originate(V4, nlri)
        await until(lambda: nlri in self.speakers[1].ribs[V4].routes)


def over_tcp(test: Callable[[Pair], Awaitable[None]]) -> Callable[[pytest.MonkeyPatch], None]:
    """A test with a pair of speakers, trials that begin after 0.4 s, and turns of 0.3 s."""

    def wrapper(monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(keys, "FIRST_TRIAL", 0.4)
        monkeypatch.setattr(protection, "STEP_TIME", 0.05)
        monkeypatch.setattr(protection, "TURN_TIME", 0.3)
        monkeypatch.setattr(protection, "OVERLAP_CONNECT_TIME", 0.3)

        async def main() -> None:
            pair = Pair()
            try:
                await test(pair)
            finally:
                for speaker in pair.speakers:
                    speaker.close(graceful=False)

        asyncio.run(main())

    wrapper.__name__ = getattr(test, "__name__", "test")
    wrapper.__doc__ = test.__doc__
    return wrapper


async def start(pair: Pair, **changes: Any) -> None:
    for which in (0, 1):
        pair.configure(which, **changes)
        pair.speakers[which].start()
    await until(lambda: pair.up)


@signs
@over_tcp
async def test_both_ends_get_the_new_password_on_the_living_session(pair: Pair) -> None:
    await start(pair, password=OLD)
    pair.configure(0, password=NEW)
    assert pair.peers[0].protection.old_key_in_use
    await asyncio.sleep(1.0)  # a trial or two that nobody answers
    pair.configure(1, password=NEW)
    await until(lambda: pair.settled)
    await pair.carries("10.1.0.0/26")
    for password in (None, OLD):  # removed, and added
        pair.configure(1, password=password)
        pair.configure(0, password=password)
        await until(lambda: pair.settled)
    await pair.carries("10.2.0.0/26")
    assert pair.flaps == [0, 0]


@signs
@over_tcp
async def test_a_password_that_is_changed_back_is_not_rolled_over_to(pair: Pair) -> None:
    await start(pair, password=OLD)
    pair.configure(0, password=NEW)
    await asyncio.sleep(0.6)
    pair.configure(0, password=OLD)
    assert pair.settled
    await pair.carries("10.1.0.0/26")
    assert pair.flaps == [0, 0]


@signs
@over_tcp
async def test_an_end_that_restarts_comes_in_with_either_password(pair: Pair) -> None:
    """The other end is passive, and has been told of the new one."""
    await start(pair, password=OLD)
    pair.configure(0, password=NEW, passive=True)
    for password in (OLD, NEW):
        pair.speakers[1].remove_peer("to1")
        await until(lambda: not pair.peers[0].established)
        pair.configure(1, password=password)
        await until(lambda: pair.up)
        assert pair.peers[0].protection.old_key_in_use is (password is OLD)


@signs
@over_tcp
async def test_a_socket_that_refuses_the_key_keeps_its_session(pair: Pair) -> None:
    await start(pair, password=OLD)
    connection = pair.peers[0].connection
    assert connection is not None

    class Full:
        def set_key(self, key: SecretValue | None) -> None:
            raise OSError(12, "Cannot allocate memory")

        def set_hops(self, hops: int | None) -> None:
            raise OSError(22, "Invalid argument")

        def progress(self) -> Progress:
            return Progress(0, 0, 0, 0)

    connection.control = Full()
    pair.configure(0, password=NEW, ttl_security_hops=3)
    await until(lambda: not pair.peers[0].protection.old_key_in_use)  # given up
    await pair.carries("10.1.0.0/26")
    assert pair.flaps == [0, 0]


class Owner:
    """A peer that writes down what it is asked for."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.random = random.Random(1)
        self.log = get("bgp")
        self.connections: list[Connection] = []
        self.protection: protection.Protection
        self.listened_when_accepting: list[SecretValue | None] = []
        self.listened: list[SecretValue | None] = []
        self.keepalives = 0

    def accept_waiting(self) -> None:
        self.listened_when_accepting.append(self.protection.listening)

    def send_keepalive(self) -> None:
        self.keepalives += 1

    def listen_key_changed(self) -> None:
        self.listened.append(self.protection.listening)


class Arriving:
    """A connection on which something arrives just before its key is changed."""

    def __init__(self) -> None:
        self.received = 0
        self.keys: list[SecretValue | None] = []

    def set_key(self, key: SecretValue | None) -> None:
        self.received += 19
        self.keys.append(key)

    def set_hops(self, hops: int | None) -> None: ...

    def progress(self) -> Progress:
        return Progress(0, 0, self.received, 0)


def lone(password: SecretValue | None) -> tuple[Owner, PeerConfig]:
    owner = Owner()
    config = PeerConfig(
        name="lone",
        remote=Endpoint(ip_address("127.0.0.2"), 179),
        families=frozenset({V4}),
        local_as=64512,
        remote_as=64512,
        password=password,
    )
    owner.protection = protection.Protection(config, owner)
    return owner, config


def test_what_waits_is_accepted_before_another_key_is_listened_for() -> None:
    async def main() -> None:
        owner, config = lone(OLD)
        owner.protection.configure(replace(config, password=NEW))
        assert owner.listened_when_accepting == [OLD]
        assert owner.listened == [NEW]
        await asyncio.sleep(5)
        assert owner.listened_when_accepting == [OLD, NEW, OLD]
        assert owner.listened == [NEW, OLD, NEW]
        owner.protection.close()

    run(main())


def test_what_arrived_before_the_key_was_changed_proves_nothing() -> None:
    async def main() -> None:
        owner, config = lone(OLD)
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        control, end = Arriving(), Endpoint(ip_address("127.0.0.1"), 1)
        handler: Any = None
        connection = Connection(owner.loop, Link(ours, end, end, control), handler, memoryview(bytearray(99)))
        owner.connections.append(connection)
        owner.protection.attach(connection, dialed=False)
        owner.protection.established(connection, 90)
        owner.protection.configure(replace(config, password=NEW))
        await asyncio.sleep(10)
        assert control.keys[:2] == [NEW, OLD]  # a trial, and back
        assert owner.keepalives > 0
        assert owner.protection.old_key_in_use
        owner.protection.detach(connection)
        connection.close()
        owner.protection.close()
        theirs.close()

    run(main())


@over_tcp
async def test_ttl_security_is_changed_on_the_living_session(pair: Pair) -> None:
    await start(pair, ttl_security_hops=1)
    for peer in pair.peers:  # the end that dialed, and the one that accepted
        assert peer.connection is not None
        assert peer.connection._sock.getsockopt(socket.IPPROTO_IP, 21) == 255  # IP_MINTTL
    await pair.carries("10.1.0.0/26")
    for hops in (None, 5, 254):
        pair.configure(0, ttl_security_hops=hops)
        pair.configure(1, ttl_security_hops=hops)
        await pair.carries(f"10.{hops or 9}.0.0/26")
    connection = pair.peers[0].connection
    assert connection is not None
    assert connection._sock.getsockopt(socket.IPPROTO_IP, socket.IP_TTL) == 255
    assert connection._sock.getsockopt(socket.IPPROTO_IP, 21) == 2  # IP_MINTTL
    assert pair.flaps == [0, 0]
    # One end without it is not heard, and that can be seen.
    pair.configure(0, ttl_security_hops=1)
    pair.configure(1, ttl_security_hops=None)
    pair.speakers[1].originate(V4, from_network(ip_network("10.7.0.0/26")))
    await until(lambda: pair.peers[0].protection.dropped > 0)
    assert "its TTL security" in pair.peers[0].protection.remark(connection)
    pair.configure(1, ttl_security_hops=1)  # and TCP sends again what was dropped
    await until(lambda: from_network(ip_network("10.7.0.0/26")) in pair.speakers[0].ribs[V4].routes)
