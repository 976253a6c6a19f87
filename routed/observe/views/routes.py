"""Routes, page by page in the order of prefixes, or in portions.

A `Walk` looks at a prefix when it is its turn: what came since the walk began may be missing, what has gone
is left out, and no prefix is there twice. Between two portions the event loop may turn.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import merge
from ipaddress import ip_network
from time import monotonic
from typing import Final

from routed.bgp.nlri import Family, Network, from_network
from routed.observe import documents
from routed.observe.observed import Observed
from routed.observe.views.route_fields import Row
from routed.observe.views.route_queries import LIMIT, Match, RouteQuery, UnknownPeerError
from routed.observe.views.route_sets import RouteSet, route_set

__all__ = ["LIMIT", "Match", "RouteQuery", "UnknownPeerError", "Walk", "iterate", "routes"]

#: Routes of a portion, about, and how long it takes at most, about, seconds.
PORTION: Final = 1000
PORTION_TIME: Final = 0.01
#: Prefixes that are put in order at a time.
SORTED_AT_ONCE: Final = 20_000


def routes(observed: Observed, query: RouteQuery) -> documents.Routes:
    """One page. Raises UnknownPeerError, and ValueError where `after` is no prefix."""
    walk = Walk(observed, query)
    found = [route for portion in walk for route in portion]
    return documents.Routes(routes=found, total=walk.total, next=walk.next)


def iterate(observed: Observed, query: RouteQuery) -> Walk:
    """The same in portions, some of them empty. Raises as `routes`, before the first portion."""
    return Walk(observed, query)


class Walk:
    """One page under way. Iterate over it once, or over its rows: each step gives a list, perhaps an empty
    one.

    total   as in `documents.Routes`
    next    the cursor for the next page, when all portions are out
    """

    def __init__(self, observed: Observed, query: RouteQuery) -> None:
        self._query = query
        self.next: str | None = None
        after = None if query.after is None else _cursor(query.after)
        families = [family for family in Family if query.family in (None, family)]
        if query.prefix is not None:
            families = [family for family in families if family is Family.of(query.prefix)]
        sets = [route_set(observed, query, family) for family in families]
        self._sets = [
            (one, after[1] if after is not None and after[0] is one.family else b"")
            for one in sets
            if after is None or one.family >= after[0]
        ]
        self._whole = query.prefix is not None and after is None
        self.total = -1
        if query.prefix is None:
            counts = [one.count() for one in sets]
            self.total = -1 if -1 in counts else sum(counts)

    def __iter__(self) -> Iterator[list[documents.Route]]:
        for portion in self.rows():
            yield [row.document() for row in portion]

    def rows(self) -> Iterator[list[Row]]:
        """The same routes, still in two parts."""
        query = self._query
        longest = query.longest
        left = query.limit
        last: str | None = None
        for one, after in self._sets:
            one.forget()
            portion: list[Row] = []
            until = monotonic() + PORTION_TIME
            for nlri in _keys(one, query, after):
                found = one.routes(nlri) if nlri is not None else []
                if longest and found:
                    if query.scope == "all" and all(row.body.route.ineligible is not None for row in found):
                        continue
                    yield found
                    left -= len(found)
                    break
                if len(found) > left and last is not None:
                    self.next = last
                    yield portion
                    return
                if found:
                    left -= len(found)
                    last = found[0].prefix
                    portion += found
                if nlri is None or len(portion) >= PORTION or monotonic() > until:
                    yield portion
                    portion = []
                    one.forget()
                    until = monotonic() + PORTION_TIME
            else:
                yield portion
        if self._whole:
            self.total = query.limit - left


def _cursor(text: str) -> tuple[Family, bytes]:
    """The family, and the place in the order of its prefixes."""
    try:
        network = ip_network(text)
    except ValueError as error:
        raise ValueError(f"after: give the `next` of the page before: {error}") from None
    family = Family.of(network)
    return family, _place(from_network(network), family)


def _place(nlri: bytes, family: Family) -> bytes:
    """Octets that put prefixes in order: by address, and then the shorter one first."""
    return nlri[1:].ljust(family.address_octets, b"\0") + nlri[:1]


def _keys(one: RouteSet, query: RouteQuery, after: bytes) -> Iterator[bytes | None]:
    """The NLRI of a set that are asked for and come after a place, in order, each once; in between None,
    where the event loop may turn. For LONGEST the longest comes first."""
    family = one.family
    if query.prefix is None:
        yield from _sorted_keys(one, after, b"", b"\xff" * 17)
    elif query.match is Match.SUBNETS:
        # A prefix inside begins at no address before, and at the same one only if it is not shorter.
        first = _place(from_network(query.prefix), family)
        last = query.prefix.broadcast_address.packed + b"\xff"
        yield from _sorted_keys(one, after, first, last)
    else:
        for nlri in _holding(query.prefix, query.match):
            if _place(nlri, family) > after:
                one.look_for(nlri)
                yield nlri


def _holding(prefix: Network, match: Match) -> list[bytes]:
    """The NLRI that are asked for, whether they are there or not, in the order in which they are."""
    if match is Match.EXACT:
        return [from_network(prefix)]
    lengths = range(prefix.prefixlen + 1)
    found = [from_network(prefix.supernet(new_prefix=length)) for length in lengths]
    return found if match is Match.COVERING else found[::-1]


def _sorted_keys(one: RouteSet, after: bytes, first: bytes, last: bytes) -> Iterator[bytes | None]:
    """Those with a place after `after`, from `first` to `last`."""
    family = one.family
    octets = family.address_octets
    runs: list[list[bytes]] = []
    for some in one.keys(SORTED_AT_ONCE):
        places = [_place(nlri, family) for nlri in some]
        if after or first:
            places = [place for place in places if after < place and first <= place <= last]
        places.sort()
        runs.append(places)
        yield None
    before = b""
    for place in merge(*runs):
        if place != before:
            before = place
            yield place[octets:] + place[: place[octets] + 7 >> 3]
