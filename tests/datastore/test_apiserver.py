"""The API server of the tests, by its own rules, and by what kubectl makes of it."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from routed.datastore.kubernetes.access import Access, Server
from routed.datastore.kubernetes.api import Caller, RefusedError
from tests.datastore.apiserver import CRD_V1, APIServer, write_kubeconfig
from tests.datastore.kubernetes_cluster import node, peer, secret, service

PEERS = f"/apis/{CRD_V1}/bgppeers"


@asynccontextmanager
async def serving(
    *documents: Mapping[str, object], **options: Any
) -> AsyncIterator[tuple[APIServer, Caller]]:
    async with asyncio.timeout(30), APIServer(**options) as server:
        server.put(*documents)
        caller = Caller(Access(Server.of(server.url, "x")))
        try:
            yield server, caller
        finally:
            await caller.close()


async def get(caller: Caller, path: str, **query: object) -> Any:
    return json.loads(await caller.get(path, {name: str(value) for name, value in query.items()}))


async def code(caller: Caller, path: str, **query: object) -> tuple[int, str]:
    with pytest.raises(RefusedError) as caught:
        await get(caller, path, **query)
    return caught.value.status.code, caught.value.status.reason


def names(listed: Any) -> list[str]:
    return [item["metadata"]["name"] for item in listed["items"]]


async def events(caller: Caller, path: str, **query: object) -> list[tuple[str, str]]:
    """Type and name, or code or version, of all events until the server ends the watch."""
    seen = []
    asked = {"watch": "1", "timeoutSeconds": "0.1", **{name: str(value) for name, value in query.items()}}
    async for batch in caller.lines(path, asked, "application/json", 5.0):
        for line in batch:
            event = json.loads(line)
            thing = event["object"]
            name = thing["metadata"].get("name") or thing["metadata"].get("resourceVersion") or thing["code"]
            seen.append((event["type"], str(name)))
    return seen


def test_versions_of_lists() -> None:
    async def scenario() -> None:
        async with serving(peer("a"), peer("b")) as (server, caller):
            at = server.storage.revision
            server.delete("BGPPeer", "a")
            server.put(peer("c"))
            assert names(await get(caller, PEERS)) == ["b", "c"]
            assert names(await get(caller, PEERS, resourceVersion=0)) == ["b", "c"]
            assert names(await get(caller, PEERS, resourceVersion=at)) == ["b", "c"]
            exact = await get(caller, PEERS, resourceVersion=at, resourceVersionMatch="Exact")
            assert (names(exact), exact["metadata"]["resourceVersion"]) == (["a", "b"], str(at))
            newest = await get(caller, PEERS, resourceVersion=at, resourceVersionMatch="NotOlderThan")
            assert names(newest) == ["b", "c"]
            assert await code(caller, PEERS, resourceVersion=9999) == (504, "Timeout")
            assert await code(caller, PEERS, resourceVersionMatch="Exact") == (422, "Invalid")
            assert await code(caller, PEERS, resourceVersion="x") == (500, "")
            server.storage.compact()
            gone = await code(caller, PEERS, resourceVersion=at, resourceVersionMatch="Exact")
            assert gone == (410, "Expired")

    asyncio.run(scenario())


def test_pages_are_of_one_version() -> None:
    async def scenario() -> None:
        async with serving(*(peer(name) for name in "abcde")) as (server, caller):
            first = await get(caller, PEERS, limit=2)
            assert (names(first), first["metadata"]["remainingItemCount"]) == (["a", "b"], 3)
            server.delete("BGPPeer", "c")
            server.put(peer("f"))
            token = first["metadata"]["continue"]
            second = await get(caller, PEERS, limit=2, **{"continue": token})
            assert names(second) == ["c", "d"]
            assert second["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
            last = await get(caller, PEERS, limit=2, **{"continue": second["metadata"]["continue"]})
            assert (names(last), "continue" in last["metadata"]) == (["e"], False)
            # The watch cache has no pages.
            assert len(names(await get(caller, PEERS, limit=2, resourceVersion=0))) == 5
            server.storage.compact()
            with pytest.raises(RefusedError) as caught:
                await get(caller, PEERS, limit=2, **{"continue": token})
            status = caught.value.status
            assert (status.code, status.reason) == (410, "Expired")
            assert status.metadata is not None
            rest = await get(caller, PEERS, **{"continue": status.metadata.continue_token})
            assert names(rest) == ["d", "e", "f"]
            assert await code(caller, PEERS, **{"continue": "nonsense"}) == (400, "BadRequest")

    asyncio.run(scenario())


def test_items_of_built_in_lists_say_no_kind() -> None:
    async def scenario() -> None:
        async with serving(peer("a"), node("n")) as (_, caller):
            nodes = await get(caller, "/api/v1/nodes")
            assert nodes["kind"] == "NodeList"
            assert "kind" not in nodes["items"][0]
            peers = await get(caller, PEERS)
            assert (peers["kind"], peers["items"][0]["kind"]) == ("BGPPeerList", "BGPPeer")

    asyncio.run(scenario())


def test_watches_begin_where_they_are_asked_to() -> None:
    async def scenario() -> None:
        async with serving(peer("a")) as (server, caller):
            at = server.storage.revision
            server.put(peer("b"))
            server.delete("BGPPeer", "a")
            server.put(peer("b", asNumber=5))
            told = [("ADDED", "b"), ("DELETED", "a"), ("MODIFIED", "b")]
            assert await events(caller, PEERS, resourceVersion=at) == told
            assert await events(caller, PEERS) == [("ADDED", "b")]
            assert await events(caller, PEERS, resourceVersion=0) == [("ADDED", "b")]
            assert await events(caller, PEERS, resourceVersion=9999, allowWatchBookmarks="true") == []
            server.storage.compact()
            assert await events(caller, PEERS, resourceVersion=at) == [("ERROR", "410")]
            server.gone_as_status = True
            assert await code(caller, PEERS, watch=1, resourceVersion=at) == (410, "Expired")
            bookmark = ("BOOKMARK", str(server.storage.revision))
            now = server.storage.revision
            assert await events(caller, PEERS, resourceVersion=now, allowWatchBookmarks="true") == [bookmark]
            assert await code(caller, PEERS, watch=1, sendInitialEvents="true") == (422, "Invalid")

    asyncio.run(scenario())


def test_what_enters_or_leaves_a_selection_is_added_or_deleted() -> None:
    async def scenario() -> None:
        async with serving(service("a"), service("b", "None")) as (server, caller):
            at = server.storage.revision
            query = {"fieldSelector": "spec.clusterIP!=None", "resourceVersion": at}
            server.put(service("a", "None"), service("b", "10.96.0.2"))
            assert await events(caller, "/api/v1/services", **query) == [("DELETED", "a"), ("ADDED", "b")]
            by_label = {"labelSelector": "app in (a, c),!x,app!=d,app"}
            assert names(await get(caller, "/api/v1/services", **by_label)) == ["a"]
            assert await code(caller, "/api/v1/services", fieldSelector="spec.nodePort=1") == (
                400,
                "BadRequest",
            )
            assert await code(caller, "/api/v1/services", labelSelector="a b") == (400, "BadRequest")

    asyncio.run(scenario())


def test_unknown_paths_and_methods() -> None:
    async def scenario() -> None:
        async with serving() as (_, caller):
            with pytest.raises(RefusedError, match="404: 404 page not found"):
                await get(caller, "/apis/projectcalico.org/v3")
            assert await code(caller, f"{PEERS}/none") == (404, "NotFound")
            assert (await get(caller, "/api"))["versions"] == ["v1"]
            groups = (await get(caller, "/apis"))["groups"]
            assert [group["name"] for group in groups] == ["crd.projectcalico.org", "discovery.k8s.io"]

    asyncio.run(scenario())


def test_defaults() -> None:
    async def scenario() -> None:
        documents = [service("s"), secret("x", key="value"), node("n", podCIDR="10.0.0.0/24")]
        async with serving(*documents) as (_, caller):
            spec = (await get(caller, "/api/v1/namespaces/default/services/s"))["spec"]
            assert (spec["type"], spec["clusterIPs"], spec["ipFamilies"]) == (
                "ClusterIP",
                ["10.96.0.10"],
                ["IPv4"],
            )
            data = await get(caller, "/api/v1/namespaces/kube-system/secrets/x")
            assert (data["data"], "stringData" in data) == ({"key": "dmFsdWU="}, False)
            assert (await get(caller, "/api/v1/nodes/n"))["spec"]["podCIDRs"] == ["10.0.0.0/24"]

    asyncio.run(scenario())


def test_kubectl_finds_its_way(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """An independent client: discovery, create, get, replace, patch, watch, delete, errors."""
    if shutil.which("kubectl") is None:
        (pytest.fail if request.config.getoption("--require-all") else pytest.skip)(
            "kubectl is not installed"
        )

    async def scenario() -> None:
        async with serving(node("n"), bookmark_period=0.1) as (server, _):
            config = write_kubeconfig(tmp_path / "config", server.url)

            async def kubectl(*arguments: str, document: object = None) -> tuple[int, str]:
                process = await asyncio.create_subprocess_exec(
                    *(
                        "kubectl",
                        "--kubeconfig",
                        str(config),
                        "--cache-dir",
                        str(tmp_path / "cache"),
                        *arguments,
                    ),
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.STDOUT,
                    env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
                )
                output, _ = await process.communicate(json.dumps(document).encode())
                assert process.returncode is not None
                return process.returncode, output.decode()

            create = ("create", "--validate=false", "-f", "-")
            assert await kubectl(*create, document=peer("a")) == (
                0,
                "bgppeer.crd.projectcalico.org/a created\n",
            )
            status, text = await kubectl(*create, document=peer("a"))
            assert (status, "AlreadyExists" in text) == (1, True)
            replace = ("replace", "--validate=false", "-f", "-")
            assert (await kubectl(*replace, document=peer("a", asNumber=5)))[0] == 0
            patch = '{"spec": {"asNumber": 6}}'
            assert (await kubectl("patch", "bgppeers", "a", "--type=merge", "-p", patch))[0] == 0
            status, text = await kubectl("get", "bgppeers.crd.projectcalico.org", "a", "-o", "json")
            assert json.loads(text)["spec"]["asNumber"] == 6
            status, text = await kubectl("get", "nodes", "--chunk-size=1", "-o", "name")
            assert (status, text) == (0, "node/n\n")
            watching = asyncio.create_task(
                kubectl("get", "bgppeers", "--watch-only", "-o", "name", "--request-timeout=2s")
            )
            while not server.watchers:
                await asyncio.sleep(0.01)
            assert (await kubectl("delete", "bgppeers", "a", "--wait=false"))[0] == 0
            assert "bgppeer.crd.projectcalico.org/a" in (await watching)[1]
            status, text = await kubectl("get", "bgppeers", "a")
            assert (status, "not found" in text) == (1, True)

    asyncio.run(scenario())
