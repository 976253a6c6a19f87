"""BGPFilters compiled for evaluation: one flat rule list for each family and direction.

The speaker evaluates them, the renderer writes them as BIRD functions. A rule matches where everything
that it gives does; the first that matches ends the whole filter.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_network

from routed.bgp.nlri import Family
from routed.resources import (
    Action,
    AddCommunity,
    BGPFilter,
    CommunityValue,
    FilterRule,
    Key,
    MatchOperator,
    Network,
    Operation,
    PeerType,
    PrependASPath,
    SetPriority,
    Source,
)

#: LOCAL_PREF and kernel metric add up to this (Calico's route priority).
PRIORITY_SUM = 2147483647


class Direction(enum.StrEnum):
    """Which way a route goes through a filter."""

    IMPORT = "import"
    EXPORT = "export"


@dataclass(frozen=True, slots=True)
class PrefixMatch:
    """Compares a route's prefix with `network`.

    EQUAL: the same prefix. IN: within it, and of `minimum` to `maximum` bits. NOT_EQUAL and NOT_IN deny
    these."""

    network: Network
    operator: MatchOperator
    minimum: int
    maximum: int
    text: str
    """`network` as the record writes it."""
    bounded: bool = False
    """True where the record gives `prefixLength`."""

    def matches(self, network: Network) -> bool:
        """Whether a route to `network` (of the same family) matches."""
        inside = (
            self.minimum <= network.prefixlen <= self.maximum
            and network.prefixlen >= self.network.prefixlen
            and network.network_address in self.network
        )
        if self.operator in (MatchOperator.EQUAL, MatchOperator.NOT_EQUAL):
            inside = inside and network.prefixlen == self.network.prefixlen
        return inside is (self.operator in (MatchOperator.EQUAL, MatchOperator.IN))


@dataclass(frozen=True, slots=True)
class CompiledRule:
    """One rule; what is None or empty is not asked for."""

    accept: bool
    prefix: PrefixMatch | None = None
    learned_by_bgp: bool = False
    """`source: RemotePeers`."""
    interface: str | None = None
    """Shell pattern on the outgoing interface; a route without one does not match."""
    ibgp: bool | None = None
    """`peerType`: True only towards iBGP peers, False only towards eBGP peers."""
    community: CommunityValue | None = None
    """The route carries this one."""
    as_path_prefix: tuple[int, ...] = ()
    """The AS path begins with these."""
    local_pref: int | None = None
    """`priority`: the route's LOCAL_PREF is this."""
    operations: tuple[Operation, ...] = ()
    """Done in order before an accept."""


@dataclass(frozen=True, slots=True)
class CompiledFilter:
    """One BGPFilter. No rule matched: the next filter, or the policy behind the filters, decides."""

    record: Key
    rules: Mapping[tuple[Family, Direction], tuple[CompiledRule, ...]] = field(default_factory=dict)

    def of(self, family: Family, direction: Direction) -> tuple[CompiledRule, ...]:
        """The rules for routes of `family` that go in `direction`, in order."""
        return self.rules.get((family, direction), ())


def local_pref(priority: int) -> int:
    """The LOCAL_PREF that stands for a route priority (kernel metric)."""
    return PRIORITY_SUM - priority


def compile_filter(record: BGPFilter) -> CompiledFilter:
    """The filter that a BGPFilter says."""
    lists = {
        (Family.IPV4, Direction.IMPORT): record.import_v4,
        (Family.IPV4, Direction.EXPORT): record.export_v4,
        (Family.IPV6, Direction.IMPORT): record.import_v6,
        (Family.IPV6, Direction.EXPORT): record.export_v6,
    }
    return CompiledFilter(
        record.key, {which: tuple(map(compile_rule, rules)) for which, rules in lists.items() if rules}
    )


def compile_rule(rule: FilterRule) -> CompiledRule:
    """One rule of a record."""
    return CompiledRule(
        accept=rule.action is Action.ACCEPT,
        prefix=_prefix(rule),
        learned_by_bgp=rule.source is Source.REMOTE_PEERS,
        interface=rule.interface,
        ibgp=None if rule.peer_type is None else rule.peer_type is PeerType.IBGP,
        # Calico looks at the first value alone.
        community=rule.communities[0] if rule.communities else None,
        as_path_prefix=rule.as_path_prefix,
        local_pref=None if rule.priority is None else local_pref(rule.priority),
        operations=rule.operations,
    )


def _text(cidr: Network, written: str | None) -> str:
    """The prefix as the record writes it, where that is a prefix to others too: without host bits, with its
    length, of its own family."""
    try:
        same = written is not None and "/" in written and ip_network(written) == cidr
    except ValueError:
        same = False
    return written if same and written is not None else str(cidr)


def _prefix(rule: FilterRule) -> PrefixMatch | None:
    if rule.cidr is None or rule.match_operator is None:
        return None
    bounds = rule.prefix_length
    minimum = rule.cidr.prefixlen if bounds is None or bounds.min is None else bounds.min
    maximum = rule.cidr.max_prefixlen if bounds is None or bounds.max is None else bounds.max
    return PrefixMatch(
        rule.cidr,
        rule.match_operator,
        max(minimum, rule.cidr.prefixlen),
        maximum,
        text=_text(rule.cidr, rule.cidr_text),
        bounded=bounds is not None,
    )


__all__ = [
    "PRIORITY_SUM",
    "AddCommunity",
    "CompiledFilter",
    "CompiledRule",
    "Direction",
    "Operation",
    "PrefixMatch",
    "PrependASPath",
    "SetPriority",
    "compile_filter",
    "compile_rule",
    "local_pref",
]
