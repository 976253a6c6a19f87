"""Turns of the event loop for those who answer questions: one portion of work in each, whoever asks.

A portion takes some milliseconds. Sixty clients that ask for whole tables would have sixty portions between
two turns of the event loop, in which no KEEPALIVE goes out; with this they wait for each other.
"""

from __future__ import annotations

import asyncio
from collections import deque


class Turns:
    """Those who wait, in the order in which they came. At rest there is nothing."""

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._granting = False

    async def next(self) -> None:
        """Returns when it is one's turn: before each portion of work."""
        loop = asyncio.get_running_loop()
        mine: asyncio.Future[None] = loop.create_future()
        self._waiting.append(mine)
        if not self._granting:
            self._granting = True
            loop.call_soon(self._grant, loop)
        await mine

    def _grant(self, loop: asyncio.AbstractEventLoop) -> None:
        """Once in a turn of the event loop, while somebody waits."""
        while self._waiting:
            first = self._waiting.popleft()
            if not first.done():  # else its client has gone
                first.set_result(None)
                break
        self._granting = bool(self._waiting)
        if self._granting:
            loop.call_soon(self._grant, loop)
