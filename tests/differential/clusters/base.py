"""What the clusters have in common."""

from __future__ import annotations

from typing import Any

from tests.differential.cluster import (
    ADDRESSES,
    AS,
    NODE,
    Peer,
    node_record,
    node_says,
)
from tests.routed_process import Record, block, configuration, pool

V4, V6 = ADDRESSES[4], ADDRESSES[6]
POOL, POOL6 = pool("10.244.0.0/16"), pool("fd00:10:244::/48")
BLOCK, BLOCK6 = "10.244.1.0/26", "fd00:10:244:1::/122"
OWN = [*block(NODE, BLOCK), *block(NODE, BLOCK6)]
ROUTER_AS, ROUTER2_AS = 65001, 4200000001


def cluster_records(
    *more: Record,
    mesh: bool = False,
    hosts: tuple[str, ...] = (),
    versions: tuple[int, ...] = (4,),
    **spec: Any,
) -> tuple[Record, ...]:
    """The BGPConfiguration, the node with its blocks, a pool a family, and more."""
    return (
        configuration(AS, mesh=mesh, **spec),
        node_record(NODE, versions=versions),
        *(node_record(host, versions=versions) for host in hosts),
        POOL,
        POOL6,
        *OWN,
        *more,
    )


MESH_HOSTS = ("worker02", "worker03")


def mesh_peers(version: int = 4) -> tuple[Peer, ...]:
    """Two mesh nodes, one that dials and one that is dialled, each with a block."""
    dials = {host: ADDRESSES[version][host] > ADDRESSES[version][NODE] for host in MESH_HOSTS}
    said = {
        4: {"worker02": "10.244.2.0/26", "worker03": "10.244.3.0/26"},
        6: {"worker02": "fd00:10:244:2::/122", "worker03": "fd00:10:244:3::/122"},
    }
    return tuple(
        Peer(host, version=version, dials=dials[host], says=(node_says(said[version][host]),))
        for host in MESH_HOSTS
    )


def rule(action: str, **fields: object) -> Record:
    """One BGPFilter rule."""
    return {"action": action, **fields}


def within(cidr: str, operator: str = "In", **length: int) -> Record:
    """A rule's match by prefix."""
    found: Record = {"cidr": cidr, "matchOperator": operator}
    return {**found, "prefixLength": length} if length else found
