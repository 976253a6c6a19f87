"""One export group: what peers with the same export rules are told (see `groups`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from routed.bgp.adj_out import Advert, Turn
from routed.bgp.attributes import AttributeSet
from routed.bgp.export import Exporter, ExportTarget
from routed.bgp.log import SEGMENT_OCTETS, Log, Segment
from routed.bgp.member import OCTETS_A_ROUTE, Member
from routed.bgp.path import Path, Source
from routed.bgp.update import (
    MAX_MESSAGE_OCTETS,
    encode_announcements,
    encode_end_of_rib,
    encode_withdrawals,
)


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
    build_prefixes: int = 20_000
    """A group that is made when there are more prefixes is filled bit by bit (`ExportGroups.build`)."""


DEFAULT_LIMITS: Final = Limits()

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
    add_path: int = 0
    """How many paths of a prefix are sent, with path identifiers (RFC 7911); 0: the best one, without."""


@dataclass(slots=True)
class _Base:
    """A snapshot that joining members begin with, and the log from there on. `messages` are those of the
    snapshot less those that the log had before it."""

    head: Segment
    offset: int
    octets: int
    messages: int
    used: bool = True


class Group:
    """Peers that are told the same."""

    def __init__(self, key: GroupKey, exporter: Exporter, limits: Limits = DEFAULT_LIMITS) -> None:
        self.key = key
        self.exporter = exporter
        self.limits = limits
        self.adj_out: dict[bytes, Advert] = {}
        """What is advertised now, by what a member calls a route: its NLRI, or its route key. A member is
        told all of it but the routes from itself."""
        self.members: dict[Source, Member] = {}
        self.lagging: set[Member] = set()
        self.log = Log(limits.segment_octets)
        self.end_of_rib = encode_end_of_rib(key.target.family)
        self.unbuilt: list[bytes] = []
        """Prefixes that were there when the group was made, and are still to be filled in; the next one
        last."""
        self._await_end: list[Member] = []
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
        member._updates += base.messages + self.log.messages
        if end_of_rib:
            self.end_table(member)
        return member

    def end_table(self, member: Member) -> None:
        """Tell a member that this is the whole table (RFC 4724 section 2), as soon as it is."""
        if self.unbuilt:
            self._await_end.append(member)
        else:
            member._insert(self.end_of_rib, updates=1)

    def built(self) -> None:
        """All is filled in."""
        for member in self._await_end:
            if self.members.get(member.source) is member:
                member._insert(self.end_of_rib, updates=1)
        self._await_end.clear()

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

    def apply(self, changes: Changes, *, new: bool = False) -> bool:
        """Bring `adj_out` up to date with Loc-RIB for some prefixes, each there once, and write what
        changed to the log. `new`: none of them is advertised. True where any member has something new to
        send."""
        turn = Turn(self.adj_out)
        announce = turn.announce_new if new else turn.announce
        for path, nlri in changes:
            if path is None:
                turn.withdraw(nlri)
                continue
            for attributes, some in self.exporter.export(path, nlri):
                if attributes is None:
                    turn.withdraw(some)
                else:
                    announce((attributes, path.source), some)
        return self._write(turn)

    def prefixes(self) -> set[bytes]:
        """The NLRI that are advertised now."""
        return set(self.adj_out)

    def adverts(self, nlri: bytes) -> Sequence[Advert]:
        """What is advertised of one prefix now: nothing, or one advert, or several where peers get several
        paths."""
        advert = self.adj_out.get(nlri)
        return () if advert is None else (advert,)

    def adverts_by_path_id(self, nlri: bytes) -> Sequence[tuple[int, Advert]]:
        """`adverts`, each with its path identifier (RFC 7911); 0 where peers get none."""
        return [(0, advert) for advert in self.adverts(nlri)]

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
        messages = []
        for attributes, some in adverts.items():
            messages += self._announcements(attributes, some)
        if gone:
            messages += self._withdrawals(gone)
        return messages

    def snapshot_now(self, reader: Source) -> tuple[Segment, int]:
        """The first segment of a snapshot for one reader that leads back to the end of the log as it is
        now; and how many messages there are in the snapshot."""
        base = self._base
        if base is None or base.offset != self.log.end or self._only.get(reader, -1) >= base.offset:
            base = self._snapshot()
        base.used = True
        return base.head, base.messages + self.log.messages

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
                member._insert(b"".join(messages), nlri, updates=len(messages))
        if self.key.add_path:
            # Another path of a prefix has a key of its own: it is there before the old one goes.
            self._append_announced(turn)
            self._append_withdrawn(turn)
        else:
            self._append_withdrawn(turn)
            self._append_announced(turn)
        base = self._base
        if base is not None and log.end - base.offset > max(base.octets, self.limits.snapshot_octets):
            self._drop_snapshot()
        if log.segments_begun != begun:
            self._check_lag()
        return True

    def _append_withdrawn(self, turn: Turn) -> None:
        for source, nlri in turn.withdrawn.items():
            self._append(self._withdrawals(nlri), source, nlri)
            self._note_lagging(source, nlri)

    def _append_announced(self, turn: Turn) -> None:
        for (attributes, source), nlri in turn.announced.items():
            self._append(self._announcements(attributes, nlri), source, nlri)
            self._note_lagging(source, nlri)

    def _append(self, messages: Sequence[bytes], source: Source, nlri: Sequence[bytes]) -> None:
        self.log.append(messages, source, nlri)
        member = self.members.get(source)
        if member is not None and member._segment is not None:
            member._updates -= len(messages)  # it leaves them out

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
        self._base = _Base(head, offset, octets, snapshot.messages - self.log.messages)
        return self._base
