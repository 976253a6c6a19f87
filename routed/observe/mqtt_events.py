"""Events to an MQTT broker: each a JSON document on a topic of the node's, and whether the node is there.

A broker that is away, or slow, costs nothing but the events: those that wait for it are bounded in octets,
the others dropped and counted. What is where is in `mqtt_messages`.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Coroutine, Mapping
from typing import Any, Final

import aiomqtt

from routed import log
from routed.datastore.mqtt_client import MqttOptions, connected, read_url
from routed.datastore.retry import UnavailableError, keep_trying
from routed.observe.events import Event, EventKind
from routed.observe.mqtt_messages import Message, Messages, Outbox, Topics
from routed.observe.observed import Observed

#: Messages that wait for the broker's acknowledgement at once, and their octets.
IN_FLIGHT: Final = 32
IN_FLIGHT_OCTETS: Final = 64 * 1024
#: Events that are made messages of before the rest of the process has its turn.
PORTION: Final = 50
#: At the stop: for what still waits, and then for the word that the node is gone, seconds.
FLUSH_TIME: Final = 0.4
GOODBYE_TIME: Final = 0.2
#: How many different reasons of one loss are logged.
MOST_REASONS: Final = 8

_VARIABLES: Final = "ROUTED_EVENTS_"
_VARIABLES_OF_DATASTORE: Final = "ROUTED_MQTT_"


def read_events_url(url: str, environ: Mapping[str, str]) -> MqttOptions:
    """The broker of `--events`: as a datastore's URL, with variables of its own, since it may be another
    broker (`ROUTED_EVENTS_USERNAME`, `_PASSWORD`, `_PASSWORD_FILE`, `_CA_CERT_FILE`, `_CERT_FILE`,
    `_KEY_FILE`). Raises ValueError, which holds no password."""
    mine = {
        _VARIABLES_OF_DATASTORE + name.removeprefix(_VARIABLES): value
        for name, value in environ.items()
        if name.startswith(_VARIABLES)
    }
    try:
        options = read_url(url, mine)
    except ValueError as error:
        raise ValueError(str(error).replace(_VARIABLES_OF_DATASTORE, _VARIABLES)) from None
    if "@" in options.prefix:
        # A password with a slash in it would end the host, and be a part of the topics.
        raise ValueError(
            "mqtt: '@' in the prefix of topics: percent-encode '/', '?', '#', ':' and '@' in user and "
            f"password, or give them as {_VARIABLES}USERNAME and {_VARIABLES}PASSWORD"
        )
    return options


class MqttEvents:
    """One connection that publishes a process's events. An outlet."""

    def __init__(self, options: MqttOptions, observed: Observed) -> None:
        self._options = options
        self._events = observed.events
        self._counters = observed.outlet_counters
        self._topics = Topics(options.prefix, observed.node)
        self._messages = Messages(self._topics, observed.node, observed.started_at)
        self._outbox = Outbox(self._gap)
        self._log = log.get("events")
        self._subscription = self._events.subscribe()
        self._taking: asyncio.Task[None] | None = None
        self._publishing: asyncio.Task[None] | None = None
        self._reasons: set[str] = set()
        self._connected = False
        self._published = 0
        self._losses = 0
        self._count()

    async def start(self) -> None:
        """Begin to connect. Raises nothing: a broker that is not there is waited for."""
        self._taking = asyncio.create_task(self._take())
        self._publishing = asyncio.create_task(keep_trying(self._session, self._lost))
        for task in (self._taking, self._publishing):
            task.add_done_callback(self._ended)

    async def close(self) -> None:
        """Publish what waits where the broker takes it at once, say that the node is gone, and end; within a
        second, whatever the broker does."""
        self._subscription.close()
        if self._taking is None or self._publishing is None:
            return
        if self._connected:
            await asyncio.wait({self._publishing}, timeout=FLUSH_TIME)
        for task in (self._taking, self._publishing):
            while not task.done():
                task.cancel()
                await asyncio.wait({task}, timeout=FLUSH_TIME)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._outbox.news.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log.error("no more events are published", error=repr(error))

    # From events to messages

    async def _take(self) -> None:
        """Has each event wait as messages, until there are no more events."""
        taken = 0
        async for event in self._subscription:
            if event.kind is EventKind.MISSED:
                # Too many at once: the outbox tells of them with its own.
                missed = event.fields.get("events")
                self._outbox.drop(missed if isinstance(missed, int) else 1)
            elif self._outbox.full:
                self._outbox.drop(1)
            else:
                self._outbox.put(self._messages.of(event))
            self._count()
            taken += 1
            if taken % PORTION == 0:
                await asyncio.sleep(0)

    def _gap(self, events: int) -> list[Message]:
        """What is told in place of so many events."""
        text = f"{events} events were dropped: the broker was away, or slow"
        message = self._messages.of(Event(0, time.time(), EventKind.MISSED, text, fields={"events": events}))
        return [one._replace(events=0) for one in message]

    # To the broker

    async def _session(self) -> None:
        """One connection, until there is nothing more to publish. Raises UnavailableError."""
        will = aiomqtt.Will(self._topics.online, b"false", qos=1, retain=True)
        async with connected(self._options, will, self._topics.client) as client:
            await self._say_online(client, b"true")
            self._came()
            lost = asyncio.create_task(_until_lost(client))
            try:
                while len(self._outbox) or not self._over:
                    if batch := self._outbox.first(IN_FLIGHT, IN_FLIGHT_OCTETS):
                        await _unless(lost, _publish(client, batch))
                        self._published += self._outbox.sent(len(batch))
                        self._count()
                    else:
                        self._outbox.news.clear()
                        await _unless(lost, self._outbox.news.wait())
            finally:
                self._connected = False
                lost.cancel()
                await asyncio.gather(lost, return_exceptions=True)
                # A connection that ends as it should has no last will.
                with contextlib.suppress(aiomqtt.MqttError):
                    await self._say_online(client, b"false", GOODBYE_TIME)

    @property
    def _over(self) -> bool:
        return self._taking is not None and self._taking.done()

    async def _say_online(self, client: aiomqtt.Client, payload: bytes, timeout: float | None = None) -> None:
        await client.publish(self._topics.online, payload, qos=1, retain=True, timeout=timeout)

    def _came(self) -> None:
        """The broker has taken us."""
        self._connected = True
        self._count()
        if self._reasons:
            self._reasons.clear()
            self._log.info("broker is back", broker=str(self._options), dropped=self._outbox.dropped)
        else:
            self._log.info("publishing events", broker=str(self._options), topics=f"{self._topics.node}/#")

    def _lost(self, reason: str) -> None:
        """A connection ended, or could not be had."""
        if not self._reasons:
            self._losses += 1
        self._count()
        if reason not in self._reasons and len(self._reasons) < MOST_REASONS:
            self._reasons.add(reason)
            self._log.warning("no broker: events wait, and are dropped where too many do", reason=reason)

    def _count(self) -> None:
        self._counters["mqtt_connected"] = int(self._connected)
        self._counters["mqtt_connections_lost"] = self._losses
        self._counters["mqtt_events_published"] = self._published
        self._counters["mqtt_events_dropped"] = self._outbox.dropped
        self._counters["mqtt_waiting_bytes"] = self._outbox.octets


async def _publish(client: aiomqtt.Client, batch: list[Message]) -> None:
    """Publish in order, and wait until the broker has all. Raises MqttError."""
    outcomes = await asyncio.gather(
        *(client.publish(message.topic, message.payload, qos=1) for message in batch), return_exceptions=True
    )
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome


async def _until_lost(client: aiomqtt.Client) -> None:
    """Raises MqttError when the connection ends. Nothing is subscribed to, so nothing comes."""
    async for _ in client.messages:
        pass


async def _unless(lost: asyncio.Task[None], job: Coroutine[Any, Any, object]) -> None:
    """Do the job, unless the connection is lost before it is done; then raises what `lost` does."""
    task = asyncio.ensure_future(job)
    try:
        await asyncio.wait({task, lost}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            lost.result()
            raise UnavailableError("it ended the connection")
        await task
    finally:
        if not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
