"""The table of endpoints as data: what there is to ask, with which parameters, and who answers. Requests are
looked up in it, and the published document is made of it (`openapi`)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from routed.observe.documents import Document
from routed.observe.http.messages import JSON, HttpError, Request, Response

if TYPE_CHECKING:
    from routed.observe.http.endpoints import Site

#: Understood by every endpoint that answers with a document.
PRETTY: Final = "pretty"


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of the query."""

    name: str
    description: str
    schema: Mapping[str, Any]
    """JSON Schema of its values."""
    parse: Callable[[str], Any] = str
    """Makes a value of the text; raises ValueError, which says what is wrong."""
    default: Any = None
    required: bool = False
    many: bool = False
    """May be there more than once, or be a list with commas: the value is a list."""

    def read(self, given: Sequence[str] | None) -> Any:
        """The value for what was given. Raises HttpError."""
        if not given:
            if self.required:
                raise HttpError(HTTPStatus.BAD_REQUEST, f"{self.name}: is missing", self.description)
            return self.default
        if self.many:
            return [self._parse(text) for one in given for text in one.split(",") if text]
        if len(given) > 1:
            raise HttpError(HTTPStatus.BAD_REQUEST, f"{self.name}: is there {len(given)} times")
        return self._parse(given[0])

    def _parse(self, text: str) -> Any:
        try:
            return self.parse(text)
        except ValueError as error:
            raise HttpError(
                HTTPStatus.BAD_REQUEST, f"{self.name}={text[:100]!r}: {error}", self.description
            ) from None


@dataclass(frozen=True, slots=True)
class Call:
    """A request that has found its endpoint: the values of the path's parts, of parameters, of the body."""

    request: Request
    path: Mapping[str, str]
    values: Mapping[str, Any]
    body: Any = None


Handler = Callable[["Site", Call], Awaitable[Document | Response]]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One row: a method and a path whose parts in braces are names."""

    method: str
    path: str
    handler: Handler
    summary: str
    answer: type[Document] | None = None
    """The document that it answers with; None: something else, of `content_type`."""
    content_type: str = JSON
    parameters: tuple[Parameter, ...] = ()
    body: type[Document] | None = None
    """What a POST takes; without a body it is one with every default."""
    errors: Mapping[HTTPStatus, str] = field(default_factory=dict)
    """What else there may be for an answer, and when; an `Error` unless `error_answer` says otherwise."""
    error_answer: type[Document] | None = None
    negotiated: bool = True
    """False: answered whatever the client accepts."""
    published: bool = True
    """Is in the OpenAPI document."""

    @property
    def segments(self) -> list[str]:
        """The parts of the path."""
        return self.path.split("/")[1:]

    def match(self, segments: Sequence[str]) -> dict[str, str] | None:
        """The values of the parts in braces, where a path is one of this endpoint's."""
        own = self.segments
        if len(own) != len(segments):
            return None
        found: dict[str, str] = {}
        for ours, theirs in zip(own, segments, strict=True):
            if ours.startswith("{"):
                found[ours[1:-1]] = theirs
            elif ours != theirs:
                return None
        return found

    def read(self, query: Mapping[str, list[str]]) -> dict[str, Any]:
        """The values of the parameters. Raises HttpError for a wrong one, and for one that is not known."""
        names = [one.name for one in self.parameters]
        for name in query:
            if name not in names and name != PRETTY:
                known = ", ".join((*names, PRETTY))
                raise HttpError(
                    HTTPStatus.BAD_REQUEST, f"{name[:100]!r}: no such parameter", f"known: {known}"
                )
        return {one.name: one.read(query.get(one.name)) for one in self.parameters}


def find(
    endpoints: Iterable[Endpoint], method: str, segments: Sequence[str]
) -> tuple[Endpoint, dict[str, str]]:
    """The endpoint for a request, and the values of its path. Raises HttpError: 404, or 405 where the path is
    known for other methods."""
    allowed: set[str] = set()
    for endpoint in endpoints:
        found = endpoint.match(segments)
        if found is None:
            continue
        if endpoint.method == method or (endpoint.method, method) == ("GET", "HEAD"):
            return endpoint, found
        allowed.update(("GET", "HEAD") if endpoint.method == "GET" else (endpoint.method,))
    if allowed:
        methods = ", ".join(sorted(allowed))
        raise HttpError(
            HTTPStatus.METHOD_NOT_ALLOWED, f"{method[:20]}: use {methods}", headers=(("Allow", methods),)
        )
    raise not_here("/" + "/".join(segments))


def not_here(path: str) -> HttpError:
    """For a path that is nothing's."""
    problem = f"{path[:200]!r}: there is nothing here"
    return HttpError(HTTPStatus.NOT_FOUND, problem, "see /api/v1/openapi.json")
