"""A datastore that a test follows: events are awaited, never slept for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

from routed.datastore import Batch, Changes, Datastore, Event, Lost, Restored, Snapshot, open_datastore
from routed.resources import Key, Record

E = TypeVar("E", bound=Event)

LONG = 60.0
"""Seconds after which a test gives up: only ever reached where it fails."""


class Watched:
    """What a datastore has said so far, and the records in force by that."""

    def __init__(self) -> None:
        self.events: asyncio.Queue[Event] = asyncio.Queue()
        self.in_force: dict[Key, Record] = {}
        self.last: Batch = Snapshot()
        self.seen: list[Event] = []
        self.ended = asyncio.Event()

    async def next(self) -> Event:
        """The next event, taken in."""
        async with asyncio.timeout(LONG):
            event = await self.events.get()
        self.seen.append(event)
        if isinstance(event, Batch):
            self.last = event
            for record in event.upserts:
                self.in_force[record.key] = record
            for key in event.deletes:
                del self.in_force[key]
        return event

    async def expect(self, kind: type[E]) -> E:
        """The next event, which must be of this kind."""
        event = await self.next()
        assert isinstance(event, kind), event
        return event

    async def expect_skipping(self, kind: type[E], skipped: type[Event]) -> E:
        """The next event that is not one of `skipped`, which must be of this kind."""
        while isinstance(event := await self.next(), skipped):
            pass
        assert isinstance(event, kind), event
        return event

    async def until(self, condition: Callable[[], bool]) -> None:
        """Takes events in until the condition holds."""
        while not condition():
            await self.next()

    @property
    def names(self) -> set[str]:
        """The names of the records in force."""
        return {key.name for key in self.in_force}

    def withdrawn(self) -> set[str]:
        """The names of all that was ever deleted."""
        return {key.name for event in self.seen if isinstance(event, Batch) for key in event.deletes}


@asynccontextmanager
async def following(datastore: Datastore) -> AsyncIterator[Watched]:
    """Follows a datastore for as long as the block runs, then closes it."""
    watched = Watched()

    async def follow() -> None:
        try:
            async for event in datastore.watch():
                watched.events.put_nowait(event)
        finally:
            watched.ended.set()

    task = asyncio.create_task(follow())
    try:
        yield watched
    finally:
        await datastore.close()
        async with asyncio.timeout(LONG):
            await task


@asynccontextmanager
async def watched(path: Path | str) -> AsyncIterator[Watched]:
    """Follows the file datastore at `path` for as long as the block runs."""
    async with following(open_datastore(f"file:{path}")) as watch:
        yield watch


def run(scenario: Coroutine[object, object, None]) -> None:
    """Runs a scenario to its end."""
    asyncio.run(scenario)


__all__ = ["Changes", "Lost", "Restored", "Snapshot", "Watched", "following", "run", "watched"]
