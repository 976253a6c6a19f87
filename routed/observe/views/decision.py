"""The decision process for people: which paths of a prefix share the load, and why each other one lost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from routed.bgp.bestpath import Step, decide, multipath, why_not_best
from routed.bgp.path import KEY_BEFORE_MED, Path, SourceKind
from routed.observe.views.text import address_text, next_hop_text
from routed.text import clean

_ORIGINS: Final = ("IGP", "EGP", "incomplete")


def _next_hop(path: Path) -> str:
    way = next_hop_text(path.attributes.next_hop)
    return way if path.reachable else f"{way}, which cannot be reached"


#: What two paths are compared by, and the value of one of them.
STEPS: Final[dict[Step, tuple[str, Callable[[Path], object]]]] = {
    Step.PREFERENCE: ("preference", lambda path: path.preference),
    Step.NEXT_HOP: ("next hop", _next_hop),
    Step.LOCAL_PREF: ("LOCAL_PREF", lambda path: path.local_pref),
    Step.AS_PATH_LENGTH: ("AS_PATH length", lambda path: path.attributes.as_path_length),
    Step.ORIGIN: ("ORIGIN", lambda path: _ORIGINS[path.attributes.origin]),
    Step.MED: ("MED", lambda path: path.med),
    Step.EBGP_OVER_IBGP: ("kind", lambda path: "iBGP" if path.source.kind is SourceKind.IBGP else "eBGP"),
    Step.IGP_METRIC: ("IGP metric", lambda path: path.igp_metric),
    Step.ROUTER_ID: ("router ID", lambda path: address_text(path.router_id)),
    Step.CLUSTER_LIST_LENGTH: ("CLUSTER_LIST length", lambda path: len(path.attributes.cluster_list)),
    Step.PEER_ADDRESS: ("peer address", lambda path: address_text(path.source.address)),
    Step.PATH_ID: ("path identifier", lambda path: path.path_id),
}


@dataclass(frozen=True, slots=True)
class Loss:
    """What a path lost to, and in which step; None: it is like that one in every step."""

    winner: Path
    step: Step | None

    def text(self, path: Path) -> str:
        """`LOCAL_PREF 100, but 200 from Mesh_10_0_0_2 (10.0.0.2, AS 64512)`."""
        winner = clean(self.winner.source.describe())
        if self.step is None:
            return f"the same in every step as that from {winner}"
        name, value = STEPS[self.step]
        ours, theirs = value(path), value(self.winner)
        if ours == theirs:  # of equal preference, and one is not of a peer
            return f"{name} {ours}, and a peer's path from {winner} goes before it"
        return f"{name} {ours}, but {theirs} from {winner}"


def loss(ranked: Sequence[Path], path: Path) -> Loss | None:
    """What one path of a ranked sequence lost to; None: it is the best."""
    if path is ranked[0]:
        return None
    try:
        return Loss(*why_not_best(ranked, path))
    except ValueError:
        return Loss(ranked[0], None)


def losses(ranked: Sequence[Path]) -> list[Loss | None]:
    """`loss` of each path, in one walk: a prefix may have a thousand of them."""
    best = ranked[0]
    lowest: dict[tuple[bytes, int | None], Path] = {}
    if any(path.med for path in ranked):
        # Of the paths that MED compares, the first in order has the lowest.
        for path in ranked:
            lowest.setdefault((path.key[:KEY_BEFORE_MED], path.attributes.neighbor_as), path)
    found: list[Loss | None] = [None]
    for path in ranked[1:]:
        try:
            winner, step = decide(best, path)
        except ValueError:
            found.append(Loss(best, None))
            continue
        if lowest and not (step < Step.MED and winner is best):
            other = lowest[path.key[:KEY_BEFORE_MED], path.attributes.neighbor_as]
            if other.med < path.med:
                found.append(Loss(other, Step.MED))
                continue
        found.append(Loss(best, step))
    return found


def sharing(ranked: Sequence[Path]) -> frozenset[Path]:
    """The paths that share the load, the best among them; empty where one alone has it."""
    found = multipath(ranked)
    return frozenset(found) if len(found) > 1 else frozenset()
