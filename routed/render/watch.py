"""confd's work for a legacy BIRD: follow the records, write its files, have it read them.

A configuration is in force once BIRD took it. One that a check or BIRD itself refuses is taken back: the
files are again what BIRD runs, so that a restart of BIRD comes up with the last good one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from routed.bgp.nlri import Family
from routed.datastore import Batch, Datastore, Lost, Restored
from routed.intent.compiler import Compiler
from routed.intent.options import Options
from routed.render import bird
from routed.render.check import Checked, check
from routed.render.control import ControlError, Reply, command
from routed.render.files import write_files
from routed.resources import Problem
from routed.workload_files import WorkloadChanges, follow_workload_files

Level = Literal["info", "warning", "error"]
Say = Callable[[Level, str], None]
SOCKETS = {Family.IPV4: "bird.ctl", Family.IPV6: "bird6.ctl"}
SETTLE_SECONDS = 0.05
"""Changes that come this close together are rendered once."""


@dataclass(slots=True)
class Installer:
    """Puts rendered files in force, family by family."""

    out: Path
    control_folder: Path
    say: Say
    programs: Mapping[Family, str] = field(default_factory=dict)
    """BIRD's programs to check with first; empty: BIRD itself is the only judge."""
    ask: Callable[[Path, str], Reply] = command
    _refused: dict[Family, dict[str, str]] = field(default_factory=dict)
    _pending: set[Family] = field(default_factory=set)
    """Families whose files BIRD has not been told of yet: its socket was not there."""

    def install(self, files: Mapping[str, str]) -> None:
        """Writes what differs and has BIRD read it. Blocks; raises nothing."""
        for family, names in bird.FILES.items():
            own = {name: files[name] for name in (names.aggregates, names.ipam, names.main)}
            try:
                self._install_family(family, own)
            except OSError as error:
                self.say("error", f"{names.main} is not written: {error.strerror}: {error.filename}")

    def _install_family(self, family: Family, files: dict[str, str]) -> None:
        before = {name: text for name in files if (text := self._read(name)) is not None}
        if self._refused.get(family) == files:
            return
        if before == files and family not in self._pending:
            self._refused.pop(family, None)
            return
        if not self._accepted(family, files):
            self._refused[family] = files
            return
        self._refused.pop(family, None)
        written = write_files(self.out, files)
        if written:
            self.say("info", f"wrote {', '.join(written)}")
        self._pending.discard(family)
        try:
            reply = self.ask(self.control_folder / SOCKETS[family], "configure")
        except ControlError as error:
            self._pending.add(family)
            self.say("warning", f"BIRD is not told: {error}; it reads the files when it starts")
            return
        if not reply.refused:
            self.say("info", f"BIRD took {bird.FILES[family].main}: {reply.text.splitlines()[-1]}")
            return
        self._refused[family] = files
        if before.keys() == files.keys():
            write_files(self.out, before)
            kept = "the last good one is back"
        else:
            kept = "there is no earlier one to go back to"
        self.say("error", f"BIRD refuses {bird.FILES[family].main}, {kept}: {reply.text}")

    def _read(self, name: str) -> str | None:
        try:
            return (self.out / name).read_text()
        except (FileNotFoundError, UnicodeDecodeError):
            return None

    def _accepted(self, family: Family, files: dict[str, str]) -> bool:
        program = self.programs.get(family)
        if program is None:
            return True
        refusals: list[Checked] = [c for c in check(files, {family: program}) if c.error]
        for refusal in refusals:
            self.say("error", f"{refusal.file} is not written, {program} refuses it: {refusal.error}")
        return not refusals


async def follow(store: Datastore, options: Options, installer: Installer, stop: asyncio.Event) -> None:
    """Renders and installs at each change of the records or the workloads, until `stop` is set."""
    changes: asyncio.Queue[Batch | WorkloadChanges | Lost | Restored] = asyncio.Queue()
    compiler = Compiler(options)
    known: set[str] = set()

    async def collect(source: AsyncIterator[Batch | WorkloadChanges | Lost | Restored]) -> None:
        async for event in source:
            changes.put_nowait(event)

    sources = [
        asyncio.create_task(collect(store.watch())),
        asyncio.create_task(collect(follow_workload_files(options.endpoint_status_prefix))),
    ]
    stopping = asyncio.create_task(stop.wait())
    problems: dict[type, tuple[Problem, ...]] = {}
    ready = False
    try:
        while not stop.is_set():
            getting = asyncio.create_task(changes.get())
            await asyncio.wait({getting, stopping, *sources}, return_when=asyncio.FIRST_COMPLETED)
            for source in sources:
                if source.done():
                    source.result()
                    stop.set()
            if not getting.done():
                getting.cancel()
                continue
            await asyncio.sleep(SETTLE_SECONDS)
            events = [getting.result()]
            while not changes.empty():
                events.append(changes.get_nowait())
            for event in events:
                if isinstance(event, Lost):
                    installer.say("warning", f"the datastore went away: {event.reason}; what it said stays")
                elif isinstance(event, Restored):
                    installer.say("info", "the datastore is back")
                else:
                    ready = ready or isinstance(event, Batch)
                    compiler.apply(event.upserts, event.deletes)
                    problems[Batch if isinstance(event, Batch) else WorkloadChanges] = event.problems
            if not ready:
                continue
            intent = compiler.intent
            rendered = bird.render(intent)
            found = (*(p for part in problems.values() for p in part), *intent.problems, *rendered.problems)
            for problem in found:
                if str(problem) not in known:
                    installer.say(problem.severity, str(problem))
            known = {str(problem) for problem in found}
            await asyncio.to_thread(installer.install, rendered.files)
    finally:
        for task in (*sources, stopping):
            task.cancel()
        await asyncio.gather(*sources, stopping, return_exceptions=True)
        await store.close()
