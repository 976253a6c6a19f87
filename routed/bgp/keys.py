"""A TCP-MD5 key that changes while a session is up: the old one and the new one overlap. Without I/O.

The two ends of a session learn of a new key at different times, seconds or hours apart, and a socket has one
key for an address. So:

* A connection keeps the key that it was made with until the other end is seen to have the new one
  (`Rollover`).
* Until a connection with the new key has been seen to work, dials use the two by turns, and so does what is
  listened for (`KeyRing`). That ends some time after the last session with the old key, at the latest.

"No key" is a key like the others here: a password that is added or removed rolls over in the same way.
"""

from __future__ import annotations

import random
from typing import Final

from routed.bgp.tcp_options import Progress
from routed.secret import SecretValue

Key = SecretValue | None

#: How long the old key is good for new connections, seconds: after the change, or after the end of the last
#: session with it.
OVERLAP_TIME: Final = 600.0
#: How long a trial of the new key on an Established connection may last, seconds: enough for three
#: retransmissions of TCP, after 0.2, 0.6 and 1.4 s, and for the other end to notice the first.
TRIAL_TIME: Final = 2.0
#: When the first trial begins: the other end has most likely learned of the change too by then, seconds.
FIRST_TRIAL: Final = 3.0
#: Trials come ever more seldom, up to this, seconds: an end that learns of the key makes one of its own.
SELDOM_TRIAL: Final = 300.0
#: How long after a trial that failed segments with another key are not taken for a sign, seconds.
QUIET_TIME: Final = 0.5


class KeyRing:
    """The keys of one peering that may be right now, the wanted one first."""

    __slots__ = ("_dials", "_listens", "_proven", "_until", "candidates")

    def __init__(self, key: Key) -> None:
        self.candidates: tuple[Key, ...] = (key,)
        self._until = float("inf")
        self._proven: tuple[Key, ...] = ()
        self._dials = 0
        self._listens = 0

    @property
    def wanted(self) -> Key:
        """The configured one."""
        return self.candidates[0]

    @property
    def overlapping(self) -> bool:
        """True while the old one counts, too."""
        return len(self.candidates) > 1

    def change(self, key: Key, now: float) -> None:
        """Another key is configured. The old one is the one that a session was up with last, or else the one
        that was wanted until now."""
        old = self._proven or self.candidates[:1]
        self.candidates = (key,) if key in old else (key, *old)
        self._until = now + OVERLAP_TIME
        self._dials = self._listens = 0

    def proven(self, key: Key) -> None:
        """A session works with it. If it is the wanted one the old one is void."""
        self._proven = (key,)
        if key == self.wanted:
            self.candidates = (key,)

    def session_over(self, now: float) -> None:
        """A session has ended: the old key, if it still counts, does so for a while from now on."""
        self._until = now + OVERLAP_TIME

    def expire(self, now: float) -> bool:
        """Forget the old key if its time is over. Not to be called while a session is up. True if it was."""
        if self.overlapping and now >= self._until:
            self.candidates = self.candidates[:1]
            return True
        return False

    def next_dial(self) -> Key:
        """The key for the next attempt to connect."""
        self._dials += 1
        return self.candidates[(self._dials - 1) % len(self.candidates)]

    @property
    def listening(self) -> Key:
        """The key that connections of the peer are to have now."""
        return self.candidates[self._listens % len(self.candidates)]

    def turn(self) -> None:
        """Listen with the next one."""
        self._listens += 1


class Rollover:
    """An Established connection on its way from its old key to the new one.

    Its owner calls `step` every fraction of a second. Where that says so it puts `key` on the socket, calls
    `swapped`, and has something sent, so that there is something to acknowledge."""

    def __init__(self, old: Key, new: Key, now: float, progress: Progress, rng: random.Random) -> None:
        self._keys = (old, new)
        self._rng = rng
        self._base = progress
        self._wait = FIRST_TRIAL
        self._quiet_until = now
        self._due = now + self._jitter(FIRST_TRIAL)
        self.trial = False
        """True while the socket has the new key, which is not known to work."""
        self.done = False
        """True once the new key works."""

    @property
    def key(self) -> Key:
        """What the socket is to have."""
        return self._keys[self.trial or self.done]

    def step(self, now: float, progress: Progress, trial_time: float = TRIAL_TIME) -> bool:
        """Look at what happened since the last call. True: another key is due; see `key`."""
        moved = (progress.acknowledged, progress.received) != (self._base.acknowledged, self._base.received)
        dropped = progress.dropped != self._base.dropped
        self._base = progress
        if self.trial:
            if moved:  # what is signed with the new key arrives
                self.trial, self.done = False, True
            elif now >= self._due:
                self.trial = False
                self._wait = min(self._wait * 2, SELDOM_TRIAL)
                self._due = now + self._jitter(self._wait)
                self._quiet_until = now + QUIET_TIME
                return True
            return False
        if now >= self._due or (dropped and not moved and now >= self._quiet_until):
            # Segments of the peer that are dropped, and none that are not: it may have the new key.
            self.trial = True
            self._due = now + trial_time
            return True
        return False

    def swapped(self, progress: Progress) -> None:
        """The socket has the key. `progress` must be of after that, or what arrived just before would be
        taken for signed with the new one."""
        self._base = progress

    def _jitter(self, seconds: float) -> float:
        return seconds * self._rng.uniform(0.75, 1.25)
