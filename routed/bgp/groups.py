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

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from routed.bgp.adj_out import Advert, Turn
from routed.bgp.attributes import AttributeSet
from routed.bgp.export import Exporter, ExportTarget
from routed.bgp.log import SEGMENT_OCTETS, Log, Segment
from routed.bgp.member import OCTETS_A_ROUTE, Member
from routed.bgp.path import Path, Source
from routed.bgp.rib import LocRib
from routed.bgp.update import (
    MAX_MESSAGE_OCTETS,
    encode_announcements,
    encode_end_of_rib,
    encode_withdrawals,
)

__all__ = ["Changes", "ExportGroups", "Group", "GroupKey", "Limits", "Member"]


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes that trade memory for work."""

    lag_octets: int = 4 * 1024 * 1024
    """A member further behind than this, and than the whole table, leaves the log."""
    snapshot_octets: int = 16 * 1024
    """A snapshot serves those who join while the log since is shorter than this, or than the snapshot."""
    catch_up_prefixes: int = 8192
    """Prefixes that a member behind the log is sent at a time."""
    segment_octets: int = SEGMENT_OCTETS
    """Size of a segment of the log."""


Changes = Iterable[tuple[Path | None, Sequence[bytes]]]
"""Changed prefixes by their best path; None: there is none any more."""


@dataclass(frozen=True, slots=True)
class GroupKey:
    """Everything that changes the octets a peer gets. Peers with equal keys share a group."""

    target: ExportTarget
    four_octet_as: bool = True
    max_message_octets: int = MAX_MESSAGE_OCTETS
    filters: tuple[str, ...] = ()
    """Names of the peer's BGPFilters, in order."""


@dataclass(slots=True)
class _Base:
    """A snapshot that joining members begin with, and the log from there on."""

    head: Segment
    offset: int
    octets: int
    used: bool = True


class Group:
    """Peers that are told the same."""

    def __init__(self, key: GroupKey, exporter: Exporter, limits: Limits = Limits()) -> None:
        self.key = key
        self.exporter = exporter
        self.limits = limits
        self.adj_out: dict[bytes, Advert] = {}
        """What is advertised now. A member is told all of it but the routes from itself."""
        self.members: dict[Source, Member] = {}
        self.lagging: set[Member] = set()
        self.log = Log(limits.segment_octets)
        self.end_of_rib = encode_end_of_rib(key.target.family)
        self._base: _Base | None = None
        self._only: dict[Source, int] = {}
        """Where in the log since the snapshot a source was last told something that is not in the log."""

    def join(
        self, source: Source, wake: Callable[[], None] | None = None, *, end_of_rib: bool = True
    ) -> Member:
        """Add the peer that is `source`: it gets the whole table, End-of-RIB (RFC 4724 section 3) unless told
        otherwise, and then every change. Raises ValueError where it is a member already."""
        if source in self.members:
            raise ValueError(f"{source.name} is a member of the group already")
        member = self.members[source] = Member(self, source, wake)
        base = self._base
        if base is None or self._only.get(source, -1) >= base.offset:
            base = self._snapshot()
        base.used = True
        member._begin(base.head, 0)
        if end_of_rib:
            member._insert(self.end_of_rib)
        return member

    def adopt(self, member: Member) -> None:
        """Take over a member of another group of the same family, whose peer's export rules have changed:
        it is sent what differs, and its session goes on."""
        old = member._group
        source = member.source
        if source in self.members:
            raise ValueError(f"{source.name} is a member of the group already")
        if member._segment is not None:
            member._leave_log()
        old.lagging.discard(member)
        old.members.pop(source, None)
        dirty = member._dirty
        for nlri in old.adj_out.keys() | self.adj_out.keys():
            if old.advertised(nlri, source) is not self.advertised(nlri, source):
                dirty[nlri] = None
        member._group = self
        self.members[source] = member
        self.lagging.add(member)

    def advertised(self, nlri: bytes, reader: Source) -> AttributeSet | None:
        """What a member is told of a prefix now; None: nothing."""
        advert = self.adj_out.get(nlri)
        return None if advert is None or advert[1] is reader else advert[0]

    def leave(self, member: Member) -> None:
        """Remove a member; nothing is sent to it any more. Removing it again does nothing."""
        if self.members.get(member.source) is member:
            del self.members[member.source]
        self.lagging.discard(member)
        member._close()

    def apply(self, changes: Changes) -> bool:
        """Bring `adj_out` up to date with Loc-RIB for some prefixes, each there once, and write what
        changed to the log. True where any member has something new to send."""
        turn = Turn(self.adj_out)
        for path, nlri in changes:
            if path is None:
                turn.withdraw(nlri)
                continue
            for attributes, some in self.exporter.export(path, nlri):
                if attributes is None:
                    turn.withdraw(some)
                else:
                    turn.announce((attributes, path.source), some)
        return self._write(turn)

    def encode_state(self, nlri: Iterable[bytes], reader: Source) -> list[bytes]:
        """Messages that tell one member the present state of prefixes, whatever it was told before."""
        gone: list[bytes] = []
        adverts: dict[AttributeSet, list[bytes]] = {}
        for one in nlri:
            attributes = self.advertised(one, reader)
            if attributes is None:
                gone.append(one)
            else:
                adverts.setdefault(attributes, []).append(one)
        messages = self._withdrawals(gone) if gone else []
        for attributes, some in adverts.items():
            messages += self._announcements(attributes, some)
        return messages

    def snapshot_now(self) -> Segment:
        """The first segment of a snapshot that leads back to the end of the log as it is now."""
        base = self._base
        if base is None or base.offset != self.log.end:
            base = self._snapshot()
        base.used = True
        return base.head

    def release_snapshot(self) -> None:
        """Let go of the snapshot where nobody joined since the last call. To be called every few seconds."""
        if self._base is not None:
            if self._base.used:
                self._base.used = False
            else:
                self._drop_snapshot()

    def _drop_snapshot(self) -> None:
        self._base = None
        self._only.clear()

    def _announcements(self, attributes: AttributeSet, nlri: Sequence[bytes]) -> list[bytes]:
        key = self.key
        return encode_announcements(
            key.target.family,
            attributes,
            nlri,
            four_octet_as=key.four_octet_as,
            max_size=key.max_message_octets,
        )

    def _withdrawals(self, nlri: Sequence[bytes]) -> list[bytes]:
        return encode_withdrawals(self.key.target.family, nlri, max_size=self.key.max_message_octets)

    def _write(self, turn: Turn) -> bool:
        """Encode what a turn found out, withdrawals first, and append it."""
        if not (turn.withdrawn or turn.announced or turn.only):
            return False
        log = self.log
        begun = log.segments_begun
        for (source, attributes), nlri in turn.only.items():
            if self._base is not None:
                self._only[source] = log.end
            member = self.members.get(source)
            if member is not None:
                messages = (
                    self._withdrawals(nlri) if attributes is None else self._announcements(attributes, nlri)
                )
                member._insert(b"".join(messages), nlri)
        for source, nlri in turn.withdrawn.items():
            log.append(self._withdrawals(nlri), source, nlri)
            self._note_lagging(source, nlri)
        for (attributes, source), nlri in turn.announced.items():
            log.append(self._announcements(attributes, nlri), source, nlri)
            self._note_lagging(source, nlri)
        base = self._base
        if base is not None and log.end - base.offset > max(base.octets, self.limits.snapshot_octets):
            self._drop_snapshot()
        if log.segments_begun != begun:
            self._check_lag()
        return True

    def _note_lagging(self, source: Source, nlri: Sequence[bytes]) -> None:
        for member in self.lagging:
            if member.source is not source:
                member._dirty.update(dict.fromkeys(nlri))

    def _check_lag(self) -> None:
        """Looked at with each new segment: a member may be late by one more than the limit."""
        end = self.log.end
        limit = max(self.limits.lag_octets, len(self.adj_out) * OCTETS_A_ROUTE)
        for member in self.members.values():
            segment = member._segment
            if segment is not None and end - max(segment.start + member._at, member._joined_at) > limit:
                member._leave_log()

    def _snapshot(self) -> _Base:
        """Encode all of `adj_out`; what follows in the log is chained to it."""
        if self.log.tail.length:
            self.log.begin_segment()
        offset = self.log.end
        adverts: dict[Advert, list[bytes]] = {}
        for nlri, advert in self.adj_out.items():
            known = adverts.get(advert)
            if known is None:
                adverts[advert] = [nlri]
            else:
                known.append(nlri)
        snapshot = Log(self.limits.segment_octets)
        head = snapshot.tail
        for (attributes, source), some in adverts.items():
            snapshot.append(self._announcements(attributes, some), source, some)
        octets = snapshot.end
        # A member's place in the snapshot is a place before the log's: how far it is behind is one
        # subtraction.
        segment: Segment | None = head
        while segment is not None:
            segment.start += offset - octets
            segment = segment.next
        snapshot.tail.next = self.log.tail
        self._only.clear()
        self._base = _Base(head, offset, octets)
        return self._base


class ExportGroups:
    """All groups of one family, fed by its Loc-RIB."""

    def __init__(
        self,
        rib: LocRib,
        make_exporter: Callable[[GroupKey], Exporter],
        limits: Limits = Limits(),
    ) -> None:
        """`make_exporter` makes a group's exporter from its key, with the policy that is in force."""
        self.rib = rib
        self.limits = limits
        self.groups: dict[GroupKey, Group] = {}
        self._make_exporter = make_exporter
        rib.subscribe(self._on_changes)

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
            self._group(key).adopt(member)
            self._discard_if_empty(old)
            if member.wake is not None:
                member.wake()
        return member

    def refresh(self, nlri: Iterable[bytes] | None = None) -> None:
        """Make all exporters anew, and apply them: to these prefixes, or else to all. For a changed
        policy."""
        for group in list(self.groups.values()):
            group.exporter = self._make_exporter(group.key)
            some = dict.fromkeys(self.rib.routes) | dict.fromkeys(group.adj_out) if nlri is None else nlri
            self._apply(group, self._by_path(some))

    def _group(self, key: GroupKey) -> Group:
        group = self.groups.get(key)
        if group is None:
            # All groups tell the same state: a member that is moved from one to another, and back before the
            # loop turns, must not hear of an older one.
            self.rib.flush()
            group = self.groups[key] = Group(key, self._make_exporter(key), self.limits)
            group.apply(self._by_path(self.rib.routes))
        return group

    def _discard_if_empty(self, group: Group) -> None:
        if not group.members and self.groups.get(group.key) is group:
            del self.groups[group.key]

    def _apply(self, group: Group, changes: Changes) -> None:
        if group.apply(changes):
            for member in list(group.members.values()):
                if member.wake is not None:
                    member.wake()

    def release_snapshots(self) -> None:
        """Let go of what was kept for joining peers. To be called every few seconds."""
        for group in self.groups.values():
            group.release_snapshot()

    def _by_path(self, nlri: Iterable[bytes]) -> Changes:
        """Prefixes by their best path: evaluated and packed together in every group."""
        prefixes = list(nlri)
        by_path: dict[Path | None, list[bytes]] = {}
        start = 0
        # Prefixes that came in one UPDATE have one entry and are neighbours here: a step a run of them.
        for entry, run in groupby(map(self.rib.routes.get, prefixes)):
            end = start + len(list(run))
            path = entry[0] if isinstance(entry, tuple) else entry
            known = by_path.get(path)
            if known is None:
                by_path[path] = prefixes[start:end]
            else:
                known += prefixes[start:end]
            start = end
        return list(by_path.items())

    def _on_changes(self, nlri: Sequence[bytes]) -> None:
        changes = self._by_path(nlri)
        for group in list(self.groups.values()):
            self._apply(group, changes)
