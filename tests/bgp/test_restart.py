"""When a start is over: who is waited for, and for how long."""

from __future__ import annotations

import asyncio

import pytest

from routed.bgp.capabilities import Capabilities, GracefulRestart
from routed.bgp.errors import Cease, ErrorCode, Notification
from routed.bgp.nlri import Family
from routed.bgp.restart import (
    ABSENT_PEER_TIME,
    END_OF_RIB_TIME,
    Convergence,
    keeps_routes,
    preserved_families,
)
from routed.bgp.session_types import Down, Negotiated
from tests.virtual import run

V4, V6 = Family.IPV4, Family.IPV6


def negotiated(restart: GracefulRestart | None, *families: Family) -> Negotiated:
    return Negotiated(
        hold_time=90,
        keepalive=30,
        families=frozenset(families or (V4,)),
        four_octet_as=True,
        local_as=1,
        remote_as=1,
        remote_router_id=b"\1\1\1\1",
        route_refresh=True,
        capabilities=Capabilities(graceful_restart=restart),
        max_message_size=4096,
    )


HELPER = GracefulRestart(120, ((1, 1, True),))
RESTARTING = GracefulRestart(120, ((1, 1, True),), restarted=True)


@pytest.mark.parametrize(
    ("restart", "families", "kept"),
    [
        (None, (V4,), set()),
        (GracefulRestart(120, ((1, 1, True),)), (V4,), {V4}),
        (GracefulRestart(120, ((1, 1, False),)), (V4,), {V4}),
        (GracefulRestart(120, ((1, 1, True),)), (V4, V6), {V4}),
        (GracefulRestart(0, ((1, 1, True),)), (V4,), set()),
        (GracefulRestart(120, ()), (V4,), set()),
        (GracefulRestart(120, ((1, 2, True),)), (V4,), set()),
    ],
)
def test_which_families_keep_their_routes(
    restart: GracefulRestart | None, families: tuple[Family, ...], kept: set[Family]
) -> None:
    agreed = negotiated(restart, *families)
    assert keeps_routes(agreed, Down(1, True, "lost")) == kept
    cease = Notification(ErrorCode.CEASE, Cease.ADMIN_SHUTDOWN, b"")
    assert keeps_routes(agreed, Down(1, True, "told", received=cease)) == set()
    assert keeps_routes(agreed, Down(1, True, "said", sent=cease)) == set()


def test_forwarding_state_is_preserved_where_the_bit_is_set() -> None:
    restart = GracefulRestart(120, ((1, 1, False), (2, 1, True)))
    assert preserved_families(negotiated(restart, V4, V6)) == {V6}
    assert preserved_families(negotiated(None)) == set()


class Start:
    """A `Convergence` and when it was done."""

    def __init__(self, *peers: str, unknown: bool = False) -> None:
        self.loop = asyncio.get_running_loop()
        self.at: float | None = None
        self.reason = ""
        self.convergence = Convergence(self.loop, self._done)
        for peer in peers:
            self.convergence.expect(peer, {V4})
        self.convergence.start(unknown_peers=unknown)

    def _done(self, reason: str) -> None:
        self.at, self.reason = self.loop.time(), reason


def test_without_peers_the_start_is_over_after_a_moment() -> None:
    async def main() -> None:
        start = Start()
        await asyncio.sleep(2)
        assert start.at == 1
        assert not start.convergence.pending

    run(main())


def test_it_waits_for_the_end_of_rib_of_each_peer() -> None:
    async def main() -> None:
        start = Start("a", "b")
        await asyncio.sleep(3)
        start.convergence.established("a", negotiated(HELPER))
        start.convergence.established("b", negotiated(HELPER))
        await asyncio.sleep(1)
        start.convergence.end_of_rib("a", V4)
        await asyncio.sleep(1)
        assert start.at is None
        start.convergence.end_of_rib("b", V4)
        assert start.at == 5
        assert start.reason == "every peer has sent its table"

    run(main())


def test_no_peer_makes_it_wait_for_ever() -> None:
    async def main() -> None:
        start = Start("absent", "silent", "plain", "restarting", "removed")
        start.convergence.established("silent", negotiated(HELPER))
        start.convergence.established("plain", negotiated(None))
        start.convergence.established("restarting", negotiated(RESTARTING))
        start.convergence.forget("removed")
        await asyncio.sleep(ABSENT_PEER_TIME + 1)
        assert start.at is None
        await asyncio.sleep(END_OF_RIB_TIME)
        assert start.at == END_OF_RIB_TIME
        assert start.reason == "waited in vain for absent, silent"

    run(main())


def test_a_reflector_waits_for_clients_that_nobody_named() -> None:
    async def main() -> None:
        start = Start(unknown=True)
        await asyncio.sleep(2)
        start.convergence.established("client", negotiated(HELPER))
        start.convergence.end_of_rib("client", V4)
        await asyncio.sleep(ABSENT_PEER_TIME)
        assert start.at == ABSENT_PEER_TIME

    run(main())
