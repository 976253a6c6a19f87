"""Who may ask for what. Whoever reaches the Unix socket owns it; a loopback port is reached by every program
of the machine, and by every page in its browsers.

A page of another site may send requests, but not read the answers: there are no CORS headers. It must not
carry out actions: those want JSON, which no form sends, and an `Origin` that is ours, or none. And it must
not become of our origin by a name of its own that leads to 127.0.0.1 (DNS rebinding): on loopback TCP, the
`Host` of a request must be one that only loopback has, or the address that is listened on.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from routed.bgp.route import Address
from routed.observe.http.messages import JSON, HttpError, Request

#: For all responses.
HEADERS: Final = (
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
)
#: For documents: nothing of them is to be run or shown, and all of them are of a moment.
API_HEADERS: Final = (
    *HEADERS,
    ("Cache-Control", "no-store"),
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
)
#: For the page and its files.
PAGE_HEADERS: Final = (
    *HEADERS,
    ("Cache-Control", "no-cache"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    (
        "Content-Security-Policy",
        "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'",
    ),
)

#: What browsers say of a request that our own page sends, or a person (Fetch Metadata).
_OWN_SITES: Final = ("same-origin", "none")


def check_host(request: Request, listen: Address) -> None:
    """Raises HttpError where the request is for another host than loopback, or `listen`."""
    host = request.headers.get("host", "")
    if not _is_ours(host, listen):
        raise HttpError(
            HTTPStatus.MISDIRECTED_REQUEST,
            f"host {host[:100]!r}: this is not its server",
            "ask for localhost, 127.0.0.1 or [::1]",
        )


def check_site(request: Request) -> None:
    """Raises HttpError where a browser says that another site's page sends this by itself: it could not read
    the answer, but have much work done. To follow a link from there is fine."""
    site = request.headers.get("sec-fetch-site", "none")
    if site not in _OWN_SITES and request.headers.get("sec-fetch-mode") != "navigate":
        raise HttpError(HTTPStatus.FORBIDDEN, "this is not for pages of other sites")


def check_action(request: Request) -> None:
    """Raises HttpError where a request that changes something may come from another site's page."""
    site = request.headers.get("sec-fetch-site", "none")
    origin = request.headers.get("origin")
    host = request.headers.get("host", "")
    if site not in _OWN_SITES or (origin is not None and origin != f"http://{host}"):
        raise HttpError(HTTPStatus.FORBIDDEN, "actions are not for pages of other sites")
    given = request.headers.get("content-type", "")
    if given.partition(";")[0].strip().lower() != JSON:
        raise HttpError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            f"content type {given[:100]!r}: actions take {JSON}",
            f"send the header Content-Type: {JSON}, without a body too",
        )


def check_acceptable(headers: Mapping[str, str], content_type: str) -> None:
    """Raises HttpError where the client says that it does not take this type (RFC 9110 section 12.5.1)."""
    accept = headers.get("accept")
    if not accept:
        return
    offered = content_type.partition(";")[0].strip()
    kinds = {offered: 3, offered.partition("/")[0] + "/*": 2, "*/*": 1}
    best, quality = 0, 0.0
    for one in accept.split(","):
        name, *parameters = (part.strip().lower() for part in one.split(";"))
        rank = kinds.get(name, 0)
        if rank > best:
            best, quality = rank, _quality(parameters)
    if not quality:
        raise HttpError(HTTPStatus.NOT_ACCEPTABLE, f"accept {accept[:100]!r}: there is only {offered} here")


def _quality(parameters: list[str]) -> float:
    for one in parameters:
        name, _, value = one.partition("=")
        if name.strip() == "q":
            try:
                return float(value)
            except ValueError:
                return 1.0
    return 1.0


def _is_ours(host: str, listen: Address) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    if name == "localhost":
        return True
    try:
        address = ip_address(name)
    except ValueError:
        return False
    return address.is_loopback or address == listen
