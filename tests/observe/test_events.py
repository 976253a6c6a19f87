"""Events: what is kept, who hears of them, and changed prefixes gathered into few."""

from __future__ import annotations

import asyncio
from ipaddress import ip_network

from routed.bgp.attributes import originate
from routed.bgp.nlri import Family, from_network
from routed.bgp.path import Router, Source, SourceKind
from routed.bgp.rib import LocRib
from routed.observe import events, route_changes
from routed.observe.events import Event, EventKind, EventLog, Subscription
from routed.observe.route_changes import RouteChanges
from tests.virtual import run

UP, DOWN, ROUTES = EventKind.SESSION_UP, EventKind.SESSION_DOWN, EventKind.ROUTES


def numbers(found: list[Event]) -> list[int]:
    return [event.number for event in found]


def test_the_latest_events_are_kept_in_order_and_can_be_asked_for_by_what_they_are() -> None:
    log = EventLog(kept=3, clock=lambda: 7.0)
    for peer, kind in (("a", UP), ("b", UP), ("a", DOWN), ("a", ROUTES), ("b", DOWN)):
        log.publish(kind, "said", peer, reason=peer)
    assert numbers(log.latest()) == [2, 3, 4, 5]
    assert numbers(log.latest(after=3)) == [4, 5]
    assert numbers(log.latest(kinds=[DOWN])) == [3, 5]
    assert numbers(log.latest(peer="b")) == [2, 5]
    assert numbers(log.latest(most=2)) == [4, 5]
    assert numbers(log.latest(most=0)) == []
    assert log.last_number == 5
    assert log.counts == {UP: 2, DOWN: 2, ROUTES: 1}
    (event,) = log.latest(after=4)
    assert (event.time, event.peer, event.fields) == (7.0, "b", {"reason": "b"})


def test_events_that_name_many_prefixes_do_not_push_the_others_out() -> None:
    log = EventLog(kept=4)
    log.publish(UP, "up")
    for _ in range(3 * events.ROUTES_KEPT):
        log.publish(ROUTES, "routes")
    kept = log.latest()
    assert len(kept) == 1 + events.ROUTES_KEPT
    assert kept[0].kind is UP
    assert numbers(kept) == sorted(numbers(kept))


def test_thousands_of_wrong_records_do_not_push_the_sessions_out() -> None:
    log = EventLog()
    log.publish(UP, "up")
    for number in range(20_000):
        log.publish(EventKind.PROBLEM if number % 2 else EventKind.PROBLEM_SOLVED, "a record")
    kept = log.latest()
    assert len(kept) == 1 + events.PROBLEMS_KEPT
    assert (kept[0].kind, kept[-1].number) == (UP, log.last_number)


async def heard(subscription: Subscription, count: int) -> list[Event]:
    found: list[Event] = []
    async for event in subscription:
        found.append(event)
        if len(found) == count:
            break
    return found


def test_a_listener_hears_what_it_asked_for_from_then_on_until_it_closes() -> None:
    async def body() -> None:
        log = EventLog()
        log.publish(DOWN, "before")
        listener = log.subscribe([DOWN])
        other = log.subscribe()
        waiting = asyncio.ensure_future(heard(listener, 2))
        await asyncio.sleep(0)
        log.publish(UP, "not asked for")
        log.publish(DOWN, "one")
        await asyncio.sleep(0)
        log.publish(DOWN, "two")
        assert [event.text for event in await waiting] == ["one", "two"]
        listener.close()
        log.publish(DOWN, "after")
        assert [event.text async for event in listener] == []
        log.close()
        assert [event.text async for event in other] == ["not asked for", "one", "two", "after"]

    run(body())


def test_a_slow_listener_is_told_how_much_it_missed_and_holds_no_more() -> None:
    async def body() -> None:
        log = EventLog()
        listener = log.subscribe(waiting=2)
        for number in range(5):
            log.publish(UP, str(number))
        first = await heard(listener, 3)
        assert [event.text for event in first[:2]] == ["0", "1"]
        assert (first[2].kind, first[2].fields) == (EventKind.MISSED, {"events": 3})
        log.publish(UP, "again")
        assert [event.text for event in await heard(listener, 1)] == ["again"]
        assert (listener.missed, listener.missed_in_all) == (0, 3)
        assert EventKind.MISSED not in log.counts

    run(body())


def test_changed_prefixes_of_a_second_are_one_event_with_bounded_names() -> None:
    async def body() -> None:
        rib = LocRib(Family.IPV4)
        ribs = {Family.IPV4: rib, Family.IPV6: LocRib(Family.IPV6)}
        log = EventLog()
        changes = RouteChanges(ribs, log)
        rib.subscribe(lambda nlri: changes.changed(Family.IPV4, nlri))
        source = Source("static", SourceKind.STATIC, Router(bytes(4)))
        many = [from_network(net) for net in ip_network("10.0.0.0/12").subnets(new_prefix=26)]
        few = many[:3]
        rib.insert(source.path(originate(next_hop=bytes(4))), few)
        rib.flush()
        rib.withdraw(source, few[:1])
        rib.flush()
        assert log.latest() == []
        await asyncio.sleep(route_changes.GATHER_TIME + 0.1)
        (event,) = log.latest()
        assert event.fields == {
            "family": "ipv4",
            "changes": 4,
            "announced": ["10.0.0.64/26", "10.0.0.128/26"],
            "withdrawn": ["10.0.0.0/26"],
            "all_named": False,
        }
        rib.insert(source.path(originate(next_hop=bytes(4))), many)
        rib.flush()
        await asyncio.sleep(route_changes.GATHER_TIME + 0.1)
        event = log.latest()[-1]
        assert event.fields["changes"] == len(many) - 2
        assert len(event.fields["announced"]) == route_changes.NAMED  # type: ignore[arg-type]
        assert changes.total[Family.IPV4] == 4 + len(many) - 2
        rib.withdraw(source, few[1:2])
        rib.flush()
        changes.publish()  # at once, and not again later
        await asyncio.sleep(route_changes.GATHER_TIME + 0.1)
        assert log.latest()[-1].text == "10.0.0.64/26 withdrawn"
        assert log.counts[EventKind.ROUTES] == 3
        changes.close()

    run(body())
