"""What the speaker knows, and by which rules it passes it on: RIBs, export groups, policies, own routes.

Nothing here knows a session: a peer comes in as an `attachment.Attachment`. What changes is gathered and
handed to the export groups once a turn of the event loop; `changed` is called where there is something to
hand on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from routed.bgp.attributes import originate
from routed.bgp.config import SpeakerConfig
from routed.bgp.export import Exporter
from routed.bgp.graceful_shutdown import LastChoiceExporter
from routed.bgp.groups import ExportGroups, GroupKey
from routed.bgp.nlri import Family
from routed.bgp.path import NextHopTracker, PathFilter, Router, Source, SourceKind
from routed.bgp.policy import compile_export
from routed.bgp.rib import LocRib
from routed.bgp.route import Address
from routed.intent.types import NORMAL_ROUTE_PRIORITY, ExportPolicy

if TYPE_CHECKING:
    from types import ModuleType

    from routed.bgp.filters import FilterFunction
    from routed.intent.filters import CompiledFilter

#: Changed prefixes worked off at a time, at most.
PREFIXES_A_TURN: Final = 20_000

_NO_NEXT_HOP: Final = {Family.IPV4: bytes(4), Family.IPV6: bytes(16)}


class Tables:
    """The tables of both families and the policies in force."""

    def __init__(
        self, config: SpeakerConfig, changed: Callable[[], None], next_hops: NextHopTracker | None = None
    ) -> None:
        """`changed` is called after each change; `next_hops` knows which next hops can be reached, None: all
        are taken to be."""
        self.ribs = {family: LocRib(family) for family in Family}
        self.groups = {family: ExportGroups(rib, self._exporter) for family, rib in self.ribs.items()}
        self.config = config
        self._changed = changed
        self._next_hops = next_hops
        self._filters: dict[str, CompiledFilter] = {}
        self._policies: dict[Family, ExportPolicy | None] = dict.fromkeys(Family)
        self._normal_priority: dict[Family, int] = dict.fromkeys(Family, NORMAL_ROUTE_PRIORITY)
        self._local: dict[tuple[Family, SourceKind], Source] = {}
        self._draining = False
        self.router = {family: self._make_router(family) for family in Family}
        """What of ourselves the paths of a family are checked against."""

    # Identity and policy

    def configure(self, config: SpeakerConfig) -> None:
        """Take another identity; paths are judged again where it matters to them."""
        self.config = config
        self._renew_routers()

    def set_export_policy(self, family: Family, policy: ExportPolicy | None) -> bool:
        """Put an export policy in force. True where it also means another normal priority, so that peers may
        belong to other groups; then call `refresh` after moving them, else at once."""
        if self._policies[family] == policy:
            return False
        self._policies[family] = policy
        priority = policy.normal_priority if policy is not None else NORMAL_ROUTE_PRIORITY
        if priority == self._normal_priority[family]:
            return False
        self._normal_priority[family] = priority
        self._renew_routers()
        return True

    def export_policy(self, family: Family) -> ExportPolicy | None:
        """The one in force."""
        return self._policies[family]

    def set_filters(self, changed: Mapping[str, CompiledFilter | None]) -> None:
        """Put BGPFilters in force, or out of it, for what is exported."""
        for name, one in changed.items():
            if one is None:
                self._filters.pop(name, None)
            else:
                self._filters[name] = one

    def refresh(self, family: Family) -> None:
        """Judge all that is exported again."""
        self.groups[family].refresh()
        self._changed()

    def drain(self, on: bool = True) -> None:
        """Advertise everything as a last choice from now on (RFC 8326); or as it is again."""
        self._draining = on
        for family in self.groups:
            self.refresh(family)

    def refresh_filtered(self, names: Iterable[str]) -> None:
        """Judge again what groups export that use one of these filters."""
        used = frozenset(names)
        for groups in self.groups.values():
            if any(not used.isdisjoint(key.filters) for key in groups.groups):
                groups.refresh()
        self._changed()

    def filters(self, names: Iterable[str]) -> tuple[tuple[str, CompiledFilter | None], ...]:
        """The filters of these names; None for one that is not there (yet)."""
        return tuple((name, self._filters.get(name)) for name in names)

    def import_policy(self, names: Iterable[str], family: Family, *, ibgp: bool) -> PathFilter | None:
        """What a peer's filters do with what it sends; None: nothing."""
        known = self._present(names)
        return _filters().import_policy(known, family, ibgp=ibgp) if known else None

    def _export_filters(
        self, names: Iterable[str], family: Family, *, ibgp: bool
    ) -> Sequence[FilterFunction]:
        known = self._present(names)
        return _filters().export_functions(known, family, ibgp=ibgp) if known else ()

    def _present(self, names: Iterable[str]) -> list[CompiledFilter]:
        """The filters of these names, in order; one that is not there (yet) is gone without."""
        return [self._filters[name] for name in names if name in self._filters]

    def _exporter(self, key: GroupKey) -> Exporter:
        family, ibgp = key.target.family, not key.target.ebgp
        policy = self._policies[family]
        rule = None if policy is None else compile_export(policy, family, ibgp=ibgp)
        filters = self._export_filters(key.filters, family, ibgp=ibgp)
        return (LastChoiceExporter if self._draining else Exporter)(key.target, rule, filters)

    def _make_router(self, family: Family) -> Router:
        config = self.config
        return Router(
            router_id=config.router_id,
            cluster_id=config.cluster_id,
            addresses=frozenset(
                address.packed for known, address in config.local_addresses if known is family
            ),
            normal_priority=self._normal_priority[family],
            next_hops=self._next_hops,
        )

    def _renew_routers(self) -> None:
        for family, rib in self.ribs.items():
            router = self._make_router(family)
            if router != self.router[family]:
                self.router[family] = router
                for source in list(rib.sources):
                    rib.set_router(source, router)
                for (known, _kind), source in self._local.items():
                    if known is family:
                        rib.set_router(source, router)

    # Routes of our own

    def originate(self, family: Family, nlri: bytes, kind: SourceKind = SourceKind.STATIC) -> None:
        """Have a route of our own in Loc-RIB: its next hop is ourselves."""
        source = self._local_source(family, kind)
        self.ribs[family].insert(source.path(originate(next_hop=_NO_NEXT_HOP[family])), (nlri,))
        self._changed()

    def learn(
        self,
        family: Family,
        nlri: bytes,
        *,
        interface: str | None,
        gateway: Address | None,
        metric: int | None,
        kind: SourceKind = SourceKind.KERNEL,
    ) -> None:
        """Have a route in Loc-RIB that somebody else put into the kernel, a workload's, as a rule; or a
        network of an interface of ours (DIRECT)."""
        next_hop = _NO_NEXT_HOP[family] if gateway is None else gateway.packed
        source = self._local_source(family, kind)
        path = source.path(originate(next_hop=next_hop), interface=interface, metric=metric)
        self.ribs[family].insert(path, (nlri,))
        self._changed()

    def withdraw(self, family: Family, nlri: bytes, kind: SourceKind) -> None:
        """Take back what `originate` (STATIC, ALLOCATED) or `learn` (KERNEL, DIRECT) put into Loc-RIB."""
        self.ribs[family].withdraw(self._local_source(family, kind), (nlri,))
        self._changed()

    def rerank(self, family: Family, nlri: Iterable[bytes]) -> None:
        """Rank the paths of these prefixes again: the way to a next hop of theirs has changed."""
        self.ribs[family].rerank(nlri)
        self._changed()

    def _local_source(self, family: Family, kind: SourceKind) -> Source:
        source = self._local.get((family, kind))
        if source is None:
            source = self._local[family, kind] = Source(kind.value, kind, self.router[family])
        return source

    # The turn of the loop

    def flush(self) -> None:
        """Hand all changed prefixes to the export groups and the listeners, now."""
        for rib in self.ribs.values():
            while rib.flush(PREFIXES_A_TURN):
                pass

    def flush_some(self, limit: int = PREFIXES_A_TURN) -> int:
        """Hand some of them on, at most so many a family; returns how many wait for the next turn."""
        for family, rib in self.ribs.items():
            rib.flush(limit)
            self.groups[family].build(limit)
        return self.changes_pending

    @property
    def changes_pending(self) -> int:
        """How many prefixes are to be handed on, or filled into groups that were made not long ago."""
        changed = sum(rib.changes_pending for rib in self.ribs.values())
        return changed + sum(groups.unbuilt for groups in self.groups.values())

    def release_snapshots(self) -> None:
        """Let go of what was kept for joining peers; to be called every few seconds."""
        for groups in self.groups.values():
            groups.release_snapshots()


def _filters() -> ModuleType:
    """BGPFilters at work. Imported where there is one: they need the records' types, 3 MB that a reflector
    without records goes without."""
    from routed.bgp import filters

    return filters
