"""What every datastore behind a network does the same: it keeps trying, tells Lost and Restored, and hands
on what is different as one batch, however much of it there is."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Iterator
from datetime import UTC, datetime

from routed.datastore.base import Event, Lost, Restored
from routed.datastore.retry import keep_trying
from routed.datastore.store import Store

LOST_GRACE = 1.0
"""Seconds that a connection may be gone before that is told: most are back after the first try."""

MOST_REASONS = 8
"""How many different reasons of one loss are told."""


class Feed:
    """Between a session, which reads into `store`, and the one who watches.

    The session calls `in_sync` when the store holds all that the datastore has, `changed` after it changed
    the store while in sync, and its failures come in by `lost`. The other side takes `events`. In between
    nothing piles up: who is slow gets what is different by then."""

    def __init__(self) -> None:
        self.store = Store()
        self.closed = False
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._synced = False
        self._snapshot_sent = False
        self._lost: Lost | None = None  # the newest that was not told
        self._lost_since: datetime | None = None
        self._lost_told: set[str] = set()
        self._tell_lost_at = 0.0

    def in_sync(self) -> None:
        """The store holds all that there is, and is going to be kept so."""
        self._synced = True
        self._lost = self._lost_since = None
        self._wake.set()

    @property
    def is_synced(self) -> bool:
        """Whether it is being kept in step: false before `in_sync`, and from a loss to the next."""
        return self._synced

    def changed(self) -> None:
        """The store is other than it was."""
        self._wake.set()

    def lost(self, reason: str) -> None:
        """A session ended, or an attempt at one failed. What the store holds stays in force."""
        if self._lost_since is None:
            self._lost_since = datetime.now(UTC)
            self._tell_lost_at = self._loop.time() + (LOST_GRACE if self._snapshot_sent else 0.0)
            self._loop.call_at(self._tell_lost_at, self._wake.set)
        self._synced = False
        if reason not in self._lost_told and len(self._lost_told) < MOST_REASONS:
            self._lost = Lost(reason, self._lost_since)
        self._wake.set()

    def close(self) -> None:
        """Ends `events`."""
        self.closed = True
        self._wake.set()

    async def events(self) -> AsyncGenerator[Event, None]:
        """What there is to tell, until the feed is closed."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            for event in self._tell():
                if self.closed:
                    return
                yield event
            if self.closed:
                return

    def _tell(self) -> Iterator[Event]:
        if self._lost is not None and self._loop.time() >= self._tell_lost_at:
            lost, self._lost = self._lost, None
            self._lost_told.add(lost.reason)
            yield lost
        if not self._synced:
            return
        if self._lost_told:
            self._lost_told.clear()
            yield Restored()
        if not self._snapshot_sent:
            self._snapshot_sent = True
            yield self.store.take_snapshot()
        elif (changes := self.store.take_changes()) is not None:
            yield changes


class Follower(ABC):
    """One watch of one datastore: what it remembers from session to session."""

    @abstractmethod
    async def session(self) -> None:
        """Connects, brings the feed's store in step, calls `in_sync`, and follows until the connection is
        lost. Raises UnavailableError then, or where it cannot be had in the first place."""


class RemoteDatastore(ABC):
    """A datastore made of a Follower. See `base.Datastore`."""

    def __init__(self) -> None:
        self._feed: Feed | None = None

    @abstractmethod
    def follower(self, feed: Feed) -> Follower:
        """A new watch that reads into this feed."""

    async def watch(self) -> AsyncGenerator[Event, None]:
        """See `base.Datastore`. Raises RuntimeError where a watch is on already."""
        if self._feed is not None:
            raise RuntimeError("a datastore is watched once at a time")
        self._feed = feed = Feed()
        task = asyncio.create_task(keep_trying(self.follower(feed).session, feed.lost))
        task.add_done_callback(lambda _: feed.close())
        try:
            async for event in feed.events():
                yield event
        finally:
            self._feed = None
            task.cancel()
            # Cancelled is how it ends; anything else is a fault that must not be swallowed.
            (outcome,) = await asyncio.gather(task, return_exceptions=True)
            if isinstance(outcome, Exception):
                raise outcome

    async def close(self) -> None:
        """See `base.Datastore`."""
        if self._feed is not None:
            self._feed.close()
