"""The relay: one watch of a datastore, kept as retained messages on an MQTT broker for any number of readers.

See `datastore.mqtt_wire` for what is where. Several relays can be there at once: one publishes, the others
compare what the broker holds with what they know, and are ready to.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
from typing import Final

import aiomqtt
import msgspec

from routed import log
from routed.datastore import Batch, Datastore, Lost, Restored, Snapshot
from routed.datastore import mqtt_wire as wire
from routed.datastore.mqtt_client import IN_FLIGHT, MqttOptions, connected
from routed.datastore.mqtt_documents import encode
from routed.datastore.retry import UnavailableError, keep_trying
from routed.resources import Problem, Secret

_log = log.get("relay")

_UNSEEN: Final = b"?"
"""No JSON: what a topic may hold before the broker has said so."""


def new_name() -> str:
    """A relay's name, that no other has: the host's, and 32 random bits."""
    host = "".join(c if c.isalnum() or c in "-." else "-" for c in socket.gethostname())
    return f"{host}-{secrets.token_hex(4)}"


class Relay:
    """From `datastore` to the broker. Secrets stay behind."""

    def __init__(self, datastore: Datastore, options: MqttOptions, name: str | None = None) -> None:
        self.datastore = datastore
        self.options = options
        self.name = name or new_name()
        self.topics = wire.Topics(options.prefix)
        self._records: dict[str, bytes] = {}  # what there is to be, by topic
        self._problems = b"[]"
        self._lost = ""
        self._revision = 0
        self._beat = secrets.randbits(32)
        self._ready = asyncio.Event()
        self._wake = asyncio.Event()
        self._relays = wire.Relays(asyncio.get_running_loop().time)
        self._broker_lost = False
        self._begin()

    def _begin(self) -> None:
        """A new connection, of which nothing is known."""
        self._relays.begin()
        self._broker = wire.Contents()  # what the broker holds, as far as it is known
        self._wrong = set(self._records)  # the topics where that is not what there is to be
        self._broker_problems = _UNSEEN
        self._marker: wire.Marker | None = None
        self._listed = False
        self._told = (-1.0, "")

    async def run(self) -> None:
        """Until it is cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._follow())
                group.create_task(keep_trying(self._session, self._on_lost_broker))
        finally:
            await self.datastore.close()

    # The datastore

    async def _follow(self) -> None:
        async for event in self.datastore.watch():
            if isinstance(event, Batch):
                self._take(event)
                if isinstance(event, Snapshot):
                    _log.info("the datastore is read", records=len(self._records))
                    self._ready.set()
            elif isinstance(event, Lost):
                self._lost = f"its datastore is lost: {event.reason}"
                _log.warning("datastore lost", reason=event.reason)
            elif isinstance(event, Restored):
                self._lost = ""
                _log.info("datastore restored")
            self._wake.set()

    def _take(self, batch: Batch) -> None:
        for record in batch.upserts:
            if not isinstance(record, Secret):
                topic = self.topics.record(record.key)
                self._records[topic] = msgspec.json.encode(encode(record), order="deterministic")
                self._compare(topic)
        for key in batch.deletes:
            topic = self.topics.record(key)
            self._records.pop(topic, None)
            self._compare(topic)
        self._problems = msgspec.json.encode([_wire_problem(p) for p in batch.problems[: wire.MOST_PROBLEMS]])

    def _compare(self, topic: str) -> None:
        right = self._broker.holds(topic, self._records.get(topic, b""))
        (self._wrong.discard if right else self._wrong.add)(topic)

    # The broker

    def _on_lost_broker(self, reason: str) -> None:
        if not self._broker_lost:
            _log.warning("broker lost", reason=reason)
        self._broker_lost = True

    async def _session(self) -> None:
        await self._ready.wait()
        will = aiomqtt.Will(self.topics.relay(self.name), b"", qos=1, retain=True)
        async with connected(self.options, will) as client:
            self._begin()
            await client.subscribe(self.topics.all())
            listener = asyncio.create_task(self._listen(client))
            listener.add_done_callback(lambda _: self._wake.set())
            try:
                while True:
                    await self._step(client)
                    if listener.done():
                        listener.result()
                        raise UnavailableError(f"{self.options}: it ended the connection")
            finally:
                listener.cancel()
                await asyncio.gather(listener, return_exceptions=True)
                await self._say_goodbye(client)

    async def _say_goodbye(self, client: aiomqtt.Client) -> None:
        """Where it can: a connection that ends as it should has no last will."""
        try:
            await client.publish(self.topics.relay(self.name), b"", qos=1, retain=True, timeout=0.5)
        except aiomqtt.MqttError:
            return

    async def _listen(self, client: aiomqtt.Client) -> None:
        """What the broker holds: at first all of it, then what is published, by us too."""
        async for message in client.messages:
            topic, payload = str(message.topic), message.payload
            if not isinstance(payload, bytes):
                continue
            if topic.startswith(self.topics.records):
                self._relays.records_come()
                self._broker.put(topic, (wire.record_of(payload) or _UNSEEN) if payload else b"")
                self._compare(topic)
            elif topic == self.topics.snapshot:
                self._marker = wire.decode(payload, wire.Marker)
                if self._marker is not None:
                    self._revision = max(self._revision, self._marker.revision)
            elif topic == self.topics.problems:
                self._broker_problems = payload
            elif topic.startswith(self.topics.relays):
                relay = topic.removeprefix(self.topics.relays)
                self._relays.take(relay, payload)
                # Retained messages come before what is published after the subscription.
                self._listed = self._listed or (relay == self.name and not message.retain)
            if not len(client.messages):
                self._wake.set()

    async def _step(self, client: aiomqtt.Client) -> None:
        """Says that it is there, publishes where it is the one to, and waits until there is more to do."""
        now = asyncio.get_running_loop().time()
        self._wake.clear()
        if self._told[0] <= now or self._told[1] != self._lost:
            self._beat += 1
            self._told = (now + wire.BEAT, self._lost)
            status = wire.Status(self.name, self._beat, self._lost)
            await self._publish(client, self.topics.relay(self.name), msgspec.json.encode(status))
        silent = self._relays.expire()
        if self.leading:
            for relay in silent:
                await self._publish(client, self.topics.relay(relay), b"")
            await self._publish_all(client)
        if self._broker_lost:
            self._broker_lost = False
            _log.info("broker restored")
        try:
            async with asyncio.timeout_at(min(self._told[0], self._relays.next_expiry or self._told[0])):
                await self._wake.wait()
        except TimeoutError:
            return

    @property
    def leading(self) -> bool:
        """Whether it is this one that publishes."""
        return self._listed and self._relays.leader(self._marker) == self.name

    async def _publish_all(self, client: aiomqtt.Client) -> None:
        """What the broker does not hold yet, and then what all of it is."""
        self._revision += bool(self._wrong)
        wrong = sorted(self._wrong)
        for start in range(0, len(wrong), IN_FLIGHT):
            chunk = wrong[start : start + IN_FLIGHT]
            outcomes = await asyncio.gather(
                *(self._publish_record(client, topic) for topic in chunk), return_exceptions=True
            )
            for outcome in outcomes:
                if isinstance(outcome, BaseException):
                    raise outcome
            # A slow broker: say in between that we are there.
            if asyncio.get_running_loop().time() >= self._told[0]:
                self._wake.set()
                break
        if self._broker_problems != self._problems:
            self._broker_problems = self._problems
            await self._publish(client, self.topics.problems, self._problems)
        if self._wrong:
            self._wake.set()
            return
        marker = self._broker.marker(self.name, self._revision)
        if marker != self._marker:
            self._marker = marker
            await self._publish(client, self.topics.snapshot, msgspec.json.encode(marker))

    async def _publish_record(self, client: aiomqtt.Client, topic: str) -> None:
        record = self._records.get(topic, b"")
        payload = b""
        if record:
            payload = msgspec.json.encode(wire.Envelope(self._revision, msgspec.Raw(record)))
        self._broker.put(topic, record)
        self._wrong.discard(topic)
        await self._publish(client, topic, payload)

    async def _publish(self, client: aiomqtt.Client, topic: str, payload: bytes) -> None:
        await client.publish(topic, payload, qos=1, retain=True)


def _wire_problem(problem: Problem) -> wire.WireProblem:
    kind, name = problem.key or ("", "")
    return wire.WireProblem(kind, name, problem.field, problem.reason, problem.source, problem.severity)
