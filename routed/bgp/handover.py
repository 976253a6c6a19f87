"""Letting go of a peering without a gap: when a node moves from the mesh to reflectors, or back.

The records change at once, the sessions cannot. A peering that they no longer name is kept, retiring,
until every route it gives us is also known from a peer that stays; bounded, so that a route which nobody
else has cannot keep it for ever. If the other end lets go first, what it told us stays in use for the same
time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from routed.bgp.nlri import Family
from routed.bgp.rib import LocRib

if TYPE_CHECKING:
    from routed.bgp.attachment import Attachment
    from routed.bgp.peer import Peer

#: The other end learns of the same change a little sooner or later, and needs our routes until then, seconds.
LEAST_TIME: Final = 5.0
#: How long a peering is kept at most, seconds.
MOST_TIME: Final = 20.0
#: How often it is looked whether all routes are known from others, seconds.
CHECK_TIME: Final = 0.25


class Handover:
    """The peers that are to go when they can."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        ribs: Mapping[Family, LocRib],
        attached: Mapping[Peer, Attachment],
        let_go: Callable[[Peer, str], None],
    ) -> None:
        """`attached`: what all peers have in the tables; `let_go` gets a peer that can go, and why now, for
        people."""
        self._loop = loop
        self._ribs = ribs
        self._attached = attached
        self._let_go = let_go
        self._since: dict[Peer, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __contains__(self, peer: object) -> bool:
        """Whether a peer is retiring."""
        return peer in self._since

    def retire(self, peer: Peer) -> None:
        """Let a peer go when its routes are known from others."""
        self._since.setdefault(peer, self._loop.time())
        if self._timer is None:
            self._timer = self._loop.call_later(LEAST_TIME, self._check)

    def keep(self, peer: Peer) -> None:
        """It is wanted again, or gone already."""
        self._since.pop(peer, None)

    def cancel(self) -> None:
        """Let nobody go any more."""
        self._since.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check(self) -> None:
        self._timer = None
        now = self._loop.time()
        for peer, since in list(self._since.items()):
            if now - since >= MOST_TIME:
                reason = "its time is over; some of its routes are known from nobody else"
            elif now - since >= LEAST_TIME and self._covered(peer):
                reason = "every route it gave is known from others"
            else:
                continue
            del self._since[peer]
            self._let_go(peer, reason)
        if self._since:
            self._timer = self._loop.call_later(CHECK_TIME, self._check)

    def _covered(self, peer: Peer) -> bool:
        """Whether each route of a retiring peer is also known from somebody who stays."""
        retiring = {
            source
            for other, attached in self._attached.items()
            if other is peer or other in self
            for source in attached.sources.values()
        }
        for family, source in self._attached[peer].sources.items():
            rib = self._ribs[family]
            table = rib.sources.get(source)
            for nlri in table.routes if table is not None else ():
                paths = rib.ranked(nlri)
                if paths and all(path.source in retiring for path in paths):
                    return False
        return True
