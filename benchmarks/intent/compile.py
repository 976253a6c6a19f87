"""How long the intent takes: a large cluster from nothing, and one change of each kind.

    python benchmarks/intent/compile.py [--nodes 5000] [--blocks 20000] [--peers 200] [--services 2000]

The cluster is made of records, as a datastore gives them; parsing them is not measured. Times of single
changes are medians of many, forth and back; a compile of everything is the best of three.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import time
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface, ip_address, ip_network

import msgspec

from routed.intent.compiler import Compiler, compile_intent
from routed.intent.options import Options
from routed.resources import (
    Action,
    AddressType,
    BGPConfiguration,
    BGPFilter,
    BGPPeer,
    BlockAffinity,
    BlockAttribute,
    Endpoint,
    EndpointSlice,
    FilterRule,
    IPAMBlock,
    IPFamily,
    IPPool,
    Node,
    PeerAddress,
    Record,
    Service,
    ServiceType,
    TrafficPolicy,
    parse_selector,
)

RACKS = 100
ME = "node-00000"


def nodes(count: int) -> Iterator[Node]:
    """Dual stack, in racks, each with the labels that Kubernetes gives a node."""
    for number in range(count):
        name = f"node-{number:05}"
        yield Node(
            name=name,
            labels={
                "kubernetes.io/hostname": name,
                "kubernetes.io/os": "linux",
                "kubernetes.io/arch": "amd64",
                "topology.kubernetes.io/zone": f"zone-{number % 3}",
                "rack": f"rack-{number % RACKS}",
                **({"route-reflector": "true"} if number % 1000 == 1 else {}),
            },
            ipv4_address=IPv4Interface((IPv4Address("10.0.0.1") + number, 16)),
            ipv6_address=IPv6Interface((IPv6Address("fd00::1") + number, 64)),
            route_reflector_cluster_id=IPv4Address("10.0.0.2") if number % 1000 == 1 else None,
        )


def blocks(count: int, node_count: int) -> Iterator[Record]:
    """Blocks of 64 addresses, each with its affinity and a few allocations."""
    first = int(IPv4Address("100.64.0.0"))
    for number in range(count):
        node = f"node-{number % node_count:05}"
        cidr = ip_network((first + number * 64, 26))
        yield BlockAffinity(name=f"{node}-{cidr}", node=node, cidr=cidr)
        yield ipam_block(number, node_count)


def ipam_block(number: int, node_count: int, pods: int = 8) -> IPAMBlock:
    node = f"node-{number % node_count:05}"
    cidr = ip_network((int(IPv4Address("100.64.0.0")) + number * 64, 26))
    return IPAMBlock(
        name=str(cidr),
        cidr=cidr,
        affinity=f"host:{node}",
        allocations=(*range(pods), *([None] * (64 - pods))),
        attributes=tuple(BlockAttribute(f"h{n}", {"node": node, "pod": f"p{n}"}) for n in range(pods)),
    )


def peers(count: int) -> Iterator[BGPPeer]:
    """A top-of-rack router for each rack, the reflectors, and peerings between zones and racks."""
    yield BGPPeer(
        name="reflectors",
        node_selector=parse_selector("!has(route-reflector)"),
        peer_selector=parse_selector("has(route-reflector)"),
    )
    for number in range(count - 1):
        rack = f"rack == 'rack-{number % RACKS}'"
        if number < RACKS:
            yield BGPPeer(
                name=f"tor-{number}",
                node_selector=parse_selector(rack),
                peer_ip=PeerAddress(ip_address("192.0.2.0") + number % 250),
                as_number=65000 + number,
            )
        else:
            yield BGPPeer(
                name=f"zones-{number}",
                node_selector=parse_selector(
                    f"{rack} && topology.kubernetes.io/zone in {{'zone-0', 'zone-1'}}"
                ),
                peer_selector=parse_selector(f"{rack} && has(route-reflector)"),
            )


def services(count: int, node_count: int) -> Iterator[Record]:
    for number in range(count):
        name = f"service-{number}"
        yield Service(
            namespace="default",
            name=name,
            type=ServiceType.LOAD_BALANCER,
            cluster_ips=(ip_address("10.96.0.0") + number,),
            external_traffic_policy=TrafficPolicy.LOCAL,
            ip_families=(IPFamily.IPV4,),
        )
        yield endpoint_slice(number, node_count)


def endpoint_slice(number: int, node_count: int, ready: bool = True) -> EndpointSlice:
    """Three endpoints; one of them here for one service of ten."""
    places = [number % node_count, (number * 7 + 1) % node_count, 0 if number % 10 == 0 else 1]
    return EndpointSlice(
        namespace="default",
        name=f"service-{number}-x",
        service_name=f"service-{number}",
        address_type=AddressType.IPV4,
        endpoints=tuple(Endpoint(f"node-{place:05}", ready) for place in places),
    )


def configuration(mesh: bool) -> BGPConfiguration:
    return BGPConfiguration(
        name="default",
        node_to_node_mesh_enabled=mesh,
        service_cluster_ips=(ip_network("10.96.0.0/16"),),
    )


def cluster(arguments: argparse.Namespace, mesh: bool) -> dict[str, Record]:
    found: list[Record] = [
        configuration(mesh),
        IPPool(name="pods", cidr=ip_network("100.64.0.0/10"), block_size=26),
        BGPFilter(name="f", import_v4=(FilterRule(action=Action.REJECT),)),
        *nodes(arguments.nodes),
        *blocks(arguments.blocks, arguments.nodes),
        *peers(arguments.peers),
        *services(arguments.services, arguments.nodes),
    ]
    return {str(record.key): record for record in found}


def best(work: Callable[[], object], times: int = 3) -> float:
    """Seconds, of the fastest run."""
    durations = []
    for _ in range(times):
        gc.collect()
        start = time.perf_counter()
        work()
        durations.append(time.perf_counter() - start)
    return min(durations)


def change(compiler: Compiler, before: Record | None, after: Record | None, times: int = 40) -> float:
    """Seconds for a change of one record: the median of forth and back. None: the record is absent."""
    durations = []
    for turn in range(times):
        to = (after, before)[turn % 2]
        known = before or after
        assert known is not None
        start = time.perf_counter()
        if to is None:
            compiler.apply((), (known.key,))
        else:
            compiler.apply((to,))
        durations.append(time.perf_counter() - start)
    return statistics.median(durations)


def changes(
    records: dict[str, Record], node_count: int
) -> Iterator[tuple[str, Record | None, Record | None]]:
    """What is changed, the record as it is, and as it becomes."""
    replace = msgspec.structs.replace
    affinity = next(r for r in records.values() if isinstance(r, BlockAffinity) and r.node == ME)
    foreign = next(r for r in records.values() if isinstance(r, BlockAffinity) and r.node != ME)
    yield "a block of this node: its affinity goes", affinity, None
    yield "a block of another node: its affinity goes", foreign, None
    yield "an allocation in a block of another node", ipam_block(7, node_count), ipam_block(7, node_count, 9)
    yield "the whole block goes", ipam_block(7, node_count), None
    other = records[f"Node node-{node_count // 2:05}"]
    assert isinstance(other, Node)
    yield "a label of another node", other, replace(other, labels={**other.labels, "more": "x"})
    yield (
        "another node becomes a reflector",
        other,
        replace(other, labels={**other.labels, "route-reflector": ""}),
    )
    yield "another node goes", other, None
    own = records[f"Node {ME}"]
    assert isinstance(own, Node)
    yield "a label of this node", own, replace(own, labels={**own.labels, "more": "x"})
    yield "this node's address", own, replace(own, ipv4_address=IPv4Interface("10.9.9.9/16"))
    service = records["Service default/service-10"]
    assert isinstance(service, Service)
    yield "a service goes", service, None
    yield "endpoints of a service", endpoint_slice(10, node_count), endpoint_slice(10, node_count, False)
    tor = records["BGPPeer tor-0"]
    assert isinstance(tor, BGPPeer)
    yield "a BGPPeer of this node", tor, replace(tor, as_number=64999)
    elsewhere = records["BGPPeer tor-1"]
    assert isinstance(elsewhere, BGPPeer)
    yield "a BGPPeer of other nodes", elsewhere, replace(elsewhere, as_number=64999)
    yield "a BGPPeer with selectors", records["BGPPeer reflectors"], None
    settings = records["BGPConfiguration default"]
    assert isinstance(settings, BGPConfiguration)
    yield "the global AS number", settings, replace(settings, as_number=64513)
    yield "a global setting that no peering reads", settings, replace(settings, ignored_interfaces=("eth9",))


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("nodes", 5000), ("blocks", 20000), ("peers", 200), ("services", 2000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    arguments = parser.parse_args()
    options = Options(ME)
    for mesh in (False, True):
        records = cluster(arguments, mesh)
        print(f"\n{'full mesh' if mesh else 'reflectors'}: {len(records)} records")
        whole = best(lambda: compile_intent(records.values(), options))  # noqa: B023  # called at once
        compiler = Compiler(options)
        compiler.apply(records.values())
        print(f"{whole * 1e3:10.1f} ms  all of it, {len(compiler.intent.sessions)} sessions")
        for what, before, after in changes(records, arguments.nodes):
            print(f"{change(compiler, before, after) * 1e3:10.3f} ms  {what}")


if __name__ == "__main__":
    main()
