"""Calico's export and kernel policy, compiled to functions.

The compiled functions give the same answers as reading the policy from top to bottom for each route; how many
blocks and pools there are hardly matters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final

from routed.bgp.nlri import Family, Network, from_network
from routed.bgp.path import Path
from routed.bgp.prefix_table import PrefixTable
from routed.intent.types import (
    PRIORITY_SUM,
    CommunityRule,
    ExportPolicy,
    KernelAction,
    KernelPolicy,
)

#: The steps of `ExportPolicy` that can decide, by their numbers there. No enum: each route passes here.
STEP_NOT_EXPORTED: Final = 3
STEP_INTERNAL_INTERFACE: Final = 4
STEP_INTERFACE: Final = 5
STEP_BLOCK: Final = 7
STEP_SERVICE: Final = 8
STEP_SERVICE_RANGE: Final = 9
STEP_POOL: Final = 10
STEP_NOTHING: Final = 11


@dataclass(frozen=True, slots=True, eq=False)
class Verdict:
    """What a policy says of a route. Equal verdicts of one compiled policy are the same object.

    `reason` is for people; the communities are to be added to what the route has."""

    accept: bool
    reason: str
    communities: tuple[int, ...] = ()
    large_communities: tuple[tuple[int, int, int], ...] = ()
    step: int = 0
    """The step that decided, one of `STEP_*`."""
    network: Network | None = None
    """The pool, block, service route or range in it that holds the prefix."""


ExportRule = Callable[[bytes, Path], Verdict]
"""NLRI and the best path in."""

KernelRuleFunction = Callable[[bytes], tuple[KernelAction, str]]
"""NLRI in; what to do with the route, and the reason for people, out."""


def _table(family: Family, networks: Iterable[Network]) -> PrefixTable[Network]:
    return PrefixTable(family, ((network, network) for network in networks))


def _metric(path: Path, normal_priority: int) -> int:
    """Step 1: the metric that a route has, or that its LOCAL_PREF means."""
    if path.source.kind.bgp:
        return PRIORITY_SUM - path.local_pref
    return normal_priority if path.metric is None else path.metric


class _Interfaces:
    """Shell patterns on interface names, each name looked at once."""

    def __init__(self, patterns: tuple[str, ...]) -> None:
        self._patterns = patterns
        self._known: dict[str, str | None] = {}

    def match(self, name: str) -> str | None:
        """The first pattern that matches, or None."""
        try:
            return self._known[name]
        except KeyError:
            found = next((pattern for pattern in self._patterns if fnmatchcase(name, pattern)), None)
            if len(self._known) >= 4096:  # interfaces come and go with the pods
                self._known.clear()
            self._known[name] = found
            return found


def compile_export(policy: ExportPolicy, family: Family, *, ibgp: bool) -> ExportRule:
    """The export policy of one family towards internal or external peers, steps 3 to 11.

    Step 1 is `export.local_pref`; step 2, the peer's own filters, comes before this."""
    rejected = _table(family, policy.rejected)
    aggregates = PrefixTable(family, ((net, (from_network(net), net)) for net in policy.aggregates))
    statics = _table(family, policy.statics)
    reflected = _table(family, policy.reflected)
    accepted = _table(family, policy.accepted)
    communities = PrefixTable(family, ((rule.network, rule) for rule in policy.communities))
    internal = _Interfaces(policy.ibgp_rejected_interfaces if ibgp else ())
    never = _Interfaces(policy.rejected_interfaces)
    normal = policy.normal_priority
    verdicts: dict[tuple[bool, str, tuple[CommunityRule, ...]], Verdict] = {}

    def verdict(
        accept: bool,
        reason: str,
        rules: tuple[CommunityRule, ...] = (),
        *,
        step: int,
        network: Network | None = None,
    ) -> Verdict:
        key = (accept, reason, rules)
        found = verdicts.get(key)
        if found is None:
            found = verdicts[key] = Verdict(
                accept,
                reason,
                tuple(dict.fromkeys(one for rule in rules for one in rule.standard)),
                tuple(dict.fromkeys(one for rule in rules for one in rule.large)),
                step,
                network,
            )
        return found

    def rule(nlri: bytes, path: Path) -> Verdict:
        if rejected and (pool := rejected.first(nlri)) is not None:
            return verdict(
                False, f"inside pool {pool}, which has disableBGPExport", step=STEP_NOT_EXPORTED, network=pool
            )
        if path.interface is not None:
            if (pattern := internal.match(path.interface)) is not None:
                return verdict(
                    False,
                    f"out of an interface like {pattern}, and the peer is internal",
                    step=STEP_INTERNAL_INTERFACE,
                )
            if (pattern := never.match(path.interface)) is not None:
                return verdict(False, f"out of an interface like {pattern}", step=STEP_INTERFACE)
        rules = communities.all(nlri) if communities else ()  # step 6
        if aggregates and (block := aggregates.first(nlri)) is not None:
            network = block[1]
            if nlri == block[0]:
                return verdict(True, f"block {network} of this node", rules, step=STEP_BLOCK, network=network)
            if _metric(path, normal) < normal:
                reason = f"inside block {network} of this node, with a better metric"
                return verdict(True, reason, rules, step=STEP_BLOCK, network=network)
            reason = f"inside block {network} of this node, which is advertised as a whole"
            return verdict(False, reason, step=STEP_BLOCK, network=network)
        if statics and (service := statics.first(nlri)) is not None:
            return verdict(True, f"service route {service}", rules, step=STEP_SERVICE, network=service)
        if reflected and (services := reflected.first(nlri)) is not None:
            return verdict(
                True, f"inside service range {services}", rules, step=STEP_SERVICE_RANGE, network=services
            )
        if accepted and (pool := accepted.first(nlri)) is not None:
            return verdict(True, f"inside pool {pool}", rules, step=STEP_POOL, network=pool)
        return verdict(False, "in no enabled pool, and no route of this node", step=STEP_NOTHING)

    return rule


def compile_kernel(policy: KernelPolicy, family: Family) -> KernelRuleFunction:
    """The kernel policy of one family but for the next hops: the first rule that holds the prefix decides,
    and what is in none is accepted."""
    table = PrefixTable(family, ((rule.network, (rule.action, rule.reason)) for rule in policy.rules))
    accept = (KernelAction.ACCEPT, "no kernel rule holds the prefix")

    def rule(nlri: bytes) -> tuple[KernelAction, str]:
        return table.first(nlri) or accept

    return rule
