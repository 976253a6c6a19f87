"""Messages from the kernel against pyroute2's decoder, and against nonsense."""

from __future__ import annotations

import asyncio
import struct
from ipaddress import ip_address, ip_interface
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2 import AsyncIPRoute

from routed.bgp.nlri import Family, to_text
from routed.kernel.decode import decode_address, decode_link, decode_route, decode_routes
from routed.kernel.netlink import Message, RouteSocket, attributes, errno_name, messages
from routed.kernel.reader import KernelReader
from tests.kernel.kernel import Namespace, route, run

ROUTES = """\
route add 10.1.0.0/26 via 10.9.0.2 metric 77 proto 171
route add default via 10.9.0.9
route add 10.2.0.0/26 proto bird nexthop via 10.9.0.2 weight 3 nexthop via 10.66.0.1 dev w0 onlink
route add blackhole 10.3.0.0/25 metric 9 proto 171
route add unreachable 10.3.0.128/25
route add 10.4.0.0/24 dev v0 scope link src 10.8.0.1
route add 10.5.0.0/24 via inet6 fd09::2
route add 10.6.0.0/24 via 10.9.0.2 tos 0x10
route add fd51::/64 via fd09::2 proto 171
route add fd52::/63 via fe80::9 dev w0 metric 5
route add fd54::/64 nexthop via fd09::2 nexthop via fd08::2 dev w0
route add blackhole fd56::/64 metric 8
"""


def paths_of(message: Any) -> list[tuple[str | None, int, bool]]:
    hops = message.get_attr("RTA_MULTIPATH")
    if hops is None:
        hops = [message]
    found = []
    for hop in hops:
        via = hop.get_attr("RTA_VIA")
        gateway = hop.get_attr("RTA_GATEWAY") or (via and via["addr"])
        index = hop["oif"] if "oif" in hop else hop.get_attr("RTA_OIF") or 0
        if gateway or index:
            found.append((gateway, index, bool(hop["flags"] & 4)))
    return found


@pytest.mark.netns
def test_a_dump_is_what_pyroute2_reads(ns: Namespace) -> None:
    ns.batch(ROUTES)

    async def scenario() -> None:
        sock = RouteSocket.open(netns=ns.name)
        reader = KernelReader(sock)
        async with AsyncIPRoute(netns=ns.name) as ipr:
            for family, number in ((Family.IPV4, 2), (Family.IPV6, 10)):
                ours = [
                    (
                        to_text(r.nlri, r.family),
                        (r.metric, r.tos, r.table, r.protocol, r.scope, r.type, r.flags),
                        None if r.prefsrc is None else str(ip_address(r.prefsrc)),
                        [
                            (None if p.gateway is None else str(p.gateway), p.ifindex, p.onlink)
                            for p in r.paths
                        ],
                    )
                    async for part in reader.routes(family)
                    for r in part
                ]
                theirs = []
                async for m in await ipr.route("dump", family=number):
                    table = m.get_attr("RTA_TABLE") or m["table"]
                    if table != 254:
                        continue
                    dst = m.get_attr("RTA_DST") or ("0.0.0.0" if number == 2 else "::")
                    head = m.get_attr("RTA_PRIORITY") or 0, m["tos"], table
                    tail = m["proto"], m["scope"], m["type"], m["flags"]
                    theirs.append(
                        (f"{dst}/{m['dst_len']}", head + tail, m.get_attr("RTA_PREFSRC"), paths_of(m))
                    )
                assert ours == theirs
                assert len(ours) >= 4
            links = {(link.ifindex, link.name, link.up) for link in await reader.links()}
            assert links == {
                (m["index"], m.get_attr("IFLA_IFNAME"), bool(m["flags"] & 1))
                async for m in await ipr.link("dump")
            }
            addresses = {(a.ifindex, a.address, a.prefix_length) for a in await reader.addresses()}
            found = set()
            async for m in await ipr.addr("dump"):
                text = m.get_attr("IFA_LOCAL") or m.get_attr("IFA_ADDRESS")
                found.add((m["index"], ip_interface(text).ip, m["prefixlen"]))
            assert addresses == found
            assert reader.interface_index("w0") == next(i for i, name, _ in links if name == "w0")
            assert reader.interface_index("nowhere") is None
        sock.close()

    run(scenario())


@pytest.mark.netns
def test_what_reads_back_as_a_fib_route(ns: Namespace) -> None:
    ns.batch(ROUTES)

    async def scenario() -> None:
        sock = RouteSocket.open(netns=ns.name)
        reader = KernelReader(sock)
        names = await reader.link_names()
        found = {
            to_text(r.nlri, r.family): r.fib_route(names)
            for family in Family
            async for part in reader.routes(family)
            for r in part
        }
        sock.close()
        expected = {
            "10.1.0.0/26": route("10.9.0.2%v0", metric=77),
            "0.0.0.0/0": route("10.9.0.9%v0", metric=0),
            "10.2.0.0/26": route("10.9.0.2%v0", "10.66.0.1%w0 onlink", metric=0),
            "10.3.0.0/25": route(metric=9),
            "10.3.0.128/25": None,
            "10.4.0.0/24": None,
            "10.5.0.0/24": route("fd09::2%v0", metric=0),
            "10.6.0.0/24": None,
            "fd51::/64": route("fd09::2%v0"),
            "fd52::/63": route("fe80::9%w0", metric=5),
            "fd54::/64": route("fd09::2%v0", "fd08::2%w0"),
            "fd56::/64": route(metric=8),
        }
        assert {text: found[text] for text in expected} == expected

    run(scenario())


@given(st.binary(max_size=200))
def test_nonsense_is_no_route_link_or_address(body: bytes) -> None:
    """Whatever comes: a value or None, never an exception."""
    for decode in (decode_route, decode_link, decode_address):
        decode(body)
    list(decode_routes(body))
    attributes(body, 0)
    list(messages(body))


@given(st.binary(max_size=60), st.sampled_from([2, 10]), st.integers(0, 140))
def test_nonsense_behind_a_good_header(rest: bytes, family: int, length: int) -> None:
    found = decode_route(struct.pack("=BBBBBBBBI", family, length, 0, 0, 254, 171, 0, 1, 0) + rest)
    assert found is None or len(found.nlri) == 1 + (length + 7) // 8
    decode_link(struct.pack("=BxHiII", 0, 0, 1, 1, 0) + rest)
    decode_address(struct.pack("=BBBBI", family, length, 0, 0, 1) + rest)


def test_messages_end_where_a_length_cannot_be() -> None:
    good = struct.pack("=IHHII", 20, 24, 2, 7, 9) + b"abcd"
    assert list(messages(good + good)) == [Message(24, 2, 7, 9, b"abcd")] * 2
    assert list(messages(good + struct.pack("=IHHII", 0, 24, 2, 7, 9))) == [Message(24, 2, 7, 9, b"abcd")]
    assert list(messages(good + struct.pack("=IHHII", 999, 24, 2, 7, 9))) == [Message(24, 2, 7, 9, b"abcd")]
    assert list(messages(good[:18])) == []


def test_errno_names() -> None:
    assert errno_name(101) == "ENETUNREACH"
    assert errno_name(99999) == "errno 99999"


@pytest.mark.netns
def test_a_dump_that_was_cut_short_does_not_spoil_the_next(ns: Namespace) -> None:
    ns.batch("".join(f"route add blackhole 20.{n >> 8}.{n & 255}.0/24\n" for n in range(3000)))

    async def scenario() -> None:
        sock = RouteSocket.open(netns=ns.name)
        reader = KernelReader(sock)

        async def read() -> int:
            return sum([len(part) async for part in reader.routes(Family.IPV4)])

        task = asyncio.create_task(read())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await read() == 3002
        sock.close()

    run(scenario())
