"""Follows the node agent's endpoint-status files: the one place of this room that does I/O.

Changes come by inotify; a look at the folder every few seconds catches what inotify cannot tell, such as a
folder that is not there yet. A file that does not parse, half written perhaps, leaves its workload as it was.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path

from watchfiles import awatch

from routed.intent.local_workloads import FOLDER, EndpointStatus, read_endpoint_statuses
from routed.resources import Key, Problem

RESCAN_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class WorkloadChanges:
    """What `Compiler.apply` is given, and everything that is wrong with the files now."""

    upserts: tuple[EndpointStatus, ...] = ()
    deletes: tuple[Key, ...] = ()
    problems: tuple[Problem, ...] = ()


class WorkloadFiles:
    """The workloads of `<prefix>/endpoint-status/` that are in force."""

    def __init__(self, prefix: Path) -> None:
        self._prefix = prefix
        self._in_force: dict[Key, EndpointStatus] = {}
        self._problems: tuple[Problem, ...] = ()

    def scan(self) -> WorkloadChanges | None:
        """What is different since the last scan; None: nothing."""
        records, problems = read_endpoint_statuses(self._prefix)
        if any(problem.key is None for problem in problems):
            # The folder itself cannot be read: what its files said stays in force.
            found = dict(self._in_force)
        else:
            found = {record.key: record for record in records}
            for problem in problems:
                if problem.key in self._in_force:
                    found[problem.key] = self._in_force[problem.key]
        upserts = tuple(record for key, record in found.items() if self._in_force.get(key) != record)
        deletes = tuple(key for key in self._in_force if key not in found)
        before, self._problems = self._problems, tuple(problems)
        self._in_force = found
        if not upserts and not deletes and before == self._problems:
            return None
        return WorkloadChanges(upserts, deletes, self._problems)


async def follow_workload_files(
    prefix: Path, rescan_seconds: float = RESCAN_SECONDS
) -> AsyncGenerator[WorkloadChanges, None]:
    """Changes as they happen, what is there first. Ends only when it is cancelled or closed."""
    files = WorkloadFiles(prefix)
    folder = prefix / FOLDER
    while True:
        if (changes := files.scan()) is not None:
            yield changes
        if not folder.is_dir():
            await asyncio.sleep(rescan_seconds)
            continue
        try:
            events = awatch(
                folder,
                recursive=False,
                debounce=50,
                step=10,
                rust_timeout=int(rescan_seconds * 1000),
                yield_on_timeout=True,
            )
            # The watch is set up before this scan: nothing that is written in between is missed.
            async for _ in events:
                if (changes := files.scan()) is not None:
                    yield changes
                if not folder.is_dir():
                    break
        except OSError:
            await asyncio.sleep(rescan_seconds)
