"""Which rule of which BGPFilter decides on a route, and paths in short."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from routed.bgp.as_path import path_text
from routed.bgp.attributes import AttributeSet, next_hop_text
from routed.bgp.filters import compile_filter_function
from routed.bgp.nlri import Family
from routed.bgp.path import Path, Source, SourceKind
from routed.bgp.path_attributes import community_text
from routed.intent.filters import CompiledFilter, CompiledRule, Direction
from routed.observe.observed import Observed
from routed.resources import Key

#: Names and communities that are written out; more are counted.
NAMED: Final = 3


@dataclass(frozen=True, slots=True)
class DecidingRule:
    """The rule that ends the filters; `number` counts from 1."""

    record: Key
    field: str
    number: int
    accept: bool
    text: str


def deciding_rule(
    observed: Observed,
    names: Iterable[str],
    family: Family,
    direction: Direction,
    *,
    ibgp: bool,
    nlri: bytes,
    path: Path,
    attributes: AttributeSet,
) -> DecidingRule | None:
    """The first rule that matches of the filters of these names; None: there is none, so what comes behind
    the filters decides."""
    for _, compiled in observed.speaker.tables.filters(names):
        for number, rule in enumerate(() if compiled is None else compiled.of(family, direction), 1):
            assert compiled is not None
            if _matches(compiled, rule, family, direction, ibgp, nlri, path, attributes):
                list_name = f"{direction.value}V{6 if family is Family.IPV6 else 4}"
                verb = "accepts" if rule.accept else "rejects"
                text = f"rule {number} of {list_name} of {compiled.record} {verb}"
                return DecidingRule(
                    compiled.record, f"spec.{list_name}[{number - 1}]", number, rule.accept, text
                )
    return None


def _matches(
    compiled: CompiledFilter,
    rule: CompiledRule,
    family: Family,
    direction: Direction,
    ibgp: bool,
    nlri: bytes,
    path: Path,
    attributes: AttributeSet,
) -> bool:
    """Whether a rule matches: asked of a filter that has no other."""
    alone = CompiledFilter(compiled.record, {(family, direction): (rule,)})
    function = compile_filter_function(alone, family, direction, ibgp=ibgp)
    return function is not None and function(nlri, path, attributes) is not None


FAMILY_TEXT: Final = {Family.IPV4: "IPv4", Family.IPV6: "IPv6"}
_LOCAL: Final = {
    SourceKind.STATIC: "this node",
    SourceKind.ALLOCATED: "this node, by allocation",
    SourceKind.DIRECT: "a network of an interface",
    SourceKind.KERNEL: "a kernel route of somebody else",
}


def source_text(source: Source) -> str:
    """`Mesh_10_0_0_2 (10.0.0.2, AS 64512)`, `this node`."""
    return source.describe() if source.kind.bgp else _LOCAL[source.kind]


def attributes_text(attributes: AttributeSet) -> str:
    """`next hop 10.0.0.2, AS path 65001 65002, LOCAL_PREF 100, communities 65001:1`."""
    parts = [
        f"next hop {next_hop_text(attributes.next_hop)}" if any(attributes.next_hop) else "next hop ourselves"
    ]
    if attributes.as_path:
        parts.append(f"AS path {path_text(attributes.as_path)}")
    if attributes.local_pref is not None:
        parts.append(f"LOCAL_PREF {attributes.local_pref}")
    if attributes.med is not None:
        parts.append(f"MED {attributes.med}")
    communities = [
        *map(community_text, attributes.communities),
        *(":".join(map(str, one)) for one in attributes.large_communities),
    ]
    if communities:
        parts.append(f"communities {some(communities)}")
    if attributes.cluster_list:
        parts.append(f"reflected {len(attributes.cluster_list)} times")
    return ", ".join(parts)


def some(texts: Sequence[str], noun: str = "") -> str:
    """The first few of them and how many more there are."""
    shown = ", ".join(texts[:NAMED])
    more = len(texts) - NAMED
    return f"{shown} and {more} more{f' {noun}' if noun else ''}" if more > 0 else shown
