"""Gates of the kernel: what is there for a prefix, or why it is not."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address

from routed.bgp.path import Path, SourceKind
from routed.bgp.route import Address, FibRoute
from routed.intent.types import KernelAction, KernelPolicy, KernelRule
from routed.intent.why_service import configured_ranges
from routed.kernel.base import FibError
from routed.observe.explain.gates import Finding, notes, passes, stops
from routed.observe.explain.question import PrefixQuestion, holds
from routed.resources import BGPConfiguration, EncapsulationMode, Key, Node

_CONFIGURATION = Key(BGPConfiguration.kind, "default")


class KeptOutBy(enum.Enum):
    """What keeps a route out of the kernel before it is asked."""

    POLICY = enum.auto()
    WIREGUARD = enum.auto()
    NO_WAY = enum.auto()


@dataclass(frozen=True, slots=True)
class KernelState:
    """What the kernel's writer knows of a prefix.

    works    there is a kernel to write to
    error    why there is none though it was wanted
    learned  a peer's path is the best one, and so should be there
    local    this node makes it, and so something should be there: a blackhole, or a way to a gateway
    alien    the route of somebody else that is known for it
    reason   why the best path, or the blackhole, is kept out
    rule     the rule of the kernel policy that holds it
    wish     what should be there
    there    what is there of ours
    refused  why the kernel has it not
    """

    works: bool
    error: str
    learned: bool
    local: bool
    alien: Path | None
    reason: str | None
    policy: KernelPolicy | None
    rule: KernelRule | None
    wish: FibRoute | None
    there: FibRoute | None
    refused: FibError | None

    kept_out_by: KeptOutBy | None
    """What `reason` is."""

    @property
    def expected(self) -> bool:
        """Whether there should be a route of ours."""
        return self.learned or self.local


def kernel_state(question: PrefixQuestion) -> KernelState | None:
    """Look it up; None where kernel routes are not this process's business (a reflector)."""
    observed, family, nlri = question.observed, question.family, question.nlri
    writer = observed.writer
    if writer is None:
        return None
    policies = {} if question.tables is None else question.tables.families
    policy = policies[family].kernel_policy if family in policies else None
    rules = () if policy is None else policy.rules
    best, origin = question.best, question.origin
    fib = writer.fib
    reason = writer.reasons[family].get(nlri)
    rule = next((rule for rule in rules if holds(rule.network, question.network)), None)
    learned = best is not None and best.source.kind.bgp
    return KernelState(
        works=bool(fib.port),
        error=observed.kernel_error(),
        learned=learned,
        local=origin is not None and (origin.blackhole or origin.gateway is not None),
        alien=next((path for path in question.paths if path.source.kind is SourceKind.KERNEL), None),
        reason=reason,
        policy=policy,
        rule=rule,
        wish=fib.wanted[family].get(nlri),
        there=fib.installed[family].get(nlri),
        refused=fib.failed.get((family, nlri)),
        kept_out_by=None if reason is None else _kept_out_by(reason, rule, policy, best if learned else None),
    )


def _kept_out_by(
    reason: str, rule: KernelRule | None, policy: KernelPolicy | None, learned: Path | None
) -> KeptOutBy:
    if rule is not None and rule.action is KernelAction.REJECT and reason == rule.reason:
        return KeptOutBy.POLICY
    if learned is not None and policy is not None and _next_hop(learned) in policy.rejected_next_hops:
        return KeptOutBy.WIREGUARD
    return KeptOutBy.NO_WAY


def _next_hop(path: Path) -> Address:
    """The global one of the two that an IPv6 path may have."""
    return ip_address(path.attributes.next_hop[:16])


def available(question: PrefixQuestion) -> Iterator[Finding]:
    """Whether kernel routes are programmed at all."""
    state = kernel_state(question)
    if state is None or not state.expected:
        return
    if state.error:
        yield stops(state.error)
    elif not state.works:
        would = f": it would be {route_text(state.wish)}" if state.wish is not None else ""
        yield notes(f"the kernel is left alone (--no-kernel){would}")


def policy(question: PrefixQuestion) -> Iterator[Finding]:
    """Whether the pool, or a service range, leaves it to others."""
    state = kernel_state(question)
    rule = None if state is None else state.rule
    if state is None or rule is None or state.kept_out_by is not KeptOutBy.POLICY:
        return
    record, field = _record_of_rule(question, rule)
    if state.alien is not None:
        yield passes(
            f"left to somebody else, whose route is there{_on(state.alien)}: {rule.reason}", record, field
        )
    elif not state.learned:
        yield notes(f"no blackhole of ours: {rule.reason}", record, field)
    else:
        left = (
            "not put into the kernel"
            if rule.service
            else "left to the node agent, of which no route is known"
        )
        yield stops(f"{left}: {rule.reason}", record, field)


def _record_of_rule(question: PrefixQuestion, rule: KernelRule) -> tuple[Key | None, str | None]:
    """The record and field behind a rule that rejects."""
    tables = question.tables
    if tables is not None and rule.service:
        listed = [
            field for one, field in configured_ranges(tables.ranges, rule.network) if one == rule.network
        ]
        return _CONFIGURATION, listed[0] if listed else None
    found = next((one for one in question.pools if one.cidr == rule.network), None)
    if found is None:
        return None, None
    if found.vxlan_mode is not EncapsulationMode.NEVER:
        return found.key, "spec.vxlanMode"
    return _CONFIGURATION, "spec.programClusterRoutes"


def wireguard(question: PrefixQuestion) -> Iterator[Finding]:
    """Whether the next hop is a node that the agent routes to by WireGuard."""
    state, path = kernel_state(question), question.best
    if state is None or path is None or state.kept_out_by is not KeptOutBy.WIREGUARD:
        return
    address, tables = _next_hop(path), question.tables
    names = [] if tables is None else tables.cluster.nodes_with(address)
    field = f"spec.wireguard.interfaceIPv{address.version}Address"
    yield stops(state.reason or "", Key(Node.kind, names[0]) if names else None, field)


def way(question: PrefixQuestion) -> Iterator[Finding]:
    """Whether there is a way that the kernel would take."""
    state, path = kernel_state(question), question.best
    if state is not None and state.kept_out_by is KeptOutBy.NO_WAY:
        yield stops(state.reason or "", peer=None if path is None or not state.learned else path.source.name)


def written(question: PrefixQuestion) -> Iterator[Finding]:
    """What is in the kernel."""
    state = kernel_state(question)
    if state is None or not state.works:
        return
    if state.refused is not None:
        refused = state.refused
        wish = "to remove it" if refused.route is None else route_text(refused.route)
        yield stops(f"the kernel refused {wish}: {refused.name} (errno {refused.errno}), {refused.text}")
    elif state.there is not None and state.there == state.wish:
        yield passes(f"installed: {route_text(state.there)}")
        if state.alien is not None:
            wins = (state.alien.metric or 0) < state.there.metric
            which = "and the kernel takes it" if wins else "which the kernel takes only without ours"
            yield notes(f"somebody else's route is there too{_on(state.alien)}, {which}")
    elif state.wish is not None:
        yield stops(f"is being written: {route_text(state.wish)}")
    elif state.there is not None:
        yield notes(
            f"left by an earlier run, until all peers have sent their tables: {route_text(state.there)}"
        )
    elif state.expected and state.reason is None:
        yield stops("not worked out yet: ask again in a moment")
    elif not state.expected and state.alien is not None:
        yield passes(f"somebody else's route is there{_on(state.alien)}")
    elif not state.expected and question.known:
        yield notes("nothing of ours is to be there")


def route_text(route: FibRoute) -> str:
    """`via 10.0.0.2 dev eth0, metric 1024`, `blackhole, metric 1024`."""
    ways = [
        f"via {hop.gateway}" + (f" dev {hop.interface}" if hop.interface else "") + " onlink" * hop.onlink
        for hop in route.next_hops
    ]
    return f"{' and '.join(ways) or 'blackhole'}, metric {route.metric}"


def _on(path: Path) -> str:
    return f", dev {path.interface}" if path.interface else ""
