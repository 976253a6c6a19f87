"""The process: wires datastore, compiler, speaker and kernel together, and owns start and stop.

Everything runs on one event loop. Records come in batches; the compiler says what
they change; just that is handed to the speaker and the kernel.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from routed import __version__, log
from routed.bgp import handover
from routed.bgp.config import ClientRange, PeerConfig, SpeakerConfig
from routed.bgp.nlri import Family, Network, from_network
from routed.bgp.speaker import Speaker
from routed.bgp.transport import Endpoint
from routed.datastore import status_writer
from routed.datastore.base import Batch, Changes, Datastore, Lost, Restored, Snapshot
from routed.intent.compiler import Compiler
from routed.intent.options import Options
from routed.intent.types import (
    IntentDelta,
    NodeIntent,
    OriginatedRoute,
    PeeringKind,
    SessionIntent,
)
from routed.kernel.base import FibProtocol, KernelUnavailable, MonitorProtocol
from routed.kernel.base import Snapshot as KernelSnapshot
from routed.kernel.dryrun import NullFib, NullMonitor
from routed.kernel_learner import KernelLearner
from routed.kernel_writer import KernelWriter
from routed.next_hops import NextHops
from routed.observe.events import EventKind, EventLog
from routed.observe.observed import DatastoreState, Observed
from routed.observe.options import NOTHING, ObserveOptions
from routed.observe.outlets import Outlets
from routed.observe.recorder import SessionEvents
from routed.observe.route_changes import RouteChanges
from routed.observe.status_requests import StatusRequests
from routed.resources import Problem
from routed.rr.process import log_start, until_stopped
from routed.status import Document, StatusFile, speaker_document
from routed.wiring import PeerTable, source_kind, speaker_config
from routed.workload_files import follow_workload_files

#: Routes that are not in the kernel, of which the status gives the reason: at most so many of each family.
MOST_NOT_INSTALLED: Final = 100
#: Before the records say who this node is.
_NOBODY: Final = SpeakerConfig(router_id=bytes(4), local_as=0)


@dataclass(frozen=True, slots=True)
class AgentOptions:
    """How to run. `compiler` says for which node, or reflector."""

    compiler: Options
    use_kernel: bool = True
    takeover: frozenset[int] = frozenset()
    """Protocols of kernel routes that a program left behind which we stand in for."""
    port: int | None = None
    """Listen here instead of at the records' listenPort."""
    listen: tuple[Endpoint, ...] | None = None
    """A reflector's listening endpoints, in place of what records say."""
    identity: SpeakerConfig | None = None
    """A reflector's own router ID, AS and cluster ID."""
    reflect: bool = False
    """Be a reflector whose identity the records say."""
    client_ranges: tuple[ClientRange, ...] = ()
    peers: tuple[PeerConfig, ...] = ()
    """Peers beside those of the records: other reflectors."""
    both_families: bool = False
    graceful_stop: bool = True
    drain_time: float = 0.0
    """How long to be the last choice of all peers before the stop, seconds (RFC 8326)."""
    status_file: Path | None = None
    log_level: str | None = None
    """Wins over the records' logSeverityScreen."""
    observe: ObserveOptions = NOTHING

    @property
    def reflector(self) -> bool:
        """True for a standalone route reflector: every route passes, none goes into the kernel."""
        return self.reflect or self.identity is not None


class Agent:
    """One node's routed, or a standalone reflector. `run` does it all."""

    def __init__(self, options: AgentOptions, datastore: Datastore) -> None:
        self.options = options
        self._datastore = datastore
        self._compiler = Compiler(options.compiler)
        self._state = DatastoreState()
        self._record_problems: tuple[Problem, ...] = ()
        self._events = EventLog()
        self._status_writer = status_writer(datastore)
        self._status_requests = StatusRequests(
            options.compiler.node, answered=self._status_writer is not None or options.reflector
        )
        self._log = log.get("agent")
        self._peers = PeerTable(both_families=options.both_families)
        self._started = False
        self._synced = asyncio.Event()
        self._kernel_error = ""
        self._status: StatusFile | None = None
        self._speaker: Speaker
        self._route_changes: RouteChanges
        self._outlets: Outlets
        self._writer: KernelWriter
        self._learner: KernelLearner

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
        self._speaker = Speaker(
            options.identity or _NOBODY, self, next_hops=next_hops, sessions=SessionEvents(self._events)
        )
        self._route_changes = RouteChanges(self._speaker.ribs, self._events)
        self._writer = KernelWriter(
            fib, self._speaker.ribs, self.on_status, next_hops=next_hops, rerank=self._speaker.rerank
        )
        if options.status_file is not None:
            self._status = StatusFile(options.status_file, self.document)
        self._outlets = Outlets(options.observe, self._observed(next_hops))
        await self._outlets.start()
        if options.identity is not None:
            self._speaker.set_client_ranges(options.client_ranges)
            for peer in options.peers:
                self._speaker.set_peer(peer)
            self._start_speaker()
        self._learner = KernelLearner(monitor, self._speaker, self._writer, next_hops)
        self._learner.learn(snapshot)
        jobs = [
            self._writer.run(),
            self._learner.run(),
            self._follow(),
            self._follow_workloads(),
            until_stopped(stop, self._speaker, options.drain_time, self._log),
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

    # Records

    async def _follow(self) -> None:
        """Take what the datastore says, until it ends."""
        async for event in self._datastore.watch():
            match event:
                case Snapshot() | Changes():
                    self._take(event)
                case Lost():
                    self._state.lost_since, self._state.lost_reason = event.since, event.reason
                    self._state.losses += 1
                    self._events.publish(
                        EventKind.DATASTORE_LOST, "datastore lost: all stays as it is", reason=event.reason
                    )
                    self._log.error(
                        "datastore lost: sessions and routes stay as they are"
                        if self._state.synced
                        else "waiting for the datastore",
                        reason=event.reason,
                    )
                    self.on_status()
                case Restored():
                    since, self._state.lost_since = self._state.lost_since, None
                    lost_since = since.isoformat() if since else None
                    self._log.info("datastore is back", lost_since=lost_since)
                    self._events.publish(EventKind.DATASTORE_BACK, "datastore is back", lost_since=lost_since)
                    self.on_status()
        # A datastore ends when it is closed, which is when the agent stops.
        await asyncio.Event().wait()

    async def _follow_workloads(self) -> None:
        """Take what the node agent says of local workloads that speak BGP."""
        problems: tuple[Problem, ...] = ()
        async for changes in follow_workload_files(self.options.compiler.endpoint_status_prefix):
            self._report(problems, changes.problems)
            problems = changes.problems
            await self._synced.wait()
            delta = self._compiler.apply(changes.upserts, changes.deletes)
            self._report(delta.problems_solved, delta.problems)
            self._apply(delta)
            self.on_status()

    def _take(self, batch: Batch) -> None:
        arrived = asyncio.get_running_loop().time()
        self._report(self._record_problems, batch.problems)
        self._record_problems = batch.problems
        self._state.changed_at = time.time()
        self._status_requests.take(batch.upserts, batch.deletes)
        delta = self._compiler.apply(batch.upserts, batch.deletes)
        if isinstance(batch, Snapshot):
            self._state.synced = True
            self._synced.set()
            # A family of which no record says anything is as before them all, and yet has a policy.
            delta = replace(delta, families_changed=frozenset(Family))
            self._log.info("records read", records=len(batch.upserts), problems=len(batch.problems))
            self._events.publish(EventKind.RECORDS_READ, "records read", records=len(batch.upserts))
            self._report((), self.intent.problems)
        else:
            self._report(delta.problems_solved, delta.problems)
        self._apply(delta)
        self._speaker.began(arrived)
        self.on_status()

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

    def _apply(self, delta: IntentDelta) -> None:
        """Hand the difference on."""
        intent = self.intent
        if delta.node_changed and self.options.log_level is None:
            log.set_level(intent.log_severity)
        if delta.node_changed:
            self._learner.ignore_interfaces(intent.ignored_interfaces)
        for family in delta.families_changed:
            policy = intent.families[family]
            self._writer.set_family(family, policy)
            if not self.options.reflector:
                self._speaker.set_export_policy(family, policy.export_policy)
        if delta.filters_changed:
            self._speaker.set_filters(delta.filters_changed)
        for network, route in delta.originated_changed.items():
            self._originate(network, route)
        config = self.options.identity or speaker_config(
            intent, port=self.options.port, listen=self.options.listen
        )
        if config is None:
            if delta.node_changed or not self._started:
                self._log.warning(
                    "waiting: no router ID yet",
                    node=intent.node,
                    hint="the Node record is missing or has no IPv4 address; CALICO_ROUTER_ID sets one",
                )
            return
        if not self._started or delta.node_changed or delta.families_changed:
            self._speaker.configure(config)
        self._change_peers(delta.sessions_changed if self._started else intent.sessions)
        if not self._started:
            self._start_speaker()

    def _change_peers(self, changed: Mapping[str, SessionIntent | None]) -> None:
        """Sessions came, changed or went. Where nodes move from the mesh to reflectors, or back, what is not
        wanted any more is kept until others give its routes, or have had the time to."""
        changes = self._peers.apply(changed)
        for old, config in changes.renamed:
            self._speaker.rename_peer(old, self._still_client(old, config))
        for config in changes.wanted:
            self._speaker.set_peer(self._still_client(config.name, config))
        for session in changes.removed:
            moves = session.kind is PeeringKind.MESH or changes.mesh_came or session.route_reflector_client
            if moves and session.peer_node is not None and self._compiler.has_node(session.peer_node):
                self._speaker.retire_peer(session.name)
            else:
                self._speaker.remove_peer(session.name)

    def _still_client(self, name: str, config: PeerConfig) -> PeerConfig:
        """For a while yet a client, where the running peer `name` is one and is to be none: it may have no
        other way to what we reflect to it."""
        running = self._speaker.peers.get(name)
        if running is None or not running.config.route_reflector_client or config.route_reflector_client:
            return config
        asyncio.get_running_loop().call_later(handover.MOST_TIME, self._end_reflection, config)
        return replace(config, route_reflector_client=True)

    def _end_reflection(self, config: PeerConfig) -> None:
        """Put the configuration in force, unless another one is wanted by now."""
        if self._peers.wants(config) and config.name in self._speaker.peers:
            self._speaker.set_peer(config)

    def _start_speaker(self) -> None:
        """Only after the first snapshot: a start that knows no peers would count as converged, and what an
        earlier run left in the kernel would go."""
        self._started = True
        self._speaker.start()
        log_start(self._log, self._speaker, originated=len(self.intent.originated))
        self._events.publish(EventKind.STARTED, "speaking BGP", peers=len(self._speaker.peers))
        self.on_status()

    def _originate(self, network: Network, route: OriginatedRoute | None) -> None:
        """One route of our own came, changed or went."""
        family, nlri = Family.of(network), from_network(network)
        old = self._writer.originate(family, nlri, route)
        kind = None if route is None else source_kind(route)
        old_kind = None if old is None else source_kind(old)
        if old_kind is not None and old_kind is not kind:
            self._speaker.withdraw(family, nlri, old_kind)
        if kind is not None and kind is not old_kind:
            self._speaker.originate(family, nlri, kind)

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
        """The kernel's two sides, with what an earlier run left adopted, and what is there now."""
        if self.options.use_kernel and not self.options.reflector:
            # Not at the top: a reflector does not need it.
            from routed.kernel.fib import Fib
            from routed.kernel.monitor import Monitor

            async with contextlib.AsyncExitStack() as opened:
                try:
                    fib = await Fib.open(log=log.get("kernel"), takeover=self.options.takeover)
                    opened.callback(fib.close)
                    monitor = await Monitor.open(log=log.get("kernel"), fib_port=fib.port)
                    opened.callback(monitor.close)
                    if adopted := await fib.adopt():
                        self._log.info("kernel routes of an earlier run adopted", routes=len(adopted))
                    snapshot = await monitor.snapshot()
                except (KernelUnavailable, OSError) as error:
                    self._kernel_error = str(error)
                    self._log.error("no kernel routes: BGP goes on without", error=str(error))
                    self._events.publish(
                        EventKind.KERNEL_ERROR, "no kernel routes: BGP goes on without", error=str(error)
                    )
                else:
                    opened.pop_all()
                    return fib, monitor, snapshot
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
            datastore=self._state,
            problems=self.problems,
            kernel_error=lambda: self._kernel_error,
            status_requests=None if self.options.reflector else self._status_requests,
            status_writer=self._status_writer,
        )

    def problems(self) -> list[str]:
        """What is wrong with records, one line each."""
        found = (*self._record_problems, *self._compiler.problems, *self._peers.problems)
        return [str(problem) for problem in found]

    def document(self) -> Document:
        """The whole status."""
        state = self._state
        fib = self._writer.fib
        return {
            "node": self.options.compiler.node,
            **speaker_document(self._speaker),
            "originated": [
                {
                    "prefix": str(network),
                    "kind": route.kind.value,
                    "reason": route.reason,
                    "record": str(route.record),
                    "advertise": route.advertise,
                    "blackhole": route.blackhole,
                }
                for network, route in sorted(self.intent.originated.items(), key=lambda item: str(item[0]))
            ],
            "datastore": {
                "synced": state.synced,
                "lost_since": state.lost_since.isoformat() if state.lost_since else None,
                "lost_reason": state.lost_reason if state.lost_since else None,
            },
            "problems": self.problems(),
            "kernel": {
                "error": self._kernel_error or None,
                "installed": {family.name.lower(): len(routes) for family, routes in fib.installed.items()},
                "failed": [f"{error.name}: {error.text}" for error in fib.failed.values()],
                "not_installed": self._writer.not_installed(MOST_NOT_INSTALLED),
            },
        }
