"""What a peer is told: from a best path to the attributes that leave (RFC 4271 sections 5 and 9.2, RFC 4456).

Pure functions of a path and an `ExportTarget`, which is what all members of an export group have in common.
`Exporter` adds the policy, which looks at each prefix. Split horizon is not here: a group's log leaves a
path's own source out (see `groups`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from routed.bgp.as_path import prepend
from routed.bgp.attributes import AttributeSet
from routed.bgp.communities import LLGR_STALE, NO_ADVERTISE, NO_EXPORT, NO_EXPORT_SUBCONFED
from routed.bgp.nlri import Family
from routed.bgp.path import Path, Router, SourceKind
from routed.bgp.policy import ExportRule, Verdict
from routed.intent.types import PRIORITY_SUM, NextHopMode
from routed.rr.reflection import may_reflect, reflected


@dataclass(frozen=True, slots=True)
class ExportTarget:
    """What of a peer decides which attributes it gets."""

    family: Family
    kind: SourceKind
    """EBGP or IBGP."""
    local_as: int
    """The effective one of the session."""
    local_address: bytes
    """Our address of the family, packed (4, 16 or 32 octets): the next hop where it is ourselves."""
    router: Router
    client: bool = False
    """A route reflector client of ours."""
    next_hop_mode: NextHopMode = NextHopMode.AUTO
    long_lived: bool = False
    """The peer sent the capability of long-lived graceful restart (RFC 9494)."""

    @property
    def ebgp(self) -> bool:
        """True for a peer in another AS."""
        return self.kind is SourceKind.EBGP


def why_not_exported(path: Path, target: ExportTarget) -> str | None:
    """Why BGP itself keeps a path from a peer, for people; None where it does not."""
    communities = path.attributes.communities
    if communities:
        # RFC 1997, "Well-known Communities"
        if NO_ADVERTISE in communities:
            return "community NO_ADVERTISE"
        if target.ebgp and NO_EXPORT in communities:
            return "community NO_EXPORT, and the peer is external"
        if target.ebgp and NO_EXPORT_SUBCONFED in communities:
            return "community NO_EXPORT_SUBCONFED, and the peer is external"
        if LLGR_STALE in communities and not target.long_lived:  # RFC 9494 section 4.3
            return "long-lived stale, and the peer did not say that it knows such routes"
    if _reflects(path, target) and not may_reflect(from_client=path.source.client, to_client=target.client):
        return "learned by iBGP, and neither that peer nor this one is a route reflector client"
    return None


def _reflects(path: Path, target: ExportTarget) -> bool:
    """From iBGP to iBGP (RFC 4271 section 9.2). Two sessions with different local ASes are not one AS's iBGP
    (`localASNumber`), as in BIRD."""
    source = path.source
    return (
        source.kind is SourceKind.IBGP
        and target.kind is SourceKind.IBGP
        and source.local_as == target.local_as
    )


def local_pref(path: Path) -> int:
    """LOCAL_PREF as a path leaves with it (`ExportPolicy`, step 1): that of a path from a peer stays; any
    other route's follows from its kernel metric."""
    if path.source.kind.bgp:
        return path.local_pref
    return max(0, PRIORITY_SUM - route_metric(path))


def route_metric(path: Path) -> int:
    """Calico's priority of a route, smaller is better: from LOCAL_PREF for a path from a peer, else the
    kernel metric, else the normal priority."""
    if path.source.kind.bgp:
        return PRIORITY_SUM - path.local_pref
    return path.source.router.normal_priority if path.metric is None else path.metric


def next_hop(path: Path, target: ExportTarget) -> bytes:
    """NEXT_HOP as a path leaves with it (RFC 4271 section 5.1.3, as BIRD does it for peers several hops
    away).

    Auto: to an internal peer the next hop of a route with one stays; to an external one, and for a route of
    our own, it is our address. Self: always our address. Keep: it stays towards external peers too."""
    theirs = path.attributes.next_hop
    if target.next_hop_mode is NextHopMode.SELF or not any(theirs):
        return target.local_address
    if not path.source.kind.bgp and theirs[0] == 0xFE and theirs[1] & 0xC0 == 0x80 and len(theirs) == 16:
        return target.local_address  # a gateway by link-local address means nothing elsewhere
    if target.ebgp and target.next_hop_mode is not NextHopMode.KEEP:
        return target.local_address
    return theirs


def exported(path: Path, target: ExportTarget) -> AttributeSet:
    """The attributes of a path for a peer, before its filters. LOCAL_PREF is still there for an external peer
    too, because filters ask for it; `finished` takes it away."""
    attributes = path.attributes
    if _reflects(path, target):
        router = target.router
        attributes = reflected(attributes, path.source.router_id, router.cluster_id or router.router_id)
    changes: dict[str, Any] = {}
    hop = next_hop(path, target)
    if hop != attributes.next_hop:
        changes["next_hop"] = hop
    preference = local_pref(path)
    # Not that of `attributes`, which is the same: to ask for it would decode a set that nobody else asks.
    if preference != path.attributes.local_pref:
        changes["local_pref"] = preference
    if target.ebgp:
        # RFC 4271 section 5.1.2 b; a MED from another AS stays there (5.1.4); RFC 4456 section 8
        changes["as_path"] = prepend(attributes.as_path, target.local_as)
        if path.source.kind.bgp:
            changes |= {"med": None, "originator_id": None, "cluster_list": None}
    return attributes.replace(**changes) if changes else attributes


def finished(attributes: AttributeSet, target: ExportTarget) -> AttributeSet:
    """`exported` attributes as they go on the wire (RFC 4271 section 5.1.5)."""
    return attributes.replace(local_pref=None) if target.ebgp else attributes


ExportFilter = Callable[[bytes, Path, AttributeSet], AttributeSet | str | None]
"""A peer's BGPFilter: NLRI, path and `exported` attributes in; out come the attributes to send (accepted),
the rule that rejects, or None: go on to the next filter and then to the policy."""


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a path goes to the peers of a group: the attributes, or None; and why, for people."""

    attributes: AttributeSet | None
    reason: str


class Exporter:
    """BGP's own rules, the filters and the policy of one export group."""

    def __init__(
        self,
        target: ExportTarget,
        policy: ExportRule | None = None,
        filters: Sequence[ExportFilter] = (),
    ) -> None:
        """No policy accepts all, as a standalone route reflector does."""
        self.target = target
        self.policy = policy
        self.filters = tuple(filters)
        self._exported: WeakKeyDictionary[Path, AttributeSet] = WeakKeyDictionary()

    def decide(self, nlri: bytes, path: Path) -> Decision:
        """What becomes of one route."""
        reason = why_not_exported(path, self.target)
        if reason is not None:
            return Decision(None, reason)
        return self._judge(nlri, path, exported(path, self.target))

    def attributes_of(self, nlri: bytes, path: Path) -> AttributeSet | None:
        """`decide`, for many routes that come again and again: those with many paths, of which one has
        changed."""
        if why_not_exported(path, self.target) is not None:
            return None
        attributes = self._exported.get(path)
        if attributes is None:
            attributes = self._exported[path] = exported(path, self.target)
        return self._judge(nlri, path, attributes).attributes

    def _judge(self, nlri: bytes, path: Path, attributes: AttributeSet) -> Decision:
        for one in self.filters:
            outcome = one(nlri, path, attributes)
            if isinstance(outcome, str):
                return Decision(None, outcome)
            if outcome is not None:
                return Decision(finished(outcome, self.target), "accepted by a filter")
        if self.policy is None:
            return Decision(finished(attributes, self.target), "no policy")
        verdict = self.policy(nlri, path)
        if not verdict.accept:
            return Decision(None, verdict.reason)
        return Decision(finished(with_communities(attributes, verdict), self.target), verdict.reason)

    def export(
        self, path: Path, nlri: Sequence[bytes]
    ) -> Iterator[tuple[AttributeSet | None, Sequence[bytes]]]:
        """The prefixes of one path by the attributes they leave with; None: not at all."""
        if why_not_exported(path, self.target) is not None:
            yield None, nlri
            return
        attributes = exported(path, self.target)
        if self.filters:
            by_attributes: dict[AttributeSet | None, list[bytes]] = {}
            for one in nlri:
                decision = self._judge(one, path, attributes)
                by_attributes.setdefault(decision.attributes, []).append(one)
            yield from by_attributes.items()
        elif self.policy is None:
            yield finished(attributes, self.target), nlri
        else:
            # Few verdicts, many prefixes: attributes are made once a verdict, not once a prefix.
            policy = self.policy
            by_verdict: dict[Verdict, list[bytes]] = {}
            for one in nlri:
                by_verdict.setdefault(policy(one, path), []).append(one)
            for verdict, some in by_verdict.items():
                if verdict.accept:
                    yield finished(with_communities(attributes, verdict), self.target), some
                else:
                    yield None, some


def with_communities(attributes: AttributeSet, verdict: Verdict) -> AttributeSet:
    """The attributes with the communities that a verdict adds (`ExportPolicy`, step 6)."""
    changes: dict[str, Any] = {}
    for name in ("communities", "large_communities"):
        present = getattr(attributes, name)
        added = tuple(one for one in getattr(verdict, name) if one not in present)
        if added:
            changes[name] = (*present, *added)
    return attributes.replace(**changes) if changes else attributes
