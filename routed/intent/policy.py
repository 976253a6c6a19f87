"""Which routes may leave, and which learned ones go into the kernel."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv4Address

from routed.bgp.nlri import Family
from routed.intent.services import ServiceRanges, in_text_order
from routed.intent.types import (
    CommunityRule,
    ExportPolicy,
    KernelAction,
    KernelPolicy,
    KernelRule,
)
from routed.resources import (
    Address,
    BGPConfiguration,
    EncapsulationMode,
    IPPool,
    Key,
    LargeCommunity,
    Network,
    Problem,
    ProgramClusterRoutes,
    StandardCommunity,
)

_INTERFACES = ("*.cali", "*.calico")
_PROGRAMS_IPIP = (ProgramClusterRoutes.ENABLED, ProgramClusterRoutes.ENABLED_IPIP_ONLY)
_PROGRAMS_NO_ENCAPSULATION = (ProgramClusterRoutes.ENABLED, ProgramClusterRoutes.ENABLED_NO_ENCAP_ONLY)


def normal_priority(configuration: BGPConfiguration, family: Family) -> int:
    """The metric of a route that nothing prefers or avoids."""
    if family is Family.IPV4:
        return configuration.ipv4_normal_route_priority
    return configuration.ipv6_normal_route_priority


def export_policy(
    family: Family,
    configuration: BGPConfiguration,
    pools: Iterable[IPPool],
    communities: Iterable[CommunityRule],
    ranges: ServiceRanges,
    cluster_id: IPv4Address | None,
    aggregates: Iterable[Network],
    statics: Iterable[Network],
) -> ExportPolicy:
    """The export policy of one family. `aggregates` are the node's confirmed blocks, `statics` its service
    routes, both of this family, in the order of their text."""
    own = _pools_of(family, pools)
    tunnel = () if configuration.program_cluster_routes in _PROGRAMS_IPIP else ("tunl0",)
    reflected: tuple[Network, ...] = ()
    if cluster_id is not None:
        reflected = ranges.of(family, dict.fromkeys((*ranges.load_balancer, *ranges.external)))
    return ExportPolicy(
        normal_priority=normal_priority(configuration, family),
        rejected=tuple(pool.cidr for pool in own if pool.disable_bgp_export),
        ibgp_rejected_interfaces=(*_INTERFACES, *tunnel),
        communities=tuple(rule for rule in communities if Family.of(rule.network) is family),
        aggregates=tuple(aggregates),
        statics=tuple(statics),
        reflected=reflected,
        accepted=tuple(pool.cidr for pool in own if not pool.disable_bgp_export and not pool.disabled),
    )


def kernel_policy(
    family: Family,
    configuration: BGPConfiguration,
    pools: Iterable[IPPool],
    ranges: ServiceRanges,
    wireguard_next_hops: frozenset[Address],
) -> KernelPolicy:
    """The kernel policy of one family. `wireguard_next_hops` are the nodes that the agent routes to."""
    services = [
        KernelRule(network, KernelAction.REJECT, "a service range: kube-proxy's", service=True)
        for network in ranges.of(family, ranges.all)
    ]
    rules = [_pool_rule(pool, configuration) for pool in _pools_of(family, pools)]
    return KernelPolicy(
        normal_priority=normal_priority(configuration, family),
        rejected_next_hops=wireguard_next_hops,
        rules=(*services, *rules),
    )


def _pool_rule(pool: IPPool, configuration: BGPConfiguration) -> KernelRule:
    """What becomes of learned routes in a pool. A disabled pool's workloads are still there to be reached."""
    program = configuration.program_cluster_routes
    if pool.vxlan_mode is not EncapsulationMode.NEVER:
        return KernelRule(pool.cidr, KernelAction.REJECT, f"{pool.key} is VXLAN: the node agent routes it")
    # There is no IPIP for IPv6: the field says nothing there.
    ipip = pool.ipip_mode if pool.cidr.version == 4 else EncapsulationMode.NEVER
    if ipip is EncapsulationMode.NEVER:
        if program in _PROGRAMS_NO_ENCAPSULATION:
            return KernelRule(pool.cidr, KernelAction.ACCEPT, f"{pool.key} is not encapsulated")
    elif program in _PROGRAMS_IPIP:
        if ipip is EncapsulationMode.ALWAYS:
            return KernelRule(pool.cidr, KernelAction.TUNNEL, f"{pool.key} is IPIP Always")
        reason = f"{pool.key} is IPIP CrossSubnet"
        return KernelRule(pool.cidr, KernelAction.TUNNEL_CROSS_SUBNET, reason)
    return KernelRule(
        pool.cidr,
        KernelAction.REJECT,
        f"programClusterRoutes is {program.value}: the node agent routes {pool.key}",
    )


def _pools_of(family: Family, pools: Iterable[IPPool]) -> list[IPPool]:
    """The pools of one family in the order of their ranges' text, one for each range (the first by name)."""
    by_cidr: dict[Network, IPPool] = {}
    for pool in sorted(pools, key=lambda pool: pool.name):
        if Family.of(pool.cidr) is family:
            by_cidr.setdefault(pool.cidr, pool)
    return [by_cidr[cidr] for cidr in in_text_order(by_cidr)]


def community_rules(
    configuration: BGPConfiguration, own: BGPConfiguration | None
) -> tuple[tuple[CommunityRule, ...], tuple[Problem, ...]]:
    """The `prefixAdvertisements` in force, names resolved, and the names that stand for nothing.

    `own` is the node's BGPConfiguration: a list of its own takes the place of the global one; its names are
    looked up in itself first."""
    record = configuration
    names = {community.name: community.value for community in configuration.communities}
    if own is not None and own.prefix_advertisements is not None:
        record = own
        names |= {community.name: community.value for community in own.communities}
    rules, problems = [], []
    for index, advertisement in enumerate(record.prefix_advertisements or ()):
        standard: set[StandardCommunity] = set()
        large: set[LargeCommunity] = set()
        for position, said in enumerate(advertisement.communities):
            value = names.get(said) if isinstance(said, str) else said
            if value is None:
                field = f"spec.prefixAdvertisements[{index}].communities[{position}]"
                reason = f"{said!r} is the name of no community: it is left out until `communities` has it"
                problems.append(Problem(record.key, field, reason, severity="warning"))
            elif isinstance(value, StandardCommunity):
                standard.add(value)
            else:
                large.add(value)
        if standard or large:
            rules.append(
                CommunityRule(
                    advertisement.cidr,
                    tuple(value.asn << 16 | value.value for value in sorted(standard)),
                    tuple((v.global_administrator, v.local_data_1, v.local_data_2) for v in sorted(large)),
                )
            )
    return tuple(rules), tuple(problems)


def pool_problems(pools: Iterable[IPPool]) -> Iterator[Problem]:
    """Pools that overlap: which encapsulation their common addresses get is then a matter of order."""
    ordered = sorted(
        pools,
        key=lambda pool: (pool.cidr.version, int(pool.cidr.network_address), pool.cidr.prefixlen, pool.name),
    )
    around: list[IPPool] = []
    for pool in ordered:
        while around and not _contains(around[-1].cidr, pool.cidr):
            around.pop()
        if around:
            reason = (
                f"{pool.cidr} overlaps {around[-1].cidr} of {around[-1].key}: give each pool its own range"
            )
            yield Problem(Key(IPPool.kind, pool.name), "spec.cidr", reason, severity="warning")
        around.append(pool)


def outside_problems(owned: Mapping[Network, Key], pools: Iterable[IPPool]) -> Iterator[Problem]:
    """Blocks of the node that are in no pool, though there are pools of their family. They are advertised all
    the same; their single addresses are not, and what other nodes do with them no pool says."""
    ranges = {pool.cidr for pool in pools}
    versions = {cidr.version for cidr in ranges}
    for network, key in sorted(owned.items(), key=lambda item: str(item[0])):
        if network.version in versions and not any(_contains(cidr, network) for cidr in ranges):
            reason = f"{network} is in no IPPool: it is advertised as a block, its single addresses are not"
            yield Problem(key, "spec.cidr", reason, severity="warning")


def _contains(outer: Network, inner: Network) -> bool:
    return (
        outer.version == inner.version
        and outer.prefixlen <= inner.prefixlen
        and inner.network_address in outer
    )
