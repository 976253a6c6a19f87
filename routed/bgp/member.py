"""One peer in an export group: a position in the group's log (see `groups`)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Final

from routed.bgp.log import Buffer, Segment
from routed.bgp.path import Source

if TYPE_CHECKING:
    from routed.bgp.group import Group

#: Buffers in one `collect`: half of what Linux takes in one sendmsg.
MAX_BUFFERS: Final = 512
#: An estimate of the octets that a route costs in the log.
OCTETS_A_ROUTE: Final = 8


@dataclass(slots=True)
class Insert:
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
        "_updates",
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
        self._inserts: deque[Insert] | None = None  # where there are any: an empty one has 760 octets
        self._dirty: dict[bytes, None] = {}
        self._marks_before: tuple[bytes, ...] = ()  # markers to send before and after what is in _dirty
        self._marks_after: tuple[bytes, ...] = ()
        self._out: Sequence[Buffer] = ()  # collected, each from one message boundary to another
        self._cut = 0  # octets of _out[0] that are sent
        self._boundary = 0  # a message boundary in _out[0], at or before the first that is not sent
        self._updates = 0  # in the log, the number of UPDATEs less those of the log

    @property
    def updates(self) -> int:
        """How many UPDATEs were written for it since it joined: what a member that is far behind is not sent,
        because there is newer, is counted; and of a table that is sent whole its own ones."""
        return self._updates + (self._group.log.messages if self._segment is not None else 0)

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
            return len(self._dirty) * OCTETS_A_ROUTE
        return self._group.log.end - segment.start - self._at

    @property
    def has_output(self) -> bool:
        """Whether `collect` may give anything; it gives nothing where the rest of the log is its own."""
        segment = self._segment
        if segment is None:
            return bool(self._out or self._dirty or self._marks_after)
        return (
            self._at < segment.length
            or segment.next is not None
            or self._inserts is not None
            or bool(self._out)
        )

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

    def advance(self, sent: int) -> bool:
        """So many octets of what `collect` gave are on their way. True where there may be more to send.

        Raises ValueError where that were more than was collected."""
        out = self._out
        if len(out) == 1 and sent == len(out[0]) and not self._cut:
            # Where a change goes to a thousand members it is this for nearly all of them: 0.1 us each for
            # 0.25. What is below does the same.
            self._out = ()
            segment = self._segment
            return (
                segment is None
                or self._at < segment.length
                or segment.next is not None
                or self._inserts is not None
            )
        sent += self._cut
        for place, buffer in enumerate(out):
            if sent < len(buffer):
                if place:
                    self._out = out[place:]
                    self._boundary = 0
                self._cut = sent
                return True
            sent -= len(buffer)
        if sent:
            raise ValueError(f"{sent} octets more than were collected are said to be sent")
        self._out = ()
        self._cut = self._boundary = 0
        return self.has_output

    def send_end_of_rib(self) -> None:
        """End-of-RIB after all that is in the log, for a member that joined without."""
        self._group.end_table(self)

    def resend(self, begin: bytes = b"", end: bytes = b"") -> None:
        """Send the whole table again (RFC 2918), after what is in the log for this member already. `begin`
        and `end` are messages to put before and after it (RFC 7313: BoRR and EoRR)."""
        group = self._group
        if self._segment is not None:
            snapshot, updates = group.snapshot_now(self.source)
            self._add_insert(Insert(group.log.end, begin, detour=snapshot))
            self._updates += updates
        else:
            self._dirty.update(dict.fromkeys(group.adj_out))
            if begin:
                self._marks_before += (begin,)
        if end:
            self._insert(end)

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

    def _read(self, segment: Segment, budget: int) -> Sequence[Buffer]:
        """Move on in the log."""
        at = self._at
        inserts = self._inserts
        if inserts is None and segment.next is None:
            # Up to date before the last change: what all members but its source read. The loop below does
            # the same.
            self._at = segment.length
            return segment.read(at, segment.length, self.source) if at < segment.length else ()
        pieces: list[Buffer] = []
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
                if not inserts:
                    inserts = self._inserts = None
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
        updates = group.encode_state(some, self.source)
        self._updates += len(updates)
        messages = [*self._marks_before, *updates]
        self._marks_before = ()
        if not dirty:
            messages += self._marks_after
            self._marks_after = ()
            group.lagging.discard(self)
            self._begin(group.log.tail, group.log.tail.length)
        return [b"".join(messages)] if messages else []

    def _begin(self, segment: Segment, at: int) -> None:
        log = self._group.log
        self._segment = segment
        self._at = at
        self._joined_at = log.end
        self._updates -= log.messages

    def _insert(self, data: bytes, nlri: Sequence[bytes] = (), *, updates: int = 0) -> None:
        """Send these messages when the log is read so far; `nlri` is empty for a marker."""
        if self._segment is not None:
            self._add_insert(Insert(self._group.log.end, data, nlri))
            self._updates += updates
        elif nlri:
            self._dirty.update(dict.fromkeys(nlri))
        else:
            self._marks_after += (data,)
            self._updates += updates

    def _add_insert(self, insert: Insert) -> None:
        if self._inserts is None:
            self._inserts = deque()
        self._inserts.append(insert)

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
        for insert in self._inserts or ():
            if insert.detour is not None:
                dirty.update(dict.fromkeys(group.adj_out))
                if insert.data:
                    self._marks_before += (insert.data,)
            elif insert.nlri:
                dirty.update(dict.fromkeys(insert.nlri))
            else:
                self._marks_after += (insert.data,)
        self._inserts = None
        self._updates = self.updates
        self._segment = None
        group.lagging.add(self)

    def _close(self) -> None:
        self._updates = self.updates
        self._segment = None
        self._inserts = None
        self._dirty.clear()
        self._marks_before = ()
        self._marks_after = ()
        self._out = ()
        self._cut = self._boundary = 0
