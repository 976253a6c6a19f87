"""Waiting on a real event loop, for what no event tells of. On virtual time it is `tests.virtual.until`,
without an event loop `tests.netns.wait_for`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

#: Between two looks, seconds.
_INTERVAL = 0.005


async def until(
    condition: Callable[[], object],
    within: float = 60.0,
    not_yet: type[Exception] | tuple[type[Exception], ...] = (),
) -> None:
    """Returns when the condition holds; `not_yet`: what it may raise before. AssertionError after `within`
    seconds."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within
    while True:
        try:
            if condition():
                return
        except not_yet:
            pass
        assert loop.time() < deadline, f"the condition did not come true within {within:g} s"
        await asyncio.sleep(_INTERVAL)
