"""Route requests against pyroute2's encoder: the same octets for every shape of route."""

from __future__ import annotations

import errno
import socket
from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink.rtnl import RTM_DELROUTE, RTM_NEWROUTE
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from routed.bgp.nlri import Family, from_network, to_network
from routed.bgp.route import FibRoute, NextHop
from routed.kernel.encode import (
    CREATE,
    DELETE,
    REPLACE,
    RouteEncoder,
    WishError,
    with_acknowledgement,
)

LINKS = {"eth0": 2, "tunl0": 7, "cali0123456789a": 4711}

ipv4 = st.integers(0, 2**32 - 1).map(IPv4Address)
ipv6 = st.integers(0, 2**128 - 1).map(IPv6Address).filter(lambda address: not address.is_link_local)


@st.composite
def wishes(draw: st.DrawFn) -> tuple[Family, bytes, FibRoute]:
    family = draw(st.sampled_from(Family))
    length = draw(st.integers(0, family.max_prefix_length))
    bits = draw(st.integers(0, 2**family.max_prefix_length - 1))
    network = ip_network((bits.to_bytes(family.address_octets, "big"), length), strict=False)
    gateways = st.one_of(ipv4, ipv6) if family is Family.IPV4 else ipv6
    named = st.builds(NextHop, gateways, st.sampled_from(sorted(LINKS)), st.booleans())
    hops = draw(st.lists(st.one_of(st.builds(NextHop, gateways), named), max_size=5))
    metric = draw(st.integers(0, 2**32 - 1))
    return family, from_network(network), FibRoute(tuple(hops), metric)


def reference_hop(family: Family, hop: NextHop) -> dict[str, Any]:
    via = hop.gateway.version == 6 and family is Family.IPV4
    gateway: tuple[str, Any] = ("RTA_GATEWAY", str(hop.gateway))
    if via:
        gateway = ("RTA_VIA", {"family": socket.AF_INET6, "addr": str(hop.gateway)})
    oif = 0 if hop.interface is None else LINKS[hop.interface]
    return {"oif": oif, "flags": 4 if hop.onlink else 0, "hops": 0, "attrs": [gateway]}


def reference(family: Family, nlri: bytes, route: FibRoute, table: int, flags: int, sequence: int) -> bytes:
    """What pyroute2 makes of a wish to install."""
    network = to_network(nlri, family)
    message = rtmsg()
    message["family"] = socket.AF_INET if family is Family.IPV4 else socket.AF_INET6
    message["dst_len"] = network.prefixlen
    message["table"] = table if table < 256 else 252
    message["proto"] = 171
    message["type"] = 1 if route.next_hops else 6
    attributes: list[tuple[str, Any]] = [("RTA_DST", str(network.network_address))]
    if table > 255:
        attributes.append(("RTA_TABLE", table))
    if route.metric:
        attributes.append(("RTA_PRIORITY", route.metric))
    hops = [reference_hop(family, hop) for hop in dict.fromkeys(route.next_hops)]
    if len(hops) == 1:
        message["flags"] = hops[0]["flags"]
        attributes += hops[0]["attrs"]
        if hops[0]["oif"]:
            attributes.append(("RTA_OIF", hops[0]["oif"]))
    elif hops:
        attributes.append(("RTA_MULTIPATH", hops))
    message["attrs"] = attributes
    message["header"] = {"type": RTM_NEWROUTE, "flags": flags, "sequence_number": sequence, "pid": 0}
    message.encode()
    return bytes(message.data)


@given(wishes(), st.sampled_from([254, 255, 256, 1000, 2**32 - 1]), st.integers(1, 2**31))
def test_install_is_what_pyroute2_makes(
    wish: tuple[Family, bytes, FibRoute], table: int, sequence: int
) -> None:
    family, nlri, route = wish
    encoder = RouteEncoder(family, table=table, protocol=171)
    tail = encoder.install_tail(route, LINKS.get)
    for flags, number in ((CREATE, 0x1 | 0x400 | 0x200), (REPLACE, 0x1 | 0x100)):
        request = encoder.request(flags, sequence, nlri, tail)
        assert request == reference(family, nlri, route, table, number, sequence)
        assert tail.length == len(request)


@given(wishes(), st.sampled_from([254, 1000]))
def test_removal_is_what_pyroute2_makes(wish: tuple[Family, bytes, FibRoute], table: int) -> None:
    family, nlri, route = wish
    encoder = RouteEncoder(family, table=table, protocol=171)
    message = rtmsg()
    message["family"] = socket.AF_INET if family is Family.IPV4 else socket.AF_INET6
    message["dst_len"] = nlri[0]
    message["table"] = table if table < 256 else 252
    message["proto"] = 171
    message["scope"] = 255 if family is Family.IPV4 else 0
    attributes: list[tuple[str, Any]] = [("RTA_DST", str(to_network(nlri, family).network_address))]
    if table > 255:
        attributes.append(("RTA_TABLE", table))
    if route.metric:
        attributes.append(("RTA_PRIORITY", route.metric))
    message["attrs"] = attributes
    message["header"] = {"type": RTM_DELROUTE, "flags": 1, "sequence_number": 9, "pid": 0}
    message.encode()
    assert encoder.request(DELETE, 9, nlri, encoder.delete_tail(route.metric)) == bytes(message.data)


def test_only_the_last_of_a_send_asks_for_an_acknowledgement() -> None:
    encoder = RouteEncoder(Family.IPV4, table=254, protocol=171)
    tail = encoder.install_tail(FibRoute((), 7), LINKS.get)
    requests = [encoder.request(CREATE, n, bytes((24, 10, 0, n)), tail) for n in range(1, 4)]
    buffer = with_acknowledgement(requests)
    last = len(requests[0]) * 2
    assert buffer[:last] == requests[0] + requests[1]
    assert buffer[last + 6] == requests[2][6] | 4
    assert buffer[last + 7 :] == requests[2][7:]


@pytest.mark.parametrize(
    ("family", "route", "number"),
    [
        (Family.IPV4, FibRoute((), -1), errno.EINVAL),
        (Family.IPV4, FibRoute((), 2**32), errno.EINVAL),
        (Family.IPV4, FibRoute((NextHop(IPv4Address(1), None, True),), 1), errno.EINVAL),
        (Family.IPV4, FibRoute((NextHop(IPv6Address("fe80::1")),), 1), errno.EINVAL),
        (Family.IPV6, FibRoute((NextHop(IPv6Address("fe80::1")),), 1), errno.EINVAL),
        (Family.IPV6, FibRoute((NextHop(IPv4Address(1)),), 1), errno.EAFNOSUPPORT),
        (Family.IPV4, FibRoute((NextHop(IPv4Address(1), "eth9"),), 1), errno.ENODEV),
        (Family.IPV4, FibRoute(tuple(NextHop(IPv4Address(n)) for n in range(6000)), 1), errno.E2BIG),
    ],
)
def test_what_the_kernel_could_not_take(family: Family, route: FibRoute, number: int) -> None:
    encoder = RouteEncoder(family, table=254, protocol=171)
    with pytest.raises(WishError) as caught:
        encoder.install_tail(route, LINKS.get)
    assert caught.value.errno == number
    assert caught.value.text
