"""Long-lived graceful restart (RFC 9494) with whole speakers on virtual time."""

from __future__ import annotations

from typing import Any

from routed.bgp.attributes import AttributeSet, originate
from routed.bgp.capabilities import LongLivedGracefulRestart
from routed.bgp.communities import LLGR_STALE, NO_LLGR
from routed.bgp.nlri import Family
from routed.bgp.path import LONG_LIVED_STALE_PREFERENCE
from routed.bgp.update import encode_announcements, encode_end_of_rib
from tests.bgp.scripted import Scripted
from tests.bgp.test_add_path import paths, to
from tests.bgp.test_speaker import Router, nlri
from tests.virtual import Wire, until, virtual

V4 = Family.IPV4
A, B = "10.1.0.0/26", "10.1.0.64/26"
RESTART, LONG = 50, 300


def announce(*prefixes: str, hop: int = 9, **changes: Any) -> bytes:
    attributes = originate(next_hop=bytes((10, 0, 0, hop)), local_pref=100, **changes)
    return b"".join(encode_announcements(V4, attributes, [nlri(one) for one in prefixes]))


async def connected(wire: Wire, **changes: Any) -> tuple[Router, Scripted]:
    """A speaker with the option, and a peer that has announced two prefixes."""
    router = Router(wire, 1, cluster_id="10.0.0.1")
    router.set_peers(
        to(router, 9, passive=True, long_lived_time=100, route_reflector_client=True),
        *(to(router, number, passive=True, route_reflector_client=True) for number in (7, 8)),
    )
    peer = Scripted(wire, 9, router.address, **{"restart_time": RESTART, "long_lived_time": LONG, **changes})
    await peer.connect()
    peer.send(announce(A, B), encode_end_of_rib(V4))
    await until(lambda: len(router.table()) == 2)
    return router, peer


def communities(router: Router, prefix: str) -> tuple[int, ...]:
    attributes: AttributeSet = router.best(prefix).attributes
    return attributes.communities


@virtual
async def test_stale_routes_become_a_last_resort_and_then_go(wire: Wire) -> None:
    router, peer = await connected(wire)
    other = Scripted(wire, 8, router.address)
    await other.connect()
    other.send(announce(A, hop=8, med=5).replace(b"\x40\x01\x01\x00", b"\x40\x01\x01\x02"))  # a worse ORIGIN
    await until(lambda: len(paths(router, A)) == 2)
    assert paths(router, A) == ["10.0.0.9", "10.0.0.8"]
    down = router.speaker.loop.time()
    peer.vanish()
    await until(lambda: router.established() == 1)
    assert paths(router, A) == ["10.0.0.9", "10.0.0.8"], "graceful restart: as good as ever"
    changed = await until(lambda: paths(router, A)[0] == "10.0.0.8", within=RESTART + 5)
    assert RESTART - 1 <= changed - down <= RESTART + 1
    assert communities(router, B) == (LLGR_STALE,)
    assert router.best(B).preference == LONG_LIVED_STALE_PREFERENCE
    assert paths(router, A) == ["10.0.0.8", "10.0.0.9"]
    gone = await until(lambda: B not in router.table(), within=LONG + 5)
    assert RESTART + LONG - 1 <= gone - down <= RESTART + LONG + 1
    assert paths(router, A) == ["10.0.0.8"]


@virtual
async def test_a_peer_that_comes_back_takes_its_routes_out_of_it(wire: Wire) -> None:
    router, peer = await connected(wire)
    peer.vanish()
    await until(lambda: communities(router, A) == (LLGR_STALE,), within=RESTART + 5)
    await peer.connect()
    peer.send(announce(A))
    await until(lambda: communities(router, A) == ())
    assert communities(router, B) == (LLGR_STALE,), "until End-of-RIB"
    peer.send(encode_end_of_rib(V4))
    await until(lambda: list(router.table()) == [A])
    # And nothing is left of the old wait.
    await until(lambda: router.speaker.loop.time() > LONG + 200, within=LONG + 300)
    assert communities(router, A) == ()


@virtual
async def test_the_routes_go_when_forwarding_was_not_preserved(wire: Wire) -> None:
    """RFC 9494 section 4.2: the F bit of the new OPEN."""
    router, peer = await connected(wire)
    peer.vanish()
    await until(lambda: communities(router, A) == (LLGR_STALE,), within=RESTART + 5)
    plain = Scripted(wire, 9, router.address, restart_time=RESTART)
    await plain.connect()
    await until(lambda: router.table() == {})


@virtual
async def test_no_llgr_ends_with_the_restart_time(wire: Wire) -> None:
    router, peer = await connected(wire)
    peer.send(announce(A, communities=[NO_LLGR]))
    await until(lambda: communities(router, A) == (NO_LLGR,))
    peer.vanish()
    await until(lambda: communities(router, B) == (LLGR_STALE,), within=RESTART + 5)
    assert list(router.table()) == [B]
    shown = router.best(B).attributes.describe()
    assert shown["communities"] == ["llgr-stale"]


@virtual
async def test_only_who_knows_them_is_told_of_stale_routes(wire: Wire) -> None:
    """RFC 9494 section 4.3: the others see a withdrawal."""
    router, peer = await connected(wire)
    plain, aware = Scripted(wire, 7, router.address), Scripted(wire, 8, router.address, long_lived_time=10)
    for reader in (plain, aware):
        await reader.connect()
        await until(lambda reader=reader: sum(len(u.announced) for u in reader.updates) > 0)  # type: ignore[misc]
        reader.heard.clear()
    peer.vanish()
    await until(lambda: bool(plain.updates and aware.updates), within=RESTART + 5)
    assert [sorted(nlri) for update in plain.updates for _, nlri in update.withdrawn] == [
        sorted([nlri(A), nlri(B)])
    ]
    ((_, attributes, _),) = aware.updates[0].announced
    assert attributes.communities == (LLGR_STALE,)


@virtual
async def test_without_a_restart_time_the_last_resort_comes_at_once(wire: Wire) -> None:
    router, peer = await connected(wire, restart_time=0)
    peer.vanish()
    await until(lambda: communities(router, A) == (LLGR_STALE,), within=1)
    await until(lambda: router.table() == {}, within=LONG + 5)


@virtual
async def test_it_is_off_unless_both_ends_want_it(wire: Wire) -> None:
    router, peer = await connected(wire, long_lived_time=0)
    peer.vanish()
    await until(lambda: router.table() == {}, within=RESTART + 5)
    other = Router(wire, 2)
    other.set_peers(to(other, 9, passive=True))
    peer = Scripted(wire, 9, other.address, restart_time=RESTART, long_lived_time=LONG)
    agreed = await peer.connect()
    assert agreed.capabilities.long_lived_graceful_restart == LongLivedGracefulRestart()
    peer.send(announce(A))
    await until(lambda: len(other.table()) == 1)
    peer.vanish()
    await until(lambda: other.table() == {}, within=RESTART + 5)


@virtual
async def test_a_peer_that_fails_again_and_again_gets_no_more_time(wire: Wire) -> None:
    router, peer = await connected(wire)
    peer.vanish()
    down = router.speaker.loop.time()
    await until(lambda: communities(router, A) == (LLGR_STALE,), within=RESTART + 5)
    begun = router.speaker.loop.time()
    # It comes back, sends one of its routes, and is gone again: nothing is lost by that.
    await until(lambda: router.speaker.loop.time() > begun + LONG - 30, within=LONG)
    await peer.connect()
    peer.send(announce(A))
    await until(lambda: communities(router, A) == ())
    peer.vanish()
    await until(lambda: router.established() == 0)
    assert (communities(router, A), communities(router, B)) == ((), (LLGR_STALE,))
    gone = await until(lambda: B not in router.table(), within=60)
    assert RESTART + LONG - 1 <= gone - down <= RESTART + LONG + 1
    assert communities(router, A) == (), "of the second session: still within its restart time"
    await until(lambda: communities(router, A) == (LLGR_STALE,), within=RESTART)
    await until(lambda: router.table() == {}, within=LONG + 5)


@virtual
async def test_notifications_end_it_as_they_end_graceful_restart(wire: Wire) -> None:
    router, peer = await connected(wire)
    router.speaker.remove_peer("to_10.0.0.9")
    await until(lambda: router.table() == {}, within=1)
    await until(lambda: peer.down is not None)
