"""Nexthop objects against the kernel: routes by many gateways name them, and nobody notices."""

from __future__ import annotations

import asyncio
import errno
import json
import socket
from ipaddress import IPv4Address
from typing import Any

import pytest

from routed.kernel.base import LinkDown, OwnNextHopGone
from routed.kernel.decode import decode_next_hop
from routed.kernel.fib import Fib
from routed.kernel.netlink import RTM_DELNEXTHOP, Message, Replies, RouteSocket
from routed.kernel.next_hop_objects import FIRST_ID, MANY, Gateway, NextHopObjects, gateway_of
from tests.kernel.kernel import LOG, Namespace, hop, opened_fib, opened_monitor, prefix, route, run
from tests.kernel.test_monitor import keep_up

COUNT = 3 * MANY
PREFIXES = [f"10.1.{number}.0/24" for number in range(COUNT)]


def gateway(number: int) -> str:
    """On v0."""
    return f"10.9.0.{10 + number}%v0"


def wish_all(fib: Fib, offset: int = 0) -> None:
    for number, text in enumerate(PREFIXES):
        fib.replace(*prefix(text), route(gateway((number + offset) % COUNT)))


def objects(ns: Namespace) -> dict[int, str]:
    """Ours, as `ip nexthop` shows them: gateway by ID."""
    shown: list[dict[str, Any]] = json.loads(ns.ip("-json -details nexthop show protocol 171") or "[]")
    return {one["id"]: one["gateway"] for one in shown}


def shown(offset: int = 0) -> dict[str, str]:
    return {
        f"{text} 1024": gateway((number + offset) % COUNT).removesuffix("%v0")
        for number, text in enumerate(PREFIXES)
    }


@pytest.mark.netns
def test_many_gateways_get_objects_and_few_do_not(ns: Namespace) -> None:
    async def scenario() -> None:
        async with opened_fib(ns) as fib:
            for number in range(MANY):
                fib.replace(*prefix(PREFIXES[number]), route(gateway(number)))
            assert await fib.flush() == []
            assert objects(ns) == {}
            wish_all(fib)
            assert await fib.flush() == []
            assert len(objects(ns)) == COUNT - MANY
            assert ns.ours() == shown()
            # Every other gateway: in place, by old objects and new ones.
            wish_all(fib, 1)
            assert await fib.flush() == []
            assert ns.ours() == shown(1)
            assert len(objects(ns)) == COUNT
            assert min(objects(ns)) == FIRST_ID
            # To what has no object, and back.
            for wish in (route(), route("10.9.0.2", "10.9.0.3"), route("fd09::2"), route("10.9.0.2"), None):
                fib.replace(*prefix(PREFIXES[70]), wish)
                assert await fib.flush() == []
                expected = ""
                if wish is not None:
                    expected = " ".join(str(one.gateway) for one in wish.next_hops) or "blackhole"
                assert ns.ours().get(f"{PREFIXES[70]} 1024", "") == expected
                fib.replace(*prefix(PREFIXES[70]), route(gateway(70), metric=1024))
                assert await fib.flush() == []
            fib.replace(*prefix(PREFIXES[71]), route(gateway(71), metric=99))
            assert await fib.flush() == []
            assert ns.ours()[f"{PREFIXES[71]} 99"] == "10.9.0.81"
            assert f"{PREFIXES[71]} 1024" not in ns.ours()
            assert fib.counters.errors == 0
            # All of it reads back as what was wished.
            assert await fib.resync() == []
            assert fib.counters.repaired == 0
            for text in PREFIXES:
                fib.replace(*prefix(text), None)
            assert await fib.flush() == []
            assert ns.ours() == {}

    run(scenario())


@pytest.mark.netns
@pytest.mark.parametrize("compatible", [1, 0])
def test_a_restart_finds_objects_and_routes(ns: Namespace, compatible: int) -> None:
    """Also where routes only tell the ID of their object (the sysctl nexthop_compat_mode)."""
    ns.sysctl(f"net.ipv4.nexthop_compat_mode={compatible}")

    async def scenario() -> None:
        async with opened_fib(ns) as fib:
            wish_all(fib)
            await fib.flush()
        before = objects(ns)
        async with opened_fib(ns) as fib:
            adopted = await fib.adopt()
            assert adopted == {prefix(text): route(gateway(number)) for number, text in enumerate(PREFIXES)}
            wish_all(fib)
            assert await fib.flush() == []
            assert fib.counters.requests == 0
            fib.replace(*prefix("10.2.0.0/24"), route(gateway(COUNT - 1)))
            fib.replace(*prefix("10.3.0.0/24"), route(gateway(COUNT)))
            assert await fib.flush() == []
            assert objects(ns) == before | {max(before) + 1: f"10.9.0.{10 + COUNT}"}
            ns.sysctl("net.ipv4.nexthop_compat_mode=1")
            assert len(ns.ours()) == COUNT + 2

    run(scenario())


@pytest.mark.netns
def test_a_link_that_goes_takes_objects_and_routes_and_both_come_back(ns: Namespace) -> None:
    async def scenario() -> None:
        async with opened_fib(ns) as fib, opened_monitor(ns, fib_port=fib.port) as watch:
            await watch.monitor.snapshot()
            wish_all(fib)
            await fib.flush()
            ns.ip("link set v0 down")
            await keep_up(watch, fib, lambda: any(isinstance(e, LinkDown) for e in watch.events))
            assert (ns.ours(), objects(ns)) == ({}, {})
            assert len(fib.failed) == COUNT
            ns.ip("link set v0 up")
            await keep_up(watch, fib, lambda: not fib.failed)
            assert ns.ours() == shown()
            assert len(objects(ns)) >= COUNT - MANY

    run(scenario())


@pytest.mark.netns
def test_objects_that_others_remove_are_back_with_their_routes(ns: Namespace) -> None:
    async def scenario() -> None:
        async with opened_fib(ns) as fib, opened_monitor(ns, fib_port=fib.port) as watch:
            await watch.monitor.snapshot()
            wish_all(fib)
            await fib.flush()
            one = min(objects(ns))
            ns.ip(f"nexthop del id {one}")
            await keep_up(watch, fib, lambda: OwnNextHopGone(one) in watch.events)
            assert ns.ours() == shown()
            ns.ip("nexthop flush protocol 171")
            await keep_up(watch, fib, lambda: ns.ours() == shown())
            assert objects(ns)

    run(scenario())


@pytest.mark.netns
def test_an_object_that_is_gone_unheard_does_not_keep_routes_out(ns: Namespace) -> None:
    async def scenario() -> None:
        async with opened_fib(ns) as fib:
            wish_all(fib)
            await fib.flush()
            ns.ip("nexthop flush protocol 171")
            wish_all(fib, 1)
            assert await fib.flush() == []
            there = ns.ours()
            assert there.items() <= shown(1).items()
            assert len(there) >= COUNT - MANY
            assert await fib.resync() == []
            assert ns.ours() == shown(1)

    run(scenario())


@pytest.mark.netns
def test_ids_and_objects_of_others_are_left_alone(ns: Namespace) -> None:
    ns.ip(f"nexthop add id {FIRST_ID + 1} via 10.8.0.2 dev w0 protocol static")
    ns.ip(f"nexthop add id {FIRST_ID + 2} blackhole protocol 171")

    async def scenario() -> None:
        async with opened_fib(ns) as fib:
            wish_all(fib)
            assert await fib.flush() == []
            assert ns.ours() == shown()
            assert await fib.resync() == []
            assert "via 10.8.0.2 dev w0" in ns.ip(f"nexthop show id {FIRST_ID + 1}")

    run(scenario())


@pytest.mark.netns
def test_unused_objects_go_with_the_resync_and_take_no_route(ns: Namespace) -> None:
    async def scenario() -> None:
        async with opened_fib(ns) as fib:
            wish_all(fib)
            await fib.flush()
            kept = PREFIXES[: MANY + 20]
            for text in PREFIXES[MANY + 20 :]:
                fib.replace(*prefix(text), None)
            await fib.flush()
            assert len(objects(ns)) == COUNT - MANY
            assert await fib.resync() == []
            assert len(objects(ns)) == 20
            assert ns.ours().keys() == {f"{text} 1024" for text in kept}
        # What nobody wishes yet is in use, too.
        async with opened_fib(ns) as fib:
            await fib.adopt()
            assert await fib.resync() == []
            assert len(objects(ns)) == 20
            await fib.sweep()
            assert await fib.resync() == []
            assert objects(ns) == {}

    run(scenario())


@pytest.mark.netns
def test_a_gateway_that_cannot_be_reached_is_refused_as_ever(ns: Namespace) -> None:
    async def scenario() -> None:
        async with opened_fib(ns) as fib:
            wish_all(fib)
            await fib.flush()
            fib.replace(*prefix("10.2.0.0/24"), route("10.77.0.1%v0"))
            fib.replace(*prefix("10.3.0.0/24"), route("10.77.0.2%v0 onlink"))
            (error,) = await fib.flush()
            assert (error.errno, error.nlri) == (errno.ENETUNREACH, prefix("10.2.0.0/24")[1])
            assert "10.77.0.1" in error.text
            assert "10.3.0.0/24 nhid" in ns.ip("route show 10.3.0.0/24")
            assert "onlink" in ns.ip("route show 10.3.0.0/24")
            assert await fib.resync() != []
            assert fib.counters.repaired == 0

    run(scenario())


class OldKernel(RouteSocket):
    """A kernel that knows no nexthop objects."""

    def __init__(self) -> None:
        super().__init__(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        self.asked = 0

    def transact(self, requests: bytes | bytearray, last: int) -> Replies:
        self.asked += 1
        return Replies({last: (errno.EOPNOTSUPP, "")}, [], True)

    async def dump(self, kind: int, body: bytes) -> list[bytes]:
        raise OSError(errno.EOPNOTSUPP, "not supported")


def test_a_kernel_without_objects_is_asked_once() -> None:
    sock = OldKernel()
    known = NextHopObjects(sock, protocol=171, log=LOG, many=2)
    gateways = [Gateway(0, 1, IPv4Address(f"10.9.0.{n}").packed) for n in range(5)]
    assert [bool(known.id_of(one)) for one in gateways] == [False, False, True, True, True]
    known.create()
    assert [known.id_of(one) for one in gateways[:2]] == [0, 0]
    known.forget(list(known.ids.values()))  # as for routes that were refused
    assert [known.id_of(one) for one in gateways] == [0] * 5
    known.create()
    assert sock.asked == 1
    asyncio.run(NextHopObjects(sock, protocol=171, log=LOG).learn())
    sock.close()


def test_what_has_no_object() -> None:
    one = IPv4Address("10.9.0.2").packed
    assert gateway_of(4, 7, b"\x08\0\x05\0" + one) == Gateway(4, 7, one)
    assert gateway_of(0, 0, b"\x08\0\x05\0" + one) is None
    assert gateway_of(0, 7, b"\x16\0\x12\0" + bytes(18)) is None
    assert hop("10.9.0.2").gateway.packed == one


def test_deletions_of_others_objects_are_no_events() -> None:
    from routed.kernel.mirror import Mirror

    mirror = Mirror(own_protocol=171, own_port=4242)
    body = bytes((2, 0, 171, 0)) + bytes(4) + b"\x08\0\x01\0\x05\0\0\0"
    assert decode_next_hop(body) == (171, 5)
    assert mirror.apply(Message(RTM_DELNEXTHOP, 0, 0, 0, body)) == [OwnNextHopGone(5)]
    assert mirror.apply(Message(RTM_DELNEXTHOP, 0, 0, 4242, body)) == []
    assert mirror.apply(Message(RTM_DELNEXTHOP, 0, 0, 0, body[:2] + b"\x04" + body[3:])) == []
    assert mirror.apply(Message(RTM_DELNEXTHOP, 0, 0, 0, body[:7])) == []


@pytest.mark.netns
def test_ipv6_has_none(ns: Namespace) -> None:
    async def scenario() -> None:
        async with opened_fib(ns) as fib:
            for number in range(COUNT):
                fib.replace(*prefix(f"fd50:{number:x}::/64"), route(f"fd09::{number + 2:x}%v0"))
            assert await fib.flush() == []
            assert len(ns.ours(6)) == COUNT
            assert objects(ns) == {}

    run(scenario())


@pytest.mark.netns
def test_a_wish_without_an_interface_keeps_the_object_of_its_route(ns: Namespace) -> None:
    async def scenario() -> None:
        async with opened_fib(ns) as fib:
            wish_all(fib)
            await fib.flush()
        async with opened_fib(ns) as fib:
            await fib.adopt()
            for number, text in enumerate(PREFIXES):
                fib.replace(*prefix(text), route(gateway(number).removesuffix("%v0")))
            assert await fib.flush() == []
            assert await fib.resync() == []
            assert fib.counters.requests == 0
            assert ns.ours() == shown()

    run(scenario())
