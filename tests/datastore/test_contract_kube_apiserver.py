"""The contract, for a real kube-apiserver behind a proxy."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pytest

from routed.datastore import Datastore, open_datastore
from routed.datastore.kubernetes import http, reflector
from routed.resources import Key
from tests.datastore import kube_apiserver
from tests.datastore.contract import Document, RemoteAdapter, RemoteAdapterFactory, RemoteContract
from tests.datastore.kube_apiserver import CRD_V1, KubeAPIServer
from tests.datastore.proxy import Proxy


@pytest.fixture(scope="module")
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[KubeAPIServer]:
    """One for all: it takes seconds to start."""
    if reason := kube_apiserver.unavailable():
        if request.config.getoption("--require-all"):
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    server = KubeAPIServer(tmp_path_factory.mktemp("kube-apiserver"))
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
