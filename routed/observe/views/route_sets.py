"""The sets of routes that can be asked for: which prefixes each has, and the documents of a prefix in it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from routed.bgp.adj_out import Advert
from routed.bgp.adj_rib_in import AdjRibIn, paths_of
from routed.bgp.group import Group
from routed.bgp.member import Member
from routed.bgp.nlri import Family
from routed.bgp.nlri_codec import PATH_ID_OCTETS
from routed.bgp.path import Path, SourceKind
from routed.bgp.rib import LocRib
from routed.observe.documents import Route
from routed.observe.observed import Observed
from routed.observe.views.decision import Loss, loss, losses, sharing
from routed.observe.views.route_fields import RouteFields, Row
from routed.observe.views.route_queries import RouteQuery, Scope, UnknownPeerError

#: Where there are more adverts they are not counted.
COUNTED: Final = 200_000
#: Sources that are no peers, by name.
LOCAL: Final = frozenset(kind.value for kind in SourceKind if not kind.bgp)


def route_set(observed: Observed, query: RouteQuery, family: Family) -> RouteSet:
    """The set that a query asks for. Raises UnknownPeerError."""
    speaker = observed.speaker
    rib = speaker.ribs[family]
    fields = RouteFields(observed, family)
    if query.advertised_to is not None:
        peer = speaker.peers.get(query.advertised_to)
        if peer is None:
            raise UnknownPeerError(f"there is no peer {query.advertised_to}")
        return _Advertised(fields, rib, speaker.attachment(peer).members.get(family))
    if query.received_from is not None:
        return _Received(fields, rib, _table(observed, rib, query.received_from), query.scope)
    return _SETS[query.scope](fields, rib)


def _table(observed: Observed, rib: LocRib, name: str) -> AdjRibIn | None:
    peer = observed.speaker.peers.get(name)
    if peer is not None:
        source = observed.speaker.attachment(peer).sources.get(rib.family)
        return None if source is None else rib.sources.get(source)
    if name not in LOCAL:
        raise UnknownPeerError(f"there is no peer {name}")
    return next(
        (table for source, table in rib.sources.items() if not source.kind.bgp and source.name == name), None
    )


def _chunks(keys: Sequence[bytes], size: int) -> Iterator[Sequence[bytes]]:
    return (keys[at : at + size] for at in range(0, len(keys), size))


class RouteSet(ABC):
    """Some routes of one family."""

    def __init__(self, fields: RouteFields, rib: LocRib) -> None:
        self.family = rib.family
        self._fields = fields
        self._rib = rib

    def forget(self) -> None:
        """The event loop may have turned."""
        self._fields.forget()

    def look_for(self, nlri: bytes) -> None:  # noqa: B027 (most have nothing to do)
        """`routes` will be asked for this one, though `keys` was not."""

    @abstractmethod
    def keys(self, size: int) -> Iterator[Iterable[bytes]]:
        """The NLRI in the set as it is now, about `size` at a time, in no order; some may be there twice, and
        some may have no route. Between two of them the event loop may turn."""

    @abstractmethod
    def routes(self, nlri: bytes) -> list[Row]:
        """The routes of a prefix, the best first; none where it is not in the set (any more)."""

    @abstractmethod
    def count(self) -> int:
        """How many routes there are; -1: it would take too long to say."""

    def _ranked(self, nlri: bytes) -> list[Row]:
        """Loc-RIB's paths of a prefix."""
        entry = self._rib.routes.get(nlri)
        if entry is None:
            return []
        if not isinstance(entry, tuple):
            return [self._fields.route(nlri, entry, best=True)]
        shared = sharing(entry)
        return [
            self._place(nlri, path, shared, lost) for path, lost in zip(entry, losses(entry), strict=True)
        ]

    def _place(self, nlri: bytes, path: Path, shared: frozenset[Path], lost: Loss | None) -> Row:
        """One of several paths, at its place in the decision process."""
        return self._fields.route(
            nlri,
            path,
            best=lost is None,
            multipath=path in shared,
            not_best=None if lost is None else lost.text(path),
        )

    def _best(self, nlri: bytes) -> list[Row]:
        entry = self._rib.routes.get(nlri)
        if entry is None:
            return []
        if not isinstance(entry, tuple):
            return [self._fields.route(nlri, entry, best=True)]
        return [self._fields.route(nlri, entry[0], best=True, multipath=bool(sharing(entry)))]


class _Best(RouteSet):
    """Loc-RIB's best paths."""

    def keys(self, size: int) -> Iterator[Iterable[bytes]]:
        return _chunks(list(self._rib.routes), size)

    def routes(self, nlri: bytes) -> list[Row]:
        return self._best(nlri)

    def count(self) -> int:
        return len(self._rib.routes)


class _WithIneligible(RouteSet):
    """Sets that have ineligible paths in them."""

    def __init__(self, fields: RouteFields, rib: LocRib) -> None:
        super().__init__(fields, rib)
        self._tables: dict[bytes, list[AdjRibIn]] = {}
        """Where there may be ineligible paths of a prefix."""

    def look_for(self, nlri: bytes) -> None:
        self._tables[nlri] = [table for table in self._rib.sources.values() if table.hides]

    def _keys_of_hidden(self, size: int) -> Iterator[Iterable[bytes]]:
        """Finds out which tables may have ineligible paths of which prefixes."""
        for table in list(self._rib.sources.values()):
            if not table.hides:
                continue
            items = list(table.routes.items())
            for at in range(0, len(items), size):
                some = [
                    nlri
                    for nlri, entry in items[at : at + size]
                    if table.policy is not None
                    or any(path.ineligible is not None for path in paths_of(entry))
                ]
                for nlri in some:
                    self._tables.setdefault(nlri, []).append(table)
                yield some

    def _ineligible(self, nlri: bytes) -> list[Row]:
        tables = self._tables.get(nlri)
        if not tables:
            return []
        return [
            self._fields.route(nlri, path, best=False)
            for table in tables
            for path in table.admitted(nlri)
            if path.ineligible is not None
        ]


class _All(_WithIneligible):
    """Every path that anybody gave."""

    def keys(self, size: int) -> Iterator[Iterable[bytes]]:
        yield from _chunks(list(self._rib.routes), size)
        yield from self._keys_of_hidden(size)

    def routes(self, nlri: bytes) -> list[Row]:
        return self._ranked(nlri) + self._ineligible(nlri) if self._tables else self._ranked(nlri)

    def count(self) -> int:
        return sum(map(len, self._rib.sources.values()))


class _Rejected(_WithIneligible):
    """Ineligible paths, and best paths of prefixes that the kernel should have and has not."""

    def keys(self, size: int) -> Iterator[Iterable[bytes]]:
        yield from _chunks(list(self._fields.kept_out()), size)
        yield from self._keys_of_hidden(size)

    def routes(self, nlri: bytes) -> list[Row]:
        return (self._best(nlri) if self._fields.is_kept_out(nlri) else []) + self._ineligible(nlri)

    def count(self) -> int:
        return -1


class _Kernel(RouteSet):
    """What is in the kernel, or could be: one route a prefix."""

    def keys(self, size: int) -> Iterator[Iterable[bytes]]:
        return _chunks(list(self._fields.in_kernel()), size)

    def routes(self, nlri: bytes) -> list[Row]:
        if self._fields.kernel(nlri) is None:
            return []
        return self._best(nlri) or [self._fields.without_path(nlri)]

    def count(self) -> int:
        return len(self._fields.in_kernel())


class _Received(RouteSet):
    """What one source gave."""

    def __init__(self, fields: RouteFields, rib: LocRib, table: AdjRibIn | None, scope: Scope) -> None:
        super().__init__(fields, rib)
        self._table = table
        self._scope = scope

    def keys(self, size: int) -> Iterator[Iterable[bytes]]:
        return _chunks(list(self._table.routes) if self._table is not None else [], size)

    def routes(self, nlri: bytes) -> list[Row]:
        if self._table is None:
            return []
        ranked = paths_of(self._rib.routes.get(nlri))
        found = [self._route(nlri, path, ranked) for path in self._table.admitted(nlri)]
        scope = self._scope
        if scope == "all":
            return found
        if scope == "best":
            return [row for row in found if row.body.route.best]
        if scope == "kernel":
            return [row for row in found if row.body.route.kernel is not None]
        return [row for row in found if self._rejected(nlri, row.body.route)]

    def count(self) -> int:
        if self._table is None:
            return 0
        return len(self._table) if self._scope == "all" else -1

    def _rejected(self, nlri: bytes, route: Route) -> bool:
        return route.ineligible is not None or (route.best and self._fields.is_kept_out(nlri))

    def _route(self, nlri: bytes, path: Path, ranked: Sequence[Path]) -> Row:
        if path not in ranked:
            return self._fields.route(nlri, path, best=False)
        if len(ranked) == 1:
            return self._fields.route(nlri, path, best=True)
        return self._place(nlri, path, sharing(ranked), loss(ranked, path))


class _Advertised(RouteSet):
    """What one peer is told."""

    def __init__(self, fields: RouteFields, rib: LocRib, member: Member | None) -> None:
        super().__init__(fields, rib)
        self._member = member

    @property
    def _group(self) -> Group | None:
        """The group the peer is in now: it may move to another while the loop turns, or its session end."""
        member = self._member
        if member is None or member.group.members.get(member.source) is not member:
            return None
        return member.group

    def keys(self, size: int) -> Iterator[Iterable[bytes]]:
        group = self._group
        if group is None:
            return
        start = PATH_ID_OCTETS if group.key.add_path else 0
        for some in _chunks(list(group.adj_out), size):
            yield (key[start:] for key in some)

    def routes(self, nlri: bytes) -> list[Row]:
        group, member = self._group, self._member
        if group is None or member is None:
            return []
        adverts = group.adverts_by_path_id(nlri)
        best = self._best_of(group, nlri, adverts)
        own = member.source
        found = [
            self._fields.advert(nlri, path_id, advert[0], advert[1], best=advert == best)
            for path_id, advert in adverts
            if advert[1] is not own
        ]
        return sorted(found, key=lambda row: not row.body.route.best) if len(found) > 1 else found

    def _best_of(self, group: Group, nlri: bytes, adverts: Sequence[tuple[int, Advert]]) -> Advert | None:
        """The advert of the best path."""
        best = self._rib.best(nlri)
        if best is None:
            return None
        of_source = [advert for _path_id, advert in adverts if advert[1] is best.source]
        if len(of_source) > 1:  # which of the paths that one source gave?
            attributes = group.exporter.attributes_of(nlri, best)
            of_source = [advert for advert in of_source if advert[0] is attributes]
        return of_source[0] if of_source else None

    def count(self) -> int:
        group, member = self._group, self._member
        if group is None or member is None:
            return 0
        if len(group.adj_out) > COUNTED:
            return -1
        own = member.source
        return sum(source is not own for _attributes, source in group.adj_out.values())


_SETS: Final[dict[Scope, Callable[[RouteFields, LocRib], RouteSet]]] = {
    "all": _All,
    "best": _Best,
    "kernel": _Kernel,
    "rejected": _Rejected,
}
