"""What ExaBGP announces for a node, to whom: originated routes through the speaker's own export rules.

ExaBGP passes nothing on, so that the best path to each prefix is the one this node originates. Everything
else is what `routed run` does: attributes, BGPFilters and policy come from `routed.bgp`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_address
from typing import Final

from routed.bgp.attributes import AttributeSet, SegmentType, originate
from routed.bgp.export import Exporter, ExportTarget
from routed.bgp.filters import compile_filter_function
from routed.bgp.nlri import Family, Network, from_network
from routed.bgp.path import Path, Router, Source, SourceKind
from routed.bgp.policy import compile_export
from routed.intent.filters import Direction
from routed.intent.types import (
    FamilyIntent,
    NextHopMode,
    NodeIntent,
    PeeringKind,
    SessionIntent,
)
from routed.resources import Address
from routed.wiring import source_kind

_ORIGIN_WORDS: Final = ("igp", "egp", "incomplete")


@dataclass(frozen=True, slots=True)
class ExportGroup:
    """What peers that are announced the same, in the same words, have in common."""

    family: Family
    ibgp: bool
    local_as: int
    local_address: Address
    """Our end of the session, which ExaBGP takes for `next-hop self`."""
    filters: tuple[str, ...]
    next_hop_mode: NextHopMode
    client: bool


def local_address(intent: NodeIntent, session: SessionIntent) -> Address | None:
    """Our end of a session. ExaBGP must be told one: where the records leave it to the kernel it is the
    address that local workloads are given to peer with, else the node's own; None: there is none."""
    if session.source_address is not None:
        return session.source_address
    family = intent.families.get(session.family)
    if family is None:
        return None
    if session.kind is PeeringKind.LOCAL_WORKLOAD and family.local_workload_address is not None:
        return family.local_workload_address
    return None if family.node_address is None else family.node_address.ip


def export_group(session: SessionIntent, local: Address) -> ExportGroup:
    """The group of a session whose end of ours is `local`."""
    return ExportGroup(
        family=session.family,
        ibgp=session.ibgp,
        local_as=session.local_as,
        local_address=local,
        filters=session.filters,
        next_hop_mode=session.next_hop_mode,
        client=session.route_reflector_client,
    )


def exported_routes(intent: NodeIntent, group: ExportGroup) -> dict[Network, AttributeSet]:
    """The routes that the peers of a group are announced, with their attributes as on the wire, in the order
    of the intent. Empty while the node has no router ID."""
    if intent.router_id is None:
        return {}
    family = intent.families.get(group.family) or FamilyIntent(group.family, None)
    router = _router(intent, family, intent.router_id)
    exporter = _exporter(intent, family, router, group)
    paths = _paths(group.family, router)
    routes: dict[Network, AttributeSet] = {}
    for network, route in intent.originated.items():
        kind = source_kind(route)
        if kind is None or Family.of(network) is not group.family:
            continue
        decision = exporter.decide(from_network(network), paths[kind])
        if decision.attributes is not None:
            routes[network] = decision.attributes
    return routes


def _router(intent: NodeIntent, family: FamilyIntent, router_id: IPv4Address) -> Router:
    own = family.node_address
    return Router(
        router_id=router_id.packed,
        cluster_id=None if intent.cluster_id is None else intent.cluster_id.packed,
        addresses=frozenset() if own is None else frozenset({own.ip.packed}),
        normal_priority=family.export_policy.normal_priority,
    )


def _exporter(intent: NodeIntent, family: FamilyIntent, router: Router, group: ExportGroup) -> Exporter:
    address = group.local_address if family.node_address is None else family.node_address.ip
    target = ExportTarget(
        family=group.family,
        kind=SourceKind.IBGP if group.ibgp else SourceKind.EBGP,
        local_as=group.local_as,
        local_address=address.packed,
        router=router,
        client=group.client,
        next_hop_mode=group.next_hop_mode,
    )
    filters = (
        compile_filter_function(compiled, group.family, Direction.EXPORT, ibgp=group.ibgp)
        for compiled in map(intent.filters.get, group.filters)
        if compiled is not None  # a reference to nothing is pending: the session goes without it
    )
    policy = compile_export(family.export_policy, group.family, ibgp=group.ibgp)
    return Exporter(target, policy, [function for function in filters if function is not None])


def _paths(family: Family, router: Router) -> Mapping[SourceKind, Path]:
    """Routes of our own differ in their source alone; no next hop stands for ourselves."""
    attributes = originate(next_hop=bytes(family.address_octets))
    kinds = (SourceKind.STATIC, SourceKind.ALLOCATED)
    return {kind: Source(kind.value, kind, router).path(attributes) for kind in kinds}


def attributes_text(attributes: AttributeSet, group: ExportGroup) -> str:
    """Attributes in ExaBGP's words, the same in its configuration and on its API: `next-hop self origin igp
    local-preference 2147482623`.

    ExaBGP itself writes an AS_PATH of just our AS towards an external peer, and an empty one towards an
    internal."""
    own = group.local_address.packed
    next_hop = "self" if attributes.next_hop == own else str(ip_address(attributes.next_hop[:16]))
    words = ["next-hop", next_hop, "origin", _ORIGIN_WORDS[attributes.origin]]
    asns = [
        asn
        for segment in attributes.as_path
        if segment.type == SegmentType.AS_SEQUENCE
        for asn in segment.asns
    ]
    if asns != ([] if group.ibgp else [group.local_as]):
        words += ["as-path", _list(map(str, asns))]
    if attributes.med is not None:
        words += ["med", str(attributes.med)]
    if attributes.local_pref is not None:
        words += ["local-preference", str(attributes.local_pref)]
    if attributes.communities:
        texts = (f"{value >> 16}:{value & 0xFFFF}" for value in attributes.communities)
        words += ["community", _list(texts)]
    if attributes.large_communities:
        words += [
            "large-community",
            _list(":".join(map(str, value)) for value in attributes.large_communities),
        ]
    return " ".join(words)


def _list(words: Iterable[str]) -> str:
    return f"[ {' '.join(words)} ]"
