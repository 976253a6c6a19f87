"""From what the speaker tells to events."""

from __future__ import annotations

from functools import cache
from ipaddress import ip_address

from routed.bgp.listener import SessionListener
from routed.bgp.nlri import Family
from routed.bgp.peer import Peer
from routed.bgp.session_types import Negotiated
from routed.observe.events import EventKind, EventLog


@cache
def _names(families: frozenset[Family]) -> tuple[str, ...]:
    """Of the families, in order. Always the same object: thousands of events have such names."""
    return tuple(family.name.lower() for family in sorted(families))


class SessionEvents(SessionListener):
    """Publishes the life of each peering."""

    def __init__(self, events: EventLog) -> None:
        self._events = events

    def on_peer_added(self, peer: Peer) -> None:
        """A client of a range is told of when its session is up, and not before."""
        if not peer.config.dynamic:
            self._events.publish(
                EventKind.PEER_ADDED, "peer added", peer.name, address=str(peer.config.remote.address)
            )

    def on_peer_removed(self, peer: Peer) -> None:
        """As `on_peer_added`."""
        if not peer.config.dynamic:
            self._events.publish(
                EventKind.PEER_REMOVED, "peer removed", peer.name, address=str(peer.config.remote.address)
            )

    def on_session_up(self, peer: Peer, negotiated: Negotiated) -> None:
        """A session is Established."""
        self._events.publish(
            EventKind.SESSION_UP,
            "session established",
            peer.name,
            address=str(peer.config.remote.address),
            remote_as=negotiated.remote_as,
            router_id=str(ip_address(negotiated.remote_router_id)),
            families=_names(negotiated.families),
            hold_time=negotiated.hold_time,
        )

    def on_session_down(self, peer: Peer, count: int, reason: str, routes: str) -> None:
        """A session was lost, perhaps many times."""
        self._events.publish(
            EventKind.SESSION_DOWN,
            f"session down: {reason}" if count == 1 else f"session flaps, {count} times: {reason}",
            peer.name,
            address=str(peer.config.remote.address),
            reason=reason,
            routes=routes,
            times=count,
            flaps=peer.session.flaps,
        )

    def on_bad_update(self, peer: Peer, count: int, finding: str) -> None:
        """An error in an UPDATE."""
        self._events.publish(
            EventKind.BAD_UPDATE, f"bad UPDATE handled: {finding}", peer.name, finding=finding, times=count
        )

    def on_peer_shut_down(self, peer: Peer, message: str) -> None:
        """An operator shut a peering down."""
        self._events.publish(
            EventKind.PEER_SHUT_DOWN,
            f"shut down by an operator: {message}" if message else "shut down by an operator",
            peer.name,
            address=str(peer.config.remote.address),
            message=message,
        )

    def on_peer_brought_up(self, peer: Peer) -> None:
        """An operator ended that."""
        self._events.publish(
            EventKind.PEER_BROUGHT_UP,
            "brought up by an operator",
            peer.name,
            address=str(peer.config.remote.address),
        )

    def on_peer_refreshed(self, peer: Peer, *, asked: bool, resent: bool) -> None:
        """Routes are sent again."""
        told = [text for said, text in ((asked, "asked for its routes"), (resent, "sent ours")) if said]
        self._events.publish(
            EventKind.PEER_REFRESHED,
            f"route refresh: {' and '.join(told)} again",
            peer.name,
            asked=asked,
            resent=resent,
        )

    def on_draining(self) -> None:
        """Graceful shutdown begins."""
        self._events.publish(EventKind.DRAINING, "draining: last choice of all peers")

    def on_drain_ended(self) -> None:
        """Graceful shutdown was taken back."""
        self._events.publish(EventKind.DRAIN_ENDED, "drain ended: routes are as before")

    def on_stale_routes(self, peer: Peer, what: str) -> None:
        """Stale routes are at their end."""
        self._events.publish(EventKind.STALE_ROUTES, what, peer.name)
