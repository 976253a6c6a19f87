"""Hold timers and KEEPALIVEs while the loop has much else to do."""

from __future__ import annotations

from routed.bgp.peer import Peer
from tests.bgp.test_speaker import Router
from tests.virtual import Wire, until, virtual


async def pair(wire: Wire) -> tuple[Peer, Router]:
    """A peer with a hold time of 3 s, and the speaker at its other end."""
    one, two = Router(wire, 1), Router(wire, 2)
    one.set_peers(one.peer(two, hold_time=3))
    two.set_peers(two.peer(one, passive=True))
    await until(lambda: one.established() == two.established() == 1)
    await until(lambda: one.converged is not None and two.converged is not None)
    (peer,) = one.speaker.peers.values()
    return peer, two


def busy(peer: Peer) -> None:
    """From now on the loop does not come to look at the peer's socket."""
    connection = peer.connection
    assert connection is not None
    peer.loop.remove_reader(connection._sock.fileno())


@virtual
async def test_a_peer_is_not_silent_while_its_messages_wait_to_be_read(wire: Wire) -> None:
    peer, _ = await pair(wire)
    busy(peer)
    begun = peer.loop.time()
    # KEEPALIVEs come every second, and are found when the timer is due.
    await until(lambda: peer.loop.time() - begun > 60, within=61)
    assert peer.established
    assert peer.session.flaps == 0


@virtual
async def test_what_waits_is_taken_in_order(wire: Wire) -> None:
    """The UPDATE that stood before the KEEPALIVE counts too."""
    peer, other = await pair(wire)
    busy(peer)
    other.originate("10.1.0.0/26")
    begun = peer.loop.time()
    await until(lambda: peer.loop.time() - begun > 4, within=5)
    assert peer.established
    assert [len(rib.routes) for rib in peer._owner.ribs.values()] == [1, 0]  # type: ignore[attr-defined]


@virtual
async def test_a_silent_peer_is_given_up(wire: Wire) -> None:
    peer, other = await pair(wire)
    busy(peer)
    (theirs,) = other.speaker.peers.values()
    busy(theirs)
    theirs._cancel_timer()  # it says nothing any more, and its connection stays
    theirs._arm = lambda: None  # type: ignore[method-assign]
    begun = peer.loop.time()
    await until(lambda: not peer.established, within=7)
    # What waited counts from when it was read: one hold time more at most.
    assert 2 <= peer.loop.time() - begun <= 6.1
    assert "Hold Timer Expired" in (peer.session.last_error or "")
