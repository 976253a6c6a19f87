"""Next hops: where they lead, and what is worked out again when that changes. A node without a speaker or a
kernel: its tables, a writer, a learner that is told of events, and a FIB that only remembers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routed.bgp.attributes import originate
from routed.bgp.config import SpeakerConfig
from routed.bgp.nlri import Family, from_network, to_text
from routed.bgp.path import Source, SourceKind
from routed.bgp.route import FibRoute
from routed.bgp.tables import Tables
from routed.intent.types import (
    FamilyIntent,
    KernelAction,
    KernelPolicy,
    KernelRule,
    OriginatedRoute,
    OriginKind,
)
from routed.kernel.base import (
    AddressAdded,
    AddressRemoved,
    AlienHop,
    AlienRoute,
    Event,
    InterfaceAddress,
    Link,
    LinkDown,
    LinkUp,
    RouteDown,
    RouteUp,
    Snapshot,
)
from routed.kernel.dryrun import NullFib, NullMonitor
from routed.kernel_learner import EVENTS_A_TURN, KernelLearner
from routed.kernel_writer import KernelWriter
from routed.next_hops import NextHops
from routed.resources import Key
from tests.kernel.kernel import prefix, route
from tests.virtual import run

POD, OTHER = "10.244.1.0/26", "10.244.2.0/26"
STATIC, DHCP = 4, 16
NORMAL = 1024


def link(name: str, *, up: bool = True) -> LinkUp | LinkDown:
    one = Link(name, 1 + sum(name.encode()), up)
    return LinkUp(one) if up else LinkDown(one)


def address(text: str, *, there: bool = True) -> AddressAdded | AddressRemoved:
    """`10.0.0.1/24 dev eth0`, `10.0.0.1/32 peer 10.0.0.2 dev tun0`."""
    words = text.split()
    interface = ip_interface(words[0])
    peer = ip_address(words[words.index("peer") + 1]) if "peer" in words else None
    one = InterfaceAddress(words[-1], interface.ip, interface.network.prefixlen, peer)
    return AddressAdded(one) if there else AddressRemoved(one)


def alien(text: str, *, there: bool = True, protocol: int = STATIC) -> RouteUp | RouteDown:
    """`0.0.0.0/0 10.0.0.254%eth0 10.1.0.254%eth1`, `10.9.0.0/24 %eth0`: a way is a gateway, or none, and its
    interface."""
    destination, *ways = text.split()
    hops = []
    for way in ways:
        gateway, _, interface = way.partition("%")
        hops.append(AlienHop(interface, ip_address(gateway) if gateway else None))
    one = AlienRoute(*prefix(destination), tuple(hops), None, protocol)
    return RouteUp(one) if there else RouteDown(one)


class CountingFib(NullFib):
    """Counts what it is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def replace(self, family: Family, nlri: bytes, route: FibRoute | None) -> None:
        self.asked.append(to_text(nlri, family))
        super().replace(family, nlri, route)


class Node:
    """eth0 is 10.0.0.1/24 and fd00::1/64, eth1 10.1.0.1/24 and fd01::1/64."""

    def __init__(self, *events: Event, policy: KernelPolicy | None = None, bare: bool = False) -> None:
        self.next_hops = NextHops()
        config = SpeakerConfig(bytes((10, 0, 0, 1)), 64512)
        self.tables = Tables(config, lambda: None, self.next_hops)
        self.fib = CountingFib()
        self.writer = KernelWriter(
            self.fib,
            self.tables.ribs,
            lambda: None,
            next_hops=self.next_hops,
            rerank=self.tables.rerank,
        )
        self.learner = KernelLearner(NullMonitor(), self.tables, self.writer, self.next_hops)
        self.sources: dict[tuple[Family, int], Source] = {}
        for family, rib in self.tables.ribs.items():
            rib.subscribe(self._listener(family))
            node = "10.0.0.1/24" if family is Family.IPV4 else "fd00::1/64"
            intent = FamilyIntent(family, ip_interface(node), kernel_policy=policy or KernelPolicy())
            self.writer.set_family(family, intent)
        if not bare:
            self.see(link("lo"), link("eth0"), link("eth1"))
            self.see(address("10.0.0.1/24 dev eth0"), address("10.1.0.1/24 dev eth1"))
            self.see(address("fd00::1/64 dev eth0"), address("fd01::1/64 dev eth1"))
        self.see(*events)

    def _listener(self, family: Family) -> Callable[..., None]:
        return lambda nlri: self.writer.update(family, nlri)

    def see(self, *events: Event) -> None:
        for event in events:
            self.learner._take(event)
        self.settle()

    def settle(self) -> None:
        """As the event loop has it: until nothing is left to be done."""
        more = True
        while more:
            self.tables.flush()
            more = self.writer.work(limit=2)

    def source(self, family: Family, number: int) -> Source:
        found = self.sources.get((family, number))
        if found is None:
            found = self.sources[family, number] = Source(
                f"peer{number}",
                SourceKind.IBGP,
                self.tables.router[family],
                address=bytes((10, 0, 0, 100 + number)),
                router_id=bytes((10, 0, 0, 100 + number)),
                remote_as=64512,
                local_as=64512,
            )
        return found

    def hear(self, number: int, destination: str, *next_hop: str, local_pref: int | None = None) -> None:
        """Peer `number` announces a prefix; without a next hop it withdraws it."""
        family, nlri = prefix(destination)
        rib, source = self.tables.ribs[family], self.source(family, number)
        if next_hop:
            octets = b"".join(ip_address(one).packed for one in next_hop)
            pref = 2147483647 - NORMAL if local_pref is None else local_pref
            rib.insert(source.path(originate(next_hop=octets, local_pref=pref)), (nlri,))
        else:
            rib.withdraw(source, (nlri,))
        self.settle()

    def originate(self, destination: str, kind: OriginKind, gateway: str | None = None) -> None:
        family, nlri = prefix(destination)
        one = OriginatedRoute(
            ip_network(destination),
            kind,
            Key("BGPPeer", "x"),
            "",
            advertise=gateway is None,
            blackhole=gateway is None,
            gateway=None if gateway is None else ip_address(gateway),
        )
        self.writer.originate(family, nlri, one)
        if gateway is None:
            self.tables.originate(family, nlri)
        self.settle()

    def unoriginate(self, destination: str) -> None:
        family, nlri = prefix(destination)
        self.writer.originate(family, nlri, None)
        self.tables.withdraw(family, nlri, SourceKind.STATIC)
        self.settle()

    def wish(self, destination: str = POD) -> FibRoute | str | None:
        """The wanted kernel route, or why there is none."""
        family, nlri = prefix(destination)
        return self.fib.wanted[family].get(nlri) or self.writer.reasons[family].get(nlri)

    def best(self, destination: str = POD) -> str:
        """The name of who gave the best path."""
        family, nlri = prefix(destination)
        best = self.tables.ribs[family].best(nlri)
        assert best is not None
        return best.source.name


def test_a_next_hop_on_a_network_of_ours_is_its_own_gateway() -> None:
    node = Node()
    node.hear(1, POD, "10.1.0.7")
    assert node.wish() == route("10.1.0.7%eth1")


def test_a_next_hop_elsewhere_is_reached_through_the_gateway_of_the_route_to_it() -> None:
    """As in a network where each host has a default route: also with an address of /32, as some clouds have
    it."""
    node = Node(link("eth0"), address("10.9.0.1/32 dev eth0"), bare=True)
    node.hear(1, POD, "10.9.0.2")
    assert node.wish() == "next hop 10.9.0.2: there is no route to it"
    node.see(alien("10.9.0.254/32 %eth0", protocol=DHCP), alien("0.0.0.0/0 10.9.0.254%eth0", protocol=DHCP))
    assert node.wish() == route("10.9.0.254%eth0")
    node.see(alien("10.9.0.2/32 %eth0"))
    assert node.wish() == route("10.9.0.2%eth0")
    node.see(
        alien("10.9.0.2/32 %eth0", there=False),
        alien("0.0.0.0/0 10.9.0.254%eth0", there=False, protocol=DHCP),
        alien("0.0.0.0/0 10.9.0.253%eth0", protocol=DHCP),
    )
    assert node.wish() == route("10.9.0.253%eth0")


def test_a_nearer_next_hop_is_better_and_not_merged_with_one_behind_a_gateway() -> None:
    node = Node(alien("0.0.0.0/0 10.0.0.254%eth0"))
    node.hear(1, POD, "172.16.0.9")
    node.hear(2, POD, "10.0.0.7")
    assert (node.wish(), node.best()) == (route("10.0.0.7%eth0"), "peer2")
    node.see(link("eth0", up=False), alien("0.0.0.0/0 10.0.0.254%eth0", there=False))
    assert node.wish() in (
        "next hop 172.16.0.9: there is no route to it",
        "next hop 10.0.0.7: there is no route to it",
    )


def test_all_ways_of_a_route_of_others_are_used_but_those_of_links_that_are_down() -> None:
    both = alien("0.0.0.0/0 10.0.0.254%eth0 10.1.0.254%eth1")
    node = Node(both)
    node.hear(1, POD, "172.16.0.9")
    node.hear(1, OTHER, "10.0.0.7")
    assert node.wish() == route("10.0.0.254%eth0", "10.1.0.254%eth1")
    node.fib.asked.clear()
    node.see(link("eth1", up=False))  # the kernel keeps the route, with one way dead
    assert node.wish() == route("10.0.0.254%eth0")
    node.see(link("eth1"))
    assert node.wish() == route("10.0.0.254%eth0", "10.1.0.254%eth1")
    assert node.fib.asked == [POD, POD]


def test_equal_paths_leave_out_what_is_not_reachable_and_take_it_back() -> None:
    node = Node()
    node.hear(1, POD, "10.0.0.7")
    node.hear(2, POD, "10.1.0.7")
    node.hear(3, POD, "10.1.0.8")
    node.hear(1, OTHER, "10.0.0.7")
    every = route("10.0.0.7%eth0", "10.1.0.7%eth1", "10.1.0.8%eth1")
    assert node.wish() == every
    for gone, back in (
        (link("eth1", up=False), link("eth1")),
        (address("10.1.0.1/24 dev eth1", there=False), address("10.1.0.1/24 dev eth1")),
    ):
        node.fib.asked.clear()
        node.see(gone)
        assert node.wish() == route("10.0.0.7%eth0")
        node.see(back)
        assert node.wish() == every
        assert set(node.fib.asked) == {POD}
        assert node.wish(OTHER) == route("10.0.0.7%eth0")


def test_only_prefixes_behind_the_next_hop_are_worked_out_again(monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node()
    for number in range(100):
        node.hear(1, f"10.244.{number}.0/26", f"10.0.0.{10 + number % 10}")
    for number in range(5):
        node.hear(2, f"10.245.{number}.0/26", "10.1.0.7")
    worked: list[str] = []
    wish = KernelWriter._wish

    def counted(self: KernelWriter, family: Family, state: Any, nlri: Sequence[bytes], route: Any) -> None:
        worked.extend(to_text(one, family) for one in nlri)
        wish(self, family, state, nlri, route)

    monkeypatch.setattr(KernelWriter, "_wish", counted)
    behind = {f"10.245.{number}.0/26" for number in range(5)}
    node.see(link("eth1", up=False))
    assert set(worked) == behind | {"10.1.0.0/24", "fd01::/64"}
    worked.clear()
    node.see(alien("10.0.0.13/32 10.0.0.99%eth0"))
    assert set(worked) == {"10.0.0.13/32"} | {f"10.244.{number}.0/26" for number in range(3, 100, 10)}
    worked.clear()
    node.see(alien("10.99.0.0/16 10.0.0.99%eth0"))  # nothing is behind it
    assert set(worked) == {"10.99.0.0/16"}


def test_a_reachable_path_is_better_than_one_that_is_not() -> None:
    node = Node()
    node.hear(1, POD, "172.16.0.9", local_pref=2147483647 - NORMAL)
    node.hear(2, POD, "10.0.0.7", local_pref=100)
    assert node.best() == "peer2"
    assert node.wish() == route("10.0.0.7%eth0", metric=2147483547)
    node.see(alien("172.16.0.0/12 10.0.0.254%eth0"))
    assert node.best() == "peer1"
    assert node.wish() == route("10.0.0.254%eth0")
    node.see(alien("172.16.0.0/12 10.0.0.254%eth0", there=False))
    assert node.best() == "peer2"


def test_a_route_learned_by_bgp_leads_to_no_next_hop() -> None:
    """As in BIRD, and as the kernel has it; a network of ours is more than the same by BGP."""
    node = Node(alien("0.0.0.0/0 10.0.0.254%eth0"))
    node.hear(1, POD, "172.16.0.9")
    assert node.wish() == route("10.0.0.254%eth0")
    node.hear(2, "172.16.0.0/16", "10.0.0.7")
    assert node.wish() == ("next hop 172.16.0.9: the route to it, 172.16.0.0/16, was itself learned by BGP")
    node.see(alien("172.16.0.8/29 10.1.0.254%eth1"))  # more specific
    assert node.wish() == route("10.1.0.254%eth1")
    node.see(alien("172.16.0.8/29 10.1.0.254%eth1", there=False))
    node.hear(2, "172.16.0.0/16")
    assert node.wish() == route("10.0.0.254%eth0")
    node.hear(2, "10.0.0.0/24", "10.0.0.7")
    node.hear(1, OTHER, "10.0.0.9")
    assert node.wish(OTHER) == route("10.0.0.9%eth0")
    # A route that leads to its own next hop: it hides the network, and so has none.
    node.hear(3, "10.0.0.0/25", "10.0.0.7")
    assert node.wish(OTHER) == "next hop 10.0.0.9: the route to it, 10.0.0.0/25, was itself learned by BGP"
    assert isinstance(node.wish("10.0.0.0/25"), str)
    node.hear(3, "10.0.0.0/25")
    assert node.wish(OTHER) == route("10.0.0.9%eth0")


def test_a_blackhole_of_ours_leads_nowhere_but_a_workload_in_it_is_there() -> None:
    node = Node(link("cali1"))
    node.originate("10.244.9.0/26", OriginKind.BLOCK)
    node.hear(1, POD, "10.244.9.5")
    assert node.wish() == "next hop 10.244.9.5: the route to it, 10.244.9.0/26, is a blackhole of this node"
    node.see(alien("10.244.9.5/32 %cali1", protocol=80))
    assert node.wish() == route("10.244.9.5%cali1")
    node.see(alien("10.244.9.5/32 %cali1", there=False, protocol=80), link("cali1", up=False))
    assert isinstance(node.wish(), str)
    node.unoriginate("10.244.9.0/26")
    assert node.wish() == "next hop 10.244.9.5: there is no route to it"


def test_our_own_address_is_no_next_hop() -> None:
    node = Node()
    node.hear(1, POD, "10.0.0.7")
    node.see(address("10.0.0.7/24 dev eth0"))
    assert node.wish() == "next hop 10.0.0.7 is an address of this node"
    node.see(address("10.0.0.7/24 dev eth0", there=False))
    assert node.wish() == route("10.0.0.7%eth0")


def test_the_link_local_address_beside_a_next_hop_is_the_gateway_on_a_network_of_ours() -> None:
    node = Node(alien("::/0 fe80::99%eth1"))
    node.hear(1, "fd50::/64", "fd00::7", "fe80::7")
    assert node.wish("fd50::/64") == route("fe80::7%eth0")
    node.hear(1, "fd50::/64", "fd77::7", "fe80::7")
    assert node.wish("fd50::/64") == route("fe80::99%eth1")
    node.hear(1, "fd50::/64", "fd00::7", "::")
    assert node.wish("fd50::/64") == route("fd00::7%eth0")
    node.hear(1, "fd50::/64", "fe80::7")
    assert node.wish("fd50::/64") == "next hop fe80::7 is link-local, and names no interface"


def test_a_peer_that_is_reachable_by_a_gateway() -> None:
    """The static route goes in, next hops go through it, and both follow the gateway."""
    node = Node(alien("0.0.0.0/0 10.1.0.254%eth1"))
    node.hear(1, POD, "192.0.2.9")
    assert node.wish() == route("10.1.0.254%eth1")
    node.originate("192.0.2.9/32", OriginKind.REACHABLE_BY, "10.0.0.254")
    assert (node.wish(), node.wish("192.0.2.9/32")) == (route("10.0.0.254%eth0"), route("10.0.0.254%eth0"))
    node.see(link("eth0", up=False), alien("0.0.0.0/0 10.1.0.254%eth1", there=False))
    assert node.wish("192.0.2.9/32") == "reachableBy: next hop 10.0.0.254: there is no route to it"
    assert node.wish() == "next hop 192.0.2.9: reachableBy: next hop 10.0.0.254: there is no route to it"
    node.see(link("eth0"))
    assert (node.wish(), node.wish("192.0.2.9/32")) == (route("10.0.0.254%eth0"), route("10.0.0.254%eth0"))
    node.originate("192.0.2.9/32", OriginKind.REACHABLE_BY, "10.0.0.253")
    assert (node.wish(), node.wish("192.0.2.9/32")) == (route("10.0.0.253%eth0"), route("10.0.0.253%eth0"))
    node.hear(2, "192.0.2.9/32", "10.0.0.7")  # what peers say of it does not count
    assert node.wish("192.0.2.9/32") == route("10.0.0.253%eth0")
    node.hear(2, "192.0.2.9/32")
    node.originate("192.0.2.9/32", OriginKind.REACHABLE_BY, "192.0.2.9")  # through itself
    assert node.wish("192.0.2.9/32") == "reachableBy: next hop 192.0.2.9: there is no route to it"
    assert isinstance(node.wish(), str)
    node.unoriginate("192.0.2.9/32")
    assert (node.wish(), node.wish("192.0.2.9/32")) == ("next hop 192.0.2.9: there is no route to it", None)


def tunnelled(action: KernelAction) -> KernelPolicy:
    return KernelPolicy(rules=(KernelRule(ip_network("10.244.0.0/16"), action, "IPPool"),))


def test_the_tunnel_has_to_be_up_and_its_other_end_reachable() -> None:
    node = Node(alien("10.3.0.0/16 10.0.0.254%eth0"), policy=tunnelled(KernelAction.TUNNEL))
    node.hear(1, POD, "10.3.0.7")
    node.hear(1, "10.99.0.0/16", "10.3.0.7")
    assert node.wish() == "next hop 10.3.0.7: there is no interface tunl0 that is up"
    node.fib.asked.clear()
    node.see(link("tunl0"))
    assert node.wish() == route("10.3.0.7%tunl0 onlink")  # the other end itself, not the gateway to it
    assert node.fib.asked == [POD]
    node.see(alien("10.3.0.0/16 10.0.0.254%eth0", there=False))
    assert node.wish() == "next hop 10.3.0.7: there is no route to it"
    node.see(alien("10.3.0.0/16 10.0.0.254%eth0"), link("tunl0", up=False))
    assert isinstance(node.wish(), str)
    node.hear(1, POD)
    assert node.wish() is None
    node.fib.asked.clear()
    node.see(link("tunl0"))
    assert node.fib.asked == []


def test_cross_subnet_tunnels_each_next_hop_that_needs_it() -> None:
    node = Node(
        link("tunl0"), alien("0.0.0.0/0 10.0.0.254%eth0"), policy=tunnelled(KernelAction.TUNNEL_CROSS_SUBNET)
    )
    node.hear(1, POD, "10.0.0.7")
    assert node.wish() == route("10.0.0.7%eth0")
    node.hear(2, POD, "10.1.0.7")  # near too, but not in the node's own subnet
    assert node.wish() == route("10.0.0.7%eth0", "10.1.0.7%tunl0 onlink")
    node.see(link("tunl0", up=False))
    assert node.wish() == route("10.0.0.7%eth0")
    node.see(link("tunl0"), link("eth0", up=False), alien("0.0.0.0/0 10.0.0.254%eth0", there=False))
    assert node.wish() == route("10.1.0.7%tunl0 onlink")


def networks(node: Node) -> dict[str, str | None]:
    """What Loc-RIB has of networks of interfaces, and through which."""
    return {
        to_text(nlri, family): path.interface
        for family, rib in node.tables.ribs.items()
        for nlri in rib.routes
        for path in rib.ranked(nlri)
        if path.source.kind is SourceKind.DIRECT
    }


def test_networks_of_interfaces_are_routes() -> None:
    node = Node()
    own = {"10.0.0.0/24": "eth0", "10.1.0.0/24": "eth1", "fd00::/64": "eth0", "fd01::/64": "eth1"}
    assert networks(node) == own
    node.see(address("127.0.0.1/8 dev lo"), address("::1/128 dev lo"), address("fe80::1/64 dev eth0"))
    node.see(address("169.254.0.5/16 dev eth0"), address("10.7.0.1/24 dev cali1"), link("cali1"))
    node.see(address("10.96.0.1/32 dev kube-ipvs0"), link("kube-ipvs0"))
    assert networks(node) == own
    node.see(address("10.255.0.1/32 dev lo"), address("10.6.0.1/32 peer 10.6.0.2 dev tun0"), link("tun0"))
    assert networks(node) == own | {"10.255.0.1/32": "lo", "10.6.0.2/32": "tun0"}
    node.see(link("tun0", up=False), address("10.255.0.1/32 dev lo", there=False))
    assert networks(node) == own
    # Two interfaces on one network, two addresses of one network on an interface.
    node.see(link("eth2"), address("10.0.0.2/24 dev eth2"), address("10.0.0.3/24 dev eth0"))
    node.see(address("10.0.0.1/24 dev eth0", there=False))
    assert networks(node) == own
    node.see(address("10.0.0.3/24 dev eth0", there=False))
    assert networks(node) == own | {"10.0.0.0/24": "eth2"}
    node.see(address("10.0.0.1/24 dev eth0"), link("eth2", up=False))
    assert networks(node) == own


def test_ignored_interfaces_have_no_networks_and_lead_to_no_next_hop() -> None:
    node = Node()
    node.hear(1, POD, "10.1.0.7")
    node.learner.ignore_interfaces(("eth1", "docker*"))
    node.settle()
    assert networks(node) == {"10.0.0.0/24": "eth0", "fd00::/64": "eth0"}
    assert node.wish() == "next hop 10.1.0.7: there is no route to it"
    node.see(address("10.1.0.2/24 dev eth1"), address("10.5.0.1/24 dev docker0"), link("docker0"))
    assert networks(node) == {"10.0.0.0/24": "eth0", "fd00::/64": "eth0"}
    node.learner.ignore_interfaces(("docker*",))
    node.settle()
    assert node.wish() == route("10.1.0.7%eth1")
    assert "10.5.0.0/24" not in networks(node)


def test_what_is_there_at_the_start_is_learned() -> None:
    node = Node(bare=True)
    addresses = tuple(e.address for e in (address("10.0.0.1/24 dev eth0"), address("10.1.0.1/24 dev eth1")))
    default = alien("0.0.0.0/0 10.0.0.254%eth0").route
    bird = alien("10.8.0.0/16 10.0.0.254%eth0", protocol=12).route
    node.learner.learn(Snapshot((Link("eth0", 1, True), Link("eth1", 2, False)), addresses, (default, bird)))
    node.settle()
    node.hear(1, POD, "172.16.0.9")
    node.hear(1, OTHER, "10.1.0.7")
    assert networks(node) == {"10.0.0.0/24": "eth0"}
    assert node.wish() == route("10.0.0.254%eth0")
    assert node.wish(OTHER) == route("10.0.0.254%eth0")
    assert node.wish("10.8.0.0/16") is None


class Burst(NullMonitor):
    """Sees a thousand routes at once."""

    async def changes(self) -> AsyncIterator[Sequence[Event]]:
        yield [alien(f"10.7.{number >> 8}.{number & 255}/32 %eth0") for number in range(1000)]


def test_a_burst_of_routes_leaves_the_loop_its_turns() -> None:
    async def main() -> None:
        node = Node()
        learner = KernelLearner(Burst(), node.tables, node.writer, node.next_hops)
        task = asyncio.create_task(learner.run())
        turns = 0
        while not task.done():
            await asyncio.sleep(0)
            turns += 1
        await task
        assert turns > 1000 // EVENTS_A_TURN
        assert len(node.tables.ribs[Family.IPV4].routes) == 2 + 1000

    run(main())


def test_without_a_kernel_every_next_hop_is_taken_to_be_reachable() -> None:
    tables = Tables(SpeakerConfig(bytes((10, 0, 0, 1)), 64512), lambda: None)
    fib = NullFib()
    writer = KernelWriter(fib, tables.ribs, lambda: None)
    learner = KernelLearner(NullMonitor(), tables, writer)
    learner.learn(Snapshot((Link("eth0", 1, True),), (), ()))
    writer.set_family(Family.IPV4, FamilyIntent(Family.IPV4, None))
    source = Source("peer", SourceKind.IBGP, tables.router[Family.IPV4], address=bytes(4))
    nlri = from_network(ip_network(POD))
    tables.ribs[Family.IPV4].insert(source.path(originate(next_hop=bytes((10, 9, 9, 9)))), (nlri,))
    writer.update(Family.IPV4, (nlri,))
    assert not writer.work()
    assert fib.wanted[Family.IPV4][nlri] == route("10.9.9.9", metric=2147483547)


# Any sequence of changes ends where a node ends that sees just the outcome.

PREFIXES = [POD, OTHER, "10.0.0.0/25", "10.3.0.0/16", "172.16.0.0/12", "0.0.0.0/0", "10.0.0.7/32"]
NEXT_HOPS = ["10.0.0.7", "10.0.0.200", "10.1.0.7", "10.3.0.7", "172.16.0.9", "10.244.9.5"]
ALIENS = [
    "0.0.0.0/0 10.0.0.254%eth0",
    "0.0.0.0/0 10.0.0.254%eth0 10.1.0.254%eth1",
    "10.3.0.0/16 10.1.0.254%eth1",
    "10.3.0.7/32 %eth0",
    "172.16.0.9/32 10.0.0.9%eth0 10.1.0.9%eth1",
    "10.244.9.5/32 %eth1",
]
ADDRESSES = ["10.0.0.1/24 dev eth0", "10.1.0.1/24 dev eth1", "10.0.0.7/24 dev eth0", "10.3.0.1/24 dev eth1"]

Change = tuple[str, ...]
changes: st.SearchStrategy[Change] = st.one_of(
    st.tuples(st.just("hear"), st.sampled_from("123"), st.sampled_from(PREFIXES), st.sampled_from(NEXT_HOPS)),
    st.tuples(st.just("unhear"), st.sampled_from("123"), st.sampled_from(PREFIXES)),
    st.tuples(st.just("alien"), st.sampled_from(ALIENS)),
    st.tuples(st.just("unalien"), st.sampled_from(ALIENS)),
    st.tuples(st.just("address"), st.sampled_from(ADDRESSES)),
    st.tuples(st.just("unaddress"), st.sampled_from(ADDRESSES)),
    st.tuples(st.just("up"), st.sampled_from(["eth0", "eth1", "tunl0"])),
    st.tuples(st.just("down"), st.sampled_from(["eth0", "eth1", "tunl0"])),
    st.tuples(st.just("reachable"), st.sampled_from(["10.0.0.254", "10.3.0.1", "172.16.0.9"])),
    st.tuples(st.just("unreachable")),
    st.tuples(st.just("block")),
    st.tuples(st.just("unblock")),
)


def perform(node: Node, change: Change) -> None:
    match change:
        case ("hear", number, destination, next_hop):
            node.hear(int(number), destination, next_hop)
        case ("unhear", number, destination):
            node.hear(int(number), destination)
        case ("alien", text):
            node.see(alien(text))
        case ("unalien", text):
            node.see(alien(text, there=False))
        case ("address", text):
            node.see(address(text))
        case ("unaddress", text):
            node.see(address(text, there=False))
        case ("up" | "down" as state, name):
            node.see(link(name, up=state == "up"))
        case ("reachable", gateway):
            node.originate("172.16.0.9/32", OriginKind.REACHABLE_BY, gateway)
        case ("unreachable",):
            node.writer.originate(*prefix("172.16.0.9/32"), None)
            node.settle()
        case ("block",):
            node.originate("10.244.9.0/26", OriginKind.BLOCK)
        case ("unblock",):
            node.unoriginate("10.244.9.0/26")


def key_of(change: Change) -> tuple[str, ...]:
    """What a change is about: the last one about it counts."""
    kind = change[0].removeprefix("un")
    match kind:
        case "hear":
            return ("hear", *change[1:3])
        case "up" | "down":
            return ("link", change[1])
        case "reachable" | "block":
            return (kind,)
        case _:
            return (kind, change[1])


@given(st.lists(changes, max_size=40))
def test_any_sequence_ends_as_its_outcome(sequence: list[Change]) -> None:
    policy = tunnelled(KernelAction.TUNNEL_CROSS_SUBNET)
    start: list[Change] = [("up", "eth0"), ("up", "eth1"), *(("address", one) for one in ADDRESSES[:2])]
    followed, fresh = Node(policy=policy, bare=True), Node(policy=policy, bare=True)
    for change in start + sequence:
        perform(followed, change)
    outcome: dict[tuple[str, ...], Change] = {}
    for change in start + sequence:
        outcome.pop(key_of(change), None)
        outcome[key_of(change)] = change
    order = ("hear", "unhear", "block", "reachable", "alien", "address", "up")  # peers first: all unreachable
    for change in sorted(outcome.values(), key=lambda one: (one[0] in order, one[0])):
        if not change[0].startswith("un") and change[0] != "down":
            perform(fresh, change)
    assert shown(followed) == shown(fresh)
    # What is decided for runs of prefixes is what is decided for each.
    for family, state in followed.writer._states.items():
        for nlri in state.rib.routes.keys() | state.originated.keys():
            decided = followed.writer._decide(family, state, nlri)
            assert (state.wanted.get(nlri) or state.reasons.get(nlri)) == decided
    for family, rib in followed.tables.ribs.items():
        for nlri in rib.routes:
            keys = [path.key for path in rib.ranked(nlri)]
            assert keys == sorted(keys)
            assert [path.source.name for path in rib.ranked(nlri)] == [
                path.source.name for path in fresh.tables.ribs[family].ranked(nlri)
            ]


def shown(node: Node) -> dict[str, object]:
    found: dict[str, object] = {}
    for family, wanted in node.fib.wanted.items():
        found |= {to_text(nlri, family): one for nlri, one in wanted.items()}
        found |= {to_text(nlri, family): why for nlri, why in node.writer.reasons[family].items()}
    return found
