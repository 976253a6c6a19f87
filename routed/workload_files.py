"""Follows the endpoint-status files of Calico's node agent (Felix): local workloads that speak BGP.

Changes come by inotify; a look at the folder every few seconds catches what inotify cannot tell, such as a
folder that is not there yet. A file that does not parse, half written perhaps, leaves its workload as it was.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path

from routed.datastore.inotify import CONTENTS, Inotify
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
    folder = str(prefix / FOLDER)
    loop = asyncio.get_running_loop()
    changed = asyncio.Event()
    inotify = _open_inotify()
    if inotify is not None:
        loop.add_reader(inotify.fileno(), changed.set)
    try:
        while True:
            changed.clear()
            if inotify is not None:
                inotify.read()
                # Set up before the scan, so that nothing written in between is missed; again each time,
                # because the folder may have come, or be another one.
                with contextlib.suppress(OSError):
                    inotify.watch(os.path.realpath(folder), CONTENTS)
            if (changes := files.scan()) is not None:
                yield changes
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(rescan_seconds):
                    await changed.wait()
    finally:
        if inotify is not None:
            loop.remove_reader(inotify.fileno())
            inotify.close()


def _open_inotify() -> Inotify | None:
    """None where the kernel has no instance to give: then the rescan alone finds what changed."""
    try:
        return Inotify()
    except OSError:
        return None
