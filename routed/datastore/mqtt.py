"""The records that a relay keeps on an MQTT broker. See `mqtt_wire` for what is where."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import cast

import aiomqtt
import msgspec

from routed.datastore import mqtt_wire as wire
from routed.datastore.mqtt_client import MqttOptions, connected
from routed.datastore.mqtt_secrets import read_secrets
from routed.datastore.remote import Feed, Follower, RemoteDatastore
from routed.datastore.retry import UnavailableError
from routed.datastore.store import Found
from routed.resources import Key, Parsed, Problem, parse_record

PATIENCE = 2.0
"""Seconds that the first words of a relay may take after the subscription."""

STUCK = 30.0
"""Seconds without a record while some are missing, after which all are asked for again."""

SECRETS_PERIOD = 2.0
"""Seconds between two looks at the mounted Secrets."""


class MqttDatastore(RemoteDatastore):
    """`mqtt://HOST:PORT/PREFIX`. See `base.Datastore`. `secrets`: a folder of mounted Secrets, of this
    `namespace`."""

    def __init__(
        self, options: MqttOptions, secrets: Path | None = None, namespace: str = "kube-system"
    ) -> None:
        super().__init__()
        self.options = options
        self.secrets = secrets
        self.namespace = namespace

    def follower(self, feed: Feed) -> Follower:
        """See `RemoteDatastore`."""
        return _MqttFollower(self, feed)


class _MqttFollower(Follower):
    """One watch.

    A session begins with all retained messages, in a session of the broker's that remembers nothing: so what
    was deleted meanwhile is simply not there. They go into the feed's store when, and each time that, they
    are all that the marker says there is: a batch takes effect as one."""

    def __init__(self, datastore: MqttDatastore, feed: Feed) -> None:
        self.datastore = datastore
        self.options = datastore.options
        self.feed = feed
        self.topics = wire.Topics(self.options.prefix)
        self.loop = asyncio.get_running_loop()
        self.relays = wire.Relays(self.loop.time)
        self.stored = wire.Contents()  # what is in the store
        self.secrets: dict[str, Found] = {}
        self.secret_problems: list[Problem] = []
        self._begin()

    def _begin(self) -> None:
        self.relays.begin()
        self.contents = wire.Contents()  # what the broker has told
        self.waiting: dict[str, bytes] = {}  # what of it is not in the store yet
        self.marker: wire.Marker | None = None
        self.relayed_problems: tuple[Problem, ...] = ()
        self.fresh = True
        self.problems_changed = True
        self.complaint = ""
        self.began = self.last_record = self.loop.time()
        self.next_secrets = 0.0

    async def session(self) -> None:
        """See `Follower`."""
        async with connected(self.options) as client:
            self._begin()
            codes = await client.subscribe(self.topics.all())
            if any(_refused(code) for code in codes):
                raise UnavailableError(f"{self.options}: this user may not read {self.options.prefix}/#")
            while True:
                await self._take_some(client)
                self._look_at_secrets()
                self._settle()

    async def _take_some(self, client: aiomqtt.Client) -> None:
        """Waits for a message, or until something is due; takes what has come by then, up to a marker."""
        due = [self.relays.next_expiry, self.next_secrets if self.datastore.secrets else None]
        if not self.relays.there and not self.complaint:
            due.append(self.began + PATIENCE)
        until = min((time for time in due if time is not None), default=None)
        messages = aiter(client.messages)
        with suppress(TimeoutError):
            async with asyncio.timeout_at(until):
                self._take(await anext(messages))
        while len(client.messages) and not self._is_all:
            self._take(await anext(messages))

    @property
    def _is_all(self) -> bool:
        return self.marker is not None and self.contents.matches(self.marker)

    def _take(self, message: aiomqtt.Message) -> None:
        topic, payload = str(message.topic), message.payload
        if not isinstance(payload, bytes):
            return
        if topic.startswith(self.topics.records):
            self.last_record = self.loop.time()
            self.relays.records_come()
            record = (wire.record_of(payload) or payload) if payload else b""
            self.contents.put(topic, record)
            self.waiting[topic] = record
        elif topic == self.topics.snapshot:
            self.marker = wire.decode(payload, wire.Marker) or self.marker
        elif topic == self.topics.problems:
            self.relayed_problems = _problems(payload)
            self.problems_changed = True
        elif topic.startswith(self.topics.relays):
            self.relays.take(topic.removeprefix(self.topics.relays), payload)

    def _settle(self) -> None:
        """Says how it stands."""
        silent = self.relays.expire()
        if silent and not self.relays.there:
            # It may be the connection that is dead.
            raise UnavailableError(
                f"{self.options}: nothing was heard of a relay for {wire.SILENCE * wire.BEAT:g} s"
            )
        complaint = self._complaint()
        if complaint:
            if complaint != self.complaint:
                self.feed.lost(f"{self.options}: {complaint}")
            self.complaint = complaint
            return
        if not self.relays.there:
            return  # Their words may be on the way.
        if not self._is_all:
            if self.loop.time() - self.last_record > STUCK:
                raise UnavailableError(
                    f"{self.options}: some records do not come: does the broker drop messages (mosquitto: "
                    "set max_queued_messages 0), or do two clusters publish below one prefix?"
                )
            return
        changed = self._store()
        if not self.feed.is_synced:
            self.complaint = ""
            self.feed.in_sync()
        elif changed:
            self.feed.changed()

    def _complaint(self) -> str:
        """Why what is here cannot be relied on, empty where it can."""
        there = self.relays.there
        if there:
            if all(status.lost for status in there):
                return f"relay {there[0].relay}: {there[0].lost}"
            if self.marker is not None or self.loop.time() - self.began < PATIENCE:
                return ""
            return "the relay has not published all records yet"
        if self.feed.is_synced or self.loop.time() - self.began >= PATIENCE:
            return "no relay is connected to the broker"
        return "" if not self.complaint else self.complaint

    def _store(self) -> bool:
        """Brings the store to what there is. Gives whether something is different."""
        store, changed = self.feed.store, bool(self.waiting) or self.problems_changed
        if self.fresh:
            for topic in self.stored.topics() - self.contents.topics():
                self.waiting[topic] = b""
            self.fresh = False
        for topic, record in self.waiting.items():
            if self.stored.holds(topic, record):
                continue
            self.stored.put(topic, record)
            if record:
                store.replace(topic, (_found(topic, record),))
            else:
                store.remove(topic)
        self.waiting.clear()
        if self.problems_changed:
            store.set_common_problems((*self.relayed_problems, *self.secret_problems))
            self.problems_changed = False
        return changed

    def _look_at_secrets(self) -> None:
        folder = self.datastore.secrets
        if folder is None or self.loop.time() < self.next_secrets:
            return
        self.next_secrets = self.loop.time() + SECRETS_PERIOD
        found, problems = read_secrets(folder, self.datastore.namespace)
        if problems:  # The folder itself: what it held stays in force.
            found = self.secrets
        if (found, problems) == (self.secrets, self.secret_problems):
            return
        for path in self.secrets.keys() - found.keys():
            self.feed.store.remove(path)
        for path, item in found.items():
            self.feed.store.replace(path, (item,))
        self.secrets, self.secret_problems = found, problems
        self.problems_changed = True


def _refused(code: object) -> bool:
    """A SUBACK's return code 0x80 (MQTT 3.1.1, 3.9.3)."""
    return cast(int, getattr(code, "value", code)) >= 0x80


def _found(topic: str, record: bytes) -> Found:
    """The record that was relayed. Its warnings come from the relay, which has seen how it was written. Only
    where it cannot be taken, as of a later version, is that told here. A Secret is taken from nobody."""
    try:
        document = msgspec.json.decode(record)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Found(Parsed(None, None, (Problem(None, "", "is not JSON", topic),)), topic)
    parsed = parse_record(document)
    if parsed.record is None:
        return Found(parsed, topic)
    if parsed.record.kind == "Secret":
        problem = Problem(parsed.key, "", "a Secret is not taken from a broker: mount it", topic)
        return Found(Parsed(parsed.key, None, (problem,)), topic)
    return Found(Parsed(parsed.key, parsed.record), topic)


def _problems(payload: bytes) -> tuple[Problem, ...]:
    told = wire.decode(payload, list[wire.WireProblem]) or []
    return tuple(
        Problem(
            Key(problem.kind, problem.name) if problem.kind else None,
            problem.field,
            problem.reason,
            problem.source,
            "warning" if problem.severity == "warning" else "error",
        )
        for problem in told
    )
