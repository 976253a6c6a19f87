"""When a process counts as ready and as alive."""

from __future__ import annotations

import asyncio
from contextlib import closing
from datetime import UTC, datetime
from ipaddress import ip_network

import pytest

from routed import event_loop
from routed.bgp.config import ClientRange
from routed.event_loop import STUCK_TURN, EventLoop, FairSelector, turns_of
from routed.observe import health
from routed.observe.events import EventLog
from routed.observe.health import YOUNG_TIME, liveness, readiness
from routed.observe.observed import DatastoreState, Observed
from routed.observe.route_changes import RouteChanges
from tests.bgp.test_speaker import Router, join
from tests.virtual import Wire, until, virtual


def observed(router: Router, datastore: DatastoreState | None = None) -> Observed:
    speaker, events = router.speaker, EventLog()
    return Observed(
        node="node-1",
        speaker=speaker,
        events=events,
        route_changes=RouteChanges(speaker.ribs, events),
        datastore=datastore,
    )


@virtual
async def test_before_the_records_are_read_it_is_not_ready(wire: Wire) -> None:
    router = Router(wire, 1)
    state = DatastoreState()
    watched = observed(router, state)
    assert readiness(watched) == health.Health(False, "the datastore has not been read yet")
    state.lost_since, state.lost_reason = datetime.now(UTC), "connection refused\nX-Evil: \x1b[31m"
    answer = readiness(watched)
    assert not answer.ok
    assert answer.reason.startswith("the datastore has not been read yet: connection refused")
    assert answer.reason.isprintable()
    state.synced, state.lost_since = True, None
    assert readiness(watched) == health.Health(
        False, "not speaking BGP yet: the records give this node no router ID"
    )
    router.set_peers()
    assert readiness(watched) == health.Health(True, "no peers are wanted")
    state.lost_since = datetime.now(UTC)
    assert readiness(watched).ok, "what was read stays in force"


@virtual
async def test_a_young_one_wants_every_peer_and_their_tables(wire: Wire) -> None:
    a, b, c = Router(wire, 1), Router(wire, 2), Router(wire, 3)
    a.set_peers(a.peer(b), a.peer(c))
    watched = observed(a)
    assert readiness(watched) == health.Health(
        False, "2 of 2 peers not Established: to_10.0.0.2, to_10.0.0.3"
    )
    b.set_peers(b.peer(a))
    await until(lambda: a.established() == 1)
    assert readiness(watched).reason == "1 of 2 peers not Established: to_10.0.0.3"
    c.set_peers(c.peer(a))
    await until(lambda: a.established() == 2)
    assert not a.speaker.converged
    assert readiness(watched) == health.Health(
        False, "graceful restart is pending: peers have yet to send their tables"
    )
    await until(lambda: a.speaker.converged)
    assert readiness(watched) == health.Health(True, "2 of 2 peers Established")


@virtual
async def test_later_one_session_is_enough(wire: Wire) -> None:
    a, b, c = Router(wire, 1), Router(wire, 2), Router(wire, 3)
    a.set_peers(a.peer(b), a.peer(c))
    b.set_peers(b.peer(a))
    watched = observed(a)
    began = asyncio.get_running_loop().time()
    await until(lambda: readiness(watched).ok)
    assert asyncio.get_running_loop().time() - began == pytest.approx(YOUNG_TIME, abs=1)
    assert readiness(watched).reason == "1 of 2 peers Established"
    b.kill()
    await until(lambda: a.established() == 0)
    assert readiness(watched) == health.Health(
        False, "no session: none of 2 peers is Established: to_10.0.0.2, to_10.0.0.3"
    )


@virtual
async def test_peers_that_are_held_or_shut_down_are_not_wanted(wire: Wire) -> None:
    a, b, c = Router(wire, 1), Router(wire, 2), Router(wire, 3)
    a.set_peers(a.peer(b, held="the password cannot be used"), a.peer(c))
    watched = observed(a)
    assert readiness(watched).reason == "1 of 1 peers not Established: to_10.0.0.3"
    a.speaker.shut_down_peer("to_10.0.0.3", "maintenance")
    assert readiness(watched) == health.Health(True, "no peers are wanted")
    a.speaker.bring_up_peer("to_10.0.0.3")
    assert not readiness(watched).ok
    c.set_peers(c.peer(a))
    await until(lambda: a.speaker.converged)
    assert readiness(watched) == health.Health(True, "1 of 1 peers Established")


@virtual
async def test_a_reflector_for_a_range_has_to_listen(wire: Wire) -> None:
    reflector, client = Router(wire, 1, cluster_id="10.0.0.1"), Router(wire, 2)
    reflector.speaker.set_client_ranges([ClientRange(ip_network("10.0.0.0/24"))])
    reflector.set_peers()
    watched = observed(reflector)
    assert readiness(watched) == health.Health(True, "listening for clients")
    client.set_peers(client.peer(reflector))
    await until(lambda: reflector.established() == 1)
    assert readiness(watched).ok
    client.kill()
    await until(lambda: reflector.established() == 0)
    assert readiness(watched).ok, "clients come and go"
    reflector.speaker.drain()
    assert readiness(watched) == health.Health(False, "not listening: clients cannot connect")


@virtual
async def test_a_reason_names_few_of_many_peers(wire: Wire) -> None:
    a = Router(wire, 1)
    others = [Router(wire, number) for number in range(2, 50)]
    a.set_peers(*(a.peer(other) for other in others))
    reason = readiness(observed(a)).reason
    assert reason.startswith("48 of 48 peers not Established: ")
    assert reason.endswith(" and 43 more")
    assert reason.count("to_10.0.0.") == health.NAMED


@virtual
async def test_a_loop_of_another_kind_is_alive_when_it_answers(wire: Wire) -> None:
    a, b = Router(wire, 1), Router(wire, 2)
    join(a, b)
    assert liveness(observed(a)) == health.Health(True, "the event loop turns")


def test_a_loop_with_a_very_long_turn_is_not_alive_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]

    class Selector(FairSelector):
        def __init__(self) -> None:
            super().__init__(lambda: now[0])

    monkeypatch.setattr(event_loop, "FairSelector", Selector)
    monkeypatch.setattr("time.monotonic", lambda: now[0])

    async def main() -> None:
        with closing(Wire()) as wire:
            watched = observed(Router(wire, 1))
            await asyncio.sleep(0)
            assert liveness(watched).ok
            now[0] += STUCK_TURN + 5
            await asyncio.sleep(0)
            assert liveness(watched) == health.Health(False, "the event loop hangs: a turn took 35 s")
            now[0] += health.STUCK_TIME
            assert liveness(watched).ok, "one long turn is held against it for a while only"

    with asyncio.Runner(loop_factory=EventLoop) as runner:
        runner.run(main())


def test_every_turn_of_the_loop_is_counted() -> None:
    async def main() -> int:
        turns = turns_of(asyncio.get_running_loop())
        assert turns is not None
        before = sum(turns.took.counts)
        for _ in range(10):
            await asyncio.sleep(0)
        return sum(turns.took.counts) - before

    with asyncio.Runner(loop_factory=EventLoop) as runner:
        assert runner.run(main()) == 10
