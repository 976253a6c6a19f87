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

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from routed.bgp.attributes import AttributeSet
from routed.bgp.export import Exporter, ExportTarget
from routed.bgp.log import SEGMENT_OCTETS, Buffer, Log, Segment
from routed.bgp.path import Path, Source
from routed.bgp.rib import LocRib
from routed.bgp.update import (
    MAX_MESSAGE_OCTETS,
    encode_announcements,
    encode_end_of_rib,
    encode_withdrawals,
)

#: Buffers in one `collect`: half of what Linux takes in one sendmsg.
MAX_BUFFERS: Final = 512
#: An estimate of the octets that a route costs in the log.
_OCTETS_A_ROUTE: Final = 8


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


Advert = tuple[AttributeSet, Source]
"""What a group advertises for a prefix: the attributes as they leave, and the source of the path."""

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


@dataclass(slots=True)
class _Insert:
    """Messages for one member, between two messages of the log."""

    offset: int
    data: bytes
    nlri: Sequence[bytes] = ()
    """The prefixes they are about; none for a marker."""
    detour: Segment | None = None
    """A snapshot to read next; it leads back to the same place of the log."""


class Member:
    """One peer in a group: a position in the log, and what of it is being sent.

    `collect`, `advance`, `at_message_boundary` and `collect_to_boundary` are for the transport."""

    __slots__ = (
        "_at",
        "_boundary",
        "_cut",
        "_dirty",
        "_group",
        "_inserts",
        "_joined_at",
        "_marks_after",
        "_marks_before",
        "_out",
        "_segment",
        "source",
        "wake",
    )

    def __init__(self, group: Group, source: Source, wake: Callable[[], None] | None) -> None:
        self.source = source
        self.wake = wake
        """Called when there is something new to send."""
        self._group = group
        self._segment: Segment | None = None
        """None: behind the log, or not a member any more."""
        self._at = 0
        self._joined_at = 0
        self._inserts: deque[_Insert] = deque()
        self._dirty: dict[bytes, None] = {}
        self._marks_before: list[bytes] = []  # markers to send before and after what is in _dirty
        self._marks_after: list[bytes] = []
        self._out: list[Buffer] = []  # collected, each from one message boundary to another
        self._cut = 0  # octets of _out[0] that are sent
        self._boundary = 0  # a message boundary in _out[0], at or before the first that is not sent

    @property
    def group(self) -> Group:
        """The group it is in."""
        return self._group

    @property
    def lagging(self) -> bool:
        """True while it is behind the log and is sent newest states only."""
        return self._segment is None and self in self._group.lagging

    @property
    def octets_behind(self) -> int:
        """Octets of the log that are still to read, those of others' routes as well as its own."""
        segment = self._segment
        if segment is None:
            return len(self._dirty) * _OCTETS_A_ROUTE
        return self._group.log.end - segment.start - self._at

    @property
    def has_output(self) -> bool:
        """Whether `collect` may give anything; it gives nothing where the rest of the log is its own."""
        if self._out or self._dirty or self._marks_after or self._inserts:
            return True
        segment = self._segment
        return segment is not None and (self._at < segment.length or segment.next is not None)

    @property
    def at_message_boundary(self) -> bool:
        """True where what was sent so far ends with a whole BGP message."""
        return self._cut == 0 or self._next_boundary() == self._cut

    def collect(self, budget: int) -> Sequence[Buffer]:
        """The octets to send next, in whole messages but for the rest of one that was sent in part: about
        `budget` octets where there are so many, more by one segment of the log at most. Empty: nothing to
        send.

        What is collected stays until `advance` says that it was sent."""
        out = self._out
        if not out:
            if self._segment is not None:
                out = self._out = self._read(self._segment, budget)
            elif self in self._group.lagging:
                out = self._out = self._catch_up()
        if self._cut:
            return [memoryview(out[0])[self._cut :], *out[1:]]
        return out

    def collect_to_boundary(self) -> Sequence[Buffer]:
        """Just the rest of the message that was sent in part; empty at a message boundary."""
        if self.at_message_boundary:
            return []
        return [memoryview(self._out[0])[self._cut : self._next_boundary()]]

    def advance(self, sent: int) -> None:
        """So many octets of what `collect` gave are on their way.

        Raises ValueError where that were more than was collected."""
        out = self._out
        sent += self._cut
        for place, buffer in enumerate(out):
            if sent < len(buffer):
                if place:
                    del out[:place]
                    self._boundary = 0
                self._cut = sent
                return
            sent -= len(buffer)
        if sent:
            raise ValueError(f"{sent} octets more than were collected are said to be sent")
        self._out = []
        self._cut = self._boundary = 0

    def _next_boundary(self) -> int:
        """The first message boundary in the first buffer that is not before the cut. Message by message, from
        the boundary found last: a header is looked at once."""
        at = self._boundary
        if at < self._cut:
            buffer = self._out[0]
            while at < self._cut:
                at += buffer[at + 16] << 8 | buffer[at + 17]
            self._boundary = at
        return at

    def _read(self, segment: Segment, budget: int) -> list[Buffer]:
        """Move on in the log."""
        pieces: list[Buffer] = []
        at = self._at
        inserts = self._inserts
        while True:
            stop = segment.length
            if inserts and inserts[0].offset <= segment.start + stop:
                stop = inserts[0].offset - segment.start
            if at < stop:
                pieces += segment.read(at, stop, self.source)
                budget -= stop - at
                at = stop
            if inserts and inserts[0].offset == segment.start + at:
                insert = inserts.popleft()
                if insert.data:
                    pieces.append(insert.data)
                    budget -= len(insert.data)
                if insert.detour is not None:
                    segment = insert.detour
                    at = 0
            elif at == segment.length and segment.next is not None:
                segment = segment.next
                at = 0
            elif at == segment.length:
                break
            if budget <= 0 or len(pieces) >= MAX_BUFFERS:
                break
        self._segment = segment
        self._at = at
        return pieces

    def _catch_up(self) -> list[Buffer]:
        """The newest state of some of the prefixes this member has yet to hear of; back to the log after the
        last of them."""
        group = self._group
        dirty = self._dirty
        # The oldest first, so that none waits for ever.
        some = list(islice(dirty, group.limits.catch_up_prefixes))
        for nlri in some:
            del dirty[nlri]
        messages = self._marks_before + group.encode_state(some, self.source)
        self._marks_before = []
        if not dirty:
            messages += self._marks_after
            self._marks_after = []
            group.lagging.discard(self)
            self._begin(group.log.tail, group.log.tail.length)
        return [b"".join(messages)] if messages else []

    def _begin(self, segment: Segment, at: int) -> None:
        self._segment = segment
        self._at = at
        self._joined_at = self._group.log.end

    def _insert(self, data: bytes, nlri: Sequence[bytes] = ()) -> None:
        """Send these messages when the log is read so far; `nlri` is empty for a marker."""
        if self._segment is not None:
            self._inserts.append(_Insert(self._group.log.end, data, nlri))
        elif nlri:
            self._dirty.update(dict.fromkeys(nlri))
        else:
            self._marks_after.append(data)

    def _leave_log(self) -> None:
        """Hold the log no longer: remember the prefixes of what is not read yet, and the markers."""
        group = self._group
        segment = self._segment
        at = self._at
        dirty = self._dirty
        while segment is not None:
            for nlri in segment.prefixes_after(at, self.source):
                dirty.update(dict.fromkeys(nlri))
            segment = segment.next
            at = 0
        for insert in self._inserts:
            if insert.detour is not None:
                dirty.update(dict.fromkeys(group.adj_out))
                if insert.data:
                    self._marks_before.append(insert.data)
            elif insert.nlri:
                dirty.update(dict.fromkeys(insert.nlri))
            else:
                self._marks_after.append(insert.data)
        self._inserts.clear()
        self._segment = None
        group.lagging.add(self)

    def _close(self) -> None:
        self._segment = None
        self._inserts.clear()
        self._dirty.clear()
        self._marks_before = []
        self._marks_after = []
        self._out = []
        self._cut = self._boundary = 0


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

    def refresh(self, member: Member, begin: bytes = b"", end: bytes = b"") -> None:
        """Send the whole table again (RFC 2918), after what is in the log for the member already. `begin` and
        `end` are messages to put before and after it (RFC 7313: BoRR and EoRR)."""
        if member._segment is None:
            member._dirty.update(dict.fromkeys(self.adj_out))
            if begin:
                member._marks_before.append(begin)
        else:
            base = self._base
            if base is None or base.offset != self.log.end:
                base = self._snapshot()
            base.used = True
            member._inserts.append(_Insert(self.log.end, begin, (), base.head))
        if end:
            member._insert(end)

    def send_end_of_rib(self, member: Member) -> None:
        """End-of-RIB after all that is in the log, for a member that joined without."""
        member._insert(self.end_of_rib)

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
        turn = _Turn(self.adj_out)
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

    def _write(self, turn: _Turn) -> bool:
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
        limit = max(self.limits.lag_octets, len(self.adj_out) * _OCTETS_A_ROUTE)
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


class _Turn:
    """What one turn changes in `adj_out`, sorted by whom it concerns.

    withdrawn   source that does not read it -> NLRI
    announced   (attributes, source that does not read it) -> NLRI
    only        (source that alone reads it, attributes or None to withdraw) -> NLRI
    """

    __slots__ = ("_adj_out", "announced", "only", "withdrawn")

    def __init__(self, adj_out: dict[bytes, Advert]) -> None:
        self._adj_out = adj_out
        self.withdrawn: dict[Source, list[bytes]] = {}
        self.announced: dict[Advert, list[bytes]] = {}
        self.only: dict[tuple[Source, AttributeSet | None], list[bytes]] = {}

    def withdraw(self, nlri: Sequence[bytes]) -> None:
        """These prefixes are advertised no longer."""
        adj_out = self._adj_out
        for one in nlri:
            old = adj_out.pop(one, None)
            if old is not None:
                self.withdrawn.setdefault(old[1], []).append(one)

    def announce(self, advert: Advert, nlri: Sequence[bytes]) -> None:
        """These prefixes are advertised so from now on."""
        adj_out = self._adj_out
        if adj_out.keys().isdisjoint(nlri):
            # The bulk of a table transfer, without a loop in Python. The loop below does the same for each.
            adj_out.update(dict.fromkeys(nlri, advert))
            known = self.announced.get(advert)
            if known is None:
                self.announced[advert] = list(nlri)
            else:
                known += nlri
            return
        attributes, source = advert
        for one in nlri:
            old = adj_out.get(one)
            adj_out[one] = advert
            if old is None or old[1] is source:
                if old is None or old[0] is not attributes:
                    self.announced.setdefault(advert, []).append(one)
                continue
            # The best path moved to another source, which was told of the old one.
            self.only.setdefault((source, None), []).append(one)
            if old[0] is attributes:
                # Everybody has these attributes already, except the old source.
                self.only.setdefault((old[1], attributes), []).append(one)
            else:
                self.announced.setdefault(advert, []).append(one)


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

    def move(self, member: Member, key: GroupKey) -> None:
        """Put a member into the group of another key, after its peer's export rules or our own identity
        changed. It is sent what differs; its session goes on. `wake` is called where there is anything."""
        old = member.group
        if old.key != key:
            self._group(key).adopt(member)
            self._discard_if_empty(old)
            if member.wake is not None:
                member.wake()

    def reevaluate(self, nlri: Iterable[bytes] | None = None) -> None:
        """Make all exporters anew, and apply them: to these prefixes, or else to all. For a changed
        policy."""
        for group in list(self.groups.values()):
            group.exporter = self._make_exporter(group.key)
            some = dict.fromkeys(self.rib.routes) | dict.fromkeys(group.adj_out) if nlri is None else nlri
            self._apply(group, self._by_path(some))

    def _group(self, key: GroupKey) -> Group:
        group = self.groups.get(key)
        if group is None:
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
        routes = self.rib.routes
        by_path: dict[Path | None, list[bytes]] = {}
        for one in nlri:
            entry = routes.get(one)
            path = entry[0] if isinstance(entry, tuple) else entry
            known = by_path.get(path)
            if known is None:
                by_path[path] = [one]
            else:
                known.append(one)
        return list(by_path.items())

    def _on_changes(self, nlri: Sequence[bytes]) -> None:
        changes = self._by_path(nlri)
        for group in list(self.groups.values()):
            self._apply(group, changes)
