"""What the records say, as far as the demonstration builds on it: machines, pods, and the routes to expect.

Read with a YAML parser alone, not with routed's own code, so that the expectations are a check of that code.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path
from typing import Any

import yaml

RECORDS = Path(__file__).resolve().parent.parent / "cluster"
#: The block that is added while the cluster runs, and the node that it is for.
NEW_BLOCK = ("worker03", "10.244.1.0/26")
Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Node:
    """A machine of the cluster."""

    name: str
    addresses: tuple[str, ...]
    """With prefix lengths, as the record has them."""
    reflector: bool

    def address(self, version: int) -> str | None:
        """Its address of one IP version, without the length."""
        for text in self.addresses:
            if (interface := ip_interface(text)).version == version:
                return str(interface.ip)
        return None


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod, found by its allocated addresses."""

    name: str
    node: str
    addresses: tuple[str, ...]
    borrowed_from: str | None
    """The node that owns the blocks of its addresses, where that is another one."""


@dataclass(frozen=True, slots=True)
class Outside:
    """The router that is no part of the cluster."""

    asn: int
    addresses: tuple[str, ...]
    announces: tuple[str, ...] = ("198.51.100.0/24", "2001:db8:100::/48")
    targets: tuple[str, ...] = ("198.51.100.1", "2001:db8:100::1")
    """Addresses of its own in what it announces."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """The cluster of a folder of records."""

    asn: int
    nodes: tuple[Node, ...]
    pods: tuple[Pod, ...]
    outside: Outside
    owners: dict[str, str] = field(default_factory=dict)
    """Node by block, for confirmed affinities."""

    def node(self, name: str) -> Node:
        """A node by name."""
        return next(node for node in self.nodes if node.name == name)

    def expected_routes(self, node: str) -> dict[str, str | None]:
        """What routed must put into a node's kernel: gateway by destination, None for a blackhole."""
        routes: dict[str, str | None] = {}
        for block, owner in self.owners.items():
            version = ip_network(block).version
            routes[block] = None if owner == node else self.node(owner).address(version)
        for pod in self.pods:
            if pod.borrowed_from and pod.node != node:
                for address in pod.addresses:
                    version = ip_address(address).version
                    routes[host_prefix(address)] = self.node(pod.node).address(version)
        for prefix in self.outside.announces:
            version = ip_network(prefix).version
            routes[prefix] = next(a for a in self.outside.addresses if ip_address(a).version == version)
        return routes

    def expected_outside(self) -> set[str]:
        """What the router outside must learn: the blocks and the borrowed addresses."""
        borrowed = {
            host_prefix(address) for pod in self.pods if pod.borrowed_from for address in pod.addresses
        }
        return set(self.owners) | borrowed


def host_prefix(address: str) -> str:
    """The /32 or /128 of an address."""
    return f"{address}/{ip_address(address).max_prefixlen}"


def documents(directory: Path) -> Iterator[Record]:
    """Every record in a folder of YAML files."""
    for path in sorted(directory.glob("*.yaml")):
        with path.open() as stream:
            yield from (document for document in yaml.safe_load_all(stream) if document)


def read(directory: Path) -> Cluster:
    """The cluster that a folder of records describes."""
    by_kind: dict[str, list[Record]] = {}
    for record in documents(directory):
        by_kind.setdefault(record["kind"], []).append(record)
    configuration = by_kind["BGPConfiguration"][0]["spec"]
    external = [record["spec"] for record in by_kind["BGPPeer"] if "peerIP" in record["spec"]]
    owners = {
        str(record["spec"]["cidr"]): record["spec"]["node"]
        for record in by_kind["BlockAffinity"]
        if record["spec"]["state"] == "confirmed"
    }
    return Cluster(
        asn=configuration["asNumber"],
        nodes=tuple(_node(record) for record in by_kind["Node"]),
        pods=_pods(by_kind["IPAMBlock"]),
        outside=Outside(external[0]["asNumber"], tuple(spec["peerIP"] for spec in external)),
        owners=owners,
    )


def _node(record: Record) -> Node:
    bgp = record["spec"]["bgp"]
    addresses = tuple(bgp[key] for key in ("ipv4Address", "ipv6Address") if key in bgp)
    return Node(record["metadata"]["name"], addresses, "routeReflectorClusterID" in bgp)


def _pods(blocks: list[Record]) -> tuple[Pod, ...]:
    pods: dict[str, Pod] = {}
    for record in blocks:
        spec = record["spec"]
        base = ip_network(spec["cidr"]).network_address
        owner = spec["affinity"].removeprefix("host:")
        for offset, index in enumerate(spec["allocations"]):
            if index is None:
                continue
            place = spec["attributes"][index]["secondary"]
            pod = pods.get(place["pod"]) or Pod(place["pod"], place["node"], (), None)
            pods[pod.name] = dataclasses.replace(
                pod,
                addresses=(*pod.addresses, str(base + offset)),
                borrowed_from=owner if owner != pod.node else None,
            )
    return tuple(sorted(pods.values(), key=lambda pod: (pod.node, pod.name)))


def copy_records(target: Path) -> None:
    """A copy for the demonstration, which adds a record to it."""
    shutil.copytree(RECORDS, target)


def new_block(directory: Path, node: str, cidr: str) -> tuple[Path, Path]:
    """Writes a confirmed affinity and its IPAM block beside the records. Returns the finished file under a
    name that the datastore does not read yet, and the name to give it."""
    network = ip_network(cidr)
    name = cidr.replace(".", "-").replace(":", "-").replace("/", "-")
    records: list[Record] = [
        {
            "apiVersion": "crd.projectcalico.org/v1",
            "kind": "BlockAffinity",
            "metadata": {"name": f"{node}-{name}"},
            "spec": {"cidr": cidr, "node": node, "state": "confirmed", "deleted": "false", "type": "host"},
        },
        {
            "apiVersion": "crd.projectcalico.org/v1",
            "kind": "IPAMBlock",
            "metadata": {"name": name},
            "spec": {
                "cidr": cidr,
                "affinity": f"host:{node}",
                "allocations": [None] * network.num_addresses,
                "attributes": [],
                "unallocated": list(range(network.num_addresses)),
                "strictAffinity": False,
                "deleted": False,
            },
        },
    ]
    unfinished = directory / ".new-block.unfinished"
    unfinished.write_text(yaml.safe_dump_all(records, sort_keys=False))
    return unfinished, directory / "new-block.yaml"
