"""Readiness and liveness, as probes and `routed healthcheck` ask for them.

Each is one look at what is there: nothing is kept and no timer runs for it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from routed.bgp.peer import Peer
from routed.bgp.restart import ABSENT_PEER_TIME
from routed.event_loop import turns_of
from routed.observe.observed import Observed
from routed.text import printable

#: For so long after it began to speak BGP every wanted peer must be there, seconds; from then on one is
#: enough. It is how long the speaker itself waits for peers that are not there, and what calico-node's probe
#: waits: a peer that is down for longer is that peer's trouble, and must not hold up the roll-out of this
#: node, nor take a node that works out of service.
YOUNG_TIME: Final = ABSENT_PEER_TIME
#: For so long after its end a turn of the event loop that was far too long (`event_loop.STUCK_TURN`) is held
#: against the process, seconds. Probes give up after a minute: one such turn, as of a machine that was
#: paused, is no reason to restart; a process that has no others is.
STUCK_TIME: Final = 30.0
#: A reason names so many peers.
NAMED: Final = 5


@dataclass(frozen=True, slots=True)
class Health:
    """The answer to a probe."""

    ok: bool
    reason: str
    """One printable line; where it is not ok, it says what is missing."""


def readiness(observed: Observed) -> Health:
    """Whether routes that this process is to bring can be counted on.

    Not before the first snapshot of the datastore, nor without a router ID. Then, in the first `YOUNG_TIME`
    seconds, every wanted peer is Established and each that agreed to graceful restart has sent its table;
    after that at least one session is. Where no peers are wanted there is nothing to wait for; with client
    ranges it has to listen. Peers that the records hold back (`PeerConfig.held`), or that an operator has
    shut down, are not wanted. A datastore that is lost later changes nothing: all stays as it was."""
    ok, reason = _readiness(observed)
    return Health(ok, printable(reason))


def liveness(observed: Observed) -> Health:
    """Whether the event loop turns. That there is an answer says so; it is not alive for `STUCK_TIME` after a
    turn that took as long as `event_loop.STUCK_TURN`."""
    turns = turns_of(observed.speaker.loop)
    if turns is not None and time.monotonic() - turns.stuck_at < STUCK_TIME:
        return Health(False, f"the event loop hangs: a turn took {turns.stuck_for:.0f} s")
    return Health(True, "the event loop turns")


def is_wanted(peer: Peer) -> bool:
    """Whether a session with this peer is to be up: one that somebody named, nothing holds back, and no
    operator has shut down."""
    config = peer.config
    return not (config.dynamic or config.held is not None or peer.shut_down is not None)


def _readiness(observed: Observed) -> tuple[bool, str]:
    speaker = observed.speaker
    datastore = observed.datastore
    if datastore is not None and not datastore.synced:
        why = f": {datastore.lost_reason}" if datastore.lost_since is not None else ""
        return False, f"the datastore has not been read yet{why}"
    if speaker.started_at is None:
        why = "" if datastore is None else ": the records give this node no router ID"
        return False, f"not speaking BGP yet{why}"
    if speaker.client_ranges and not speaker.listening:
        return False, "not listening: clients cannot connect"
    wanted = [peer for peer in speaker.peers.values() if is_wanted(peer)]
    if not wanted:
        return True, "listening for clients" if speaker.client_ranges else "no peers are wanted"
    missing = [peer.name for peer in wanted if not peer.established]
    if speaker.loop.time() - speaker.started_at < YOUNG_TIME:
        if missing:
            return False, f"{len(missing)} of {len(wanted)} peers not Established: {_names(missing)}"
        if not speaker.converged:
            return False, "graceful restart is pending: peers have yet to send their tables"
    elif not any(peer.established for peer in speaker.peers.values()):
        return False, f"no session: none of {len(wanted)} peers is Established: {_names(missing)}"
    return True, f"{len(wanted) - len(missing)} of {len(wanted)} peers Established"


def _names(names: Sequence[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(sorted(names)[:NAMED]) + (f" and {more} more" if more > 0 else "")
