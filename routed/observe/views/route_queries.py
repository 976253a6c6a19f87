"""What may be asked about routes."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final, Literal

from routed.bgp.nlri import Family, Network

#: Routes of a page, where nobody says how many.
LIMIT: Final = 1000

Scope = Literal["all", "best", "kernel", "rejected"]


class Match(enum.StrEnum):
    """Which prefixes a query with a prefix is about."""

    EXACT = "exact"
    LONGEST = "longest"
    """The longest one that holds it, or is it, and has a route that is not ineligible; but for scope
    `rejected`, of course."""
    COVERING = "covering"
    """All that hold it, and itself."""
    SUBNETS = "subnets"
    """Itself, and all inside it."""


class UnknownPeerError(LookupError):
    """There is no peer of that name; the text says so."""


@dataclass(frozen=True, slots=True)
class RouteQuery:
    """Which routes are asked for.

    scope `all`       every path, the ineligible too
          `best`      the best path of each prefix
          `kernel`    the prefixes that are in the kernel, or could be, with what became of each
          `rejected`  ineligible paths, and the best paths of prefixes that are kept out of the kernel
    """

    prefix: Network | None = None
    match: Match = Match.EXACT
    family: Family | None = None
    scope: Scope = "all"
    received_from: str | None = None
    """Only what this peer sent, as it is after the import filters; or `static`, `direct`, `kernel`,
    `allocated` for routes that no peer sent."""
    advertised_to: str | None = None
    """What this peer is told, with the attributes as they are sent. No scope counts then."""
    after: str | None = None
    """The `next` of the page before."""
    limit: int = LIMIT
    """A page ends before the prefix that would make it longer, unless that is its first."""

    def __post_init__(self) -> None:
        if self.limit < 1:
            raise ValueError(f"limit {self.limit}: a page has at least one route")
        if self.received_from is not None and self.advertised_to is not None:
            raise ValueError("routes received from a peer and those advertised to one are two questions")

    @property
    def longest(self) -> bool:
        """True where one prefix of each family is the answer."""
        return self.prefix is not None and self.match is Match.LONGEST
