"""`show route`: which routes, in which order, and in portions (rt_show in nest/rt-table.c)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address, ip_network
from typing import Final

from routed.bgp.adj_rib_in import AdjRibIn, paths_of
from routed.bgp.attributes import AttributeSet
from routed.bgp.export import why_not_exported
from routed.bgp.nlri import Family, from_network
from routed.bgp.peer import Peer
from routed.intent.types import OriginatedRoute
from routed.observe.bird.protocols import protocols
from routed.observe.bird.replies import (
    NOT_IN_TABLE,
    PARSE_ERROR,
    PROTOCOL_IS_DOWN,
    ROUTE_COUNT,
    CommandError,
    Line,
    Reply,
    syntax_error,
)
from routed.observe.bird.route_lines import Route, RouteLines
from routed.observe.bird.statics import hidden_statics
from routed.observe.bird.view import View
from routed.observe.bird.words import Word

#: Prefixes between two turns of the event loop: some milliseconds.
PORTION: Final = 512
#: Tables of up to so many prefixes are shown in the order of prefixes; larger ones as they come, as in BIRD:
#: to sort them would take too long a turn.
SORTED: Final = 4096

Shown = tuple[Route, AttributeSet | None]
"""A route, and the attributes to show where they are others than its own."""


@dataclass(slots=True)
class RouteQuery:
    """What is asked for."""

    details: bool = False
    count: bool = False
    """Say only how many."""
    stats: bool = False
    """Say also how many."""
    primary: bool = False
    """The best of each prefix only."""
    filtered: bool = False
    """What is in no table, though a peer sent it."""
    prefix: bytes | None = None
    longest: bool = False
    """The longest match of `prefix`, not itself alone."""
    protocol: str | None = None
    export: str | None = None
    """`export`, `preexport` or `noexport`."""
    to: Peer | None = None
    """To whom."""


def show_route(view: View, words: list[Word]) -> Reply:
    """`show route ...`."""
    query = parse(view, words)
    yield from _Listing(view, query).reply()


# The words of the command


def parse(view: View, words: Sequence[Word]) -> RouteQuery:
    """Raises CommandError where BIRD would not understand it, or where nothing like it is here."""
    query = RouteQuery()
    rest = list(reversed(words))
    while rest:
        word = rest.pop()
        if word.quoted:
            raise syntax_error()
        take = _WORDS.get(word.text)
        if take is not None:
            take(view, query, rest)
        else:
            _take_prefix(view, query, word.text)
    return query


def _flag(name: str) -> Callable[[View, RouteQuery, list[Word]], None]:
    def take(view: View, query: RouteQuery, rest: list[Word]) -> None:
        setattr(query, name, True)

    return take


def _argument(rest: list[Word]) -> str:
    if not rest or rest[-1].quoted:
        raise syntax_error()
    return rest.pop().text


def _take_for(view: View, query: RouteQuery, rest: list[Word]) -> None:
    query.longest = True
    _take_prefix(view, query, _argument(rest), address=True)


def _take_table(view: View, query: RouteQuery, rest: list[Word]) -> None:
    name = _argument(rest)
    if name not in ("master", f"master{4 if view.family is Family.IPV4 else 6}"):
        raise CommandError(PARSE_ERROR, f"{name} is not a table")


def _take_protocol(view: View, query: RouteQuery, rest: list[Word]) -> None:
    name = _argument(rest)
    if query.protocol is not None:
        raise CommandError(PARSE_ERROR, "Protocol specified twice")
    if not any(one.name == name for one in protocols(view)):
        raise CommandError(PARSE_ERROR, f"{name} is not a protocol")
    query.protocol = name


def _take_export(mode: str) -> Callable[[View, RouteQuery, list[Word]], None]:
    def take(view: View, query: RouteQuery, rest: list[Word]) -> None:
        name = _argument(rest)
        if query.export is not None:
            raise CommandError(PARSE_ERROR, "Export specified twice")
        found = next((one for one in protocols(view) if one.name == name), None)
        if found is None:
            raise CommandError(PARSE_ERROR, f"{name} is not a protocol")
        if found.peer is None:
            raise CommandError(
                PARSE_ERROR, f"{name} is no BGP protocol: what it is told of is not shown here"
            )
        query.export, query.to = mode, found.peer

    return take


def _no_filters(view: View, query: RouteQuery, rest: list[Word]) -> None:
    raise CommandError(
        PARSE_ERROR,
        "routed has no filter language: name a prefix, a protocol, or export PROTOCOL; "
        "`routed routes -o json` is for programs",
    )


_WORDS: Final[dict[str, Callable[[View, RouteQuery, list[Word]], None]]] = {
    "all": _flag("details"),
    "count": _flag("count"),
    "stats": _flag("stats"),
    "primary": _flag("primary"),
    "filtered": _flag("filtered"),
    "for": _take_for,
    "table": _take_table,
    "protocol": _take_protocol,
    "export": _take_export("export"),
    "preexport": _take_export("preexport"),
    "noexport": _take_export("noexport"),
    "where": _no_filters,
    "filter": _no_filters,
}


def _take_prefix(view: View, query: RouteQuery, text: str, *, address: bool = False) -> None:
    if query.prefix is not None:
        raise CommandError(PARSE_ERROR, "Only one prefix expected")
    head, slash, length = text.partition("/")
    try:
        packed = ip_address(head)
    except ValueError:
        raise CommandError(PARSE_ERROR, "IP address expected") from None
    version = 4 if view.family is Family.IPV4 else 6
    if packed.version != version or "%" in head:
        text = f"This is an IPv{version} router, therefore IPv{10 - version} addresses are not supported"
        raise CommandError(PARSE_ERROR, text)
    if not slash:
        if not address:
            raise syntax_error()
        query.prefix = bytes((view.family.max_prefix_length,)) + packed.packed
        return
    if not (length.isascii() and length.isdigit() and len(length) < 4):
        raise syntax_error()
    if int(length) > view.family.max_prefix_length:
        raise CommandError(PARSE_ERROR, f"Invalid prefix length {int(length)}")
    try:
        query.prefix = from_network(ip_network((packed, int(length))))
    except ValueError:
        raise CommandError(PARSE_ERROR, "Invalid prefix") from None


# The routes


class _Listing:
    """One answer."""

    def __init__(self, view: View, query: RouteQuery) -> None:
        self._query = query
        self._rib = view.observed.speaker.ribs[view.family]
        self._hidden = {} if query.filtered else hidden_statics(view)
        self._lines = RouteLines(view)
        self._names = self._lines.names
        self._networks = self._routes = self._found = 0
        self._target = None
        if query.to is not None:
            member = view.observed.speaker.attachment(query.to).members.get(view.family)
            if member is None:
                raise CommandError(PROTOCOL_IS_DOWN, "Protocol is down")
            self._target = member

    def reply(self) -> Reply:
        """All of it."""
        query = self._query
        if query.filtered and (query.primary or query.export):
            return
        if query.prefix is not None:
            nlri = self._match(query.prefix) if query.longest else query.prefix
            if nlri is not None:
                yield from self._of(nlri, self._all(nlri))
            if not self._routes:
                raise CommandError(NOT_IN_TABLE, "Network not in table")
            return
        if query.filtered:
            for table in list(self._rib.sources.values()):
                if table.hides:
                    yield from self._portions(list(table.routes), partial(_rejected, table))
                    yield None
        else:
            hidden = [nlri for nlri in self._hidden if nlri not in self._rib.routes]
            yield from self._portions([*self._rib.routes, *hidden], self._all)
        if query.count or query.stats:
            text = f"{self._found} of {self._routes} routes for {self._networks} networks"
            yield Line(ROUTE_COUNT, text, last=True)

    def _portions(self, keys: list[bytes], routes_of: Callable[[bytes], list[Route]]) -> Reply:
        """The lines of these prefixes. They were there: the table may change between two portions."""
        if len(keys) <= SORTED:
            octets = self._rib.family.address_octets
            keys.sort(key=lambda nlri: (nlri[1:].ljust(octets, b"\0"), nlri[0]))
        for start in range(0, len(keys), PORTION):
            if start:
                yield None
                self._lines.forget()
            for nlri in keys[start : start + PORTION]:
                yield from self._of(nlri, routes_of(nlri))

    def _match(self, prefix: bytes) -> bytes | None:
        """The longest prefix in the table that covers one."""
        address = int.from_bytes(prefix[1:].ljust(self._rib.family.address_octets, b"\0"))
        bits = self._rib.family.max_prefix_length
        for length in range(prefix[0], -1, -1):
            kept = address >> (bits - length) << (bits - length)
            nlri = bytes((length,)) + kept.to_bytes(bits // 8)[: (length + 7) >> 3]
            if self._all(nlri):
                return nlri
        return None

    def _all(self, nlri: bytes) -> list[Route]:
        """The routes of a prefix, best first."""
        if self._query.filtered:
            tables = [table for table in self._rib.sources.values() if table.hides]
            return [path for table in tables for path in _rejected(table, nlri)]
        found: list[Route] = list(paths_of(self._rib.routes.get(nlri)))
        hidden = self._hidden.get(nlri)
        if hidden is not None:
            found.insert(0, hidden)
        return found

    def _of(self, nlri: bytes, routes: list[Route]) -> Reply:
        """The lines of a prefix with these routes, and its part in the counts."""
        query = self._query
        if not routes:
            return
        self._networks += 1
        # Where only the best one is looked at, only that is counted, as in BIRD.
        best_only = query.primary or (self._target is not None and not self._target.group.key.add_path)
        self._routes += 1 if query.primary else len(routes)
        first = True
        for route, attributes in self._chosen(nlri, routes[:1] if best_only else routes):
            if query.protocol is not None and self._names(route) != query.protocol:
                continue
            self._found += 1
            if query.count:
                continue
            best = route is routes[0] and not query.filtered
            yield from self._lines.of(
                nlri, route, best=best, first=first, details=query.details, attributes=attributes
            )
            first = False

    def _chosen(self, nlri: bytes, routes: Sequence[Route]) -> Iterator[Shown]:
        """Those that the export mode is about."""
        member = self._target
        if member is None:
            yield from ((route, None) for route in routes)
            return
        group = member.group
        told = [advert for advert in group.adverts(nlri) if advert[1] is not member.source]
        for route in routes:
            if isinstance(route, OriginatedRoute) or route.source is member.source:
                continue
            if why_not_exported(route, group.key.target) is not None:
                continue
            if self._query.export == "preexport":
                yield route, None
                continue
            # Paths that leave with the same attributes are one advert.
            attributes = group.exporter.attributes_of(nlri, route)
            is_told = (attributes, route.source) in told
            if is_told and attributes is not None:
                told.remove((attributes, route.source))
            if is_told is (self._query.export == "export"):
                yield route, attributes if is_told else None


def _rejected(table: AdjRibIn, nlri: bytes) -> list[Route]:
    """What a source gave that filters, or loop checks, keep out."""
    return [path for path in table.admitted(nlri) if path.ineligible is not None]
