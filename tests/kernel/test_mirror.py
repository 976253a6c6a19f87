"""The mirror by itself: messages made here, for what this kernel does not do, or not on demand."""

from __future__ import annotations

import socket
import struct
from ipaddress import ip_interface

import pytest

from routed.bgp.route import FibRoute
from routed.kernel.base import (
    AddressAdded,
    AddressRemoved,
    Link,
    LinkDown,
    LinkUp,
    OwnRouteChanged,
    OwnRoutesInDoubt,
    RouteDown,
    RouteUp,
    Snapshot,
)
from routed.kernel.encode import CREATE, RTA_OIF, RTA_PREFSRC, RouteEncoder
from routed.kernel.mirror import Mirror, differences
from routed.kernel.netlink import (
    NLM_F_CREATE,
    NLM_F_REPLACE,
    RTM_DELADDR,
    RTM_DELLINK,
    RTM_DELROUTE,
    RTM_NEWADDR,
    RTM_NEWLINK,
    RTM_NEWROUTE,
    Message,
    attribute,
)
from tests.kernel.kernel import prefix, route
from tests.kernel.test_monitor import address, alien

OURS, OTHERS, FIB_PORT = 171, 4, 4242
LINKS = {"lo": 1, "eth0": 2, "cali1": 3}


def link_message(
    name: str, up: bool = True, kind: int = RTM_NEWLINK, family: int = 0, index: int = 0
) -> Message:
    body = struct.pack("=BxHiII", family, 1, index or LINKS[name], 1 if up else 0, 0)
    return Message(kind, 0, 0, 0, body + attribute(3, name.encode() + b"\0"))


def address_message(name: str, text: str, kind: int = RTM_NEWADDR, flags: int = 0) -> Message:
    interface = ip_interface(text)
    family = socket.AF_INET if interface.version == 4 else socket.AF_INET6
    body = struct.pack("=BBBBI", family, interface.network.prefixlen, flags, 0, LINKS[name])
    return Message(kind, 0, 0, 0, body + attribute(1, interface.ip.packed))


def route_message(
    text: str,
    wish: FibRoute,
    *,
    kind: int = RTM_NEWROUTE,
    protocol: int = OTHERS,
    flags: int = NLM_F_CREATE,
    port: int = 0,
    extra: bytes = b"",
) -> Message:
    family, nlri = prefix(text)
    encoder = RouteEncoder(family, table=254, protocol=protocol)
    body = encoder.request(CREATE, 1, nlri, encoder.install_tail(wish, LINKS.get))[16:]
    return Message(kind, flags, 0, port, body + extra)


@pytest.fixture
def mirror() -> Mirror:
    made = Mirror(own_protocol=OURS, own_port=FIB_PORT)
    for name in LINKS:
        made.apply(link_message(name))
    return made


def test_changes_of_our_fib_are_known_by_their_port(mirror: Mirror) -> None:
    wish = route("10.9.0.2%eth0")
    changed = [OwnRouteChanged(*prefix("10.1.0.0/26"))]
    for kind in (RTM_NEWROUTE, RTM_DELROUTE):
        own = route_message("10.1.0.0/26", wish, kind=kind, protocol=OURS, port=FIB_PORT)
        assert mirror.apply(own) == []
        assert mirror.apply(own._replace(port=0)) == changed
        assert mirror.apply(own._replace(port=77)) == changed
    # Without a FIB of ours (port 0) all is somebody's doing.
    alone = Mirror(own_protocol=OURS)
    alone.apply(link_message("eth0"))
    assert alone.apply(own._replace(port=0)) == changed
    assert mirror.snapshot().routes == ()


def test_what_the_kernel_takes_out_with_a_link_is_one_doubt(mirror: Mirror) -> None:
    gone = route_message("fd51::/64", route("fd09::2%eth0"), kind=RTM_DELROUTE, protocol=OURS)
    other = route_message("fd52::/64", route("fd09::2%cali1"), kind=RTM_DELROUTE, protocol=OURS)
    assert mirror.apply(link_message("eth0", up=False)) == [
        OwnRoutesInDoubt("eth0", ()),
        LinkDown(Link("eth0", 2, False)),
    ]
    assert mirror.apply(gone) == []
    assert mirror.apply(gone._replace(port=77)) == [OwnRouteChanged(*prefix("fd51::/64"))]
    assert mirror.apply(other) == [OwnRouteChanged(*prefix("fd52::/64"))]


def test_a_preferred_source_that_goes_raises_doubt(mirror: Mirror) -> None:
    """Kernels before 6.7 drop the routes that prefer it without a word."""
    source = attribute(RTA_PREFSRC, bytes((10, 8, 0, 1)))
    mirror.apply(address_message("eth0", "10.8.0.1/24"))
    mirror.apply(address_message("eth0", "10.9.0.1/24"))
    message = route_message("10.1.0.0/26", route("10.9.0.2%cali1"), extra=source)
    mirror.apply(message)
    assert mirror.apply(address_message("eth0", "10.9.0.1/24", RTM_DELADDR)) == [
        AddressRemoved(address("eth0", "10.9.0.1/24"))
    ]
    assert not mirror.doubtful
    mirror.apply(address_message("eth0", "10.9.0.1/24"))
    mirror.apply(address_message("eth0", "10.8.0.1/24", RTM_DELADDR))
    assert mirror.doubtful
    # Once the route is gone nothing prefers it.
    mirror.doubtful = False
    mirror.apply(message._replace(type=RTM_DELROUTE))
    mirror.apply(address_message("eth0", "10.8.0.1/24"))
    mirror.apply(address_message("eth0", "10.8.0.1/24", RTM_DELADDR))
    assert not mirror.doubtful


def test_silent_loss_of_ipv4_routes(mirror: Mirror) -> None:
    mirror.apply(route_message("10.1.0.5/32", route("10.9.0.2%cali1", metric=0)))
    mirror.apply(route_message("fd51::5/128", route("fd09::2%cali1")))
    ipv4 = RouteDown(alien("10.1.0.5/32", "cali1", "10.9.0.2"))
    ipv6 = RouteDown(alien("fd51::5/128", "cali1", "fd09::2", 1024))
    mirror.apply(address_message("cali1", "10.9.0.1/24"))
    events = mirror.apply(address_message("cali1", "10.9.0.1/24", RTM_DELADDR))
    assert events[1:] == [ipv4, OwnRoutesInDoubt("cali1", (prefix("10.1.0.5/32"),))]
    events = mirror.apply(link_message("cali1", up=False))
    assert events == [
        ipv6,
        OwnRoutesInDoubt("cali1", (prefix("fd51::5/128"),)),
        LinkDown(Link("cali1", 3, False)),
    ]
    assert mirror.apply(link_message("cali1", up=False)) == []
    assert mirror.snapshot().routes == ()
    assert not mirror.doubtful


def test_multipath_over_a_link_that_goes_raises_doubt(mirror: Mirror) -> None:
    mirror.apply(route_message("10.1.0.0/26", route("10.9.0.2%eth0", "10.8.0.2%cali1")))
    mirror.apply(link_message("cali1", kind=RTM_DELLINK))
    assert mirror.doubtful
    assert [r.interface for r in mirror.snapshot().routes] == [None]


def test_an_event_about_an_unknown_link_raises_doubt(mirror: Mirror) -> None:
    extra = attribute(RTA_OIF, struct.pack("=I", 99))
    mirror.apply(route_message("10.1.0.0/26", route("10.9.0.2"), extra=extra))
    assert mirror.doubtful


def test_an_alien_route_in_our_place(mirror: Mirror) -> None:
    """NLM_F_REPLACE where nothing is mirrored: it took the place of a route of ours."""
    message = route_message("10.1.0.0/26", route("10.9.0.2%eth0"), flags=NLM_F_REPLACE)
    up = RouteUp(alien("10.1.0.0/26", "eth0", "10.9.0.2", 1024))
    assert mirror.apply(message) == [OwnRouteChanged(*prefix("10.1.0.0/26")), up]
    # Once more: now it takes the place of itself.
    assert mirror.apply(message) == [RouteDown(up.route), up]
    # And ours in its place, which nobody but a third party does.
    ours = route_message("10.1.0.0/26", route("10.9.0.2%eth0"), flags=NLM_F_REPLACE, protocol=OURS)
    assert mirror.apply(ours) == [OwnRouteChanged(*prefix("10.1.0.0/26")), RouteDown(up.route)]
    blackhole = route_message("10.1.0.0/26", route(), flags=NLM_F_REPLACE)
    mirror.apply(message)
    assert mirror.apply(blackhole) == [RouteDown(up.route)]


def test_routes_that_share_a_place(mirror: Mirror) -> None:
    """fe80::/64 is there once a link; appended IPv4 routes are too. What goes is told apart by its next
    hop."""
    first = route_message("10.1.0.0/26", route("10.9.0.2%eth0"))
    second = route_message("10.1.0.0/26", route("10.9.0.2%cali1"))
    downs = [RouteDown(alien("10.1.0.0/26", name, "10.9.0.2", 1024)) for name in ("eth0", "cali1")]
    mirror.apply(first)
    mirror.apply(second)
    assert mirror.apply(first) == []  # said twice: once by a dump
    assert mirror.apply(first._replace(type=RTM_DELROUTE)) == [downs[0]]
    mirror.apply(first)
    assert mirror.apply(link_message("cali1", kind=RTM_DELLINK))[0] == downs[1]
    assert not mirror.doubtful
    # Which of two was replaced is not said.
    mirror.apply(route_message("10.1.0.0/26", route("10.9.0.3%eth0")))
    mirror.apply(first._replace(flags=NLM_F_REPLACE))
    assert mirror.doubtful


def test_what_is_left_out(mirror: Mirror) -> None:
    message = route_message("10.1.0.0/26", route("10.9.0.2%eth0"))
    table, tos, cloned = bytearray(message.body), bytearray(message.body), bytearray(message.body)
    table[4] = 100
    tos[3] = 16
    cloned[9] = 2  # RTM_F_CLONED
    for body in (table, tos, cloned, message.body[:8]):
        assert mirror.apply(message._replace(body=bytes(body))) == []
        assert mirror.apply(message._replace(type=RTM_DELROUTE, body=bytes(body))) == []
    assert mirror.apply(route_message("10.1.0.0/26", route())) == []
    assert mirror.apply(message._replace(type=99)) == []
    assert mirror.apply(link_message("eth0", kind=RTM_DELLINK, family=socket.AF_BRIDGE)) == []
    for kind in (RTM_NEWLINK, RTM_DELLINK, RTM_NEWADDR, RTM_DELADDR):
        assert mirror.apply(Message(kind, 0, 0, 0, b"short")) == []
    assert mirror.snapshot().routes == ()
    assert not mirror.doubtful


def test_differences_of_snapshots_are_what_leads_from_one_to_the_other() -> None:
    def state(*links: Link, addresses: tuple[str, ...] = (), routes: tuple[str, ...] = ()) -> Snapshot:
        return Snapshot(
            links,
            tuple(address("eth0", text) for text in addresses),
            tuple(alien(text, "eth0") for text in routes),
        )

    up, down, renamed = Link("eth0", 2, True), Link("eth0", 2, False), Link("eth1", 2, True)
    old = state(up, addresses=("10.9.0.1/24",), routes=("10.1.0.0/26",))
    assert differences(old, old) == []
    assert differences(state(), old) == [
        LinkUp(up),
        AddressAdded(address("eth0", "10.9.0.1/24")),
        RouteUp(alien("10.1.0.0/26", "eth0")),
    ]
    gone = [
        RouteDown(alien("10.1.0.0/26", "eth0")),
        AddressRemoved(address("eth0", "10.9.0.1/24")),
        LinkDown(down),
    ]
    assert differences(old, state()) == gone
    assert differences(old, state(down)) == gone
    assert differences(old, state(renamed)) == [*gone, LinkUp(renamed)]


def test_rename_and_vanish(mirror: Mirror) -> None:
    mirror.apply(address_message("cali1", "10.9.0.1/24"))
    mirror.apply(route_message("10.1.0.5/32", route("10.9.0.2%cali1", metric=0)))
    events = mirror.apply(link_message("caliX", index=3))
    assert events == [
        AddressRemoved(address("cali1", "10.9.0.1/24")),
        AddressAdded(address("caliX", "10.9.0.1/24")),
        RouteDown(alien("10.1.0.5/32", "cali1", "10.9.0.2")),
        RouteUp(alien("10.1.0.5/32", "caliX", "10.9.0.2")),
        LinkDown(Link("cali1", 3, False)),
        LinkUp(Link("caliX", 3, True)),
    ]
    events = mirror.apply(link_message("caliX", kind=RTM_DELLINK, index=3))
    assert events == [
        AddressRemoved(address("caliX", "10.9.0.1/24")),
        RouteDown(alien("10.1.0.5/32", "caliX", "10.9.0.2")),
        OwnRoutesInDoubt("caliX", (prefix("10.1.0.5/32"),)),
        LinkDown(Link("caliX", 3, False)),
    ]
    assert mirror.apply(link_message("caliX", kind=RTM_DELLINK, index=3)) == []
