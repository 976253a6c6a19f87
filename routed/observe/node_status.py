"""Fills in the status of the CalicoNodeStatus records that ask for this node's, each at its period.

What is written is in `node_status_document`; where it is written, the datastore knows (`base.StatusWriter`).
At rest, with no such record, there is no timer and no task that wakes.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from typing import Final

from routed import log
from routed.datastore import StatusWriter
from routed.datastore.retry import UnavailableError
from routed.observe.node_status_document import MOST_ROUTES, node_status
from routed.observe.observed import Observed
from routed.observe.status_requests import StatusRequests
from routed.resources import CalicoNodeStatus, NodeStatusClass

#: Where a record does not say, seconds (Calico's default).
DEFAULT_PERIOD: Final = 10
#: After a failure it is tried again after this time, or the period where that is shorter, seconds; not all
#: nodes at once.
RETRY_TIME: Final = 30.0
#: How long one write may take, seconds.
WRITE_TIME: Final = 60.0


@dataclass(slots=True)
class _Kept:
    """One record, and when its status was written."""

    record: CalicoNodeStatus
    begun: float = float("-inf")
    """When it was begun to be written last, by the loop's clock."""
    not_before: float = float("-inf")
    failed: str = ""

    @property
    def due(self) -> float | None:
        """When it is to be written next; None: not at all."""
        period = self.record.update_period_seconds
        if period == 0 or not self.record.classes:
            return None
        return max(self.begun + (DEFAULT_PERIOD if period is None else period), self.not_before)


class NodeStatusReporter:
    """An outlet."""

    def __init__(self, observed: Observed, requests: StatusRequests, writer: StatusWriter) -> None:
        self._observed = observed
        self._requests = requests
        self._writer = writer
        self._kept: dict[str, _Kept] = {}
        self._cut = False
        self._log = log.get("node-status")
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Wait for records. Raises nothing."""
        self._task = asyncio.create_task(self._run())
        self._task.add_done_callback(self._ended)

    async def close(self) -> None:
        """End, also in the middle of a write."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log.error("no more node status is written", error=repr(error))

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._requests.changed.clear()
            self._take_requests()
            waiting = {name: kept.due for name, kept in self._kept.items() if kept.due is not None}
            name = min(waiting, key=lambda one: waiting[one], default=None)
            if name is None or waiting[name] > loop.time():
                await self._next_change(None if name is None else waiting[name])
            else:
                await self._report(self._kept[name])

    async def _next_change(self, until: float | None) -> None:
        """Until the records are others, or that time has come."""
        try:
            async with asyncio.timeout_at(until):
                await self._requests.changed.wait()
        except TimeoutError:
            return

    def _take_requests(self) -> None:
        """What was asked for is as the records say now. Where other classes are asked for, that is at
        once."""
        records = self._requests.records
        for name in self._kept.keys() - records.keys():
            del self._kept[name]
        for name, record in records.items():
            kept = self._kept.get(name)
            if kept is None or kept.record.classes != record.classes:
                self._kept[name] = _Kept(record)
            else:
                kept.record = record

    async def _report(self, kept: _Kept) -> None:
        """Write one status, or note that it cannot be done now."""
        loop = asyncio.get_running_loop()
        record = kept.record
        kept.begun = loop.time()
        self._say_cut(record)
        try:
            async with asyncio.timeout(WRITE_TIME):
                status = await node_status(self._observed, record.classes)
                if not await self._writer.write_status(record.key, status):
                    kept.not_before = loop.time() + RETRY_TIME  # unless it is deleted, and comes anew
        except (UnavailableError, TimeoutError) as error:
            reason = str(error) or f"no answer in {WRITE_TIME:g} s"
            kept.begun = float("-inf")
            asked = getattr(error, "retry_after", None) or 0.0
            pause = min(record.update_period_seconds or DEFAULT_PERIOD, RETRY_TIME)
            kept.not_before = loop.time() + max(pause, asked) * random.uniform(1, 1.5)  # noqa: S311
            if kept.failed != reason:
                self._log.warning("cannot write node status", record=str(record.key), reason=reason)
            kept.failed = reason
        else:
            if kept.failed:
                self._log.info("node status is written again", record=str(record.key))
            kept.failed = ""

    def _say_cut(self, record: CalicoNodeStatus) -> None:
        """Once: a status cannot hold all routes."""
        tables = self._observed.speaker.ribs.values()
        if (
            NodeStatusClass.ROUTES in record.classes
            and not self._cut
            and any(len(table.routes) > MOST_ROUTES for table in tables)
        ):
            self._cut = True
            self._log.warning(
                "node status holds a part of the routes: `routed routes` shows all", most=MOST_ROUTES
            )
