"""Events as MQTT messages: topics, documents that fit into a packet, and those that wait to be sent.

PREFIX/nodes/<node>/online         retained: `true`; `false` after the stop, and by the last will
PREFIX/nodes/<node>/events/<kind>  `Published`, one for each event, or several parts of one
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import msgspec

from routed.observe import documents
from routed.observe.events import Event, EventKind
from routed.observe.views.events import event_document
from routed.observe.views.text import time_text

#: The version of the documents. Fields may come; none goes or means something else within a version.
SCHEMA: Final = 1
#: Octets of a document at most. The smallest limit of the brokers that are in use is 128 KiB.
MOST_OCTETS: Final = 32 * 1024
#: A text that is longer is cut where a document would be too large, characters.
MOST_TEXT: Final = 1000
#: Octets of messages that wait for the broker; an event that finds no room is dropped, and counted.
WAITING_OCTETS: Final = 1024 * 1024
#: What a message takes beside its payload and topic, octets, about.
_MESSAGE_OCTETS: Final = 200

_ENCODER: Final = msgspec.json.Encoder(enc_hook=str)


class Published(documents.Event, frozen=True, kw_only=True):
    """An event as it is published. With `node` and `started_at` its number says which one it is: a broker may
    hand a message over twice (QoS 1)."""

    schema: int
    """The version of this document, 1."""
    node: str
    started_at: str
    """When the process started; its events count from 1."""
    part: int
    """Of an event that is too large for one message: 1 to `parts`. Lists in `fields` go on from part to part,
    all else is the same in each."""
    parts: int


class Message(NamedTuple):
    """Something to publish. `events`: how many are told by it, 0 for a part that is not the last."""

    topic: str
    payload: bytes
    events: int

    @property
    def octets(self) -> int:
        """What it takes while it waits, about."""
        return len(self.payload) + len(self.topic) + _MESSAGE_OCTETS


class Topics:
    """The topics of one node. Its name is one level of them: what is not a letter, a digit or one of `-._~`
    is percent-encoded, as in a URL."""

    def __init__(self, prefix: str, node: str) -> None:
        self.node = f"{prefix}/nodes/{quote(node, safe='', errors='replace')}"
        self.online = f"{self.node}/online"
        self._events = f"{self.node}/events/"

    def event(self, kind: EventKind) -> str:
        """Where events of a kind go."""
        return f"{self._events}{kind.value}"

    @property
    def client(self) -> str:
        """The MQTT client identifier: the same for each connection of the node, so that a broker which has
        not noticed the end of one ends it when the next comes, and its last will is not told after that. 23
        characters, what every broker takes (MQTT 3.1.1, 3.1.3.1)."""
        return "routed-" + hashlib.sha256(self.node.encode()).hexdigest()[:16]


class Messages:
    """Makes the messages of one process."""

    def __init__(self, topics: Topics, node: str, started_at: float) -> None:
        """`started_at`: seconds since 1970."""
        self._topics = topics
        self._node = node.encode(errors="replace").decode()
        self._started_at = time_text(started_at, milliseconds=True)

    def of(self, event: Event) -> list[Message]:
        """The messages of one event, in order."""
        topic = self._topics.event(event.kind)
        payloads = self._payloads(event_document(event))
        last = len(payloads) - 1
        return [Message(topic, payload, int(index == last)) for index, payload in enumerate(payloads)]

    def _payloads(self, event: documents.Event) -> list[bytes]:
        whole = self._encode(event, event.fields, 1, 1)
        if len(whole) <= MOST_OCTETS:
            return [whole]
        short = msgspec.structs.replace(
            event, text=_cut(event.text), peer=None if event.peer is None else _cut(event.peer)
        )
        parts = list(_parts(event.fields))
        return [self._encode(short, fields, number, len(parts)) for number, fields in enumerate(parts, 1)]

    def _encode(self, event: documents.Event, fields: Mapping[str, Any], part: int, parts: int) -> bytes:
        return _ENCODER.encode(
            Published(
                schema=SCHEMA,
                node=self._node,
                started_at=self._started_at,
                part=part,
                parts=parts,
                **(msgspec.structs.asdict(event) | {"fields": fields}),
            )
        )


def _cut(text: str) -> str:
    return text if len(text) <= MOST_TEXT else f"{text[:MOST_TEXT]}…"


def _small(value: object) -> object:
    """The value, or, where it is large, the beginning of its text."""
    if isinstance(value, str):
        return _cut(value)
    encoded = _ENCODER.encode(value)
    return value if len(encoded) <= MOST_TEXT else _cut(encoded.decode())


def _parts(fields: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    """The fields in portions: what is in lists in half of the room, and all else, cut, in each portion in the
    rest; what finds no room there is left out."""
    common: dict[str, Any] = {}
    room = MOST_OCTETS // 4
    for name, value in fields.items():
        if not isinstance(value, list):
            small = _small(value)
            room -= len(_ENCODER.encode({name: small}))
            if room > 0:
                common[name] = small
    lists: dict[str, list[Any]] = {name: value for name, value in fields.items() if isinstance(value, list)}
    part: dict[str, list[Any]] = {name: [] for name in lists}
    used = 0
    for name, items in lists.items():
        for item in items:
            small = _small(item)
            size = len(_ENCODER.encode(small)) + 1
            if used + size > MOST_OCTETS // 2:
                yield common | part
                part, used = {name: [] for name in lists}, 0
            part[name].append(small)
            used += size
    yield common | part


class Outbox:
    """Messages that wait for the broker, in order. Full, it takes nothing until half of it is sent; then
    comes word of how many events were dropped, where they would have been."""

    def __init__(self, gap: Callable[[int], Sequence[Message]], most: int = WAITING_OCTETS) -> None:
        """`gap`: the messages that say that so many events were dropped. `most`: octets."""
        self._gap = gap
        self._most = most
        self._messages: deque[Message] = deque()
        self._missed = 0
        self.octets = 0
        self.dropped = 0
        """Events that were, since the start."""
        self.news = asyncio.Event()
        """Set when there may be something to send."""

    def __len__(self) -> int:
        return len(self._messages)

    @property
    def full(self) -> bool:
        """Whether what comes now is dropped."""
        return self._missed > 0

    def put(self, messages: Sequence[Message]) -> None:
        """Have an event's messages wait, all of them or none."""
        if self.full or self.octets + sum(message.octets for message in messages) > self._most:
            self.drop(sum(message.events for message in messages))
        else:
            self._append(messages)

    def drop(self, events: int) -> None:
        """So many events are not going to be told."""
        self.dropped += events
        self._missed += events
        self._tell_missed()

    def first(self, messages: int, octets: int) -> list[Message]:
        """The first that wait: at most so many, and, beyond one, of at most so many octets. They go on
        waiting."""
        found: list[Message] = []
        for message in islice(self._messages, messages):
            octets -= message.octets
            if found and octets < 0:
                break
            found.append(message)
        return found

    def sent(self, messages: int) -> int:
        """The first so many were sent. Returns how many events that told."""
        events = 0
        for _ in range(messages):
            message = self._messages.popleft()
            self.octets -= message.octets
            events += message.events
        self._tell_missed()
        return events

    def _tell_missed(self) -> None:
        if self._missed and self.octets <= self._most // 2:
            missed, self._missed = self._missed, 0
            self._append(self._gap(missed))

    def _append(self, messages: Sequence[Message]) -> None:
        self._messages.extend(messages)
        self.octets += sum(message.octets for message in messages)
        self.news.set()
