"""etcd's messages: what goes out and comes in, against protobuf's own examples and malformed bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routed.datastore import etcd_wire as wire


def test_examples_of_the_encoding_guide() -> None:
    """From protobuf.dev/programming-guides/encoding: Test1, Test2 and Test3."""
    assert wire.encode((1, 150)) == bytes.fromhex("089601")
    assert wire.encode((2, b"testing")) == bytes.fromhex("120774657374696e67")
    assert wire.embed(3, wire.encode((1, 150))) == bytes.fromhex("1a03089601")
    assert list(wire.decode(bytes.fromhex("089601120774657374696e671a03089601"))) == [
        (1, 150),
        (2, b"testing"),
        (3, b"\x08\x96\x01"),
    ]
    assert wire.encode((1, -2)) == bytes.fromhex("08feffffffffffffffff01")


def test_defaults_are_left_out_but_not_messages() -> None:
    assert wire.encode((1, 0), (2, b"")) == b""
    assert wire.WATCH_PROGRESS_REQUEST == b"\x1a\x00"


def test_fields_of_fixed_size_are_passed_over() -> None:
    data = b"\x09" + bytes(8) + b"\x15" + bytes(4) + b"\x18\x07"
    assert list(wire.decode(data)) == [(1, bytes(8)), (2, bytes(4)), (3, 7)]


@given(
    st.lists(
        st.tuples(
            st.integers(1, 1 << 20),
            st.one_of(st.integers(1, (1 << 64) - 1), st.binary(min_size=1, max_size=300)),
        )
    )
)
def test_what_is_encoded_is_decoded(fields: list[tuple[int, int | bytes]]) -> None:
    assert list(wire.decode(wire.encode(*fields))) == fields


def header(cluster: int = 7, revision: int = 9) -> bytes:
    return wire.embed(1, wire.encode((1, cluster), (2, 5), (3, revision), (4, 2)))


def key_value(key: bytes, value: bytes, revision: int) -> bytes:
    return wire.encode((1, key), (2, 1), (3, revision), (4, 1), (5, value))


def test_a_range_response() -> None:
    data = header() + wire.embed(2, key_value(b"a", b"1", 3)) + wire.embed(2, key_value(b"b", b"", 4))
    data += wire.encode((3, 1), (4, 10))
    response = wire.RangeResponse.read(data)
    assert response.header == wire.Header(7, 9)
    assert response.kvs == (wire.KeyValue(b"a", b"1", 3), wire.KeyValue(b"b", b"", 4))
    assert response.more is True


def test_a_watch_response() -> None:
    put = wire.embed(11, wire.embed(2, key_value(b"a", b"1", 3)))
    deleted = wire.embed(11, wire.encode((1, 1)) + wire.embed(2, wire.encode((1, b"b"), (3, 4))))
    response = wire.WatchResponse.read(header() + wire.encode((2, 3), (7, 1)) + put + deleted)
    assert response.events == (
        wire.WatchEvent(wire.KeyValue(b"a", b"1", 3), False),
        wire.WatchEvent(wire.KeyValue(b"b", b"", 4), True),
    )
    assert (response.watch_id, response.fragment, response.created) == (3, True, False)
    progress = wire.WatchResponse.read(header() + wire.encode((2, -1)))
    assert (progress.watch_id, progress.events) == (-1, ())
    canceled = wire.WatchResponse.read(header() + wire.encode((2, 1), (4, 1), (5, 8), (6, b"why \xff")))
    assert (canceled.canceled, canceled.compact_revision) == (True, 8)
    assert canceled.cancel_reason == "why \N{REPLACEMENT CHARACTER}"


@pytest.mark.parametrize(
    "data",
    [
        b"\x08",  # a number that is missing
        b"\x08" + b"\xff" * 10 + b"\x01",  # one that does not end
        b"\x0a\x05abc",  # less than its length
        b"\x0b",  # a group
        b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\x7f",  # longer than anything
        b"\x08\x01",  # a header that is a number
        b"\x12\x02\x08\x01",  # a key that is a number
    ],
)
def test_what_is_no_message(data: bytes) -> None:
    with pytest.raises(wire.WireError):
        wire.RangeResponse.read(data)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_an_error(data: bytes) -> None:
    for read in (wire.RangeResponse.read, wire.WatchResponse.read, wire.read_token, wire.revision_of):
        try:
            read(data)
        except wire.WireError as error:
            assert str(error)  # noqa: PT017 - anything else that is raised fails the test
