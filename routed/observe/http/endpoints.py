"""What there is to ask: the table of endpoints, and those who answer."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from importlib import import_module
from typing import TYPE_CHECKING, Final

import msgspec

from routed.bgp.nlri import Family
from routed.bgp.transport import Endpoint as Address
from routed.observe import documents
from routed.observe.http import actions, parameters
from routed.observe.http.actions import find_peer
from routed.observe.http.guard import PAGE_HEADERS, check_acceptable, check_action, check_host, check_site
from routed.observe.http.messages import (
    EVENT_STREAM,
    JSON,
    TEXT,
    HttpError,
    Request,
    Response,
    document,
)
from routed.observe.http.routing import PRETTY, Call, Endpoint, find, not_here
from routed.observe.http.streams import event_stream, one_by_one, routes_document
from routed.observe.observed import Observed
from routed.observe.options import ObserveOptions
from routed.observe.views.rates import Rates

if TYPE_CHECKING:
    from routed.observe.health import Health

_NOT_FOUND: Final = {HTTPStatus.NOT_FOUND: "There is no such peer"}
#: Large modules that the first question of a kind needs, those first that others import.
_FOR_EXPLAIN: Final = (
    "routed.kernel.base",
    "routed.resources.selector",
    "routed.resources",
    "routed.ipam_blocks",
    "routed.intent.filters",
    "routed.intent.tables",
    "routed.observe.explain",
)
_FOR_METRICS: Final = ("routed.observe.metrics.library", "routed.observe.metrics.writing")
_CONFLICT: Final = {HTTPStatus.CONFLICT: "It cannot be done now; the text says why"}


class Site:
    """What the handlers look at: one process, by one table."""

    def __init__(
        self,
        observed: Observed,
        options: ObserveOptions,
        endpoints: tuple[Endpoint, ...],
        listen: Address | None,
    ) -> None:
        """`listen`: where it is asked over loopback TCP; None: anywhere, for anybody."""
        self.observed = observed
        self.options = options
        self.endpoints = endpoints
        self._listen = listen
        self._rates: Rates | None = None
        if options.looking_glass and listen is not None:
            self.rates  # noqa: B018 - the page shows what was before it was opened

    @property
    def rates(self) -> Rates:
        """Takes samples from the first question on; from the start where the page is served."""
        if self._rates is None:
            self._rates = Rates(self.observed)
            self._rates.start()
        return self._rates

    def close(self) -> None:
        """No timer is left."""
        if self._rates is not None:
            self._rates.close()

    async def answer(self, request: Request) -> Response:
        """What a request gets. Raises HttpError."""
        if self._listen is not None:
            check_host(request, self._listen.address)
            check_site(request)
        endpoint, path = find(self.endpoints, request.method, request.segments)
        if endpoint.method == "POST":
            check_action(request)
        if endpoint.negotiated:
            check_acceptable(request.headers, endpoint.content_type)
        call = Call(request, path, endpoint.read(request.query), _body(endpoint, request))
        found = await endpoint.handler(self, call)
        if isinstance(found, Response):
            return found
        return document(found, pretty=request.flag(PRETTY))


def _body(endpoint: Endpoint, request: Request) -> documents.Document | None:
    """What a request brings along. Raises HttpError where that is not what the endpoint takes."""
    if endpoint.body is None:
        return None
    try:
        return msgspec.json.decode(request.body.strip() or b"{}", type=endpoint.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise HttpError(HTTPStatus.BAD_REQUEST, f"the body: {error}") from None


async def _imported(site: Site, modules: Iterable[str]) -> None:
    """Import what is not there yet, one after the other in turns of the event loop of their own."""
    for name in modules:
        if name not in sys.modules:
            import_module(name)
            await site.observed.turns.next()


# Views


async def _status(site: Site, call: Call) -> documents.Status:
    from routed.observe.views.status import status

    return status(site.observed)


async def _peers(site: Site, call: Call) -> documents.Peers:
    from routed.observe.views.peers import peers

    return peers(site.observed)


async def _peer(site: Site, call: Call) -> documents.Peer:
    from routed.observe.views.peers import peer

    found = peer(site.observed, find_peer(site.observed, call.path["name"]).name)
    assert found is not None
    return found


async def _routes(site: Site, call: Call) -> Response:
    from routed.observe.views.route_queries import Match, RouteQuery, UnknownPeerError
    from routed.observe.views.routes import iterate

    values = call.values
    prefix, match = values["prefix"] or (None, Match.EXACT)
    if values["match"] is not None:
        match = Match(values["match"])
    try:
        walk = iterate(
            site.observed,
            RouteQuery(
                prefix=prefix,
                match=match,
                family=None if values["family"] is None else Family[values["family"].upper()],
                scope=values["scope"],
                received_from=values["received_from"],
                advertised_to=values["advertised_to"],
                after=values["after"],
                limit=values["limit"],
            ),
        )
    except UnknownPeerError as error:
        raise HttpError(HTTPStatus.NOT_FOUND, str(error)) from None
    except ValueError as error:
        given = ", ".join(name for name in values if name in call.request.query)
        raise HttpError(HTTPStatus.BAD_REQUEST, f"{given}: {error}") from None
    return Response(HTTPStatus.OK, routes_document(walk, lines=call.request.flag(PRETTY)), JSON)


async def _blocks(site: Site, call: Call) -> documents.Blocks:
    from routed.observe.views.blocks import blocks_in_turns

    return await blocks_in_turns(site.observed)


async def _explain(site: Site, call: Call) -> documents.Explanation:
    await _imported(site, _FOR_EXPLAIN)
    from routed.observe.explain import explain

    try:
        return explain(site.observed, call.values["target"])
    except LookupError as error:
        raise HttpError(HTTPStatus.NOT_FOUND, str(error.args[0]) if error.args else "not known") from None
    except ValueError as error:
        raise HttpError(HTTPStatus.BAD_REQUEST, f"target: {error}") from None


async def _events(site: Site, call: Call) -> documents.Events:
    from routed.observe.views.events import event_document

    log, values = site.observed.events, call.values
    found = log.latest(after=values["after"], kinds=values["kind"], peer=values["peer"], most=values["limit"])
    return documents.Events(events=[event_document(one) for one in found], last=log.last_number)


async def _event_stream(site: Site, call: Call) -> Response:
    after, values = call.values["after"], call.values
    last = call.request.headers.get("last-event-id", "").strip()
    if last.isascii() and last.isdecimal():  # what a browser sends when it comes again
        after = int(last)
    stream = event_stream(site.observed.events, after=after, kinds=values["kind"], peer=values["peer"])
    return Response(HTTPStatus.OK, stream, EVENT_STREAM, (("X-Accel-Buffering", "no"),))


async def _rates(site: Site, call: Call) -> documents.Rates:
    return site.rates.rates()


async def _openapi(site: Site, call: Call) -> Response:
    from routed.observe.http.openapi import published

    return document(published(), pretty=call.request.flag(PRETTY))


# Health and metrics


async def _liveness(site: Site, call: Call) -> Response:
    from routed.observe.health import liveness

    return _health(call, liveness(site.observed))


async def _readiness(site: Site, call: Call) -> Response:
    from routed.observe.health import readiness

    return _health(call, readiness(site.observed))


def _health(call: Call, health: Health) -> Response:
    return document(
        documents.Health(ok=health.ok, reason=health.reason),
        pretty=call.request.flag(PRETTY),
        status=HTTPStatus.OK if health.ok else HTTPStatus.SERVICE_UNAVAILABLE,
    )


async def _metrics(site: Site, call: Call) -> Response:
    await _imported(site, _FOR_METRICS)
    from routed.observe.metrics import portions

    pieces, content_type = portions(site.observed, site.options, call.request.headers.get("accept", ""))
    return Response(HTTPStatus.OK, one_by_one(pieces), content_type)


# The page


async def _page(site: Site, call: Call) -> Response:
    from routed.observe.page import files

    found = files().get(call.request.path) if site.options.looking_glass else None
    if found is None:
        raise not_here(call.request.path)
    body, content_type = found
    return Response(HTTPStatus.OK, body, content_type, PAGE_HEADERS)


def _page_row(path: str) -> Endpoint:
    return Endpoint("GET", path, _page, "The looking glass", negotiated=False, published=False)


_HEALTH: Final = (
    Endpoint(
        "GET",
        "/liveness",
        _liveness,
        "Whether the process is alive",
        documents.Health,
        errors={HTTPStatus.SERVICE_UNAVAILABLE: "It is better started anew"},
        error_answer=documents.Health,
        negotiated=False,
    ),
    Endpoint(
        "GET",
        "/readiness",
        _readiness,
        "Whether the node's routes can be counted on",
        documents.Health,
        errors={HTTPStatus.SERVICE_UNAVAILABLE: "Not yet, or not any more"},
        error_answer=documents.Health,
        negotiated=False,
    ),
    Endpoint("GET", "/metrics", _metrics, "Metrics for Prometheus", content_type=TEXT, negotiated=False),
)
_API: Final = (
    Endpoint("GET", "/api/v1/status", _status, "The process as a whole", documents.Status),
    Endpoint("GET", "/api/v1/peers", _peers, "All peerings, by name", documents.Peers),
    Endpoint(
        "GET",
        "/api/v1/peers/{name}",
        _peer,
        "One peering, by its name, or its address where no other has that",
        documents.Peer,
        errors=_NOT_FOUND,
    ),
    Endpoint(
        "POST",
        "/api/v1/peers/{name}/refresh",
        actions.refresh,
        "Have routes sent again, the peer's or ours (RFC 2918)",
        documents.Done,
        body=documents.Refresh,
        errors={**_NOT_FOUND, **_CONFLICT},
    ),
    Endpoint(
        "POST",
        "/api/v1/peers/{name}/shutdown",
        actions.shut_down,
        "End the session with a message (RFC 9003), and have none until it is brought up",
        documents.Done,
        body=documents.ShutDown,
        errors=_NOT_FOUND,
    ),
    Endpoint(
        "POST",
        "/api/v1/peers/{name}/up",
        actions.bring_up,
        "Let there be a session again, after a shutdown",
        documents.Done,
        body=documents.Action,
        errors=_NOT_FOUND,
    ),
    Endpoint(
        "GET",
        "/api/v1/routes",
        _routes,
        "Routes, in the order of prefixes; sent in portions",
        documents.Routes,
        parameters=parameters.ROUTES,
        errors=_NOT_FOUND,
    ),
    Endpoint("GET", "/api/v1/blocks", _blocks, "Pools, blocks and borrowed addresses", documents.Blocks),
    Endpoint(
        "GET",
        "/api/v1/explain",
        _explain,
        "Why a route or a session is, or is not",
        documents.Explanation,
        parameters=(parameters.TARGET,),
        errors={HTTPStatus.NOT_FOUND: "There is nothing of this name"},
    ),
    Endpoint(
        "GET",
        "/api/v1/events",
        _events,
        "Events that are still kept, oldest first",
        documents.Events,
        parameters=parameters.EVENTS,
    ),
    Endpoint(
        "GET",
        "/api/v1/events/stream",
        _event_stream,
        "Events as they come: server-sent events, each with its number, its kind and an `Event`",
        content_type=EVENT_STREAM,
        parameters=parameters.STREAM,
    ),
    Endpoint("GET", "/api/v1/rates", _rates, "Counters over the last while", documents.Rates),
    Endpoint(
        "POST",
        "/api/v1/drain",
        actions.drain,
        "Become the last choice of all peers (RFC 8326)",
        documents.Done,
        body=documents.Action,
    ),
    Endpoint(
        "POST",
        "/api/v1/undrain",
        actions.undrain,
        "Take a drain back",
        documents.Done,
        body=documents.Action,
        errors=_CONFLICT,
    ),
    Endpoint("GET", "/api/v1/openapi.json", _openapi, "This document", published=False),
)
_PAGE: Final = tuple(_page_row(path) for path in ("/", "/page/{file}", "/page/{folder}/{file}"))

#: The endpoints of each kind of listening socket.
TABLES: Final[Mapping[str, tuple[Endpoint, ...]]] = {
    "api": (*_API, *_HEALTH, *_PAGE),
    "metrics": _HEALTH,
}


def site(kind: str, observed: Observed, options: ObserveOptions, listen: Address | None) -> Site:
    """What answers on one listening socket. The API is asked for by names of loopback alone where it is asked
    over TCP; metrics by any."""
    return Site(observed, options, TABLES[kind], listen if kind == "api" else None)
