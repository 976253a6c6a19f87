"""The log of an export group: encoded UPDATEs once, for all members (see `groups`).

A log is a chain of segments, a few large buffers. A reader holds its segment and a position in it, so what
all have read is freed as the last reference goes, and nobody counts readers. Each segment knows where the
messages lie whose routes came from one source: the reader that is this source leaves those out, and takes
everything between them in one slice.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Final

from routed.bgp.path import Source

Buffer = bytes | memoryview

SEGMENT_OCTETS: Final = 64 * 1024


class Segment:
    """A buffer of whole messages.

    start    offset of its first octet in the log
    length   octets written so far
    own      source to [start, end, start, end, ...]: its messages, ascending, neighbours merged
    entries  (end, source or None, NLRI) in order: which prefixes the octets up to `end` are about
    next     the segment after this one, once this one is full
    """

    __slots__ = ("__weakref__", "_buffer", "entries", "length", "next", "own", "start", "view")

    def __init__(self, start: int, octets: int) -> None:
        self.start = start
        self.length = 0
        self.own: dict[Source, list[int]] = {}
        self.entries: list[tuple[int, Source | None, Sequence[bytes]]] = []
        self.next: Segment | None = None
        self._buffer = bytearray(octets)
        self.view = memoryview(self._buffer)

    def room(self, octets: int) -> bool:
        """Whether so many octets more fit."""
        return self.length + octets <= len(self._buffer)

    def write(self, data: bytes, source: Source | None, nlri: Sequence[bytes]) -> None:
        """Append messages for which there is room."""
        start = self.length
        end = self.length = start + len(data)
        self._buffer[start:end] = data
        if source is not None:
            own = self.own.get(source)
            if own is None:
                self.own[source] = [start, end]
            elif own[-1] == start:
                own[-1] = end
            else:
                own += (start, end)
        self.entries.append((end, source, nlri))

    def read(self, at: int, stop: int, reader: Source) -> list[Buffer]:
        """The octets from `at` to `stop`, both between messages, without the reader's own."""
        own = self.own.get(reader)
        view = self.view
        if own is None:
            return [view[at:stop]]
        pieces: list[Buffer] = []
        # Ends are at the odd places, and strictly ascend together with the starts: the first place whose
        # value is greater than `at`, rounded down to a start, is the first own slice that is not wholly
        # before `at`.
        place = bisect_right(own, at) & ~1
        while place < len(own) and own[place] < stop:
            if own[place] > at:
                pieces.append(view[at : own[place]])
            at = own[place + 1]
            place += 2
        if at < stop:
            pieces.append(view[at:stop])
        return pieces

    def prefixes_after(self, at: int, reader: Source) -> Iterator[Sequence[bytes]]:
        """The NLRI that the octets from `at` on are about, without the reader's own."""
        for end, source, nlri in reversed(self.entries):
            if end <= at:
                return
            if source is not reader:
                yield nlri


class Log:
    """Where a group writes: the last segment of the chain. The rest is held by those who read it."""

    __slots__ = ("messages", "segment_octets", "segments_begun", "tail")

    def __init__(self, segment_octets: int = SEGMENT_OCTETS) -> None:
        self.segment_octets = segment_octets
        self.tail = Segment(0, segment_octets)
        self.segments_begun = 0
        """Counts up with each segment that is begun, for work that is to be done now and then."""
        self.messages = 0
        """How many were written since it was begun."""

    @property
    def end(self) -> int:
        """Offset after the last octet."""
        return self.tail.start + self.tail.length

    def append(self, messages: Sequence[bytes], source: Source | None, nlri: Sequence[bytes]) -> None:
        """Write whole messages about `nlri`, which `source` is not to read."""
        self.messages += len(messages)
        data = messages[0] if len(messages) == 1 else b"".join(messages)
        if self.tail.room(len(data)):
            self.tail.write(data, source, nlri)
            return
        for message in messages:
            if not self.tail.room(len(message)):
                self.begin_segment(len(message))
            self.tail.write(message, source, nlri)

    def begin_segment(self, room: int = 0) -> None:
        """Write what follows to a new segment, which has room for so many octets or for more."""
        segment = Segment(self.end, max(self.segment_octets, room))
        self.tail.next = segment
        self.tail = segment
        self.segments_begun += 1
