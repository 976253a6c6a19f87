"""What each address family is to do on this node: its address, export policy and kernel policy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address

from routed.bgp.nlri import Family
from routed.intent.cluster import Cluster
from routed.intent.originated import Originated
from routed.intent.policy import export_policy, kernel_policy
from routed.intent.services import ServiceRanges
from routed.intent.types import CommunityRule, FamilyIntent
from routed.intent.wireguard import WireGuardNodes
from routed.resources import IPPool, Node


class Families:
    """The intents of both families. `mark` and `set_*` say what changed, `take` works it out."""

    def __init__(self, cluster: Cluster, originated: Originated) -> None:
        self.pools: dict[str, IPPool] = {}
        """By name. To be marked when changed."""
        self._cluster = cluster
        self._originated = originated
        self._wireguard = WireGuardNodes()
        self._communities: tuple[CommunityRule, ...] = ()
        self._ranges = ServiceRanges()
        self._cluster_id: IPv4Address | None = None
        self._intents: dict[Family, FamilyIntent] = {}
        self._stale: set[Family] = set(Family)

    @property
    def intents(self) -> Mapping[Family, FamilyIntent]:
        """By family, as of the last `take`."""
        return self._intents

    @property
    def ranges(self) -> ServiceRanges:
        """The ranges of service addresses that are announced."""
        return self._ranges

    def mark(self, families: Iterable[Family] = Family) -> None:
        """What these follow from changed: the configuration, this node, pools or originated routes."""
        self._stale.update(families)

    def set_node(self, name: str, node: Node | None) -> None:
        """Puts in the record of a node, or takes it out."""
        self.mark(self._wireguard.set_node(name, node))

    def set_communities(self, rules: tuple[CommunityRule, ...]) -> None:
        """Which prefixes are announced with which communities."""
        if rules != self._communities:
            self._communities = rules
            self.mark()

    def set_ranges(self, ranges: ServiceRanges) -> bool:
        """The ranges of service addresses that are announced. True where they differ from those before."""
        if ranges == self._ranges:
            return False
        self._ranges = ranges
        self.mark()
        return True

    def set_cluster_id(self, cluster_id: IPv4Address | None) -> None:
        """The node's own, where it is a route reflector."""
        if cluster_id != self._cluster_id:
            self._cluster_id = cluster_id
            self.mark()

    def take(self) -> frozenset[Family]:
        """Works out what was marked; the families whose intent that changed."""
        changed = set()
        for family in self._stale:
            intent = self._intent(family)
            if intent != self._intents.get(family):
                self._intents[family] = intent
                changed.add(family)
        self._stale.clear()
        return frozenset(changed)

    def _intent(self, family: Family) -> FamilyIntent:
        local = self._cluster.local()
        configuration = self._cluster.configuration
        pools = list(self.pools.values())
        return FamilyIntent(
            family=family,
            node_address=None if local is None else local.interface(family),
            export_policy=export_policy(
                family,
                configuration,
                pools,
                self._communities,
                self._ranges,
                self._cluster_id,
                self._originated.aggregates(family),
                self._originated.statics(family),
            ),
            kernel_policy=kernel_policy(
                family,
                configuration,
                pools,
                self._ranges,
                self._wireguard.others(family, self._cluster.options.node),
            ),
            local_workload_address=configuration.local_workload_peering_ip_v4
            if family is Family.IPV4
            else configuration.local_workload_peering_ip_v6,
        )
