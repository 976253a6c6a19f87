"""Lists, watches and what goes wrong with them, by the rules of Kubernetes' API."""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path

import pytest

from routed.datastore import Changes, Lost, Restored, Snapshot
from routed.datastore.kubernetes import reflector
from routed.resources import BGPPeer, Key
from tests.datastore.apiserver import APIServer
from tests.datastore.apiserver_api import Request
from tests.datastore.apiserver_storage import Storage
from tests.datastore.contract import affinity
from tests.datastore.kubernetes_cluster import cluster, lists_of, node, peer, watches_of
from tests.datastore.watching import Watched
from tests.waiting import until

STANDING = 7
"""Resources that are watched whatever the records say."""


@pytest.fixture(autouse=True)
def short_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reflector, "LEAST_WATCH", 0.01)


def as_number(watch: Watched, name: str) -> int | None:
    record = watch.in_force[Key("BGPPeer", name)]
    assert isinstance(record, BGPPeer)
    return record.as_number


def told(watch: Watched) -> list[type[object]]:
    return [type(event) for event in watch.seen]


def test_a_list_comes_in_pages_of_one_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reflector, "PAGE", 10)

    async def scenario() -> None:
        async with cluster(tmp_path, *(affinity(n) for n in range(35))) as (server, watch):
            snapshot = await watch.expect(Snapshot)
            assert len(snapshot.upserts) == 35
            pages = lists_of(server, "blockaffinities")
            assert [page.query.get("limit") for page in pages] == ["10"] * 4
            assert ["continue" in page.query for page in pages] == [False, True, True, True]
            assert all("resourceVersion" not in page.query for page in pages)

    asyncio.run(scenario())


def test_what_changes_between_two_pages_is_told_by_the_watch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reflector, "PAGE", 10)

    async def scenario() -> None:
        def prepare(server: APIServer) -> None:
            original = server.answer

            def answer(request: Request) -> object:
                answered = original(request)
                if "continue" in request.query and not done:
                    done.append(True)
                    server.delete("BlockAffinity", names[0])
                    server.put(affinity(99), affinity(1, state="pending"))
                return answered

            done: list[bool] = []
            monkeypatch.setattr(server, "answer", answer)

        documents = [affinity(number) for number in range(35)]
        names = [document["metadata"]["name"] for document in documents]  # type: ignore[index]
        async with cluster(tmp_path, *documents, prepare=prepare) as (server, watch):
            await watch.expect(Snapshot)
            kept = {name[1] for name in server.storage.objects[server.type("BlockAffinity")]}
            assert len(kept) == 35
            await watch.until(lambda: watch.names == kept)

    asyncio.run(scenario())


def test_a_list_whose_pages_were_compacted_is_read_in_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reflector, "PAGE", 10)

    async def scenario() -> None:
        def compacting(server: APIServer) -> None:
            server.fail(
                410, "Expired", match="continue=", message="The provided continue parameter is too old"
            )

        documents = [affinity(number) for number in range(35)]
        async with cluster(tmp_path, *documents, prepare=compacting) as (server, watch):
            snapshot = await watch.expect(Snapshot)
            assert len(snapshot.upserts) == 35
            assert [page.query.get("limit") for page in lists_of(server, "blockaffinities")] == [
                "10",
                "10",
                None,
            ]

    asyncio.run(scenario())


def test_a_watch_that_was_cut_resumes_where_it_was(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with cluster(tmp_path, peer("a"), peer("b")) as (server, watch):
            await watch.expect(Snapshot)
            server.put(peer("a", asNumber=64999))
            await watch.expect(Changes)
            version = server.storage.revision
            await until(lambda: server.watchers == STANDING)
            server.cut()
            server.put(peer("c"))
            await watch.until(lambda: "c" in watch.names)
            assert len(lists_of(server, "bgppeers")) == 1
            assert watches_of(server, "bgppeers")[-1].query["resourceVersion"] == str(version)
            assert not {Lost, Restored} & set(told(watch))

    asyncio.run(scenario())


def test_watches_that_the_server_ends_are_opened_again_and_nothing_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reflector, "WATCH_SECONDS", (0, 0))

    async def scenario() -> None:
        async with cluster(tmp_path, peer("a")) as (server, watch):
            await watch.expect(Snapshot)
            await until(lambda: len(watches_of(server, "bgppeers")) > 5)
            server.put(peer("b"))
            await watch.until(lambda: "b" in watch.names)
            assert told(watch) == [Snapshot, Changes]
            assert len(lists_of(server, "bgppeers")) == 1

    # `timeoutSeconds=0` means the server's own default.
    monkeypatch.setattr("tests.datastore.apiserver_api.DEFAULT_WATCH_SECONDS", 0.05)
    asyncio.run(scenario())


def test_a_server_that_ends_every_watch_at_once_is_not_asked_in_a_busy_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reflector, "LEAST_WATCH", 0.1)
    monkeypatch.setattr(reflector, "WATCH_SECONDS", (0, 0))
    monkeypatch.setattr("tests.datastore.apiserver_api.DEFAULT_WATCH_SECONDS", 0.0)

    async def scenario() -> None:
        async with cluster(tmp_path, peer("a")) as (server, watch):
            await watch.expect(Snapshot)
            begun, before = time.monotonic(), len(watches_of(server, "bgppeers"))
            await until(lambda: len(watches_of(server, "bgppeers")) >= before + 5)
            assert time.monotonic() - begun >= 4 * 0.1

    asyncio.run(scenario())


@pytest.mark.parametrize("as_status", [False, True], ids=["as an event", "as a status"])
def test_gone_means_a_new_list_of_which_the_difference_is_told(tmp_path: Path, as_status: bool) -> None:
    async def scenario() -> None:
        documents = [peer(name) for name in ("a", "b", "c", "d")]
        async with cluster(tmp_path, *documents, node("n"), gone_as_status=as_status) as (server, watch):
            await watch.expect(Snapshot)
            await server.stop()
            server.put(peer("b", asNumber=64999), peer("e"))
            server.delete("BGPPeer", "c")
            server.storage.compact()
            await server.start()
            await watch.until(lambda: watch.names == {"a", "b", "d", "e", "n"})
            told = [
                record.name
                for event in watch.seen[1:]
                if isinstance(event, Changes)
                for record in event.upserts
            ]
            assert sorted(told) == ["b", "e"]
            assert watch.withdrawn() == {"c"}
            assert len(lists_of(server, "bgppeers")) == 2

    asyncio.run(scenario())


def test_bookmarks_spare_the_new_list(tmp_path: Path) -> None:
    """BGPPeers do not change, while other things do and the history is compacted."""

    async def scenario() -> None:
        async with cluster(tmp_path, peer("a"), bookmark_period=0.02) as (server, watch):
            await watch.expect(Snapshot)
            server.put(*(node(f"n{number}") for number in range(50)))
            version = server.storage.revision
            await until(lambda: server.bookmarks.get("BGPPeer", 0) >= version)
            server.storage.compact()
            server.cut()
            server.put(peer("b"))
            await watch.until(lambda: "b" in watch.names)
            assert len(lists_of(server, "bgppeers")) == 1
            assert int(watches_of(server, "bgppeers")[-1].query["resourceVersion"]) >= version

    asyncio.run(scenario())


def test_a_server_restored_from_a_backup_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is at an older version than it told, and says nothing to a watch from the future."""
    monkeypatch.setattr(reflector, "BOOKMARK_DUE", 0.1)
    monkeypatch.setattr(reflector, "SILENCE", 0.3)

    async def scenario() -> None:
        async with cluster(tmp_path, peer("a"), peer("b"), bookmark_period=0.02) as (server, watch):
            await watch.expect(Snapshot)
            backup = server.storage.backup()
            server.delete("BGPPeer", "b")
            server.put(peer("c"), peer("a", asNumber=64999))
            await watch.until(lambda: watch.names == {"a", "c"} and as_number(watch, "a") == 64999)
            await until(lambda: server.bookmarks.get("BGPPeer", 0) > backup.revision)
            await server.stop()
            server.storage = backup
            await server.start()
            await watch.until(lambda: watch.names == {"a", "b"} and as_number(watch, "a") == 64512)

    asyncio.run(scenario())


def test_a_server_that_was_reset_withdraws_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with cluster(tmp_path, peer("a"), node("n")) as (server, watch):
            await watch.expect(Snapshot)
            await server.stop()
            full, server.storage = server.storage, Storage(revision=5000, compacted=4999)
            await server.start()
            lost = await watch.expect(Lost)
            while "as if it were another server or had been reset" not in lost.reason:
                lost = await watch.expect(Lost)
            assert watch.names == {"a", "n"}
            full.revision = 6000
            full.compact()
            server.storage = full
            server.put(peer("b"))
            await watch.until(lambda: watch.names == {"a", "b", "n"})
            assert not watch.withdrawn()

    asyncio.run(scenario())


def test_a_resource_of_which_the_last_was_deleted_meanwhile_is_empty(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with cluster(tmp_path, peer("a"), peer("b"), node("n")) as (server, watch):
            await watch.expect(Snapshot)
            await server.stop()
            server.delete("BGPPeer", "a")
            server.delete("BGPPeer", "b")
            server.storage.compact()
            await server.start()
            await watch.until(lambda: watch.names == {"n"})

    asyncio.run(scenario())


def test_a_server_that_is_behind_for_a_moment_is_asked_again(tmp_path: Path) -> None:
    """Another member of a group of API servers, that has not come so far."""

    async def scenario() -> None:
        async with cluster(tmp_path, peer("a")) as (server, watch):
            await watch.expect(Snapshot)
            message = "Too large resource version: 999, current: 100"
            server.fail(
                504,
                "Timeout",
                "bgppeers?watch",
                cause="ResourceVersionTooLarge",
                message=message,
                retry_after=1,
            )
            server.cut()
            server.put(peer("b"))
            await watch.until(lambda: "b" in watch.names)
            assert not watch.withdrawn()

    asyncio.run(scenario())


def test_too_many_requests_are_repeated_when_the_server_said(tmp_path: Path) -> None:
    async def scenario() -> None:
        def busy(server: APIServer) -> None:
            server.fail(429, "TooManyRequests", "bgppeers", retry_after=1, message="too many requests")

        begun = time.monotonic()
        async with cluster(tmp_path, peer("a"), prepare=busy) as (server, watch):
            await watch.until(lambda: Snapshot in told(watch))
            assert time.monotonic() - begun >= 1.0
            assert watch.names == {"a"}
            assert len(lists_of(server, "bgppeers")) == 2
            # The others did not have to be asked again.
            assert len(lists_of(server, "nodes")) == 1

    asyncio.run(scenario())


def test_one_resource_with_trouble_is_a_problem_and_the_others_go_on(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with cluster(tmp_path, peer("a"), node("n")) as (server, watch):
            await watch.expect(Snapshot)
            await until(lambda: server.watchers == STANDING)
            server.fail(500, "InternalError", "bgppeers?watch", times=3, message="conversion webhook failed")
            server.cut()
            await watch.until(lambda: bool(watch.last.problems))
            (problem,) = watch.last.problems
            assert "bgppeers.crd.projectcalico.org" in problem.reason
            assert "conversion webhook failed" in problem.reason
            server.put(node("m"))
            server.put(peer("b"))
            await watch.until(lambda: watch.names == {"a", "b", "n", "m"} and not watch.last.problems)
            assert Lost not in told(watch)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "line",
    [b"no JSON", b'{"type": "ADDED"}', b'{"type": "MODIFIED", "object"', b"[]", b"\xff\xfe", b"null"],
    ids=repr,
)
def test_garbage_in_a_watch_loses_nothing(tmp_path: Path, line: bytes) -> None:
    async def scenario() -> None:
        async with cluster(tmp_path, peer("a"), peer("b")) as (server, watch):
            await watch.expect(Snapshot)
            await until(lambda: server.watchers == STANDING)
            server.garbage_events.append(line)
            server.put(peer("b", asNumber=64999), peer("c"))
            await watch.until(lambda: watch.names == {"a", "b", "c"} and as_number(watch, "b") == 64999)
            assert not watch.withdrawn()

    asyncio.run(scenario())


def test_unknown_events_and_objects_of_odd_shapes_are_passed_over(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with cluster(tmp_path, peer("a")) as (server, watch):
            await watch.expect(Snapshot)
            await until(lambda: server.watchers == STANDING)
            server.garbage_events += [
                b'{"type": "BOOKMARK", "object": {"metadata": 5}}',
                b'{"type": "BOOKMARK", "object": "x"}',
                b'{"type": "DELETED", "object": {"metadata": {"name": "no such"}}}',
                b'{"type": "ADDED", "object": {"metadata": {"name": 5, "resourceVersion": "100"}}}',
                b'{"type": "ADDED", "object": 7}',
                b'{"type": "ADDED", "object": {"metadata": [], "spec": 1}}',
            ]
            server.put(peer("b"))
            await watch.until(lambda: watch.names == {"a", "b"})
            assert not watch.withdrawn()

    asyncio.run(scenario())


def test_an_internal_error_in_a_watch_is_tried_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with cluster(tmp_path, peer("a")) as (server, watch):
            await watch.expect(Snapshot)
            await until(lambda: server.watchers == STANDING)
            server.garbage_events.append(
                b'{"type": "ERROR", "object": {"kind": "Status", "code": 500, "reason": "InternalError", '
                b'"message": "etcdserver: leader changed"}}'
            )
            server.put(peer("b"))
            await watch.until(lambda: watch.names == {"a", "b"})
            assert Lost not in told(watch)

    asyncio.run(scenario())


def test_nodes_are_read_without_spec_and_status(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with cluster(tmp_path, node("n")) as (server, watch):
            await watch.expect(Snapshot)
            assert "PartialObjectMetadata" in lists_of(server, "nodes")[0].headers["accept"]
            server.put(node("n", "10.0.0.2/24"))
            changes = await watch.expect(Changes)
            assert [record.name for record in changes.upserts] == ["n"]

    asyncio.run(scenario())


def test_a_server_that_cannot_leave_them_out_sends_them_whole(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with cluster(tmp_path, node("n"), metadata_only=False) as (server, watch):
            await watch.expect(Snapshot)
            assert watch.names == {"n"}
            server.put(node("m"))
            await watch.until(lambda: watch.names == {"m", "n"})
            assert watch.last.problems == ()

    asyncio.run(scenario())


def test_random_changes_cuts_compactions_and_restarts_end_in_what_the_server_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reflector, "PAGE", 7)

    async def scenario(seed: int) -> None:
        chance = random.Random(seed)
        async with cluster(tmp_path, *map(peer, "abc"), bookmark_period=0.03) as (server, watch):
            await watch.expect(Snapshot)
            peers = server.type("BGPPeer")
            for _ in range(60):
                name = f"p{chance.randrange(30)}"
                match chance.randrange(12):
                    case 0:
                        server.cut()
                    case 1:
                        server.storage.compact()
                    case 2 if chance.random() < 0.2:
                        await server.stop()
                        server.put(peer(f"away{chance.randrange(5)}"))
                        await server.start()
                    case 3 | 4 if ("", name) in server.storage.objects[peers]:
                        server.delete("BGPPeer", name)
                    case _:
                        server.put(peer(name, asNumber=chance.randrange(1, 5)))
                if chance.random() < 0.5:
                    await asyncio.sleep(chance.random() * 0.02)
            server.put(peer("last"))
            want = {key[1]: d["spec"]["asNumber"] for key, d in server.storage.objects[peers].items()}
            await watch.until(lambda: watch.names == want.keys())
            await watch.until(lambda: {name: as_number(watch, name) for name in watch.names} == want)

    for seed in range(4):
        asyncio.run(scenario(seed))
