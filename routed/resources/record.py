"""What every record has: a kind, a name, labels; and how a bad one is reported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, Literal, NamedTuple

import msgspec

NO_LABELS: Mapping[str, str] = MappingProxyType({})

Severity = Literal["error", "warning"]


class Key(NamedTuple):
    """Names one record of a cluster. `name` is `namespace/name` for the kinds that live in a namespace."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with a record, or with the place it was read from.

    `key` is None where the record could not be told. `field` is the dotted path in the record as people
    write it, such as `spec.peerIP` or `spec.filters[2]`; empty where the whole of it is meant. `reason` says
    what is wrong and what to do, and never holds a secret. `source` is `file:line`, or a datastore's own key.
    An `error` means that the record was rejected, a `warning` that it was taken all the same."""

    key: Key | None
    field: str
    reason: str
    source: str = ""
    severity: Severity = "error"

    def __str__(self) -> str:
        parts = (self.source, str(self.key) if self.key else "", self.field)
        return ": ".join((*filter(None, parts), self.reason))


class Record(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One record after parsing: typed, normalised, immutable. Its fields are those of the record's `spec`,
    in snake_case; an optional field with an empty text is None. Equal records are equal in all fields."""

    kind: ClassVar[str] = ""

    name: str
    labels: Mapping[str, str] = NO_LABELS

    @property
    def key(self) -> Key:
        """Names this record."""
        return Key(self.kind, self.name)


class NamespacedRecord(Record, frozen=True, kw_only=True, gc=False):
    """A record that lives in a Kubernetes namespace."""

    namespace: str

    @property
    def key(self) -> Key:
        """Names this record: `namespace/name`."""
        return Key(self.kind, f"{self.namespace}/{self.name}")


class Header(NamedTuple):
    """What the `metadata` of a record says. `namespace` is `default` where a kind that has one gives none."""

    api_version: str
    name: str
    namespace: str
    labels: Mapping[str, str]


class Parsed(NamedTuple):
    """The outcome of parsing one document: `record` is None where it was rejected or is of no interest.

    `key` is known for a rejected record too, as soon as its kind and name could be read."""

    key: Key | None
    record: Record | None
    problems: tuple[Problem, ...] = ()
