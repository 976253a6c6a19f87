"""The contract, for a real mosquitto behind a proxy, with a relay that reads files."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec
import pytest

from routed.datastore import Datastore, Snapshot, mqtt_wire, open_datastore, retry
from routed.datastore.mqtt_client import MqttOptions
from routed.datastore.mqtt_documents import encode
from routed.relay import Relay
from routed.resources import Key, parse_record
from tests.datastore.contract import (
    TIMEOUT,
    AdapterFactory,
    Document,
    RemoteAdapter,
    RemoteAdapterFactory,
    RemoteContract,
    peer,
)
from tests.datastore.mosquitto import Mosquitto, Observer, observing
from tests.datastore.proxy import Proxy
from tests.datastore.test_contract_file import FileAdapter
from tests.datastore.watching import following

PREFIX = "test/cluster"
TOPICS = mqtt_wire.Topics(PREFIX)


class MqttAdapter(RemoteAdapter):
    """Files, a relay and a broker are the server; what is hurt is the way to the broker."""

    def __init__(self, folder: Path) -> None:
        self.files = FileAdapter(folder)
        self.server = Mosquitto(folder / "mosquitto")
        self.proxy = Proxy(self.server.port)
        self.observer = Observer()
        self.stack = contextlib.AsyncExitStack()
        self.relay: asyncio.Task[None] | None = None

    async def __aenter__(self) -> MqttAdapter:
        await self.files.__aenter__()
        await self.proxy.__aenter__()
        await self.start()
        await self.start_relay()
        return self

    async def start_relay(self) -> None:
        relay = Relay(self.files.open(), MqttOptions("127.0.0.1", self.server.port, PREFIX), "relay-1")
        self.relay = asyncio.create_task(relay.run())
        await self.observer.until(lambda: TOPICS.snapshot in self.observer.held)

    async def stop_relay(self) -> None:
        assert self.relay is not None
        self.relay.cancel()
        await asyncio.gather(self.relay, return_exceptions=True)

    async def __aexit__(self, *_: object) -> None:
        await self.stop_relay()
        await self.stop()
        await self.proxy.__aexit__()
        await self.files.__aexit__()

    def open(self) -> Datastore:
        return open_datastore(f"mqtt://127.0.0.1:{self.proxy.port}/{PREFIX}", {})

    def holds(self, topic: str, record: bytes) -> bool:
        return mqtt_wire.record_of(self.observer.held.get(topic, b"")) == record

    async def put(self, documents: Sequence[Document]) -> None:
        await self.files.put(documents)
        wanted: dict[str, bytes] = {}
        for document in documents:
            parsed = parse_record(document)
            if parsed.record is not None:
                topic = TOPICS.record(parsed.record.key)
                wanted[topic] = msgspec.json.encode(encode(parsed.record), order="deterministic")
            else:
                await self.observer.until(self.has_problems)
        await self.observer.until(lambda: all(self.holds(*item) for item in wanted.items()))
        await self.observer.until(self.marked)

    def marked(self) -> bool:
        """Whether the marker is about what there is."""
        contents = mqtt_wire.Contents()
        for topic, payload in self.observer.held.items():
            if topic.startswith(TOPICS.records):
                contents.put(topic, mqtt_wire.record_of(payload) or b"?")
        marker = mqtt_wire.decode(self.observer.held.get(TOPICS.snapshot, b""), mqtt_wire.Marker)
        return marker is not None and contents.matches(marker)

    def has_problems(self) -> bool:
        return len(self.observer.held.get(TOPICS.problems, b"[]")) > 2

    async def delete(self, keys: Iterable[Key]) -> None:
        gone = {TOPICS.record(key): key for key in keys}
        await self.files.delete(gone.values())
        await self.observer.until(lambda: not gone.keys() & self.observer.held.keys())

    async def put_garbage(self, key: Key) -> None:
        await self.files.put_garbage(key)
        await self.observer.until(self.has_problems)

    async def cut(self) -> None:
        self.proxy.cut()

    async def block(self) -> None:
        self.proxy.refusing = True
        self.proxy.cut()

    async def unblock(self) -> None:
        self.proxy.refusing = False

    async def stop(self) -> None:
        with contextlib.suppress(Exception):
            await self.stack.aclose()
        await self.server.stop()

    async def start(self) -> None:
        await self.server.start()
        self.observer = await self.stack.enter_async_context(observing(self.server.port, PREFIX))

    async def slow_down(self) -> None:
        self.proxy.chunk, self.proxy.pace = 1024, 0.01

    async def freeze(self) -> None:
        self.proxy.freeze()

    async def thaw(self) -> None:
        self.proxy.thaw()


@pytest.mark.usefixtures("mosquitto")
class TestMqtt(RemoteContract):
    @pytest.fixture
    def adapter(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RemoteAdapterFactory:
        monkeypatch.setattr(mqtt_wire, "BEAT", 0.4)
        monkeypatch.setattr(retry, "LONGEST_PAUSE", 1.0)
        return lambda: MqttAdapter(tmp_path)

    @pytest.fixture
    def patient(self, adapter: RemoteAdapterFactory, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(mqtt_wire, "BEAT", 5.0)

    def test_garbage_at_the_start_hurts_itself_alone(self, adapter: AdapterFactory) -> None:
        """At the start of the relay: one that runs has the last good version for those who come later too."""

        async def scenario() -> None:
            async with asyncio.timeout(TIMEOUT), adapter() as server:
                assert isinstance(server, MqttAdapter)
                await server.put([peer("a"), peer("b")])
                await server.put_garbage(Key("BGPPeer", "a"))
                async with following(server.open()) as watch:
                    snapshot = await watch.expect(Snapshot)
                    assert [record.name for record in snapshot.upserts] == ["a", "b"]
                    assert snapshot.problems
                await server.stop_relay()
                await server.start_relay()
                await server.observer.until(
                    lambda: TOPICS.record(Key("BGPPeer", "a")) not in server.observer.held
                )
                async with following(server.open()) as watch:
                    snapshot = await watch.expect(Snapshot)
                    assert [record.name for record in snapshot.upserts] == ["b"]
                    assert snapshot.problems

        asyncio.run(scenario())
