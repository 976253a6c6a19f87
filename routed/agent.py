"""The process: wires datastore, compiler, speaker and kernel together, and owns start and stop.

Everything runs on one event loop. Records come in batches; the compiler says what
they change; just that is handed to the speaker and the kernel.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Final

from routed import __version__, log
from routed.agent_options import AgentOptions
from routed.bgp.config import SpeakerConfig
from routed.bgp.nlri import Family
from routed.bgp.speaker import Speaker
from routed.datastore import status_writer
from routed.datastore.base import Datastore
from routed.intent.compiler import Compiler
from routed.intent.types import IntentDelta, NodeIntent
from routed.intent_applier import IntentApplier
from routed.kernel.base import FibProtocol, KernelUnavailable, MonitorProtocol
from routed.kernel.base import Snapshot as KernelSnapshot
from routed.kernel.dryrun import NullFib, NullMonitor
from routed.kernel_learner import KernelLearner
from routed.kernel_writer import KernelWriter
from routed.next_hops import NextHops
from routed.observe.events import EventKind, EventLog
from routed.observe.observed import Observed
from routed.observe.outlets import Outlets
from routed.observe.recorder import SessionEvents
from routed.observe.route_changes import RouteChanges
from routed.observe.status_requests import StatusRequests
from routed.records_follower import RecordsFollower
from routed.rr.process import log_start, until_stopped
from routed.status import Document, StatusFile, process_document

#: Before the records say who this node is.
_NOBODY: Final = SpeakerConfig(router_id=bytes(4), local_as=0)


class Agent:
    """One node's routed, or a standalone reflector. `run` does it all."""

    def __init__(self, options: AgentOptions, datastore: Datastore) -> None:
        self.options = options
        self._datastore = datastore
        self._compiler = Compiler(options.compiler)
        self._events = EventLog()
        self._status_writer = status_writer(datastore)
        self._status_requests = StatusRequests(
            options.compiler.node, answered=self._status_writer is not None or options.reflector
        )
        self._follower = RecordsFollower(
            datastore,
            self._compiler,
            self._events,
            self._status_requests,
            apply=self._apply,
            on_status=self.on_status,
        )
        self._log = log.get("agent")
        self._kernel_error = ""
        self._status: StatusFile | None = None
        self._speaker: Speaker
        self._route_changes: RouteChanges
        self._outlets: Outlets
        self._writer: KernelWriter
        self._learner: KernelLearner
        self._applier: IntentApplier
        self._watched: Observed

    @property
    def intent(self) -> NodeIntent:
        """What the records say now."""
        return self._compiler.intent

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set, then stop cleanly: sessions end, kernel routes stay."""
        options = self.options
        self._log.info(
            "routed starts", version=__version__, node=options.compiler.node, kernel=options.use_kernel
        )
        fib, monitor, snapshot = await self._open_kernel()
        # Without the kernel nobody knows the ways: every next hop is taken to be reachable.
        next_hops = NextHops() if fib.port else None
        speaker = Speaker(
            options.identity or _NOBODY, self, next_hops=next_hops, sessions=SessionEvents(self._events)
        )
        self._wire(speaker, fib, monitor, next_hops)
        if options.status_file is not None:
            self._status = StatusFile(options.status_file, self.document)
        self._outlets = Outlets(options.observe, self._watched)
        await self._outlets.start()
        if options.identity is not None:
            speaker.set_client_ranges(options.client_ranges)
            for peer in options.peers:
                speaker.set_peer(peer)
            self._start_speaker()
        self._learner.learn(snapshot)
        jobs = [
            self._writer.run(),
            self._learner.run(),
            self._follower.follow(),
            self._follower.follow_workloads(),
            until_stopped(stop, speaker, options.drain_time, self._log),
        ]
        tasks = [asyncio.ensure_future(job) for job in jobs]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.gather(*tasks, return_exceptions=True)
            await self._close(fib, monitor)
        for task in done:
            if not task.cancelled() and (error := task.exception()) is not None:
                raise error

    def _wire(
        self, speaker: Speaker, fib: FibProtocol, monitor: MonitorProtocol, next_hops: NextHops | None
    ) -> None:
        """Everything beside the speaker; the rooms know each other from now on."""
        self._speaker = speaker
        self._route_changes = RouteChanges(speaker.ribs, self._events)
        self._writer = KernelWriter(
            fib, speaker.ribs, self.on_status, next_hops=next_hops, rerank=speaker.rerank
        )
        self._learner = KernelLearner(monitor, speaker, self._writer, next_hops)
        self._applier = IntentApplier(
            self.options, self._compiler, speaker, self._writer, self._learner, self._start_speaker
        )
        self._watched = self._observed(next_hops)

    def _apply(self, delta: IntentDelta, arrived: float | None) -> None:
        """Hand the difference on."""
        self._applier.apply(delta)
        if arrived is not None:
            self._speaker.turns.began(arrived)
        self.on_status()

    def _start_speaker(self) -> None:
        """Only after the first snapshot: a start that knows no peers would count as converged, and what an
        earlier run left in the kernel would go."""
        self._speaker.start()
        log_start(self._log, self._speaker, originated=len(self.intent.originated))
        self._events.publish(EventKind.STARTED, "speaking BGP", peers=len(self._speaker.peers))
        self.on_status()

    # What the speaker finds out: SpeakerListener

    def on_routes(self, family: Family, nlri: Sequence[bytes]) -> None:
        """Loc-RIB changed."""
        self._route_changes.changed(family, nlri)
        if not self.options.reflector:
            self._writer.update(family, nlri)

    def on_converged(self, reason: str) -> None:
        """What an earlier run left in the kernel, and nobody announced again, may go."""
        self._log.info("converged", reason=reason)
        self._events.publish(EventKind.CONVERGED, reason)
        self._writer.sweep()
        self.on_status()

    def on_status(self) -> None:
        """Something of the status changed."""
        if self._status is not None:
            self._status.changed()

    # Kernel

    async def _open_kernel(self) -> tuple[FibProtocol, MonitorProtocol, KernelSnapshot]:
        """The kernel's two sides; ones that do nothing where it is not wanted, or cannot be had."""
        if self.options.use_kernel and not self.options.reflector:
            # Not at the top: a reflector does not need it.
            from routed.kernel.opening import open_kernel

            try:
                return await open_kernel(self.options.takeover)
            except (KernelUnavailable, OSError) as error:
                self._kernel_error = str(error)
                self._log.error("no kernel routes: BGP goes on without", error=str(error))
                self._events.publish(
                    EventKind.KERNEL_ERROR, "no kernel routes: BGP goes on without", error=str(error)
                )
        return NullFib(), NullMonitor(), KernelSnapshot((), (), ())

    async def _close(self, fib: FibProtocol, monitor: MonitorProtocol) -> None:
        if self._status is not None:
            self._status.write()
        self._events.publish(EventKind.STOPPING, "routed stops")
        await self._outlets.close()
        self._speaker.close(graceful=self.options.graceful_stop, message="routed stops")
        monitor.close()
        fib.close()
        await self._datastore.close()
        routes = sum(len(routes) for routes in fib.installed.values())
        self._log.info("routed has stopped", kernel_routes_that_stay=routes)

    # What there is to see

    def _observed(self, next_hops: NextHops | None) -> Observed:
        return Observed(
            node=self.options.compiler.node,
            speaker=self._speaker,
            events=self._events,
            route_changes=self._route_changes,
            reflector=self.options.reflector,
            compiler=self._compiler,
            writer=None if self.options.reflector else self._writer,
            next_hops=next_hops,
            datastore=self._follower.state,
            problems=self.problems,
            kernel_error=lambda: self._kernel_error,
            status_requests=None if self.options.reflector else self._status_requests,
            status_writer=self._status_writer,
        )

    def problems(self) -> list[str]:
        """What is wrong with records, one line each."""
        found = (*self._follower.problems, *self._compiler.problems, *self._applier.peers.problems)
        return [str(problem) for problem in found]

    def document(self) -> Document:
        """The whole status."""
        return process_document(self._watched, self._writer)
