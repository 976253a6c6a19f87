"""When to dial, and how long to stay idle: the waits between attempts (RFC 4271 sections 8.1.1 and 10)."""

from __future__ import annotations

import random
from typing import Final

from routed.bgp.session_types import SessionConfig

#: RFC 4271 section 10: every timer but the hold timer is shortened by a random factor from 0.75 to 1.
JITTER: Final = (0.75, 1.0)
# An error is forgotten, and the wait after the next one short again, when none followed for so long
# (seconds).
_ERROR_FORGET_TIME: Final = 300.0


class RetryTimers:
    """The ConnectRetryTimer and the IdleHoldTimer of a session. Times are monotonic, in seconds.

    dial_at     when to dial; None: the timer does not run
    idle_until  when the wait in IDLE ends; None: the timer does not run
    attempts    dials in a row that led to nothing
    errors      errors in a row
    """

    __slots__ = ("_last_error_at", "attempts", "dial_at", "errors", "idle_until")

    def __init__(self) -> None:
        self.dial_at: float | None = None
        self.idle_until: float | None = None
        self.attempts = 0
        self.errors = 0
        self._last_error_at = float("-inf")

    def set_dial(self, config: SessionConfig, now: float, rng: random.Random, *, alone: bool) -> None:
        """Start the ConnectRetryTimer: a short wait that doubles with each attempt, up to the whole one. It
        is the whole one at once where there is a connection of the peer (not `alone`)."""
        wait = config.connect_retry_time
        if alone:
            wait = min(wait, config.connect_delay * (1 << min(self.attempts, 16)))
        # The very first wait is random as a whole, so that a cluster that starts does not dial in one moment.
        jitter = rng.uniform(*JITTER) if self.attempts else rng.random()
        self.dial_at = now + wait * jitter

    def set_idle(self, config: SessionConfig, now: float, rng: random.Random) -> None:
        """Start the IdleHoldTimer after an error: a wait that is longer with each one that follows another.
        Nothing is dialled meanwhile."""
        if now - self._last_error_at > _ERROR_FORGET_TIME:
            self.errors = 0
        self._last_error_at = now
        wait = min(config.idle_hold_max, config.idle_hold_min * (1 << min(self.errors, 16)))
        self.errors += 1
        self.dial_at = None
        self.idle_until = now + wait * rng.uniform(*JITTER)
