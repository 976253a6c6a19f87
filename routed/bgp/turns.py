"""What changed in the tables is handed to the export groups in turns of the event loop: all that comes
together at once, and never so much that a turn is long."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from routed.bgp.tables import PREFIXES_A_TURN, Tables
from routed.histogram import Histogram

#: A turn of the loop that hands on changes is to take about so long, seconds: the next one gets more
#: prefixes, or fewer. What a prefix costs depends on how many peers are told of it, and how many share
#: their attributes.
FLUSH_TIME: Final = 0.05
LEAST_PREFIXES_A_TURN: Final = 500
FIRST_PREFIXES: Final = 8_000
#: While more changes come in they are gathered for so long at most, seconds: what comes together is encoded
#: together.
GATHER_TIME: Final = 0.02
#: How often what was kept for joining peers is let go, seconds.
SNAPSHOT_TIME: Final = 5.0
#: So many batches are timed at the same time.
MOST_BATCHES: Final = 1000


class Turns:
    """Flushes the tables after changes; how long that takes is counted."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, tables: Tables, on_status: Callable[[], None]
    ) -> None:
        """`on_status` is called after each turn that handed something on."""
        self.flush_times = Histogram()
        """From a change in Loc-RIB until its UPDATEs were handed to the connections, seconds."""
        self.batch_times = Histogram()
        """The same, from the arrival of what `began` told of."""
        self._loop = loop
        self._tables = tables
        self._on_status = on_status
        self._due = False
        self._more_came = False
        self._gather_until = 0.0
        self._portion = FIRST_PREFIXES
        self._changed_at: float | None = None
        self._batches: list[float] = []
        self._closed = False
        self._housekeeping = loop.call_later(SNAPSHOT_TIME, self._release_snapshots)

    def schedule(self) -> None:
        """Changes of one turn of the event loop go out together in the next; or soon after, while every turn
        brings more."""
        if self._due:
            self._more_came = True
        elif not self._closed:
            self._due = True
            self._more_came = False
            now = self._loop.time()
            self._gather_until = now + GATHER_TIME
            if self._changed_at is None:
                self._changed_at = now
            self._loop.call_soon(self._turn)

    def began(self, at: float) -> None:
        """What was just changed follows from something that arrived at this time (the loop's): `batch_times`
        counts how long it takes until the peers are told."""
        anybody = any(groups.groups for groups in self._tables.groups.values())
        if anybody and self._tables.changes_pending and len(self._batches) < MOST_BATCHES:
            self._batches.append(at)

    def close(self) -> None:
        """Hand nothing on any more."""
        self._closed = True
        self._housekeeping.cancel()

    def _turn(self) -> None:
        if self._closed:
            return
        begun = self._loop.time()
        before = self._tables.changes_pending
        if self._more_came and begun < self._gather_until and before < self._portion:
            self._more_came = False
            self._loop.call_soon(self._turn)
            return
        self._due = False
        if not before:
            self._changed_at = None  # no route changed
        waiting = self._tables.flush_some(self._portion)
        self._on_status()
        took = self._loop.time() - begun
        if took > FLUSH_TIME or waiting:
            # As many as will take FLUSH_TIME, by what these took. A few prefixes say little of many.
            fitting = int((before - waiting) * FLUSH_TIME / max(took, 1e-6))
            self._portion = min(max(fitting, LEAST_PREFIXES_A_TURN), PREFIXES_A_TURN)
        if waiting:
            self.schedule()
        else:
            self._count_times()

    def _count_times(self) -> None:
        """All that was pending is handed to the connections."""
        now = self._loop.time()
        if self._changed_at is not None:
            self.flush_times.observe(now - self._changed_at)
            self._changed_at = None
        if self._batches:
            for at in self._batches:
                self.batch_times.observe(now - at)
            self._batches.clear()

    def _release_snapshots(self) -> None:
        self._tables.release_snapshots()
        self._housekeeping = self._loop.call_later(SNAPSHOT_TIME, self._release_snapshots)
