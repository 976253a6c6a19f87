"""What an export group advertises, and what a turn of the event loop changes in it."""

from __future__ import annotations

from collections.abc import Sequence

from routed.bgp.attributes import AttributeSet
from routed.bgp.path import Source

Advert = tuple[AttributeSet, Source]
"""What a group advertises for a prefix: the attributes as they leave, and the source of the path."""


class Turn:
    """What one turn changes in `adj_out`, sorted by whom it concerns.

    withdrawn   source that does not read it -> NLRI
    announced   (attributes, source that does not read it) -> NLRI
    only        (source that alone reads it, attributes or None to withdraw) -> NLRI
    """

    __slots__ = ("_adj_out", "announced", "only", "withdrawn")

    def __init__(self, adj_out: dict[bytes, Advert]) -> None:
        self._adj_out = adj_out
        self.withdrawn: dict[Source, list[bytes]] = {}
        self.announced: dict[Advert, list[bytes]] = {}
        self.only: dict[tuple[Source, AttributeSet | None], list[bytes]] = {}

    def withdraw(self, nlri: Sequence[bytes]) -> None:
        """These prefixes are advertised no longer."""
        adj_out = self._adj_out
        for one in nlri:
            old = adj_out.pop(one, None)
            if old is not None:
                self.withdrawn.setdefault(old[1], []).append(one)

    def announce_new(self, advert: Advert, nlri: Sequence[bytes]) -> None:
        """`announce`, of prefixes that are not advertised: the bulk of a table transfer, without a loop in
        Python, and without a question to `adj_out` that its answer is known of."""
        self._adj_out.update(dict.fromkeys(nlri, advert))
        self.announced.setdefault(advert, []).extend(nlri)

    def announce(self, advert: Advert, nlri: Sequence[bytes]) -> None:
        """These prefixes are advertised so from now on."""
        adj_out = self._adj_out
        if adj_out.keys().isdisjoint(nlri):
            self.announce_new(advert, nlri)  # the loop below does the same for each
            return
        attributes, source = advert
        before = set(map(adj_out.get, nlri))
        if advert not in before and all(old is not None and old[1] is source for old in before):
            # Other attributes from the same source: the same for each, without the loop.
            adj_out.update(dict.fromkeys(nlri, advert))
            self.announced.setdefault(advert, []).extend(nlri)
            return
        for one in nlri:
            old = adj_out.get(one)
            adj_out[one] = advert
            if old is None or old[1] is source:
                if old is None or old[0] is not attributes:
                    self.announced.setdefault(advert, []).append(one)
                continue
            # The best path moved to another source, which was told of the old one.
            self.only.setdefault((source, None), []).append(one)
            if old[0] is attributes:
                # Everybody has these attributes already, except the old source.
                self.only.setdefault((old[1], attributes), []).append(one)
            else:
                self.announced.setdefault(advert, []).append(one)
