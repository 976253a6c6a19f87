"""Between a session and the one who watches."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine

import pytest

from routed.datastore import Changes, Lost, Restored, Snapshot, remote
from routed.datastore.remote import Feed, Follower, RemoteDatastore
from routed.datastore.retry import UnavailableError
from routed.datastore.store import Found
from routed.resources import Key, parse_record
from tests.datastore.contract import peer
from tests.datastore.watching import following


def put(feed: Feed, name: str, as_number: int = 64512) -> None:
    feed.store.replace(name, [Found(parse_record(peer(name, as_number=as_number)), name)])


class Scripted(RemoteDatastore):
    """A datastore whose sessions a test writes."""

    def __init__(self, *sessions: Callable[[Feed], Awaitable[None]]) -> None:
        super().__init__()
        self.sessions = list(sessions)

    def follower(self, feed: Feed) -> Follower:
        return _ScriptedFollower(self, feed)


class _ScriptedFollower(Follower):
    def __init__(self, owner: Scripted, feed: Feed) -> None:
        self.owner = owner
        self.feed = feed

    async def session(self) -> None:
        await self.owner.sessions.pop(0)(self.feed)


async def forever() -> None:
    await asyncio.Event().wait()


def run(scenario: Coroutine[object, object, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(30):
            await scenario

    asyncio.run(bounded())


def test_a_short_loss_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "LOST_GRACE", 20.0)

    async def first(feed: Feed) -> None:
        put(feed, "a")
        feed.in_sync()
        await asyncio.sleep(0)
        raise UnavailableError("cut")

    async def second(feed: Feed) -> None:
        put(feed, "b")
        feed.in_sync()
        await forever()

    async def scenario() -> None:
        async with following(Scripted(first, second)) as watch:
            await watch.expect(Snapshot)
            await watch.until(lambda: watch.names == {"a", "b"})
            assert not any(isinstance(event, Lost | Restored) for event in watch.seen)

    run(scenario())


def test_before_the_first_snapshot_a_loss_is_told_at_once_and_new_reasons_too() -> None:
    def failing(reason: str) -> Callable[[Feed], Awaitable[None]]:
        async def session(feed: Feed) -> None:
            put(feed, "a")  # half a list
            raise UnavailableError(reason)

        return session

    async def last(feed: Feed) -> None:
        put(feed, "b")
        feed.in_sync()
        await forever()

    async def scenario() -> None:
        sessions = [failing("refused"), failing("refused"), failing("no certificate"), last]
        async with following(Scripted(*sessions)) as watch:
            first = await watch.expect(Lost)
            second = await watch.expect(Lost)
            assert (first.reason, second.reason, first.since) == ("refused", "no certificate", second.since)
            await watch.expect(Restored)
            assert {record.name for record in (await watch.expect(Snapshot)).upserts} == {"a", "b"}

    run(scenario())


def test_reasons_without_end_are_not_all_told() -> None:
    async def scenario() -> None:
        feed = Feed()
        events = feed.events()
        for number in range(100):
            feed.lost(f"reason {number}")
            if number < remote.MOST_REASONS:
                assert isinstance(await anext(events), Lost)
        feed.in_sync()
        assert isinstance(await anext(events), Restored)
        await events.aclose()

    run(scenario())


def test_half_a_listing_is_not_told() -> None:
    listing = asyncio.Event()

    async def first(feed: Feed) -> None:
        put(feed, "a")
        put(feed, "b")
        feed.in_sync()
        await asyncio.sleep(0)
        raise UnavailableError("cut")

    async def second(feed: Feed) -> None:
        feed.store.remove("a")
        await listing.wait()
        put(feed, "a", as_number=64999)
        feed.in_sync()
        await forever()

    async def scenario() -> None:
        async with following(Scripted(first, second)) as watch:
            await watch.expect(Snapshot)
            await watch.expect(Lost)
            listing.set()
            await watch.expect(Restored)
            changes = await watch.expect(Changes)
            assert ([record.name for record in changes.upserts], changes.deletes) == (["a"], ())

    run(scenario())


def test_who_is_slow_gets_what_is_different_by_then() -> None:
    async def scenario() -> None:
        feed = Feed()
        put(feed, "a")
        feed.in_sync()
        events = feed.events()
        assert isinstance(await anext(events), Snapshot)
        for number in range(1000):
            put(feed, "a", as_number=64000 + number)
            feed.changed()
        put(feed, "b")
        feed.store.remove("b")
        feed.changed()
        changes = await anext(events)
        assert isinstance(changes, Changes)
        (record,) = changes.upserts
        assert (record.key, changes.deletes) == (Key("BGPPeer", "a"), ())
        await events.aclose()

    run(scenario())


def test_a_fault_of_ours_is_not_swallowed() -> None:
    async def broken(feed: Feed) -> None:
        raise ZeroDivisionError

    async def scenario() -> None:
        with pytest.raises(ZeroDivisionError):
            async for _ in Scripted(broken).watch():
                pass

    run(scenario())
