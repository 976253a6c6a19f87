"""What goes over MQTT between the relays and those who read: topics, messages, and the digest by which a
reader knows that what it holds is all there is.

    PREFIX/records/<kind>/<name>   retained: `Envelope`, or empty where the record is gone
    PREFIX/problems                retained: the Problems of the relay's datastore
    PREFIX/snapshot                retained: `Marker`, after every batch of records
    PREFIX/relay/<id>              retained: `Status`, again every `BEAT` seconds; empty: gone (the last will)
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TypeVar
from urllib.parse import quote

import msgspec

from routed.resources import Key

T = TypeVar("T")

BEAT = 10.0
"""Seconds between two words of a relay."""

SILENCE = 3.0
"""How many beats a relay may miss before it counts as gone."""

MOST_PROBLEMS = 1000
"""How many Problems are passed on."""


class Topics:
    """The topics below one prefix."""

    def __init__(self, prefix: str) -> None:
        self.records = f"{prefix}/records/"
        self.problems = f"{prefix}/problems"
        self.snapshot = f"{prefix}/snapshot"
        self.relays = f"{prefix}/relay/"

    def record(self, key: Key) -> str:
        """Where a record is. A name is one level: the slash after a namespace is `%2F`."""
        return f"{self.records}{key.kind}/{quote(key.name, safe=':')}"

    def relay(self, relay: str) -> str:
        """Where a relay says that it is there."""
        return f"{self.relays}{relay}"

    def all(self) -> list[tuple[str, int]]:
        """What to subscribe to, each with QoS 1. What is small and says how it stands comes first."""
        return [(f"{self.relays}+", 1), (self.snapshot, 1), (self.problems, 1), (f"{self.records}#", 1)]


class Envelope(msgspec.Struct, frozen=True):
    """A record's document, and the number of the relay's batch that brought it, which is for people: the
    batches of two relays do not compare."""

    revision: int
    record: msgspec.Raw


class Marker(msgspec.Struct, frozen=True):
    """All that there was at a `revision`: how many records, and their digest (see `Contents`)."""

    relay: str
    revision: int
    count: int
    digest: str


class Status(msgspec.Struct, frozen=True):
    """A relay is there. `beat` differs from word to word. `lost`: why its datastore is away, empty where it
    is not."""

    relay: str
    beat: int
    lost: str = ""


class WireProblem(msgspec.Struct, frozen=True):
    """A `resources.Problem`."""

    kind: str
    name: str
    field: str
    reason: str
    source: str
    severity: str


def record_of(payload: bytes) -> bytes | None:
    """The document in an envelope, as JSON; None where it is no envelope."""
    try:
        return bytes(msgspec.json.decode(payload, type=Envelope).record)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


class Contents:
    """Which records there are, as a digest of each and the sum of all modulo 2^128: it does not depend on the
    order, and one record more or less costs one addition."""

    def __init__(self) -> None:
        self._digests: dict[str, int] = {}
        self._sum = 0

    def put(self, topic: str, record: bytes) -> None:
        """A topic holds this document; an empty one: nothing."""
        self._sum -= self._digests.pop(topic, 0)
        if record:
            digest = self.digest_of(topic, record)
            self._digests[topic] = digest
            self._sum += digest
        self._sum %= 1 << 128

    @staticmethod
    def digest_of(topic: str, record: bytes) -> int:
        """128 bits of one record."""
        return int.from_bytes(hashlib.blake2b(topic.encode() + b"\0" + record, digest_size=16).digest())

    def holds(self, topic: str, record: bytes) -> bool:
        """Whether that is what the topic holds."""
        return self._digests.get(topic, 0) == (self.digest_of(topic, record) if record else 0)

    def topics(self) -> set[str]:
        """All that hold a record."""
        return set(self._digests)

    def marker(self, relay: str, revision: int) -> Marker:
        """What says that this is all."""
        return Marker(relay, revision, len(self._digests), f"{self._sum:032x}")

    def matches(self, marker: Marker) -> bool:
        """Whether this is all that a marker says there is."""
        return (len(self._digests), f"{self._sum:032x}") == (marker.count, marker.digest)


class Relays:
    """The relays that are there, by their own words and how long ago these were."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._there: dict[str, tuple[Status, float]] = {}
        # The last word of those that went silent: a broker that keeps it does not make it news.
        self._last_words: dict[str, int] = {}
        self._records_until = 0.0

    def begin(self) -> None:
        """A new connection: who is there is to be heard anew."""
        self._there.clear()

    def take(self, relay: str, payload: bytes) -> None:
        """What the topic of a relay says."""
        if not payload:
            self._there.pop(relay, None)
            return
        status = decode(payload, Status)
        if status is None or status.relay != relay or self._last_words.get(relay) == status.beat:
            return
        self._last_words.pop(relay, None)
        self._there[relay] = (status, self._clock() + SILENCE * BEAT)

    def records_come(self) -> None:
        """A record came: the words of relays may be behind it, on a slow way."""
        self._records_until = self._clock() + SILENCE * BEAT

    def expire(self) -> list[str]:
        """Leaves out those that have been silent for too long, and gives them."""
        now = self._clock()
        silent = [
            relay for relay, (_, until) in self._there.items() if max(until, self._records_until) <= now
        ]
        for relay in silent:
            status, _ = self._there.pop(relay)
            self._last_words[relay] = status.beat
        return silent

    @property
    def next_expiry(self) -> float | None:
        """When the next one may be silent for too long, by the clock; None where there is none."""
        if not self._there:
            return None
        return max(min(until for _, until in self._there.values()), self._records_until)

    @property
    def there(self) -> list[Status]:
        """Those that are there."""
        return [status for status, _ in self._there.values()]

    def leader(self, marker: Marker | None) -> str | None:
        """The one that publishes: who did so last, while it is there and has its datastore; else, of those
        that have theirs, the lowest by name. So one that comes does not take over, and all agree."""
        fit = [status.relay for status in self.there if not status.lost] or [s.relay for s in self.there]
        if marker is not None and marker.relay in fit:
            return marker.relay
        return min(fit, default=None)


def decode(payload: bytes, type_: type[T]) -> T | None:
    """A message, None where it is none."""
    try:
        return msgspec.json.decode(payload, type=type_)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
