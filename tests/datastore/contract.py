"""What every datastore promises, as one suite of tests.

A datastore's own module (`test_contract_<name>.py`) subclasses `Contract`, or `RemoteContract` where there is
a network in between, and gives a fixture `adapter`: a
function that makes an `Adapter` for one test. The adapter is all that differs: how records get into the
server, and how the way to it is hurt.

    class TestFile(Contract):
        @pytest.fixture
        def adapter(self, tmp_path: Path) -> AdapterFactory:
            return lambda: FileAdapter(tmp_path)
"""

from __future__ import annotations

import asyncio
import json
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import pytest

from routed.datastore import Batch, Changes, Datastore, Lost, Restored, Snapshot
from routed.resources import BGPPeer, BlockAffinity, Key, Record
from tests.datastore.watching import Watched, following

Document = Mapping[str, object]


class Adapter(ABC):
    """One datastore with its server, for one test. Entering it starts the server, empty; leaving it ends it.

    Everything here returns when it is done on the server's side; when the datastore says it, is for the
    tests to await."""

    @abstractmethod
    def open(self) -> Datastore:
        """The datastore under test, over the way that `block` and the others hurt. May be called more than
        once."""

    @abstractmethod
    async def put(self, documents: Sequence[Document]) -> None:
        """Creates or replaces these records, as `calicoctl apply` would."""

    @abstractmethod
    async def delete(self, keys: Iterable[Key]) -> None:
        """Removes these records."""

    @abstractmethod
    async def put_garbage(self, key: Key) -> None:
        """Puts what is no record in the place of this one."""

    @abstractmethod
    async def cut(self) -> None:
        """The connections to the server end, once. New ones work."""

    @abstractmethod
    async def block(self) -> None:
        """The server cannot be reached, until `unblock`. It itself goes on, and can be written to."""

    @abstractmethod
    async def unblock(self) -> None:
        """The server can be reached again."""

    @abstractmethod
    async def stop(self) -> None:
        """The server stops, and keeps what it has."""

    @abstractmethod
    async def start(self) -> None:
        """The server that was stopped is there again, at the same place with what it had."""


class RemoteAdapter(Adapter):
    """An adapter of a datastore behind a network."""

    @abstractmethod
    async def slow_down(self) -> None:
        """The server answers slowly from now on, but it answers."""

    @abstractmethod
    async def freeze(self) -> None:
        """The connections stay, and nothing comes over them any more, until `thaw`. The datastore is set up
        to notice within a second or two."""

    @abstractmethod
    async def thaw(self) -> None:
        """All passes again."""


A = TypeVar("A", bound=Adapter)
AdapterFactory = Callable[[], AbstractAsyncContextManager[Adapter]]
RemoteAdapterFactory = Callable[[], AbstractAsyncContextManager[RemoteAdapter]]


def affinity(number: int, state: str = "confirmed", node: str = "node-1") -> Document:
    """A BlockAffinity, the number-th /26 of 10.0.0.0/8."""
    octets = f"10.{number >> 10 & 255}.{number >> 2 & 255}.{(number & 3) << 6}"
    name = f"{node}-{octets.replace('.', '-')}-26"
    return {
        "apiVersion": "projectcalico.org/v3",
        "kind": "BlockAffinity",
        "metadata": {"name": name},
        "spec": {"node": node, "cidr": f"{octets}/26", "state": state, "deleted": False},
    }


def peer(name: str, address: str = "192.0.2.1", as_number: int = 64512, **metadata: object) -> Document:
    """A BGPPeer."""
    return {
        "apiVersion": "projectcalico.org/v3",
        "kind": "BGPPeer",
        "metadata": {"name": name, **metadata},
        "spec": {"peerIP": address, "asNumber": as_number},
    }


def key_of(document: Document) -> Key:
    """Kind and name of a document of ours."""
    metadata = document["metadata"]
    assert isinstance(metadata, Mapping)
    return Key(str(document["kind"]), str(metadata["name"]))


def as_number(watch: Watched, name: str) -> int | None:
    """That of a BGPPeer in force."""
    record = watch.in_force.get(Key("BGPPeer", name))
    assert record is None or isinstance(record, BGPPeer)
    return None if record is None else record.as_number


def upserts_of(events: Iterable[object]) -> list[Record]:
    """All records that these events put in force."""
    return [record for event in events if isinstance(event, Batch) for record in event.upserts]


TIMEOUT = 60.0
"""Seconds after which a scenario has hung."""


@asynccontextmanager
async def running(
    factory: Callable[[], AbstractAsyncContextManager[A]], *documents: Document
) -> AsyncIterator[tuple[A, Watched]]:
    """An adapter with these records, and a watch on it."""
    async with asyncio.timeout(TIMEOUT), factory() as adapter:
        await adapter.put(documents)
        async with following(adapter.open()) as watch:
            yield adapter, watch


class Contract:
    """What all promise. See the module."""

    @pytest.fixture
    def patient(self) -> None:
        """For what keeps a server busy: no silence of it counts as a loss."""

    def test_a_snapshot_comes_first_and_whole(self, adapter: AdapterFactory) -> None:
        async def scenario() -> None:
            documents = [affinity(2), peer("b"), affinity(1), peer("a")]
            async with running(adapter, *documents) as (_, watch):
                snapshot = await watch.expect(Snapshot)
                assert [record.key for record in snapshot.upserts] == sorted(map(key_of, documents))
                assert (snapshot.deletes, snapshot.problems) == ((), ())

        asyncio.run(scenario())

    def test_what_is_put_changed_and_deleted_is_told(self, adapter: AdapterFactory) -> None:
        async def scenario() -> None:
            async with running(adapter, peer("a"), peer("b")) as (server, watch):
                await watch.expect(Snapshot)
                await server.put([peer("c")])
                changes = await watch.expect(Changes)
                assert [record.name for record in changes.upserts] == ["c"]
                await server.put([peer("a", as_number=64999)])
                changes = await watch.expect(Changes)
                assert [record.name for record in changes.upserts] == ["a"]
                assert as_number(watch, "a") == 64999
                await server.delete([Key("BGPPeer", "b")])
                changes = await watch.expect(Changes)
                assert (changes.upserts, changes.deletes) == ((), (Key("BGPPeer", "b"),))

        asyncio.run(scenario())

    def test_what_is_put_again_unchanged_is_not_told(self, adapter: AdapterFactory) -> None:
        async def scenario() -> None:
            async with running(adapter, peer("a"), affinity(1)) as (server, watch):
                await watch.expect(Snapshot)
                await server.put([peer("a"), affinity(1)])
                await server.put([peer("last")])
                changes = await watch.expect(Changes)
                assert [record.name for record in changes.upserts] == ["last"]

        asyncio.run(scenario())

    def test_an_empty_datastore_has_an_empty_snapshot(self, adapter: AdapterFactory) -> None:
        async def scenario() -> None:
            async with running(adapter) as (server, watch):
                snapshot = await watch.expect(Snapshot)
                assert (snapshot.upserts, snapshot.problems) == ((), ())
                await server.put([peer("a")])
                await watch.until(lambda: watch.names == {"a"})

        asyncio.run(scenario())

    @pytest.mark.usefixtures("patient")
    def test_a_burst_of_10000_changes(self, adapter: AdapterFactory) -> None:
        """5,000 new records, the change of each, and at last half of them deleted."""

        async def scenario() -> None:
            first = [affinity(number, state="pending") for number in range(5000)]
            second = [affinity(number) for number in range(5000)]
            gone = [key_of(document) for document in second[::2]]
            async with running(adapter, peer("a")) as (server, watch):
                await watch.expect(Snapshot)
                await server.put(first)
                await server.put(second)
                stay = {Key("BGPPeer", "a"), *map(key_of, second)}

                def all_confirmed() -> bool:
                    return watch.in_force.keys() == stay and all(
                        not isinstance(record, BlockAffinity) or record.state == "confirmed"
                        for record in watch.in_force.values()
                    )

                await watch.until(all_confirmed)
                assert not watch.withdrawn()
                await server.delete(gone)
                await watch.until(lambda: watch.in_force.keys() == stay - set(gone))
                assert watch.last.problems == ()

        asyncio.run(scenario())

    def test_a_cut_is_overcome_and_nothing_is_told_twice(self, adapter: AdapterFactory) -> None:
        async def scenario() -> None:
            async with running(adapter, *(affinity(n) for n in range(200)), peer("a")) as (server, watch):
                await watch.expect(Snapshot)
                for number in range(3):
                    seen = len(watch.seen)
                    await server.cut()
                    await server.put([peer("a", as_number=65000 + number)])
                    await watch.until(lambda number=number: as_number(watch, "a") == 65000 + number)  # type: ignore[misc]
                    assert [record.name for record in upserts_of(watch.seen[seen:])] == ["a"]
                assert not watch.withdrawn()

        asyncio.run(scenario())

    def test_away_for_a_while_nothing_is_withdrawn_and_the_rest_is_caught_up(
        self, adapter: AdapterFactory
    ) -> None:
        async def scenario() -> None:
            stay = [affinity(number) for number in range(100)]
            async with running(adapter, *stay, peer("a"), peer("b")) as (server, watch):
                await watch.expect(Snapshot)
                before = datetime.now(UTC)
                await server.block()
                lost = await watch.expect(Lost)
                assert lost.reason
                assert before - timedelta(seconds=1) <= lost.since <= datetime.now(UTC)
                await server.put([peer("a", as_number=64999), peer("c")])
                await server.delete([Key("BGPPeer", "b")])
                seen = len(watch.seen)
                await server.unblock()
                await watch.until(lambda: watch.names - {d.name for d in map(key_of, stay)} == {"a", "c"})
                assert as_number(watch, "a") == 64999
                restored = [event for event in watch.seen[seen:] if not isinstance(event, Lost)]
                assert isinstance(restored[0], Restored)
                assert sorted(record.name for record in upserts_of(restored)) == ["a", "c"]
                assert watch.withdrawn() == {"b"}
                assert all(event.since == lost.since for event in watch.seen if isinstance(event, Lost))

        asyncio.run(scenario())

    def test_a_restart_of_the_server_withdraws_nothing(self, adapter: AdapterFactory) -> None:
        async def scenario() -> None:
            async with running(adapter, peer("a"), peer("b"), affinity(1)) as (server, watch):
                await watch.expect(Snapshot)
                await server.stop()
                await watch.expect(Lost)
                await server.start()
                await watch.expect_skipping(Restored, Lost)
                await server.put([peer("c")])
                await watch.until(lambda: "c" in watch.names)
                await server.delete([Key("BGPPeer", "a")])
                await watch.until(lambda: "a" not in watch.names)
                told = upserts_of(watch.seen[1:])
                assert ([record.name for record in told], watch.withdrawn()) == (["c"], {"a"})

        asyncio.run(scenario())

    def test_a_start_without_the_server_waits_and_says_so(self, adapter: AdapterFactory) -> None:
        async def scenario() -> None:
            async with asyncio.timeout(TIMEOUT), adapter() as server:
                await server.put([peer("a")])
                await server.stop()
                async with following(server.open()) as watch:
                    lost = await watch.expect(Lost)
                    assert lost.reason
                    await server.start()
                    await watch.expect_skipping(Restored, Lost)
                    snapshot = await watch.expect(Snapshot)
                    assert [record.name for record in snapshot.upserts] == ["a"]

        asyncio.run(scenario())

    def test_garbage_leaves_the_last_good_version_in_force(self, adapter: AdapterFactory) -> None:
        async def scenario() -> None:
            key = Key("BGPPeer", "a")
            async with running(adapter, peer("a", as_number=64999), peer("b")) as (server, watch):
                await watch.expect(Snapshot)
                await server.put_garbage(key)
                await watch.until(lambda: bool(watch.last.problems))
                assert all(problem.source for problem in watch.last.problems)
                assert all(problem.key in (None, key) for problem in watch.last.problems)
                assert as_number(watch, "a") == 64999
                await server.put([peer("b", as_number=64998)])
                await watch.until(lambda: as_number(watch, "b") == 64998)
                assert as_number(watch, "a") == 64999
                await server.put([peer("a", as_number=64997)])
                await watch.until(lambda: as_number(watch, "a") == 64997)
                await watch.until(lambda: not watch.last.problems)
                assert not watch.withdrawn()

        asyncio.run(scenario())

    def test_garbage_at_the_start_hurts_itself_alone(self, adapter: AdapterFactory) -> None:
        async def scenario() -> None:
            async with asyncio.timeout(TIMEOUT), adapter() as server:
                await server.put([peer("a"), peer("b")])
                await server.put_garbage(Key("BGPPeer", "a"))
                async with following(server.open()) as watch:
                    snapshot = await watch.expect(Snapshot)
                    assert [record.name for record in snapshot.upserts] == ["b"]
                    assert snapshot.problems

        asyncio.run(scenario())

    def test_a_rejected_field_leaves_the_last_good_version_in_force(self, adapter: AdapterFactory) -> None:
        async def scenario() -> None:
            async with running(adapter, peer("a", as_number=64999)) as (server, watch):
                await watch.expect(Snapshot)
                await server.put([peer("a", address="no address")])
                await watch.until(lambda: bool(watch.last.problems))
                (problem,) = watch.last.problems
                assert (problem.key, problem.field) == (Key("BGPPeer", "a"), "spec.peerIP")
                assert as_number(watch, "a") == 64999
                await server.delete([Key("BGPPeer", "a")])
                await watch.until(lambda: not watch.in_force)
                await watch.until(lambda: not watch.last.problems)

        asyncio.run(scenario())

    def test_a_value_of_a_megabyte(self, adapter: AdapterFactory) -> None:
        async def scenario() -> None:
            # 256 KiB is what Kubernetes' API takes as annotations of one object, 1.5 MiB etcd as a request.
            large = {f"note-{number}": "x" * 50_000 for number in range(5)}
            async with running(adapter, peer("a"), peer("b", annotations=large)) as (server, watch):
                await watch.expect(Snapshot)
                assert watch.names == {"a", "b"}
                filters: list[Document] = [
                    {
                        "apiVersion": "projectcalico.org/v3",
                        "kind": "BGPFilter",
                        "metadata": {"name": "large"},
                        "spec": {
                            "exportV4": [
                                {
                                    "action": "Accept",
                                    "cidr": f"10.{n >> 8}.{n & 255}.0/24",
                                    "matchOperator": "Equal",
                                }
                                for n in range(14_000)
                            ]
                        },
                    }
                ]
                assert 900_000 < len(json.dumps(filters[0]["spec"])) < 1_200_000
                await server.put(filters)
                await watch.until(lambda: watch.names == {"a", "b", "large"})
                assert watch.last.problems == ()

        asyncio.run(scenario())

    def test_it_closes_at_once_whatever_it_is_at(self, adapter: AdapterFactory) -> None:
        async def scenario() -> None:
            async with asyncio.timeout(TIMEOUT), adapter() as server:
                await server.put([peer("a")])
                before = asyncio.all_tasks()
                for wanted in (Snapshot, Lost):
                    if wanted is Lost:
                        await server.block()
                    datastore = server.open()
                    async with following(datastore) as watch:
                        await watch.expect(wanted)
                        with pytest.raises(RuntimeError, match="once at a time"):
                            await anext(aiter(datastore.watch()))
                        async with asyncio.timeout(1.0):
                            await datastore.close()
                            await watch.ended.wait()
                    await datastore.close()
                await server.unblock()
                async with following(datastore) as watch:
                    await watch.until(lambda: watch.names == {"a"})
                assert not ours(asyncio.all_tasks() - before)

        asyncio.run(scenario())


class RemoteContract(Contract):
    """What datastores behind a network promise too. Their `adapter` makes a RemoteAdapter."""

    def test_a_slow_server_is_not_a_lost_one(self, adapter: RemoteAdapterFactory) -> None:
        async def scenario() -> None:
            documents = [affinity(number) for number in range(1000)]
            async with asyncio.timeout(TIMEOUT), adapter() as server:
                await server.put(documents)
                await server.slow_down()
                async with following(server.open()) as watch:
                    await watch.expect(Snapshot)
                    assert len(watch.in_force) == len(documents)
                    await server.put([peer("a")])
                    await watch.expect(Changes)
                    assert "a" in watch.names

        asyncio.run(scenario())

    def test_a_silent_connection_is_noticed(self, adapter: RemoteAdapterFactory) -> None:
        async def scenario() -> None:
            async with running(adapter, peer("a")) as (server, watch):
                await watch.expect(Snapshot)
                await server.freeze()
                await server.put([peer("b")])
                await watch.expect(Lost)
                await server.thaw()
                await watch.until(lambda: watch.names == {"a", "b"})
                assert not watch.withdrawn()

        asyncio.run(scenario())


def ours(tasks: Iterable[asyncio.Task[object]]) -> list[str]:
    """The tasks that run code of the datastores."""
    codes = (getattr(task.get_coro(), "cr_code", None) for task in tasks)
    return [code.co_qualname for code in codes if code and "routed/datastore" in code.co_filename]
