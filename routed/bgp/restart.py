"""Graceful restart (RFC 4724, RFC 9494): when routes outlive their session, and when a start is over.

The helper's side is pure functions of what was agreed, and `stale`. The restarting side is `Convergence`: a
speaker that has just started cannot know whether its peers hold routes of an
earlier run of it, so every start is taken for a restart. Until the peers have
sent their tables our own End-of-RIB is held back, so that a peer does not drop
routes that we only have yet to hear of; each wait is bounded, for each peer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Set
from typing import Final

from routed.bgp.capabilities import SAFI_UNICAST
from routed.bgp.nlri import Family
from routed.bgp.session_types import Down, Negotiated

#: How long after the start a peer that is not there is waited for, seconds.
ABSENT_PEER_TIME: Final = 30.0
#: How long an Established peer's End-of-RIB is waited for, seconds.
END_OF_RIB_TIME: Final = 60.0


def preserved_families(negotiated: Negotiated, *, long_lived: bool = False) -> frozenset[Family]:
    """The families in which the peer says that its forwarding state outlived the restart: the F bit of
    graceful restart, or of the long-lived one, which counts once that has begun (RFC 9494 section 4.2)."""
    capabilities = negotiated.capabilities
    if long_lived:
        last = capabilities.long_lived_graceful_restart
        forwarding = {(afi, safi) for afi, safi, kept, _ in last.families if kept} if last else set()
    else:
        restart = capabilities.graceful_restart
        forwarding = {(afi, safi) for afi, safi, kept in restart.families if kept} if restart else set()
    return frozenset(family for family in negotiated.families if (int(family), SAFI_UNICAST) in forwarding)


def restart_families(negotiated: Negotiated) -> frozenset[Family]:
    """The families that graceful restart was agreed on for, and for any time at all."""
    restart = negotiated.capabilities.graceful_restart
    if restart is None or not restart.restart_time:
        return frozenset()
    listed = {(afi, safi) for afi, safi, _kept in restart.families}
    return frozenset(family for family in negotiated.families if (int(family), SAFI_UNICAST) in listed)


def long_lived_times(negotiated: Negotiated) -> dict[Family, int]:
    """For how many seconds stale routes are kept as a last resort when the restart time is over (RFC 9494);
    families without are not in it."""
    last = negotiated.capabilities.long_lived_graceful_restart
    if not negotiated.long_lived or last is None:
        return {}
    listed = {(afi, safi): seconds for afi, safi, _kept, seconds in last.families}
    times = {family: listed.get((int(family), SAFI_UNICAST), 0) for family in negotiated.families}
    return {family: seconds for family, seconds in times.items() if seconds}


def keeps_routes(negotiated: Negotiated, down: Down) -> frozenset[Family]:
    """The families whose routes stay in use after a session ended (RFC 4724 section 4.2, RFC 9494 section
    4.2).

    None after a NOTIFICATION, from either end: that is no restart; unless both ends agreed that it is one
    (RFC 8538 section 4) and it is not a Hard Reset."""
    for notification in (down.sent, down.received):
        if notification is not None and (notification.hard_reset or not negotiated.restart_on_notification):
            return frozenset()
    return restart_families(negotiated) | long_lived_times(negotiated).keys()


class Convergence:
    """Waits, after the start, for the End-of-RIB of every peer that can be waited for."""

    def __init__(self, loop: asyncio.AbstractEventLoop, done: Callable[[str], None]) -> None:
        """`done` gets the reason, for people: all peers sent their tables, or whom was not waited for any
        longer."""
        self._loop = loop
        self._done = done
        self._waiting: dict[str, set[Family]] = {}
        self._established: set[str] = set()
        self._gave_up: list[str] = []
        self._timers: list[asyncio.TimerHandle] = []
        self._hold = True
        self.pending = True
        """False once the start is over."""

    def start(self, *, unknown_peers: bool) -> None:
        """Begin to count. `unknown_peers`: clients of a range may come that nobody has named, so wait for
        them."""
        self._timers.append(self._loop.call_later(ABSENT_PEER_TIME, self._give_up_on_absent))
        if not unknown_peers:
            # Records that arrive in the first turns name the peers.
            self._timers.append(self._loop.call_later(1.0, self._release))

    @property
    def waiting(self) -> Mapping[str, Set[Family]]:
        """Who is waited for, by name, and for the tables of which families."""
        return self._waiting if self.pending else {}

    @property
    def ends_at(self) -> float | None:
        """When the start is over at the latest, by the loop's clock, as far as is known now; None: it has not
        begun, or it is over."""
        return max((timer.when() for timer in self._timers), default=None) if self.pending else None

    def cancel(self) -> None:
        """Count no more."""
        self.pending = False
        for timer in self._timers:
            timer.cancel()

    def expect(self, peer: str, families: Iterable[Family]) -> None:
        """A configured peer."""
        if self.pending:
            self._waiting[peer] = set(families)

    def established(self, peer: str, negotiated: Negotiated) -> None:
        """Its session is up. One without graceful restart sends no End-of-RIB that it promised, and one
        that is restarting itself may be waiting for ours (RFC 4724 section 4.1): neither is waited for."""
        if not self.pending:
            return
        self._established.add(peer)
        restart = negotiated.capabilities.graceful_restart
        if restart is None or restart.restarted:
            self._waiting.pop(peer, None)
        else:
            self._waiting[peer] = set(negotiated.families)
            self._timers.append(self._loop.call_later(END_OF_RIB_TIME, self._give_up_on, peer))
        self._check()

    def end_of_rib(self, peer: str, family: Family) -> None:
        """It sent its whole table of a family."""
        families = self._waiting.get(peer)
        if families is not None:
            families.discard(family)
            if not families:
                del self._waiting[peer]
                self._check()

    def lost(self, peer: str) -> None:
        """Its session is down again: it is as one that is not there yet."""
        self._established.discard(peer)

    def rename(self, old: str, new: str) -> None:
        """It is known by another name now."""
        if old in self._waiting:
            self._waiting[new] = self._waiting.pop(old)
        if old in self._established:
            self._established.discard(old)
            self._established.add(new)

    def forget(self, peer: str) -> None:
        """It is no peer any more."""
        self._waiting.pop(peer, None)
        self._check()

    def _release(self) -> None:
        self._hold = False
        self._check()

    def _give_up_on_absent(self) -> None:
        absent = [peer for peer in self._waiting if peer not in self._established]
        for peer in absent:
            del self._waiting[peer]
        self._gave_up += absent
        self._release()

    def _give_up_on(self, peer: str) -> None:
        if self._waiting.pop(peer, None) is not None:
            self._gave_up.append(peer)
            self._check()

    def _check(self) -> None:
        if not self.pending or self._hold or self._waiting:
            return
        self.cancel()
        if self._gave_up:
            names = ", ".join(sorted(self._gave_up)[:5]) + (" and others" if len(self._gave_up) > 5 else "")
            self._done(f"waited in vain for {names}")
        else:
            self._done("every peer has sent its table")
