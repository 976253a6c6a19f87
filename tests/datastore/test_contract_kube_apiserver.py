"""The contract, for a real kube-apiserver behind a proxy; and the manifests of deploy/ in it."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from routed.datastore import Changes, Datastore, Snapshot, Wanted, open_datastore, status_writer
from routed.datastore.kubernetes import http, reflector
from routed.resources import Key, Node
from tests.datastore import kube_apiserver
from tests.datastore.contract import Document, RemoteAdapter, RemoteAdapterFactory, RemoteContract
from tests.datastore.kube_apiserver import CRD_V1, KubeAPIServer
from tests.datastore.kubernetes_cluster import calico, configuration, endpoints, node, peer, secret, service
from tests.datastore.proxy import Proxy
from tests.datastore.watching import following

USER = "system:serviceaccount:kube-system:routed"
ROUTED = "routed-token"
DEPLOY = Path(__file__).resolve().parents[2] / "deploy"


@pytest.fixture(scope="module")
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[KubeAPIServer]:
    """One for all: it takes seconds to start."""
    if reason := kube_apiserver.unavailable():
        if request.config.getoption("--require-all"):
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    server = KubeAPIServer(tmp_path_factory.mktemp("kube-apiserver"), {ROUTED: USER})
    try:
        server.start()
        asyncio.run(server.define())
        yield server
    finally:
        server.close()


class KubeAPIServerAdapter(RemoteAdapter):
    """Records as custom resources."""

    def __init__(self, server: KubeAPIServer, folder: Path) -> None:
        self.server = server
        self.proxy = Proxy(server.port)
        self.folder = folder

    async def __aenter__(self) -> KubeAPIServerAdapter:
        await self.server.clear()
        await self.proxy.__aenter__()
        self.kubeconfig = self.server.kubeconfig(self.folder / "config", self.proxy.port)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.proxy.__aexit__()

    def open(self) -> Datastore:
        return open_datastore(f"kubernetes:{self.kubeconfig}", {})

    async def put(self, documents: Sequence[Document]) -> None:
        await self.server.apply([{**document, "apiVersion": CRD_V1} for document in documents])

    async def delete(self, keys: Iterable[Key]) -> None:
        await self.server.delete((key.kind, "", key.name) for key in keys)

    async def put_garbage(self, key: Key) -> None:
        garbage = {"peerIP": ["no", {"address": None}], "asNumber": {"a": "b"}}
        document = {"apiVersion": CRD_V1, "kind": key.kind, "metadata": {"name": key.name}, "spec": garbage}
        await self.server.apply([document])

    async def cut(self) -> None:
        self.proxy.cut()

    async def block(self) -> None:
        self.proxy.refusing = True
        self.proxy.cut()

    async def unblock(self) -> None:
        self.proxy.refusing = False

    async def stop(self) -> None:
        self.server.stop()

    async def start(self) -> None:
        await asyncio.to_thread(self.server.start)

    async def slow_down(self) -> None:
        self.proxy.chunk, self.proxy.pace = 4096, 0.02

    async def freeze(self) -> None:
        self.proxy.freeze()

    async def thaw(self) -> None:
        self.proxy.thaw()


class TestKubeAPIServer(RemoteContract):
    @pytest.fixture
    def adapter(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: KubeAPIServer
    ) -> RemoteAdapterFactory:
        # Not less: a real one sends a bookmark every minute, and each of these is a new watch.
        monkeypatch.setattr(reflector, "SILENCE", 3.0)
        monkeypatch.setattr(http, "ANSWER_TIMEOUT", 3.0)
        return lambda: KubeAPIServerAdapter(server, tmp_path)


def test_the_manifests_apply_and_give_the_rights_that_are_needed(
    server: KubeAPIServer, tmp_path: Path
) -> None:
    """kubectl checks them against the server's schema; then the datastore reads, and writes, as that service
    account."""
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed")
    admin = server.kubeconfig(tmp_path / "admin")
    for folder in (DEPLOY, DEPLOY / "reflector"):
        subprocess.run(
            ["kubectl", "--kubeconfig", admin, "apply", "--validate=strict", "-k", folder],
            check=True,
            capture_output=True,
            env={**os.environ, "HOME": str(tmp_path)},
        )
    password = {"secretKeyRef": {"name": "bgp-secrets", "key": "k"}}
    headless = endpoints("headless", "n", **{"service.kubernetes.io/headless": ""})
    objects: list[dict[str, Any]] = [
        configuration(serviceClusterIPs=[{"cidr": "10.96.0.0/16"}]),
        peer("a", password=password),
        node("n", podCIDR="10.1.0.0/24"),
        {"apiVersion": "v1", **service("web", "10.96.0.10", ports=[{"port": 80}], type="LoadBalancer")},
        {"apiVersion": "v1", **service("headless", "None", ports=[{"port": 80}])},
        {"apiVersion": "discovery.k8s.io/v1", **endpoints("web", "n")},
        {"apiVersion": "discovery.k8s.io/v1", **headless},
        {"apiVersion": "v1", **secret("bgp-secrets", k="first")},
        {"apiVersion": "v1", **secret("other", k="x")},
    ]

    async def scenario() -> None:
        await server.clear()
        await server.apply(objects)
        kubeconfig = server.kubeconfig(tmp_path / "routed", token=ROUTED)
        datastore = open_datastore(f"kubernetes:{kubeconfig}", {}, Wanted("n"))
        async with asyncio.timeout(60), following(datastore) as watch:
            snapshot = await watch.expect(Snapshot)
            assert snapshot.problems == ()
            # The server has a service of its own: itself.
            names = {str(key) for key in watch.in_force if "default/kubernetes" not in key.name}
            assert names == {
                "BGPConfiguration default",
                "BGPPeer a",
                "EndpointSlice default/web-1",
                "Node n",
                "Secret kube-system/bgp-secrets",
                "Service default/web",
            }
            record = watch.in_force[Key("Node", "n")]
            assert isinstance(record, Node)
            assert str(record.ipv4_address) == "10.0.0.1/24"
            await server.apply([{"apiVersion": "v1", **secret("bgp-secrets", k="second")}])
            changes = await watch.expect(Changes)
            assert [record.kind for record in changes.upserts] == ["Secret"]
            request = calico("CalicoNodeStatus", "s", node="n", classes=["Agent"])
            await server.apply([request])
            await watch.until(lambda: Key("CalicoNodeStatus", "s") in watch.in_force)
            writer = status_writer(datastore)
            assert writer is not None
            assert await writer.write_status(Key("CalicoNodeStatus", "s"), {"agent": {}})
            other = {"secretKeyRef": {"name": "other", "key": "k"}}
            await server.apply([peer("b", password=other)])
            await watch.until(lambda: bool(watch.last.problems))
            assert "secrets/kube-system/other cannot be read" in watch.last.problems[0].reason

    asyncio.run(scenario())
