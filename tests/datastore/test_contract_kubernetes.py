"""The contract, for an API server behind a proxy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

from routed.datastore import Datastore, open_datastore
from routed.datastore.kubernetes import http, reflector
from routed.resources import Key
from tests.datastore.apiserver import APIServer, write_kubeconfig
from tests.datastore.contract import Document, RemoteAdapter, RemoteAdapterFactory, RemoteContract
from tests.datastore.proxy import Proxy


class KubernetesAdapter(RemoteAdapter):
    """Records as custom resources."""

    def __init__(self, folder: Path) -> None:
        self.server = APIServer(bookmark_period=0.3)
        self.folder = folder

    async def __aenter__(self) -> KubernetesAdapter:
        await self.server.start()
        self.proxy = Proxy(self.server.port)
        await self.proxy.__aenter__()
        self.kubeconfig = write_kubeconfig(self.folder / "config", f"http://127.0.0.1:{self.proxy.port}")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.proxy.__aexit__()
        await self.server.stop()

    def open(self) -> Datastore:
        return open_datastore(f"kubernetes:{self.kubeconfig}", {})

    async def put(self, documents: Sequence[Document]) -> None:
        self.server.put(*documents)

    async def delete(self, keys: Iterable[Key]) -> None:
        for key in keys:
            self.server.delete(key.kind, key.name)

    async def put_garbage(self, key: Key) -> None:
        self.server.put({"kind": key.kind, "metadata": {"name": key.name}, "spec": ["no", {"spec": None}]})

    async def cut(self) -> None:
        self.proxy.cut()

    async def block(self) -> None:
        self.proxy.refusing = True
        self.proxy.cut()

    async def unblock(self) -> None:
        self.proxy.refusing = False

    async def stop(self) -> None:
        await self.server.stop()

    async def start(self) -> None:
        await self.server.start()

    async def slow_down(self) -> None:
        # A page of 500 objects then takes longer than an answer may be silent.
        self.proxy.chunk, self.proxy.pace = 4096, 0.02

    async def freeze(self) -> None:
        self.proxy.freeze()

    async def thaw(self) -> None:
        self.proxy.thaw()


class TestKubernetes(RemoteContract):
    @pytest.fixture
    def adapter(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RemoteAdapterFactory:
        monkeypatch.setattr(reflector, "SILENCE", 1.0)
        monkeypatch.setattr(http, "ANSWER_TIMEOUT", 0.7)
        return lambda: KubernetesAdapter(tmp_path)

    @pytest.fixture
    def patient(self, adapter: RemoteAdapterFactory, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(reflector, "SILENCE", 60.0)
        monkeypatch.setattr(http, "ANSWER_TIMEOUT", 60.0)
