"""Export groups: what peers with the same export rules are told, worked out and encoded once for all of them.

A group holds `adj_out`, what it advertises now, and writes each change once, as encoded UPDATEs, to its log
(`log`). A member is a position in that log. Split horizon costs no second encoding: a member leaves out the
slices of the log whose routes came from itself.

What each member is told is thus a function of `adj_out`: everything in it but the routes that came from that
member. The rules that keep this true when the best path of a prefix moves from source A to source B:

* the announcement of B's path goes to the log, where B leaves it out; A reads it as everybody else does;
* B had been told of A's path: it alone gets a withdrawal, put between two messages of the log for B only.

A member that does not read fast enough leaves the log, so that it holds no memory for the others: from then
on it only remembers which prefixes it has yet to hear of, and is sent their newest state, encoded for it
alone. When there are none left it goes on with the log.

A peer that joins later reads a snapshot of `adj_out`, then the log from where the snapshot was taken. The
snapshot is kept for others who join, as long as the log since then is no longer than the snapshot itself: a
storm of joining peers is served from the same octets.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from itertools import groupby
from typing import TypeVar

from routed.bgp.add_path import AddPathGroup, EntryChanges
from routed.bgp.adj_rib_in import Entry
from routed.bgp.attributes import AttributeSet
from routed.bgp.export import Exporter
from routed.bgp.group import DEFAULT_LIMITS, Changes, Group, GroupKey, Limits
from routed.bgp.member import Member
from routed.bgp.path import Path, Source
from routed.bgp.rib import LocRib, Run

__all__ = ["Changes", "EntryChanges", "ExportGroups", "Group", "GroupKey", "Limits", "Member"]

K = TypeVar("K", bound=Hashable)


class ExportGroups:
    """All groups of one family, fed by its Loc-RIB."""

    def __init__(
        self,
        rib: LocRib,
        make_exporter: Callable[[GroupKey], Exporter],
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        """`make_exporter` makes a group's exporter from its key, with the policy that is in force."""
        self.rib = rib
        self.limits = limits
        self.groups: dict[GroupKey, Group] = {}
        self._make_exporter = make_exporter
        rib.subscribe(self._on_changes, self._on_new)

    def join(
        self,
        key: GroupKey,
        source: Source,
        wake: Callable[[], None] | None = None,
        *,
        end_of_rib: bool = True,
    ) -> Member:
        """Make the peer that is `source` a member of the group of `key`; see `Group.join`."""
        return self._group(key).join(source, wake, end_of_rib=end_of_rib)

    def leave(self, member: Member) -> None:
        """Remove a member, and its group with the last one."""
        group = member.group
        group.leave(member)
        self._discard_if_empty(group)

    def move(self, member: Member, key: GroupKey) -> Member:
        """Put a member into the group of another key, after its peer's export rules or our own identity
        changed. It is sent what differs; its session goes on. Returns the same member."""
        old = member.group
        if old.key != key:
            # All groups tell the same state: a member that is moved from one to another, and back before the
            # loop turns, must not hear of an older one.
            self.rib.flush()
            group = self._group(key)
            self._complete(old)
            self._complete(group)
            group.adopt(member)
            self._discard_if_empty(old)
            if member.wake is not None:
                member.wake()
        return member

    def refresh(self) -> None:
        """Make all exporters anew, for a changed policy. It shows as Loc-RIB hands on its prefixes, which
        it now does with all of them."""
        for group in self.groups.values():
            group.exporter = self._make_exporter(group.key)
        self.rib.touch()

    def _group(self, key: GroupKey) -> Group:
        group = self.groups.get(key)
        if group is None:
            kind = AddPathGroup if key.add_path else Group
            group = self.groups[key] = kind(key, self._make_exporter(key), self.limits)
            group.unbuilt = list(self.rib.routes)
            if len(group.unbuilt) > self.limits.build_prefixes:
                group.unbuilt.reverse()  # taken from the end
            else:
                self._complete(group)
        return group

    @property
    def unbuilt(self) -> int:
        """How many prefixes are still to be filled into groups that were made not long ago."""
        return sum(len(group.unbuilt) for group in self.groups.values())

    def build(self, limit: int) -> None:
        """Fill in the next prefixes, at most so many a group, where Loc-RIB has handed on all that changed
        before: a group that is made on a large table takes many turns of the event loop. What changes
        meanwhile it is told as every group is."""
        for group in list(self.groups.values()):
            if group.unbuilt and not self.rib.changes_pending:
                some = group.unbuilt[: -limit - 1 : -1]
                del group.unbuilt[-limit:]
                self._fill(group, some)

    def resend(self, member: Member, begin: bytes = b"", end: bytes = b"") -> None:
        """See `Member.resend`: the whole table, so it is made whole before."""
        self._complete(member.group)
        member.resend(begin, end)

    def _complete(self, group: Group) -> None:
        """Fill in what is missing, now."""
        if group.unbuilt:
            self.rib.flush()
            some, group.unbuilt = group.unbuilt, []
            self._fill(group, some)

    def _fill(self, group: Group, nlri: Iterable[bytes]) -> None:
        _Batch(_runs(self.rib, nlri)).apply_to(group)
        if not group.unbuilt:
            group.built()
        for member in list(group.members.values()):
            if member.wake is not None:
                member.wake()

    def _discard_if_empty(self, group: Group) -> None:
        if not group.members and self.groups.get(group.key) is group:
            del self.groups[group.key]

    def _apply(self, batch: _Batch) -> None:
        for group in list(self.groups.values()):
            if batch.apply_to(group):
                for member in list(group.members.values()):
                    if member.wake is not None:
                        member.wake()

    def release_snapshots(self) -> None:
        """Let go of what was kept for joining peers. To be called every few seconds."""
        for group in self.groups.values():
            group.release_snapshot()

    def _on_changes(self, nlri: Sequence[bytes]) -> None:
        self._apply(_Batch(_runs(self.rib, nlri)))

    def _on_new(self, runs: Sequence[Run]) -> None:
        self._apply(_Batch(runs, new=True))


def _runs(rib: LocRib, nlri: Iterable[bytes]) -> list[tuple[Entry | None, Sequence[bytes]]]:
    """Prefixes with their Loc-RIB entry. Those that came in one UPDATE have one entry and are neighbours:
    they stay together."""
    prefixes = list(nlri)
    found: list[tuple[Entry | None, Sequence[bytes]]] = []
    start = 0
    for entry, run in groupby(map(rib.routes.get, prefixes)):
        end = start + len(list(run))
        found.append((entry, prefixes[start:end]))
        start = end
    return found


class _Batch:
    """Changed prefixes, sorted once for all groups that want them in the same order."""

    def __init__(self, runs: Sequence[tuple[Entry | None, Sequence[bytes]]], *, new: bool = False) -> None:
        """`runs`: prefixes and the Loc-RIB entry that they have; `new`: none of them had one before."""
        self._runs = runs
        self._new = new
        self._by_path: Changes | None = None
        self._by_entry: EntryChanges | None = None

    def apply_to(self, group: Group) -> bool:
        """Bring the group up to date; as `Group.apply`."""
        if isinstance(group, AddPathGroup):
            if self._by_entry is None:
                self._by_entry = self._sorted(lambda entry: entry)
            return group.apply_entries(self._by_entry)
        if self._by_path is None:
            self._by_path = self._sorted(best_of)
        return group.apply(self._by_path, new=self._new)

    def _sorted(self, key: Callable[[Entry | None], K]) -> list[tuple[K | Path, Sequence[bytes]]]:
        """The prefixes by the key of their entry: evaluated and packed together in every group."""
        found: dict[K | Path, list[bytes]] = {}
        same: dict[tuple[Source, AttributeSet], Path] = {}
        for entry, nlri in self._runs:
            kind: K | Path = key(entry)
            if isinstance(kind, Path) and kind.path_id:
                # Some peers give each route an identifier of its own. What is exported is the same.
                kind = same.setdefault((kind.source, kind.attributes), kind)
            found.setdefault(kind, []).extend(nlri)
        return list(found.items())


def best_of(entry: Entry | None) -> Path | None:
    """The best path of a Loc-RIB entry."""
    return entry[0] if isinstance(entry, tuple) else entry
