"""A node with neighbours that say all there is to say, run by BIRD 1.6 or by routed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

from tests.netns import Lab, Machine
from tests.observe.bird import calico
from tests.observe.bird.replies import Reply, Route, ask, routes, rows
from tests.raw_peer import (
    AGGREGATOR,
    ATOMIC_AGGREGATE,
    EXTENDED_COMMUNITIES,
    EXTENDED_MESSAGE,
    FOUR_OCTET_AS,
    GRACEFUL_RESTART,
    MULTIPROTOCOL,
    OPTIONAL,
    ROUTE_REFRESH,
    TRANSITIVE,
    Attribute,
    Options,
    RawPeer,
)
from tests.rendered_bird import RenderedBird
from tests.routed_process import Record, Records, block, configuration, node, peer, pool, record, routed_run

EXT, MESH, EXT6 = "Global_192_0_2_50", "Mesh_192_0_2_9", "Global_2001_db8__50"
_CAPABILITIES = (
    (MULTIPROTOCOL, b"\0\1\0\1"),
    (FOUR_OCTET_AS, (65001).to_bytes(4, "big")),
    (ROUTE_REFRESH, b""),
    (GRACEFUL_RESTART, b"\0\x3c\0\1\1\x80"),
    (EXTENDED_MESSAGE, b""),
)
_MORE = (
    Attribute(TRANSITIVE, ATOMIC_AGGREGATE, b""),
    Attribute(OPTIONAL | TRANSITIVE, AGGREGATOR, (65010).to_bytes(4, "big") + b"\1\2\3\4"),
    Attribute(OPTIONAL | TRANSITIVE, 99, b"\x01\x02\xab" * 20),
    Attribute(
        OPTIONAL | TRANSITIVE,
        EXTENDED_COMMUNITIES,
        bytes.fromhex(
            "0002fde900000064 0003fde900000064 4304fde900000064 0102010203040007 8006000000000000"
            "0202000fde900007 4002fde900000064 0006fde900000064 0102ffffffffffff 030c000000000008"
        ),
    ),
)


@dataclass
class Side:
    """One of the two."""

    machine: Machine
    daemon: str
    at_start: Reply
    """`show status` before any peer was there."""
    not_ready_at_start: str | None
    """Why calico-node's readiness fails then."""

    def v4(self, command: str) -> Reply:
        """A command on bird.ctl."""
        return ask(self.machine.directory / "bird.ctl", command)

    def v6(self, command: str) -> Reply:
        """A command on bird6.ctl."""
        return ask(self.machine.directory / "bird6.ctl", command)

    def table(self, command: str, *, v6: bool = False) -> dict[str, list[Route]]:
        """`show route` by prefix."""
        reply = (self.v6 if v6 else self.v4)(command)
        assert reply.code in (0, 14), reply
        found: dict[str, list[Route]] = {}
        for route in routes(reply.texts(1007, 1008, 1012)):
            found.setdefault(route.prefix, []).append(comparable(route))
        return found


def comparable(route: Route) -> Route:
    """Without what BIRD has and routed does not keep, and what BIRD cuts off."""
    attributes = {
        name: value
        for name, value in route.attributes.items()
        if name not in ("Kernel.source", "Kernel.scope", "Kernel.metric") or route.kind.startswith("inherit")
    }
    attributes.pop("Kernel.source", None)
    attributes.pop("Kernel.scope", None)
    if (path := attributes.get("BGP.as_path")) is not None and len(path) > 400:
        attributes["BGP.as_path"] = path[:400]
    return replace(route, attributes=attributes)


def _records(node1: Machine, node2: Machine) -> list[Record]:
    rules = [{"matchOperator": "Equal", "cidr": "10.66.0.0/16", "action": "Reject"}]
    return [
        configuration(64512, mesh=True),
        pool("10.244.0.0/16"),
        pool("fd00:10:244::/48"),
        node(node1),
        node(node2),
        record("BGPFilter", "no66", importV4=rules),
        peer("ext", "192.0.2.50", 65001, filters=["no66"]),
        peer("gone", "192.0.2.77", 65002),
        peer("behind", "198.18.0.1", 65003, reachableBy="192.0.2.51"),
        peer("ext6", "2001:db8::50", 65001),
        *block("node1", "10.244.1.0/26"),
        *block("node1", "fd00:10:244:1::/122"),
        *block("node2", "10.244.2.0/26"),
        *block("node2", "fd00:10:244:2::/122"),
    ]


@contextlib.contextmanager
def side(lab: Lab, daemon: str) -> Iterator[Side]:
    node1 = lab.machine("node1", "192.0.2.8/24", "2001:db8::8/64")
    others = lab.machine("others", "192.0.2.9/24", "192.0.2.50/24", "192.0.2.51/24", "2001:db8::50/64")
    node2 = _as_node2(others, "192.0.2.9/24")
    node1.pod("pod", "cali0", ("10.244.1.1", "fd00:10:244:1::1"))
    node1.ip("route", "add", "172.16.0.0/16", "via", "192.0.2.51")
    ways = [word for one in ("192.0.2.50", "192.0.2.51") for word in ("nexthop", "via", one)]
    node1.ip("route", "add", "172.31.0.0/16", *ways)
    records = Records(lab.directory / "records")
    records.put("cluster", _records(node1, node2))
    if daemon == "bird":
        RenderedBird(node1, records).start()
    else:
        routed_run(node1, records, "--bird-sockets", str(node1.directory), "--api", "none").start()
    control = node1.directory / "bird.ctl"
    made = Side(node1, daemon, ask(control, "show status"), calico.not_ready(control, 4))
    with contextlib.ExitStack() as stack:

        def speak(asn: int, router_id: str, address: str, **options: object) -> RawPeer:
            chosen = Options(asn, router_id, address=address, end_of_rib=True, **options)  # type: ignore[arg-type]
            return stack.enter_context(RawPeer(others, chosen))

        ext = speak(65001, "9.9.9.9", "192.0.2.50", capabilities=_CAPABILITIES, remote="192.0.2.8")
        mesh = speak(64512, "8.8.8.8", "192.0.2.9", remote="192.0.2.8")
        ext6 = speak(65001, "9.9.9.9", "2001:db8::50", version=6, remote="2001:db8::8")
        for one in (ext, mesh, ext6):
            one.wait_established()
        _announce(ext, mesh, ext6)
        yield made


def _as_node2(machine: Machine, *addresses: str) -> Machine:
    """The machine as another node's record sees it."""
    made = Machine(machine.lab, "node2", machine.directory)
    made.addresses = addresses
    return made


def _announce(ext: RawPeer, mesh: RawPeer, ext6: RawPeer) -> None:
    sets = frozenset({65011, 65012})
    communities = [(65001, one) for one in range(100)]
    large = [(65001, one, 1) for one in range(60)]
    ext.announce(
        "203.0.113.0/24",
        as_path=(65001, sets),
        med=7,
        communities=communities,
        large_communities=large,
        more=_MORE,
        origin=2,
    )
    ext.announce("203.0.114.0/24", as_path=(65001, sets, 65013), origin=1)
    ext.announce("203.0.115.0/24", as_path=(65001, *range(65100, 65250)), communities=[(65535, 666)])
    ext.announce("10.9.0.0/16", as_path=(65001, 64512))  # a loop
    ext.announce("10.66.0.0/16", as_path=(65001,))  # rejected by the filter
    ext.announce("10.55.0.0/16", as_path=(65001,))
    mesh.announce("10.244.2.0/26", local_pref=100)
    mesh.announce("10.55.0.0/16", local_pref=100, next_hop="192.0.2.51", med=0, as_path=(65001,))
    mesh.announce(
        "10.56.0.0/16",
        local_pref=200,
        next_hop="100.100.100.100",
        originator_id="7.7.7.7",
        cluster_list=["1.1.1.1", "2.2.2.2"],
    )
    mesh.announce("10.57.0.0/16", local_pref=200, next_hop="172.16.5.5")
    mesh.announce("10.58.0.0/16", local_pref=2147483000)
    mesh.announce("10.59.0.0/16", local_pref=200, next_hop="172.31.5.5")
    mesh.announce("10.244.1.7/32", local_pref=100)
    ext6.announce("2001:db8:5::/48", "::/0", as_path=(65001,))


def settled(side: Side) -> bool:
    count = side.v4("show route count").last
    assert count.startswith("17 of 17 routes for 16"), count
    assert side.v6("show route count").last.startswith("5 of 5 routes for 5")
    if side.daemon == "bird":
        assert "Graceful" not in str(side.v4("show status")), "BIRD waits for its peers"
    assert "10.244.2.0/26" in side.machine.routes(4)
    assert "No route to host" in rows(side.v4("show protocols"))["Global_192_0_2_77"].info
    return True
