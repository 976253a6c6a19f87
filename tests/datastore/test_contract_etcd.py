"""The contract, for a real etcd behind a proxy."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

from routed.datastore import Datastore, etcd_client, open_datastore, remote
from routed.datastore.etcd_layout import key_of as etcd_key_of
from routed.resources import Key
from tests.datastore.contract import Document, RemoteAdapter, RemoteAdapterFactory, RemoteContract, key_of
from tests.datastore.etcd_server import EtcdServer
from tests.datastore.proxy import Proxy


class EtcdAdapter(RemoteAdapter):
    """Records at their places in Calico's layout."""

    def __init__(self, folder: Path) -> None:
        self.server = EtcdServer(folder)
        self.proxy = Proxy(self.server.port)
        self.places: dict[Key, str] = {}

    async def __aenter__(self) -> EtcdAdapter:
        await self.server.start()
        await self.proxy.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.proxy.__aexit__()
        await self.server.stop()

    def open(self) -> Datastore:
        return open_datastore(f"etcd://127.0.0.1:{self.proxy.port}", {})

    async def put(self, documents: Sequence[Document]) -> None:
        pairs = []
        for document in documents:
            place, value = etcd_key_of(document)
            self.places[key_of(document)] = place
            pairs.append((place, json.dumps(value).encode()))
        await self.server.put(pairs)

    async def delete(self, keys: Iterable[Key]) -> None:
        await self.server.delete(self.places[key] for key in keys)

    async def put_garbage(self, key: Key) -> None:
        await self.server.put([(self.places[key], b'{"kind": "BGPPeer", "metadata": {"na')])

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
        # A page of 500 keys then takes longer than an answer may be silent.
        self.proxy.chunk, self.proxy.pace = 1024, 0.02

    async def freeze(self) -> None:
        self.proxy.freeze()

    async def thaw(self) -> None:
        self.proxy.thaw()


@pytest.mark.usefixtures("etcd")
class TestEtcd(RemoteContract):
    @pytest.fixture
    def adapter(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RemoteAdapterFactory:
        monkeypatch.setattr(remote, "LOST_GRACE", 0.1)
        monkeypatch.setattr(etcd_client, "PROGRESS_PERIOD", 0.3)
        monkeypatch.setattr(etcd_client, "ANSWER_TIME", 0.7)
        return lambda: EtcdAdapter(tmp_path)

    @pytest.fixture
    def patient(self, adapter: RemoteAdapterFactory, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(etcd_client, "ANSWER_TIME", 60.0)
