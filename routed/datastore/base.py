"""What a datastore is to the rest: one snapshot, then changes; and word of when it went away and came
back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, runtime_checkable

from routed.resources import Key, Problem, Record


@dataclass(frozen=True, slots=True)
class Batch:
    """Records to put in force and keys to drop, both sorted by key; and every Problem that there is now."""

    upserts: tuple[Record, ...] = ()
    deletes: tuple[Key, ...] = ()
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class Snapshot(Batch):
    """All records at once, `deletes` is empty. It comes first, and once."""


@dataclass(frozen=True, slots=True)
class Changes(Batch):
    """What is different from before. Only `problems` can have changed, then the rest is empty."""


@dataclass(frozen=True, slots=True)
class Lost:
    """The datastore went away, or is not there yet. What it said stays in force. `since` is in UTC."""

    reason: str
    since: datetime


@dataclass(frozen=True, slots=True)
class Restored:
    """The datastore is back. What became different in between follows as Changes, or as the first
    Snapshot."""


Event = Snapshot | Changes | Lost | Restored


class Datastore(Protocol):
    """A source of records."""

    def watch(self) -> AsyncIterator[Event]:
        """A Snapshot, then Changes as they happen, with Lost and Restored in between and perhaps before the
        Snapshot. It ends when the datastore is closed. One watch at a time."""

    async def close(self) -> None:
        """Ends the watch and gives back what it held."""


@runtime_checkable
class StatusWriter(Protocol):
    """A datastore into which the status of a record can be written: all that is ever written into one."""

    async def write_status(self, key: Key, status: Mapping[str, object]) -> bool:
        """Puts a status (what JSON has) in place of the one that the record has; the rest of the record stays
        as it is, whoever changes it meanwhile. False where there is no such record. Raises
        `retry.UnavailableError`."""
