"""Who hears of what a speaker finds out: the tables' owner, and those who watch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from routed.bgp.nlri import Family

if TYPE_CHECKING:
    from routed.bgp.peer import Peer
    from routed.bgp.session_types import Negotiated


class SpeakerListener(Protocol):
    """Who works with what the speaker finds out."""

    def on_routes(self, family: Family, nlri: Sequence[bytes]) -> None:
        """Loc-RIB may have changed for these prefixes."""

    def on_converged(self, reason: str) -> None:
        """After the start: every peer that can be waited for has sent its table."""

    def on_status(self) -> None:
        """Something that `status` shows has changed."""


class SessionListener:
    """Who hears of the life of each peering. What happens a thousand times is told as seldom as it is logged,
    with its count. Every method does nothing here."""

    def on_peer_added(self, peer: Peer) -> None:
        """There is a new peering; a client of a range is one from its first connection on."""

    def on_peer_removed(self, peer: Peer) -> None:
        """A peering is no more."""

    def on_session_up(self, peer: Peer, negotiated: Negotiated) -> None:
        """A session is Established."""

    def on_session_down(self, peer: Peer, count: int, reason: str, routes: str) -> None:
        """A session was lost, `count` times since this was told last; `routes`: what became of the peer's
        routes."""

    def on_bad_update(self, peer: Peer, count: int, finding: str) -> None:
        """An error in an UPDATE ended no session (RFC 7606); so many since this was told last."""

    def on_peer_shut_down(self, peer: Peer, message: str) -> None:
        """An operator shut a peering down, with this message, perhaps empty."""

    def on_peer_brought_up(self, peer: Peer) -> None:
        """An operator ended that."""

    def on_peer_refreshed(self, peer: Peer, *, asked: bool, resent: bool) -> None:
        """An operator had the peer asked for its routes again, or ours sent again."""

    def on_draining(self) -> None:
        """The speaker is everybody's last choice from now on (RFC 8326)."""

    def on_drain_ended(self) -> None:
        """That is over, and the speaker goes on."""

    def on_stale_routes(self, peer: Peer, what: str) -> None:
        """The time of a peer's stale routes is over; `what` became of them."""
