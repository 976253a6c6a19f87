"""What an operator can have done: all else of the API only looks."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection
from difflib import get_close_matches
from http import HTTPStatus
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

from routed.bgp.errors import MAX_COMMUNICATION_OCTETS, RefusedError
from routed.bgp.peer import Peer
from routed.observe.documents import Done
from routed.observe.http.messages import HttpError
from routed.observe.http.routing import Call
from routed.observe.observed import Observed

if TYPE_CHECKING:
    from routed.observe.http.endpoints import Site

#: Where a peer is not known, so many that are known are named.
NAMED: Final = 10
#: How like two names are takes long to find out. Only so many are looked at before and after the one in
#: question, in the order of names.
COMPARED: Final = 50


def find_peer(observed: Observed, name: str) -> Peer:
    """The peer of this name; or the one with this address, where there is just one. Raises HttpError, which
    names peers that there are."""
    peers = observed.speaker.peers
    if name in peers:
        return peers[name]
    try:
        address = ip_address(name)
    except ValueError:
        pass
    else:
        same = [peer for peer in peers.values() if peer.config.remote.address == address]
        if len(same) == 1:
            return same[0]
    if not peers:
        hint = "there are no peers"
    else:
        named = near(name[:100], peers) or sorted(peers)[:NAMED]
        more = len(peers) - len(named)
        hint = f"there is {', '.join(named)}" + (f", and {more} more" if more else "")
    raise HttpError(HTTPStatus.NOT_FOUND, f"{name[:100]!r}: no such peer", hint)


def near(name: str, names: Collection[str]) -> list[str]:
    """Names that are like this one: of those that begin, or end, most nearly as it does."""
    alike = {
        *_neighbours(name, names),
        *(one[::-1] for one in _neighbours(name[::-1], [one[::-1] for one in names])),
    }
    return get_close_matches(name, alike, NAMED)


def _neighbours(name: str, names: Collection[str]) -> list[str]:
    """Those before and after it in order."""
    ordered = sorted(names)
    place = bisect_left(ordered, name)
    return ordered[max(0, place - COMPARED) : place + COMPARED]


async def refresh(site: Site, call: Call) -> Done:
    """Ask a peer for its routes again, send ours again, or both."""
    peer = find_peer(site.observed, call.path["name"])
    direction = call.body.direction
    ask, resend = direction in ("in", "both"), direction in ("out", "both")
    try:
        site.observed.speaker.refresh_peer(peer.name, ask=ask, resend=resend)
    except RefusedError as error:
        raise HttpError(HTTPStatus.CONFLICT, str(error)) from None
    done = [text for said, text in ((ask, "asked for its routes"), (resend, "sent ours")) if said]
    return Done(done=f"{peer.name}: {' and '.join(done)} again")


async def shut_down(site: Site, call: Call) -> Done:
    """End a peer's session, and have none until it is brought up."""
    peer = find_peer(site.observed, call.path["name"])
    message: str = call.body.message
    if len(message.encode("utf-8", "replace")) > MAX_COMMUNICATION_OCTETS:
        raise HttpError(
            HTTPStatus.BAD_REQUEST, f"message: has more than {MAX_COMMUNICATION_OCTETS} octets (RFC 9003)"
        )
    if not message.isprintable():
        raise HttpError(HTTPStatus.BAD_REQUEST, "message: is one line of printable characters")
    site.observed.speaker.shut_down_peer(peer.name, message)
    return Done(done=f"{peer.name}: shut down until it is brought up, or routed starts again")


async def bring_up(site: Site, call: Call) -> Done:
    """Take `shut_down` back."""
    peer = find_peer(site.observed, call.path["name"])
    if peer.shut_down is None:
        return Done(done=f"{peer.name}: was not shut down")
    site.observed.speaker.bring_up_peer(peer.name)
    return Done(done=f"{peer.name}: brought up")


async def drain(site: Site, call: Call) -> Done:
    """Become the last choice of all peers (RFC 8326)."""
    speaker = site.observed.speaker
    if speaker.draining:
        return Done(done="drains already")
    speaker.drain()
    peers = sum(peer.established for peer in speaker.peers.values())
    return Done(done=f"drains: last choice of {peers} peers, and no new sessions are accepted")


async def undrain(site: Site, call: Call) -> Done:
    """Take `drain` back."""
    speaker = site.observed.speaker
    if not speaker.draining:
        return Done(done="did not drain")
    try:
        speaker.undrain()
    except RefusedError as error:
        raise HttpError(HTTPStatus.CONFLICT, str(error)) from None
    return Done(done="drains no more: routes are as before")
