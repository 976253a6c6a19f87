"""Routes counted by who gave them and who is told of them: one pass over a table, in portions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, TypeVar

from routed.bgp.adj_out import Advert
from routed.bgp.adj_rib_in import Entry, paths_of
from routed.bgp.group import Group
from routed.bgp.path import Source, SourceKind
from routed.bgp.rib import LocRib
from routed.observe.bird.replies import Portions

#: Prefixes between two turns of the event loop: a millisecond or two.
PORTION: Final = 16_384

T = TypeVar("T")
Giver = Source | SourceKind
"""A peer's source; of local routes, their kind."""


@dataclass(slots=True)
class RouteCounts:
    """Of Loc-RIB: how many routes each source has there, and how many of them are the best."""

    imported: Counter[Giver] = field(default_factory=Counter)
    preferred: Counter[Giver] = field(default_factory=Counter)


def giver(source: Source) -> Giver:
    """Under what a source's routes are counted."""
    return source if source.kind.bgp else source.kind


def count_routes(rib: LocRib) -> Portions[RouteCounts]:
    """Count what is in Loc-RIB."""
    by_entry: Counter[Entry] = yield from tally(rib.routes.values())
    counts = RouteCounts()
    for at, (entry, times) in enumerate(by_entry.items()):
        if at % PORTION == PORTION - 1:
            yield
        paths = paths_of(entry)
        counts.preferred[giver(paths[0].source)] += times
        for path in paths:
            counts.imported[giver(path.source)] += times
    return counts


def count_adverts(group: Group) -> Portions[Counter[Source]]:
    """How many routes of each source a group tells. A member is told of all but its own."""
    by_advert: Counter[Advert] = yield from tally(group.adj_out.values())
    counts: Counter[Source] = Counter()
    for (_attributes, source), times in by_advert.items():
        counts[source] += times
    return counts


def tally(values: Iterable[T]) -> Portions[Counter[T]]:
    """How often each value is there. Ten thousand routes with the same attributes are one value."""
    counts: Counter[T] = Counter()
    everything: Sequence[T] = list(values)  # the table may change between two portions
    for start in range(0, len(everything), PORTION):
        if start:
            yield
        counts.update(islice(everything, start, start + PORTION))
    return counts
