"""etcd's messages: the few of `etcdserverpb` (etcd's api/etcdserverpb/rpc.proto and api/mvccpb/kv.proto,
v3.4 and later) that are used here, to and from protobuf's bytes.

By hand, since that is these functions, while protobuf and grpcio, for which there is generated code, cost
20 MB in each node's process (`docs/decisions/0006-etcd-client.md`)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

RANGE = "/etcdserverpb.KV/Range"
PUT = "/etcdserverpb.KV/Put"
DELETE_RANGE = "/etcdserverpb.KV/DeleteRange"
TXN = "/etcdserverpb.KV/Txn"
COMPACT = "/etcdserverpb.KV/Compact"
WATCH = "/etcdserverpb.Watch/Watch"
AUTHENTICATE = "/etcdserverpb.Auth/Authenticate"


class WireError(ValueError):
    """Bytes that are no such message."""


# Protobuf's wire format (protobuf.dev/programming-guides/encoding): only what proto3 messages of integers,
# booleans, texts, bytes and messages need.

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MASK64 = (1 << 64) - 1


def encode(*fields: tuple[int, int | bytes]) -> bytes:
    """A message of (field number, value); a value that is proto3's default is left out."""
    parts: list[bytes] = []
    for number, value in fields:
        if isinstance(value, int):
            if value:
                parts += (_varint(number << 3 | _VARINT), _varint(value & _MASK64))
        elif value:
            parts += (_varint(number << 3 | _BYTES), _varint(len(value)), value)
    return b"".join(parts)


def embed(number: int, message: bytes) -> bytes:
    """A message as a field of another; an empty one is there all the same, as which one it is can be all
    that it says."""
    return _varint(number << 3 | _BYTES) + _varint(len(message)) + message


def _varint(value: int) -> bytes:
    octets = bytearray()
    while value > 0x7F:
        octets.append(value & 0x7F | 0x80)
        value >>= 7
    octets.append(value)
    return bytes(octets)


def decode(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a message in order: (field number, an unsigned integer or bytes). Raises WireError."""
    position, end = 0, len(data)
    while position < end:
        tag, position = _read_varint(data, position)
        wire_type = tag & 7
        if wire_type == _VARINT:
            value, position = _read_varint(data, position)
            yield tag >> 3, value
            continue
        if wire_type == _BYTES:
            length, position = _read_varint(data, position)
        elif wire_type in (_FIXED64, _FIXED32):
            length = 8 if wire_type == _FIXED64 else 4
        else:
            raise WireError(f"wire type {wire_type} at octet {position}")
        if position + length > end:
            raise WireError(f"a field of {length} octets at octet {position} of {end}")
        yield tag >> 3, data[position : position + length]
        position += length


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if position >= len(data) or shift > 63:
            raise WireError(f"a number without an end at octet {position}")
        octet = data[position]
        position += 1
        value |= (octet & 0x7F) << shift
        if octet < 0x80:
            return value & _MASK64, position
        shift += 7


class _Fields:
    """The fields of one message by number; of one that is repeated where it should not be, the last."""

    __slots__ = ("values",)

    def __init__(self, data: bytes) -> None:
        self.values = dict(decode(data))

    def number(self, field: int) -> int:
        """A signed 64 bit integer, 0 where it is left out."""
        value = self.values.get(field, 0)
        if not isinstance(value, int):
            raise WireError(f"field {field} is no number")
        return value - (1 << 64) if value >> 63 else value

    def octets(self, field: int) -> bytes:
        """Bytes, none where they are left out."""
        value = self.values.get(field, b"")
        if not isinstance(value, bytes):
            raise WireError(f"field {field} is a number")
        return value

    def text(self, field: int) -> str:
        """A text, empty where it is left out."""
        return self.octets(field).decode("utf-8", "replace")


class KeyValue(NamedTuple):
    """`mvccpb.KeyValue`. In a deletion `value` is empty."""

    key: bytes
    value: bytes
    mod_revision: int

    @classmethod
    def read(cls, data: bytes) -> KeyValue:
        """From bytes. Raises WireError."""
        fields = _Fields(data)
        return cls(fields.octets(1), fields.octets(5), fields.number(3))


class Header(NamedTuple):
    """`ResponseHeader`: which cluster, and the store's revision when it answered."""

    cluster_id: int
    revision: int

    @classmethod
    def read(cls, data: bytes) -> Header:
        """From bytes. Raises WireError."""
        fields = _Fields(data)
        return cls(fields.number(1), fields.number(3))


class RangeResponse(NamedTuple):
    """`RangeResponse`; `more` where the limit cut it off."""

    header: Header
    kvs: tuple[KeyValue, ...]
    more: bool

    @classmethod
    def read(cls, data: bytes) -> RangeResponse:
        """From bytes. Raises WireError."""
        fields = _Fields(data)
        kvs = tuple(KeyValue.read(value) for value in _repeated(data, 2))
        return cls(Header.read(fields.octets(1)), kvs, bool(fields.number(3)))


class WatchEvent(NamedTuple):
    """`mvccpb.Event`."""

    kv: KeyValue
    deleted: bool

    @classmethod
    def read(cls, data: bytes) -> WatchEvent:
        """From bytes. Raises WireError."""
        fields = _Fields(data)
        return cls(KeyValue.read(fields.octets(2)), fields.number(1) == 1)


class WatchResponse(NamedTuple):
    """`WatchResponse`. `compact_revision` is not 0 where the start revision is compacted; `fragment` where
    more of the same revisions follow. The answer to a progress request has the watch ID -1."""

    header: Header
    watch_id: int
    created: bool
    canceled: bool
    compact_revision: int
    cancel_reason: str
    fragment: bool
    events: tuple[WatchEvent, ...]

    @classmethod
    def read(cls, data: bytes) -> WatchResponse:
        """From bytes. Raises WireError."""
        fields = _Fields(data)
        return cls(
            Header.read(fields.octets(1)),
            fields.number(2),
            bool(fields.number(3)),
            bool(fields.number(4)),
            fields.number(5),
            fields.text(6),
            bool(fields.number(7)),
            tuple(WatchEvent.read(value) for value in _repeated(data, 11)),
        )


def _repeated(data: bytes, number: int) -> Iterator[bytes]:
    for field, value in decode(data):
        if field == number:
            if not isinstance(value, bytes):
                raise WireError(f"field {field} is a number")
            yield value


def range_request(key: bytes, range_end: bytes, limit: int = 0, revision: int = 0) -> bytes:
    """`RangeRequest`: keys from `key` up to, without, `range_end`, at a revision (0: the newest)."""
    return encode((1, key), (2, range_end), (3, limit), (4, revision))


def watch_create_request(key: bytes, range_end: bytes, start_revision: int, watch_id: int) -> bytes:
    """`WatchRequest` with a `create_request`: progress is to be notified, and large answers to be cut up.
    `watch_id` is not 0."""
    created = encode((1, key), (2, range_end), (3, start_revision), (4, 1), (7, watch_id), (8, 1))
    return embed(1, created)


WATCH_PROGRESS_REQUEST = embed(3, b"")
"""`WatchRequest` with a `progress_request` (etcd 3.4 and later)."""


def authenticate_request(name: str, password: str) -> bytes:
    """`AuthenticateRequest`."""
    return encode((1, name.encode()), (2, password.encode()))


def read_token(data: bytes) -> str:
    """The token of an `AuthenticateResponse`. Raises WireError."""
    return _Fields(data).text(2)


def put_request(key: bytes, value: bytes) -> bytes:
    """`PutRequest`."""
    return encode((1, key), (2, value))


def delete_range_request(key: bytes, range_end: bytes = b"") -> bytes:
    """`DeleteRangeRequest`; one key where `range_end` is empty."""
    return encode((1, key), (2, range_end))


def txn_request(puts: Iterable[tuple[bytes, bytes]], deletes: Iterable[bytes] = ()) -> bytes:
    """`TxnRequest` without conditions: all of it or nothing, at one revision. A key may be in it once; etcd
    takes 128 operations unless told otherwise."""
    operations = [embed(2, put_request(key, value)) for key, value in puts]
    operations += [embed(3, delete_range_request(key)) for key in deletes]
    return b"".join(embed(2, operation) for operation in operations)


def replace_request(key: bytes, mod_revision: int, value: bytes) -> bytes:
    """`TxnRequest`: put the value, unless the key was written, or deleted, after this revision."""
    modified = 2
    unchanged = encode((2, modified), (3, key), (6, mod_revision))
    return embed(1, unchanged) + embed(2, embed(2, put_request(key, value)))


def succeeded(data: bytes) -> bool:
    """Whether the conditions of a transaction held, by its `TxnResponse`. Raises WireError."""
    return bool(_Fields(data).number(2))


def compaction_request(revision: int) -> bytes:
    """`CompactionRequest`."""
    return encode((1, revision))


def revision_of(data: bytes) -> int:
    """The revision in the header of any response. Raises WireError."""
    return Header.read(_Fields(data).octets(1)).revision
