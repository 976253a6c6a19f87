"""Route refresh, plain and enhanced (RFC 2918, RFC 7313), with a whole speaker on virtual time."""

from __future__ import annotations

from typing import Any

from routed.bgp.attributes import originate
from routed.bgp.message import RefreshSubtype, encode_route_refresh
from routed.bgp.nlri import Family
from routed.bgp.session_types import RefreshRequested
from routed.bgp.stale import REFRESH_TIME
from routed.bgp.update import encode_announcements, encode_end_of_rib, encode_withdrawals
from tests.bgp.scripted import Scripted
from tests.bgp.test_add_path import to
from tests.bgp.test_speaker import Router, nlri
from tests.virtual import Wire, until, virtual

V4 = Family.IPV4
A, B = "10.1.0.0/26", "10.1.0.64/26"
REQUEST, BORR, EORR = (encode_route_refresh(V4, subtype) for subtype in RefreshSubtype)


def announce(*prefixes: str, med: int | None = None) -> bytes:
    attributes = originate(next_hop=bytes((10, 0, 0, 9)), local_pref=100, med=med)
    return b"".join(encode_announcements(V4, attributes, [nlri(one) for one in prefixes]))


async def connected(wire: Wire, **changes: Any) -> tuple[Router, Scripted]:
    router = Router(wire, 1)
    router.set_peers(to(router, 9, passive=True))
    peer = Scripted(wire, 9, router.address, **{"enhanced_route_refresh": True, **changes})
    await peer.connect()
    return router, peer


def events(peer: Scripted) -> list[object]:
    """What was heard, short: prefixes, End-of-RIB, and the marks."""
    found: list[object] = []
    for one in peer.heard:
        if isinstance(one, RefreshRequested):
            found.append(RefreshSubtype(one.subtype).name)
        else:
            found += [key for _, _, keys in one.announced for key in keys]
            found += ["END-OF-RIB"] if one.end_of_rib else []
    return found


@virtual
async def test_a_request_is_answered_between_marks(wire: Wire) -> None:
    router, peer = await connected(wire)
    router.originate(A, B)
    await until(lambda: router.converged is not None and len(events(peer)) == 3)
    peer.heard.clear()
    peer.send(REQUEST)
    await until(lambda: len(events(peer)) == 4)
    assert events(peer) == ["BEGIN", nlri(A), nlri(B), "END"]


@virtual
async def test_a_peer_without_the_capability_gets_no_marks(wire: Wire) -> None:
    router, peer = await connected(wire, enhanced_route_refresh=False)
    router.originate(A, B)
    await until(lambda: router.converged is not None and len(events(peer)) == 3)
    peer.heard.clear()
    peer.send(REQUEST)
    await until(lambda: len(events(peer)) == 2)
    assert events(peer) == [nlri(A), nlri(B)]


@virtual
async def test_no_mark_goes_before_end_of_rib(wire: Wire) -> None:
    """RFC 7313 section 4; End-of-RIB is put off while the speaker has just started."""
    router, peer = await connected(wire)
    assert router.converged is None
    router.originate(A)
    peer.send(REQUEST)
    await until(lambda: router.converged is not None and len(events(peer)) == 5)
    assert events(peer) == [nlri(A), "END-OF-RIB", "BEGIN", nlri(A), "END"]


@virtual
async def test_what_is_not_sent_again_between_the_marks_goes(wire: Wire) -> None:
    router, peer = await connected(wire)
    peer.send(announce(A, B))
    await until(lambda: len(router.table()) == 2)
    router.changed.clear()
    peer.send(BORR, announce(A), EORR)
    await until(lambda: len(router.table()) == 1)
    assert router.changed == [B], "what was sent again was never touched"
    # EoRR alone means nothing.
    peer.send(EORR, announce(B))
    await until(lambda: len(router.table()) == 2)


@virtual
async def test_a_second_begin_starts_again(wire: Wire) -> None:
    router, peer = await connected(wire)
    peer.send(announce(A, B), BORR, announce(A), BORR, announce(B), EORR)
    await until(lambda: list(router.table()) == [B])


@virtual
async def test_a_refresh_that_never_ends_is_ended(wire: Wire) -> None:
    router, peer = await connected(wire)
    peer.send(announce(A, B), BORR, announce(A))
    await until(lambda: len(router.table()) == 2)
    begun = router.speaker.loop.time()
    gone = await until(lambda: len(router.table()) == 1, within=REFRESH_TIME + 10)
    assert REFRESH_TIME - 1 <= gone - begun <= REFRESH_TIME + 1
    assert list(router.table()) == [A]
    assert router.established() == 1
    # An EoRR that comes now is too late to mean anything.
    peer.send(announce(B), EORR)
    await until(lambda: len(router.table()) == 2)


@virtual
async def test_with_graceful_restart_marks_before_end_of_rib_mean_nothing(wire: Wire) -> None:
    router, peer = await connected(wire, restart_time=100)
    peer.send(announce(A, B), BORR, announce(A), EORR, announce("10.2.0.0/16"))
    await until(lambda: len(router.table()) == 3)
    peer.send(encode_end_of_rib(V4), BORR, announce(A), EORR)
    await until(lambda: list(router.table()) == [A])


@virtual
async def test_a_refresh_that_is_cut_short_by_a_restart_loses_nothing(wire: Wire) -> None:
    """Stale in the middle of a refresh is not stale since a restart: all of it is kept."""
    router, peer = await connected(wire, restart_time=100)
    peer.send(announce(A, B), encode_end_of_rib(V4))
    await until(lambda: len(router.table()) == 2)
    peer.send(BORR, announce(A, med=1))
    await until(lambda: router.best(A).attributes.med == 1)
    peer.vanish()
    await until(lambda: router.established() == 0)
    assert len(router.table()) == 2
    await peer.connect()
    peer.send(announce(A), encode_end_of_rib(V4))
    await until(lambda: list(router.table()) == [A])


@virtual
async def test_a_withdrawal_during_a_refresh_counts_at_once(wire: Wire) -> None:
    router, peer = await connected(wire)
    peer.send(announce(A, B), BORR, *encode_withdrawals(V4, [nlri(A)]))
    await until(lambda: list(router.table()) == [B])
    peer.send(EORR)
    await until(lambda: router.table() == {})
