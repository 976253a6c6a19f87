"""Routes as they come from the server: a hundred thousand of them are shown while they are read."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from routed.cli.client import Client, Parameters, UnreachableError


class RouteRow(msgspec.Struct, frozen=True, gc=False):
    """What a line shows of `documents.Route`; the rest is passed over unread."""

    prefix: str
    source: str
    best: bool
    multipath: bool
    ineligible: str | None
    not_best: str | None
    next_hop: str | None
    unreachable_reason: str | None
    as_path: str
    local_pref: int | None
    med: int | None
    kernel: str | None


class _Routes(msgspec.Struct, frozen=True):
    """`documents.Routes`."""

    routes: list[RouteRow]
    total: int
    next: str | None


_HEAD = b'{"routes":['
#: Between two routes, as the server writes them. It cannot be inside of a string, where the quotation mark
#: would have a backslash before it. Where it is not found the document is read whole.
_BETWEEN = b'},{"prefix":'


class Portions:
    """Iterate over it once, for the routes of one answer in portions. Then there are

    found  how many they were
    next   where the next page begins; None: this was all
    """

    def __init__(self, client: Client, query: Parameters) -> None:
        self.found = 0
        self.next: str | None = None
        self._pieces = client.stream("/routes", query)
        self._rows = msgspec.json.Decoder(list[RouteRow])

    def __iter__(self) -> Iterator[list[RouteRow]]:
        try:
            rest = bytearray()
            for piece in self._pieces:
                searched = max(0, len(rest) - len(_BETWEEN))
                rest += piece
                end = rest.rfind(_BETWEEN, searched)
                if end < 0 or not rest.startswith(_HEAD):
                    continue
                rows = self._rows.decode(b"[" + rest[len(_HEAD) : end + 1] + b"]")
                self.found += len(rows)
                yield rows
                rest[len(_HEAD) : end + 2] = b""
            last = msgspec.json.decode(rest, type=_Routes)
        except msgspec.DecodeError as error:
            raise UnreachableError(f"an answer that is not understood: {error}") from None
        self.found += len(last.routes)
        self.next = last.next
        yield last.routes
