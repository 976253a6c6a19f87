"""What the compiler has worked out, to be looked at: for explanations and views."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from routed.bgp.nlri import Family
from routed.intent.blocks import BlockTable
from routed.intent.cluster import Cluster
from routed.intent.options import Options
from routed.intent.services import ServiceRanges, ServiceTable
from routed.intent.types import FamilyIntent, NodeIntent, OriginatedRoute, SessionIntent
from routed.resources import IPPool, Network


@dataclass(frozen=True, slots=True)
class Tables:
    """The compiler's own tables, without a copy: they change with the next record, and are not to be changed
    by who looks at them."""

    options: Options
    header: NodeIntent
    """Router ID, AS, cluster ID and the like; without sessions, routes and families."""
    cluster: Cluster
    sessions: Mapping[str, SessionIntent]
    """By name."""
    blocks: BlockTable
    services: ServiceTable
    ranges: ServiceRanges
    pools: Mapping[str, IPPool]
    """By name."""
    originated: Mapping[Network, OriginatedRoute]
    families: Mapping[Family, FamilyIntent]

    @property
    def pod_cidrs(self) -> dict[Network, str]:
        """With host-local IPAM: all nodes' pod CIDRs, and whose each is; one that two nodes have is the
        first's by name."""
        if not self.options.use_pod_cidr:
            return {}
        found: dict[Network, str] = {}
        for name in sorted(self.cluster.nodes):
            for network in self.cluster.nodes[name].pod_cidrs:
                found.setdefault(network, name)
        return found
