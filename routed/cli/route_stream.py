"""Routes as they come from the server: a hundred thousand of them are shown while they are read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import chain
from typing import Final

import msgspec

from routed.cli.answer import as_json, as_yaml, is_harmless
from routed.cli.client import Client, Parameters, UnreachableError
from routed.cli.text import safe_lines
from routed.text import escape


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


class RouteRows(msgspec.Struct, frozen=True):
    """What a table shows of `documents.Routes`."""

    routes: list[RouteRow]


class _Routes(msgspec.Struct, frozen=True):
    """`documents.Routes`, whose routes are not looked at yet."""

    routes: msgspec.Raw
    total: int
    next: str | None


#: Of so many routes YAML has each field on a line of its own.
ROUTES_BY_FIELD: Final = 1_000

_HEAD = b'{"routes":['
#: Between two routes, as the server writes them. It cannot be inside of a string, where the quotation mark
#: would have a backslash before it. Where it is not found the document is read whole.
_BETWEEN = b'},{"prefix":'
#: The same as msgspec writes it on one line.
_BETWEEN_SPACED = '}, {"prefix": '
#: What is around the lines of routes in an array of their array.
_OPENED, _CLOSED = "[\n  [\n", "\n  ]\n]"


class RouteStream:
    """One answer; ask it once, for `arrays`, `rows`, `json` or `yaml`. After that there are

    found  how many routes they were
    total  as in `documents.Routes`
    next   where the next page begins; None: this was all

    All raise `UnreachableError` where the answer breaks off, or is none.
    """

    def __init__(self, client: Client, query: Parameters) -> None:
        self.found = 0
        self.total = -1
        self.next: str | None = None
        self._pieces = client.stream("/routes", query)

    def arrays(self) -> Iterator[bytes]:
        """JSON arrays of routes: one at least, the last one perhaps empty."""
        rest = bytearray()
        for piece in self._pieces:
            searched = max(0, len(rest) - len(_BETWEEN))
            rest += piece
            end = rest.rfind(_BETWEEN, searched)
            if end < 0 or not rest.startswith(_HEAD):
                continue
            yield b"[" + rest[len(_HEAD) : end + 1] + b"]"
            rest[len(_HEAD) : end + 2] = b""
        try:
            last = msgspec.json.decode(rest, type=_Routes)
        except msgspec.DecodeError as error:
            raise _not_understood(error) from None
        self.total, self.next = last.total, last.next
        yield bytes(last.routes)

    def rows(self) -> Iterator[list[RouteRow]]:
        """The routes, in portions."""
        decoder = msgspec.json.Decoder(list[RouteRow])
        for array in self.arrays():
            try:
                rows = decoder.decode(array)
            except msgspec.DecodeError as error:
                raise _not_understood(error) from None
            self.found += len(rows)
            yield rows

    def json(self) -> Iterator[str]:
        """The document as `answer.as_json` has it, some lines at a time."""
        arrays = _begun(self._counted())
        yield '{\n  "routes": ['
        before = ""
        for array in arrays:
            lines = as_json(b"[%b]" % array)  # so that they are indented as far as in the document
            if not lines.startswith(_OPENED):
                continue
            if before:
                yield before + ","
            before = lines[len(_OPENED) : -len(_CLOSED)]
        if before:
            yield before
        yield f'  ],\n  "total": {self.total},\n  "next": {json.dumps(self.next)}\n}}'

    def yaml(self) -> Iterator[str]:
        """The document as YAML, some lines at a time: a field a line; a route a line where there are many,
        which takes far less time."""
        arrays = _begun(self._counted())
        yield "routes:"
        for array in arrays:
            lines = as_yaml(array) if self.found <= ROUTES_BY_FIELD else _as_flow(array)
            if lines != "[]":
                yield lines
        if not self.found:
            yield "  []"
        yield f"total: {self.total}\nnext: {json.dumps(self.next)}"

    def _counted(self) -> Iterator[bytes]:
        for array in self.arrays():
            try:
                self.found += len(msgspec.json.decode(array, type=list[msgspec.Raw]))
            except msgspec.DecodeError as error:
                raise _not_understood(error) from None
            yield array


def _begun(arrays: Iterator[bytes]) -> Iterator[bytes]:
    """The same, once the first one is there: where there is no answer, nothing is to be written."""
    return chain([next(arrays)], arrays)


def _as_flow(array: bytes) -> str:
    """JSON objects as items of a YAML sequence, a line each: JSON is YAML's flow style."""
    line = msgspec.json.format(array, indent=0).decode()
    if line == "[]":
        return line
    lines = "- " + line[1:-1].replace(_BETWEEN_SPACED, '}\n- {"prefix": ')
    return lines if is_harmless(array) else safe_lines(lines, escape)


def _not_understood(error: Exception) -> UnreachableError:
    return UnreachableError(
        f"an answer that is not understood ({error}): are this command and the routed that runs of the same "
        "version?"
    )
