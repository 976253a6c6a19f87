"""`routed exabgp`: records in, commands to ExaBGP out. Reads its answers without ever making it wait.

ExaBGP writes answers with blocking writes: a helper that does not read them stops ExaBGP, and one that waits
to write while ExaBGP waits to write stops both. So one thread does nothing but read, and another nothing but
write; the conversation itself (`exabgp_api.Announcer`) and the records are the event loop's.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import queue
import threading
from collections.abc import Callable, Iterable

from routed import log
from routed.bgp.nlri import Network
from routed.datastore.base import Batch, Changes, Datastore, Lost, Restored, Snapshot
from routed.intent.compiler import Compiler
from routed.intent.options import Options
from routed.intent.types import NodeIntent
from routed.render.exabgp import peer_groups
from routed.render.exabgp_api import Announcer, Counts, Tables
from routed.render.exabgp_export import ExportGroup, attributes_text, exported_routes
from routed.resources import Problem
from routed.workload_files import WorkloadChanges, follow_workload_files

#: How long what was said is collected for one line of the log, seconds.
SUMMARY_TIME = 0.5
_READ_OCTETS = 65536


class RouteTables:
    """The wanted routes of each neighbor. Equal tables stay the same object from one intent to the next."""

    def __init__(self) -> None:
        self._groups: dict[ExportGroup, dict[Network, str]] = {}

    def update(self, intent: NodeIntent) -> Tables:
        """The tables of an intent. Each export group is worked out once, however many neighbors it has."""
        peers = peer_groups(intent)
        groups: dict[ExportGroup, dict[Network, str]] = {}
        for group in set(peers.values()):
            table = {
                network: attributes_text(attributes, group)
                for network, attributes in exported_routes(intent, group).items()
            }
            before = self._groups.get(group)
            groups[group] = before if before == table else table
        self._groups = groups
        return {peer: groups[group] for peer, group in peers.items()}


class Pipes:
    """The two ends of ExaBGP's pipes, each with a thread of its own. `on_line` and `on_end` are called on the
    event loop."""

    def __init__(
        self,
        read_fd: int,
        write_fd: int,
        on_line: Callable[[str], None],
        on_end: Callable[[str], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._read_fd, self._write_fd = read_fd, write_fd
        self._on_line, self._on_end = on_line, on_end
        self._outgoing: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        # Daemon threads: nobody waits at the end for ExaBGP to read or to write.
        for name, body in (("exabgp-reader", self._read), ("exabgp-writer", self._write)):
            threading.Thread(target=body, name=name, daemon=True).start()

    def write(self, lines: Iterable[str]) -> None:
        """Have lines written, in order, when ExaBGP takes them."""
        octets = "".join(f"{line}\n" for line in lines).encode("ascii")
        if octets:
            self._outgoing.put(octets)

    def _read(self) -> None:
        rest = b""
        reason = "ExaBGP closed the pipe"
        try:
            while octets := os.read(self._read_fd, _READ_OCTETS):
                *lines, rest = (rest + octets).split(b"\n")
                self._call(self._take, [line.decode("ascii", "replace") for line in lines])
        except OSError as error:
            reason = f"cannot read from ExaBGP: {error.strerror}"
        self._call(self._on_end, reason)

    def _take(self, lines: list[str]) -> None:
        for line in lines:
            self._on_line(line)

    def _write(self) -> None:
        try:
            while True:
                octets = self._outgoing.get()
                while octets:
                    octets = octets[os.write(self._write_fd, octets) :]
        except OSError as error:
            self._call(self._on_end, f"cannot write to ExaBGP: {error.strerror}")

    def _call(self, function: Callable[..., None], *arguments: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: the process ends
            self._loop.call_soon_threadsafe(function, *arguments)


class ExabgpProcess:
    """One node's announcements through an ExaBGP that runs us. `run` does it all."""

    def __init__(self, options: Options, datastore: Datastore, read_fd: int, write_fd: int) -> None:
        self._options = options
        self._datastore = datastore
        self._fds = read_fd, write_fd
        self._compiler = Compiler(options)
        self._tables = RouteTables()
        self._announcer = Announcer()
        self._log = log.get("exabgp")
        self._problems: dict[str, tuple[Problem, ...]] = {}
        """What is wrong now, by who found it."""
        self._synced = False
        self._timer: asyncio.TimerHandle | None = None
        self._reported = Counts()
        self._summary: asyncio.TimerHandle | None = None
        self._answers = True
        self._pipes: Pipes
        self._stop: asyncio.Event

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set or ExaBGP goes away. What was announced stays announced: it ends with
        ExaBGP, or with the record."""
        self._stop = stop
        self._log.info("routed exabgp starts", node=self._options.node, pid=os.getpid())
        self._pipes = Pipes(*self._fds, self._on_line, self._on_end)
        jobs = [
            asyncio.ensure_future(job)
            for job in (self._follow_records(), self._follow_workloads(), stop.wait())
        ]
        try:
            done, _ = await asyncio.wait(jobs, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for job in jobs:
                job.cancel()
            await asyncio.gather(*jobs, return_exceptions=True)
            for timer in (self._timer, self._summary):
                if timer is not None:
                    timer.cancel()
            await self._datastore.close()
            self._log.info("routed exabgp has stopped")
        for job in done:
            if not job.cancelled() and (error := job.exception()) is not None:
                raise error

    # Records

    async def _follow_records(self) -> None:
        async for event in self._datastore.watch():
            match event:
                case Snapshot() | Changes():
                    self._take("records", event)
                case Lost():
                    self._log.error(
                        "datastore lost: announcements stay as they are"
                        if self._synced
                        else "waiting for the datastore",
                        reason=event.reason,
                    )
                case Restored():
                    self._log.info("datastore is back")
        await asyncio.Event().wait()  # it ends when it is closed, which is when the process stops

    async def _follow_workloads(self) -> None:
        async for changes in follow_workload_files(self._options.endpoint_status_prefix):
            self._take("workloads", changes)

    def _take(self, source: str, batch: Batch | WorkloadChanges) -> None:
        """Put records in force. Before the first snapshot nothing follows from them."""
        self._report(source, batch.problems)
        self._compiler.apply(batch.upserts, batch.deletes)
        if isinstance(batch, Snapshot):
            self._synced = True
            self._log.info("records read", records=len(batch.upserts), problems=len(batch.problems))
        if self._synced:
            self._announce()

    def _report(self, source: str, after: tuple[Problem, ...]) -> None:
        """Say each problem when it comes, and when it goes."""
        before = self._problems.get(source, ())
        self._problems[source] = after
        for problem in dict.fromkeys(after):
            if problem not in before:
                say = self._log.error if problem.severity == "error" else self._log.warning
                say("record problem", problem=str(problem))
        for problem in dict.fromkeys(before):
            if problem not in after:
                self._log.info("solved", problem=str(problem))

    def _announce(self) -> None:
        intent = self._compiler.intent
        self._report("intent", intent.problems)
        if intent.router_id is None and not self._announcer.started:
            # That the node is not there yet is no reason to withdraw what an earlier process announced.
            self._log.warning("waiting: no router ID yet", node=intent.node)
            return
        self._announcer.want(self._tables.update(intent))
        self._pump()

    # ExaBGP

    def _on_line(self, line: str) -> None:
        self._log.debug("from ExaBGP", line=line)
        self._announcer.receive(line, asyncio.get_running_loop().time())
        if self._announcer.ended:
            self._on_end("ExaBGP shuts down")
        else:
            self._pump()

    def _on_end(self, reason: str) -> None:
        if not self._stop.is_set():
            self._log.info("stopping", reason=reason)
            self._stop.set()

    def _pump(self) -> None:
        """Say what there is to say, and come back when there may be more."""
        loop = asyncio.get_running_loop()
        commands = self._announcer.commands(loop.time())
        for command in commands:
            self._log.debug("to ExaBGP", line=command.text)
        self._pipes.write(command.text for command in commands)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        deadline = self._announcer.deadline()
        if deadline is not None:
            self._timer = loop.call_at(deadline, self._pump)
        self._report_progress()

    def _report_progress(self) -> None:
        announcer = self._announcer
        for refused in announcer.refusals:
            self._log.warning(
                "ExaBGP refused a route; it is offered again",
                command=refused.command.text,
                seconds=refused.retry_in,
                hint="its log says why; a neighbor that it does not have: render again, then reload ExaBGP",
            )
        announcer.refusals.clear()
        if announcer.answers is not self._answers:
            self._answers = announcer.answers
            if announcer.answers:
                self._log.info("ExaBGP answers again")
            else:
                self._log.warning(
                    "ExaBGP does not answer: what it refuses is not noticed",
                    hint="set exabgp.api.ack to true",
                )
        if self._summary is None and announcer.counts != self._reported:
            self._summary = asyncio.get_running_loop().call_later(SUMMARY_TIME, self._summarize)

    def _summarize(self) -> None:
        """One line for everything that was said since the last one."""
        self._summary = None
        counts, before = dataclasses.replace(self._announcer.counts), self._reported
        self._reported = counts
        self._log.info(
            "announcements",
            announced=counts.announced - before.announced,
            withdrawn=counts.withdrawn - before.withdrawn,
            refused=counts.refused - before.refused,
            found=counts.adopted - before.adopted,
        )
