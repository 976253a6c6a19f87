"""Follows the records: what the datastore and the node agent say goes to the compiler, and what that changes
to who puts it in force."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from routed import log
from routed.bgp.nlri import Family
from routed.datastore.base import Batch, Changes, Datastore, Lost, Restored, Snapshot
from routed.intent.compiler import Compiler
from routed.intent.types import IntentDelta
from routed.observe.events import EventKind, EventLog
from routed.observe.observed import DatastoreState
from routed.observe.status_requests import StatusRequests
from routed.resources import Problem
from routed.workload_files import follow_workload_files


class RecordsFollower:
    """`follow` and `follow_workloads` go on until they are cancelled."""

    def __init__(
        self,
        datastore: Datastore,
        compiler: Compiler,
        events: EventLog,
        status_requests: StatusRequests,
        *,
        apply: Callable[[IntentDelta, float | None], None],
        on_status: Callable[[], None],
    ) -> None:
        """`apply` puts a difference in force; the time is when its records arrived, by the loop's clock,
        where they are the datastore's. `on_status` is called where `state` changed."""
        self.state = DatastoreState()
        self.problems: tuple[Problem, ...] = ()
        """Of single records, as the datastore found them."""
        self._datastore = datastore
        self._compiler = compiler
        self._events = events
        self._status_requests = status_requests
        self._apply = apply
        self._on_status = on_status
        self._synced = asyncio.Event()
        self._log = log.get("agent")

    async def follow(self) -> None:
        """Take what the datastore says, until it ends."""
        async for event in self._datastore.watch():
            match event:
                case Snapshot() | Changes():
                    self.take(event)
                case Lost():
                    self.state.lost_since, self.state.lost_reason = event.since, event.reason
                    self.state.losses += 1
                    self._events.publish(
                        EventKind.DATASTORE_LOST, "datastore lost: all stays as it is", reason=event.reason
                    )
                    self._log.error(
                        "datastore lost: sessions and routes stay as they are"
                        if self.state.synced
                        else "waiting for the datastore",
                        reason=event.reason,
                    )
                    self._on_status()
                case Restored():
                    since, self.state.lost_since = self.state.lost_since, None
                    lost_since = since.isoformat() if since else None
                    self._log.info("datastore is back", lost_since=lost_since)
                    self._events.publish(EventKind.DATASTORE_BACK, "datastore is back", lost_since=lost_since)
                    self._on_status()
        # A datastore ends when it is closed, which is when the agent stops.
        await asyncio.Event().wait()

    async def follow_workloads(self) -> None:
        """Take what the node agent says of local workloads that speak BGP."""
        problems: tuple[Problem, ...] = ()
        async for changes in follow_workload_files(self._compiler.options.endpoint_status_prefix):
            self._report(problems, changes.problems)
            problems = changes.problems
            await self._synced.wait()
            delta = self._compiler.apply(changes.upserts, changes.deletes)
            self._report(delta.problems_solved, delta.problems)
            self._apply(delta, None)

    def take(self, batch: Batch) -> None:
        """Records as they come, or all of them."""
        arrived = asyncio.get_running_loop().time()
        self._report(self.problems, batch.problems)
        self.problems = batch.problems
        self.state.changed_at = time.time()
        self._status_requests.take(batch.upserts, batch.deletes)
        delta = self._compiler.apply(batch.upserts, batch.deletes)
        if isinstance(batch, Snapshot):
            self.state.synced = True
            self._synced.set()
            # A family of which no record says anything is as before them all, and yet has a policy.
            delta = replace(delta, families_changed=frozenset(Family))
            self._log.info("records read", records=len(batch.upserts), problems=len(batch.problems))
            self._events.publish(EventKind.RECORDS_READ, "records read", records=len(batch.upserts))
            self._report((), self._compiler.problems)
        else:
            self._report(delta.problems_solved, delta.problems)
        self._apply(delta, arrived)

    def _report(self, before: Sequence[Problem], after: Sequence[Problem]) -> None:
        """Say each problem when it comes, and when it goes."""
        known = set(before)
        for problem in after:
            if problem not in known:
                say = self._log.error if problem.severity == "error" else self._log.warning
                say("record problem", problem=str(problem))
                self._events.publish(
                    EventKind.PROBLEM, str(problem), severity=problem.severity, record=str(problem.key)
                )
        current = set(after)
        for problem in before:
            if problem not in current:
                self._log.info("solved", problem=str(problem))
                self._events.publish(EventKind.PROBLEM_SOLVED, str(problem), record=str(problem.key))
