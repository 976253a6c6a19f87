"""Requests and responses, without sockets."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final
from urllib.parse import parse_qsl, unquote

import msgspec

from routed.observe import documents

JSON: Final = "application/json"
TEXT: Final = "text/plain; charset=utf-8"
EVENT_STREAM: Final = "text/event-stream"


class HttpError(Exception):
    """A request has no other answer than this status. `text` says what is wrong, `hint` what to do."""

    def __init__(
        self,
        status: HTTPStatus,
        text: str,
        hint: str | None = None,
        headers: Sequence[tuple[str, str]] = (),
    ) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.hint = hint
        self.headers = headers


@dataclass(frozen=True, slots=True)
class Request:
    """What a client asks for. Header names are lower case; `path` is as it came, still quoted."""

    method: str
    path: str
    query: Mapping[str, list[str]] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def segments(self) -> list[str]:
        """The parts of the path, unquoted. A slash in a part is a quoted one."""
        return [unquote(part) for part in self.path.split("/")[1:]]

    def flag(self, name: str) -> bool:
        """True for a parameter that is there and not said to be false."""
        values = self.query.get(name)
        return values is not None and values[-1].lower() not in ("0", "false", "no")


@dataclass(frozen=True, slots=True)
class Response:
    """What it gets. A body in pieces is sent as they come."""

    status: HTTPStatus
    body: bytes | AsyncGenerator[bytes, None]
    content_type: str
    headers: tuple[tuple[str, str], ...] = ()


def query_of(text: str) -> dict[str, list[str]]:
    """The parameters of a query string, each with its values in order. Octets that are no UTF-8 become
    U+FFFD. Raises HttpError where there are too many."""
    try:
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=100)
    except ValueError:
        raise HttpError(HTTPStatus.BAD_REQUEST, "too many parameters") from None
    query: dict[str, list[str]] = {}
    for name, value in pairs:
        query.setdefault(name, []).append(value)
    return query


def encode(document: object, *, pretty: bool = False) -> bytes:
    """A document as JSON, with a line end."""
    data = documents.encode(document)
    if pretty:
        data = msgspec.json.format(data, indent=2)
    return data + b"\n"


def document(value: object, *, pretty: bool = False, status: HTTPStatus = HTTPStatus.OK) -> Response:
    """A response with a document."""
    return Response(status, encode(value, pretty=pretty), JSON)


def error_response(error: HttpError) -> Response:
    """A response that says why there is no other."""
    body = encode(documents.Error(error=error.text, hint=error.hint))
    return Response(error.status, body, JSON, tuple(error.headers))
