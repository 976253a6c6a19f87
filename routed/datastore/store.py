"""The records in force: the last good version of each, and what changed since it was last asked.

Every datastore reads into a Store, so that all keep the same promises: a rejected record leaves its last
good version in force, a key that comes from two places is told and resolved the same way each time, and
what did not change is not sent again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import NamedTuple

from routed.datastore.base import Changes, Snapshot
from routed.resources import Key, Parsed, Problem, Record


class Found(NamedTuple):
    """A document's outcome, and where the document is (`file:line`, or another datastore's own key)."""

    parsed: Parsed
    source: str


@dataclass(frozen=True, slots=True)
class _Origin:
    """What one file (or key) gives: its good records with their places, the keys that it holds in a form
    that was rejected, and its problems."""

    records: Mapping[Key, Found]
    rejected: frozenset[Key]
    problems: tuple[Problem, ...]


_NOTHING = _Origin({}, frozenset(), ())


def _packed(origin: _Origin) -> _Origin | Found:
    """What most origins behind a network are, one good record, as that alone: it is a third of the memory of
    45,000 records."""
    if len(origin.records) == 1 and not origin.rejected and not origin.problems:
        (found,) = origin.records.values()
        return found
    return origin


def _unpacked(packed: _Origin | Found) -> _Origin:
    if isinstance(packed, _Origin):
        return packed
    record = packed.parsed.record
    assert record is not None
    return _Origin({record.key: packed}, frozenset(), ())


class Store:
    """Takes what each origin holds now; gives the difference of the records in force.

    An origin is the smallest thing that is read as one: a file, an etcd key, a Kubernetes object."""

    def __init__(self) -> None:
        self._origins: dict[str, _Origin | Found] = {}
        # Only the origins that have some: there can be many thousand origins.
        self._origins_with_problems: set[str] = set()
        # Which origins hold a key in a good form, and which in one that was rejected.
        self._givers: dict[Key, str | set[str]] = {}
        self._rejecters: dict[Key, str | set[str]] = {}
        self._contested: set[Key] = set()
        self._in_force: dict[Key, Record] = {}
        self._dirty: set[Key] = set()
        self._problems: tuple[Problem, ...] = ()
        self._common: tuple[Problem, ...] = ()

    def replace(
        self, origin: str, found: Iterable[Found], problems: Sequence[Problem] = (), complete: bool = True
    ) -> None:
        """What `origin` holds now, in the place of what it held. `problems` are those of the origin as a
        whole.

        Where not `complete` (half written, in parts malformed) the keys that are not seen are not taken for
        deleted. Nor are they where a document could not even be told by its key: it may be any of them."""
        before = self._origin(origin)
        records: dict[Key, Found] = {}
        rejected: set[Key] = set()
        noted = list(problems)
        for item in found:
            parsed, source = item
            noted.extend(
                problem if problem.source else replace(problem, source=source) for problem in parsed.problems
            )
            if parsed.record is None:
                if parsed.key is not None:
                    rejected.add(parsed.key)
                elif any(problem.severity == "error" for problem in parsed.problems):
                    complete = False
            elif (first := records.setdefault(parsed.record.key, item)) is not item:
                noted.append(_twice(parsed.record.key, first.source, source))
        if not complete:
            for key in before.records.keys() | before.rejected:
                if key in records or key in rejected:
                    continue
                if key in before.records:
                    records[key] = before.records[key]
                else:
                    rejected.add(key)
        self._set(origin, _Origin(records, frozenset(rejected), tuple(noted)))

    def remove(self, origin: str) -> None:
        """The origin is gone, and what it gave with it."""
        if origin in self._origins:
            self._set(origin, _NOTHING)
            del self._origins[origin]

    def origins(self) -> Iterable[str]:
        """All that were replaced and not removed since."""
        return self._origins.keys()

    def set_common_problems(self, problems: Iterable[Problem]) -> None:
        """The problems that are no one origin's, in the place of those before."""
        self._common = tuple(problems)

    def _origin(self, origin: str) -> _Origin:
        return _unpacked(self._origins.get(origin, _NOTHING))

    def _set(self, origin: str, now: _Origin) -> None:
        before = self._origin(origin)
        self._origins[origin] = _packed(now)
        _move(self._givers, origin, before.records.keys(), now.records.keys())
        _move(self._rejecters, origin, before.rejected, now.rejected)
        for key in before.records.keys() | now.records.keys():
            if isinstance(self._givers.get(key), set):
                self._contested.add(key)
            else:
                self._contested.discard(key)
        self._dirty |= before.records.keys() | now.records.keys() | before.rejected | now.rejected
        (self._origins_with_problems.add if now.problems else self._origins_with_problems.discard)(origin)

    def _winner(self, key: Key) -> Record | None:
        """The version of a key that is to be in force: that of the first origin in sorted order that has a
        good one; else, where an origin still has the key in a bad form, the last good one."""
        givers = self._givers.get(key)
        if givers:
            return self._origin(min(_members(givers))).records[key].parsed.record
        return self._in_force.get(key) if key in self._rejecters else None

    def _collect_problems(self) -> tuple[Problem, ...]:
        problems = list(self._common)
        for origin in self._origins_with_problems:
            problems += self._origin(origin).problems
        for key in self._contested:
            first, *others = sorted(_members(self._givers[key]))
            place = self._origin(first).records[key].source
            problems += [_twice(key, place, self._origin(other).records[key].source) for other in others]
        problems.sort(key=_problem_order)
        return tuple(_without_repetition(problems))

    def take_snapshot(self) -> Snapshot:
        """All records in force, and from here on the changes count."""
        self.take_changes()
        return Snapshot(
            upserts=tuple(self._in_force[key] for key in sorted(self._in_force)), problems=self._problems
        )

    def take_changes(self) -> Changes | None:
        """What is different since the last time, None where nothing is."""
        upserts: list[Record] = []
        deletes: list[Key] = []
        for key in sorted(self._dirty):
            now, before = self._winner(key), self._in_force.get(key)
            if now is None:
                if before is not None:
                    deletes.append(key)
                    del self._in_force[key]
            elif now != before:
                upserts.append(now)
                self._in_force[key] = now
        self._dirty.clear()
        problems = self._collect_problems()
        if not upserts and not deletes and problems == self._problems:
            return None
        self._problems = problems
        return Changes(tuple(upserts), tuple(deletes), problems)


def _members(members: str | set[str]) -> set[str]:
    return {members} if isinstance(members, str) else members


def _move(index: dict[Key, str | set[str]], origin: str, before: Set[Key], now: Set[Key]) -> None:
    """Brings an index from keys to origins up to date: `origin` had the keys `before` and has those of
    `now`. A single origin stands for itself, several are a set: there is mostly one."""
    for key in before - now:
        left = _members(index[key]) - {origin}
        if not left:
            del index[key]
        else:
            index[key] = left if len(left) > 1 else left.pop()
    for key in now - before:
        members = index.get(key)
        index[key] = origin if members is None else _members(members) | {origin}


def _without_repetition(problems: Iterable[Problem]) -> Iterator[Problem]:
    """Leaves out warnings of no record that were told before: one for an unknown kind, not one for each
    document."""
    told: set[tuple[str, str]] = set()
    for problem in problems:
        if problem.key is None and problem.severity == "warning":
            if (problem.field, problem.reason) in told:
                continue
            told.add((problem.field, problem.reason))
        yield problem


def _problem_order(problem: Problem) -> tuple[str, int, str, str]:
    """By file, then by line as a number."""
    place, _, line = problem.source.rpartition(":")
    if line.isdecimal():
        return place, int(line), problem.field, problem.reason
    return problem.source, 0, problem.field, problem.reason


def _twice(key: Key, first: str, second: str) -> Problem:
    return Problem(
        key,
        "metadata.name",
        f"is given twice: {first} is in force, this one is not; remove one",
        source=second,
    )
