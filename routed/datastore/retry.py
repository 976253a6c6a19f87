"""Trying again, for as long as it takes, and never in a busy loop: what all datastores behind a network
share."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    wait_fixed,
    wait_random_exponential,
)

FIRST_PAUSE = 0.5
"""Seconds that the first pause takes at most; each next bound is twice the one before."""

LEAST_PAUSE = 0.05
"""Seconds that every pause takes at least."""

LONGEST_PAUSE = 30.0
"""Seconds that no pause exceeds, unless the server asks for more."""

STEADY = 10.0
"""Seconds that a session must have held for the pauses to begin anew: one that is cut at once, again and
again, counts as failing."""


class UnavailableError(Exception):
    """The datastore cannot be had now. `reason` says in one line for people who said what, and never holds a
    secret. `retry_after`: seconds that the server asks to be left alone, None where it does not."""

    def __init__(self, reason: str, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.retry_after = retry_after


# Full jitter: anywhere between the least pause and the bound, so that thousands of nodes which lost the same
# server do not come back in step.
_jittered = wait_fixed(LEAST_PAUSE) + wait_random_exponential(multiplier=FIRST_PAUSE, max=LONGEST_PAUSE)


def pause_before(state: RetryCallState) -> float:
    """Seconds to wait before the next attempt; what the server asks for is a floor."""
    error = state.outcome.exception() if state.outcome is not None else None
    asked = error.retry_after if isinstance(error, UnavailableError) else None
    return max(min(_jittered(state), LONGEST_PAUSE), asked or 0.0)


async def keep_trying(
    session: Callable[[], Awaitable[None]],
    on_failure: Callable[[str], None],
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    clock: Callable[[], float] | None = None,
) -> None:
    """Runs `session` until it returns; where it ends with UnavailableError it says the reason to
    `on_failure`, pauses and runs it again, without end. Any other exception is a fault of ours and is
    raised.

    `session` connects and then follows the datastore. It returns only when there is nothing more to do."""
    now = clock or asyncio.get_running_loop().time
    retrying = AsyncRetrying(
        retry=retry_if_exception_type(UnavailableError), wait=pause_before, sleep=sleep, reraise=True
    )
    async for attempt in retrying:
        started = now()
        with attempt:
            try:
                await session()
            except UnavailableError as error:
                if now() - started >= STEADY:
                    attempt.retry_state.attempt_number = 1
                on_failure(error.reason)
                raise
