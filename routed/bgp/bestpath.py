"""The decision process: one numbered comparator (RFC 4271 section 9.1.2.2, RFC 4456 section 9).

 0  preference       BIRD's: static 200, BGP 100, learned from the kernel 10; a LOCAL_PREF better than
                     Calico's normal makes a BGP path 200; a long-lived stale one has 7 (RFC 9494). On a tie
                     the BGP path wins: see below
 1  next hop         one that can be reached wins (RFC 4271 section 9.1.2.1). A path without such is kept, as
                     in BIRD: it is the best where there is no other, but does not go into the kernel
 2  LOCAL_PREF       greater wins; missing is 100
 3  AS_PATH          shorter wins; a set counts one
 4  ORIGIN           lower wins: IGP, EGP, INCOMPLETE
 5  MED              lower wins, among paths from the same neighbouring AS only; missing is 0
 6  eBGP over iBGP
 7  IGP metric       lower cost to the next hop wins
 8                   the multipath boundary: what is equal so far, and not eliminated by MED, shares the load
 9  router ID        lower wins; ORIGINATOR_ID in its place (RFC 4456 section 9)
10  CLUSTER_LIST     shorter wins (RFC 4456 section 9)
11  peer address     lower wins
12  path identifier  lower wins (RFC 7911; only between paths of one peer)

MED does not order paths: it compares some pairs and not others. So it is applied as RFC 4271 says, by
elimination among all paths that are equal up to step 4, and the outcome is the same in whatever order paths
came (BIRD's `deterministic med`). Everything else is one bytes key (`Path.key`).

Routes of equal preference but of different protocols BIRD compares by where the protocols lie in its memory
(`rte_better` in nest/rt-table.c); in 1.6.8 and 2.0.12 as Debian builds them that puts static before BGP.
Calico raises the preference in order that a better route overrides the local one, and so it does here.
"""

from __future__ import annotations

import enum
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Any

from routed.bgp.path import KEY_BEFORE_MED, KEY_MULTIPATH, Path, SourceKind


class Step(enum.IntEnum):
    """The steps by the numbers above."""

    PREFERENCE = 0
    NEXT_HOP = 1
    LOCAL_PREF = 2
    AS_PATH_LENGTH = 3
    ORIGIN = 4
    MED = 5
    EBGP_OVER_IBGP = 6
    IGP_METRIC = 7
    ROUTER_ID = 9
    CLUSTER_LIST_LENGTH = 10
    PEER_ADDRESS = 11
    PATH_ID = 12


_by_key = attrgetter("key")
_by_med = attrgetter("med")


def rank(paths: Iterable[Path]) -> tuple[Path, ...]:
    """All of `paths`, best first. The order does not depend on the order they are given in. Ineligible paths
    are not for here."""
    ordered = sorted(paths, key=_by_key)
    if any(map(_by_med, ordered)):
        ordered = _apply_med(ordered)
    return tuple(ordered)


def with_path(ranked: Sequence[Path], path: Path) -> tuple[Path, ...]:
    """What `rank` gives for a ranked sequence and one path more, but without sorting a long one again: what a
    thousand peers announce, an anycast address, is ranked anew with each of them."""
    if path.med or any(map(_by_med, ranked)):
        return rank((*ranked, path))
    place = bisect_left(ranked, path.key, key=_by_key)
    return (*ranked[:place], path, *ranked[place:])


def _apply_med(ordered: list[Path]) -> list[Path]:
    """Step 5 on paths in key order: in each run that is equal up to step 4, first those that no path from the
    same neighbouring AS beats by MED, then the same again for the rest."""
    result: list[Path] = []
    for _, run in groupby(ordered, key=lambda path: path.key[:KEY_BEFORE_MED]):
        rest = list(run)
        while rest:
            lowest = _lowest_med(rest)
            beaten = []
            for path in rest:
                if path.med == lowest[path.attributes.neighbor_as]:
                    result.append(path)
                else:
                    beaten.append(path)
            rest = beaten
    return result


def _lowest_med(paths: Iterable[Path]) -> dict[int | None, int]:
    lowest: dict[int | None, int] = {}
    for path in paths:
        asn = path.attributes.neighbor_as
        med = path.med
        if med < lowest.get(asn, med + 1):
            lowest[asn] = med
    return lowest


def multipath(ranked: Sequence[Path]) -> tuple[Path, ...]:
    """The paths of a ranked sequence that share the load: the best, and those equal to it up to step 8."""
    if len(ranked) == 1:
        return (ranked[0],)
    boundary = ranked[0].key[:KEY_MULTIPATH]
    before_med = boundary[:KEY_BEFORE_MED]
    lowest = _lowest_med(path for path in ranked if path.key[:KEY_BEFORE_MED] == before_med)
    return tuple(
        path
        for path in ranked
        if path.key[:KEY_MULTIPATH] == boundary and path.med == lowest[path.attributes.neighbor_as]
    )


def decide(a: Path, b: Path) -> tuple[Path, Step]:
    """Which of two paths is better when there are only these two, and the step that decided.

    Raises ValueError for a path against itself."""
    for step, worth in _STEPS:
        if step is Step.MED and a.attributes.neighbor_as != b.attributes.neighbor_as:
            continue
        worth_a, worth_b = worth(a), worth(b)
        if worth_a != worth_b:
            return (a if worth_a < worth_b else b), step
    raise ValueError("the paths are the same in every step")


def why_not_best(ranked: Sequence[Path], path: Path) -> tuple[Path, Step]:
    """The path that beat `path`, and the step. It is the best one, except where MED eliminated `path` by
    another path from its own neighbouring AS. `path` is in `ranked` and not its first."""
    best = ranked[0]
    winner, step = decide(best, path)
    if step < Step.MED and winner is best:
        return best, step
    for other in ranked:
        if (
            other.key[:KEY_BEFORE_MED] == path.key[:KEY_BEFORE_MED]
            and other.attributes.neighbor_as == path.attributes.neighbor_as
            and other.med < path.med
        ):
            return other, Step.MED
    return best, step


# One row a step, smaller is better: `decide` and its explanations read this, `Path.key` packs the same
# values.
_STEPS: tuple[tuple[Step, Callable[[Path], Any]], ...] = (
    (Step.PREFERENCE, lambda path: -path.preference),
    (Step.NEXT_HOP, lambda path: not path.reachable),
    (Step.PREFERENCE, lambda path: not path.source.kind.bgp),
    (Step.LOCAL_PREF, lambda path: -path.local_pref),
    (Step.AS_PATH_LENGTH, lambda path: path.attributes.as_path_length),
    (Step.ORIGIN, lambda path: path.attributes.origin),
    (Step.MED, lambda path: path.med),
    (Step.EBGP_OVER_IBGP, lambda path: path.source.kind is SourceKind.IBGP),
    (Step.IGP_METRIC, lambda path: path.igp_metric),
    (Step.ROUTER_ID, lambda path: path.router_id),
    (Step.CLUSTER_LIST_LENGTH, lambda path: len(path.attributes.cluster_list)),
    (Step.PEER_ADDRESS, lambda path: path.source.address_key),
    (Step.PATH_ID, lambda path: path.path_id),
)
