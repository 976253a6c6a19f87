"""Cuts what a connection receives into messages (RFC 4271 section 4.1), and parses UPDATEs on the way."""

from __future__ import annotations

from collections.abc import Iterator

from routed.bgp.message import (
    HEADER_OCTETS,
    MARKER,
    MAX_MESSAGE_OCTETS,
    MessageType,
    check_header,
    not_synchronized,
)
from routed.bgp.update import Update, UpdateParser


class MessageReader:
    """The receiving half of one connection.

    parser    parses UPDATEs; None, as before the session is Established: their bodies come out as they are
    max_size  the longest message, octets (RFC 8654)
    """

    __slots__ = ("_need", "_pending", "max_size", "parser")

    def __init__(self) -> None:
        self.parser: UpdateParser | None = None
        self.max_size = MAX_MESSAGE_OCTETS
        self._pending = bytearray()
        self._need = HEADER_OCTETS
        """How many octets make the next step possible."""

    def completes(self, data: bytes | bytearray | memoryview) -> bool:
        """False where no message ends with these octets: then they are kept, and that is all."""
        if len(self._pending) + len(data) < self._need:
            self._pending += data
            return False
        return True

    def read(
        self, data: bytes | bytearray | memoryview
    ) -> Iterator[list[Update] | tuple[MessageType, bytes]]:
        """Take whole messages off the front and keep the rest: the UPDATEs between two other messages, or the
        type and body of another message, in order. What a message changes, `parser` or `max_size`, holds
        from the next one on.

        Raises `SessionError`, after all that came before the error."""
        buffer = b"".join((self._pending, data))
        self._pending.clear()
        self._need = HEADER_OCTETS
        updates: list[Update] = []
        at, end = 0, len(buffer)
        try:
            while end - at >= HEADER_OCTETS:
                if not buffer.startswith(MARKER, at):
                    raise not_synchronized()
                length = buffer[at + 16] << 8 | buffer[at + 17]
                kind = buffer[at + 18]
                if kind != MessageType.UPDATE or not 23 <= length <= self.max_size:
                    check_header(length, kind, self.max_size)  # the test before it saves a call an UPDATE
                if end - at < length:
                    self._need = length
                    break
                body = buffer[at + HEADER_OCTETS : at + length]
                at += length
                if kind == MessageType.UPDATE and self.parser is not None:
                    updates.append(self.parser.parse(body))
                    continue
                if updates:
                    yield updates
                    updates = []
                yield MessageType(kind), body
        except Exception:
            if updates:
                yield updates
            raise
        if updates:
            yield updates
        self._pending += buffer[at:]
