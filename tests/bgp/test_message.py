"""Messages but UPDATE, capabilities, and the words of errors."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routed.bgp.capabilities import (
    AddPathMode,
    Capabilities,
    GracefulRestart,
    LongLivedGracefulRestart,
    decode_capabilities,
)
from routed.bgp.errors import (
    Cease,
    ErrorCode,
    Notification,
    OpenError,
    SessionError,
    decode_shutdown_communication,
    encode_shutdown_communication,
    notification_text,
)
from routed.bgp.message import (
    HEADER_OCTETS,
    KEEPALIVE,
    Open,
    decode_notification,
    decode_open,
    encode_notification,
)
from routed.bgp.nlri import Family
from routed.text import printable
from tests.bgp import strategies

everything = Capabilities(
    multiprotocol=((1, 1), (2, 1), (25, 65)),
    route_refresh=True,
    four_octet_as=4200000000,
    extended_message=True,
    enhanced_route_refresh=True,
    graceful_restart=GracefulRestart(120, ((1, 1, True), (2, 1, False)), restarted=True, notification=True),
    long_lived_graceful_restart=LongLivedGracefulRestart(((1, 1, True, 0xFFFFFF), (2, 1, False, 3600))),
    add_path=((1, 1, AddPathMode.SEND), (2, 1, AddPathMode.SEND | AddPathMode.RECEIVE)),
    others=((73, b"\4host\0"), (255, b"")),
)


@pytest.mark.parametrize(
    "capabilities",
    [
        Capabilities(),
        everything,
        replace(everything, four_octet_as=None),
        Capabilities(long_lived_graceful_restart=LongLivedGracefulRestart()),
    ],
)
def test_capabilities_can_be_read_back(capabilities: Capabilities) -> None:
    assert decode_capabilities([capabilities.encode()]) == capabilities


@given(
    st.builds(
        Open,
        asn=st.integers(1, 2**32 - 1).filter(lambda n: n != 23456),
        hold_time=st.sampled_from([0, 3, 65535]),
        router_id=strategies.router_ids,
        capabilities=st.lists(st.tuples(st.integers(128, 255), st.binary(max_size=255)), max_size=6).map(
            lambda others: Capabilities(((1, 1),), others=tuple(others))
        ),
    )
)
def test_opens_can_be_read_back_however_long(message: Open) -> None:
    message = replace(message, capabilities=replace(message.capabilities, four_octet_as=message.asn))
    assert decode_open(message.encode()[HEADER_OCTETS:]) == message


def test_long_parameters_take_the_extended_form() -> None:
    """RFC 9072 section 2."""
    capabilities = Capabilities(((1, 1),), four_octet_as=64512, others=((255, bytes(255)),))
    octets = Open(64512, 90, b"\1\2\3\4", capabilities).encode()
    assert octets[28:30] == b"\xff\xff"
    assert decode_open(octets[HEADER_OCTETS:]).capabilities == capabilities


def test_the_extended_form_is_read_whatever_the_old_length_says() -> None:
    """RFC 9072 section 2: it should be 255, and need not be."""
    capability = b"\x02\x00\x02\x02\x00"
    for length in (1, 100, 255):
        body = struct.pack("!BHH4sBBH", 4, 64512, 90, b"\1\2\3\4", length, 255, len(capability)) + capability
        assert decode_open(body).capabilities.route_refresh


def test_capabilities_may_come_in_several_parameters() -> None:
    parameters = b"\x02\x06\x01\x04\x00\x01\x00\x01" + b"\x02\x02\x02\x00" + b"\x02\x00"
    body = struct.pack("!BHH4sB", 4, 64512, 90, b"\1\2\3\4", len(parameters)) + parameters
    read = decode_open(body).capabilities
    assert read == Capabilities(((1, 1),), route_refresh=True)


def test_a_repeated_capability_counts_once() -> None:
    """RFC 5492 section 4."""
    octets = b"\x41\x04\0\0\0\1" + b"\x41\x04\0\0\0\2" + b"\x01\x04\0\1\0\1" * 2 + b"\x02\x00" * 2
    read = decode_capabilities([octets])
    assert read == Capabilities(((1, 1),), route_refresh=True, four_octet_as=1)


@pytest.mark.parametrize(
    "octets",
    [
        b"\x02\x01\x00",
        b"\x06\x01\x00",
        b"\x46\x02\0\0",
        b"\x40\x03\0\0\0",
        b"\x45\x03\0\1\1",
        b"\x45\x00",
        b"\x47\x06\0\1\1\0\0\0",
    ],
)
def test_a_capability_of_an_impossible_length_is_kept_and_not_used(octets: bytes) -> None:
    read = decode_capabilities([octets])
    assert read == Capabilities(others=((octets[0], octets[2:]),))
    assert read.encode() == octets


@pytest.mark.parametrize(
    "octets",
    [b"\x01\x03\0\1\0", b"\x01\x05\0\1\0\1\0", b"\x41\x02\0\1", b"\x02", b"\x02\x05\0", b"\x02\x00\x40"],
)
def test_capabilities_that_cannot_be_read(octets: bytes) -> None:
    with pytest.raises(SessionError) as error:
        decode_capabilities([octets])
    assert (error.value.code, error.value.subcode) == (ErrorCode.OPEN_MESSAGE, OpenError.UNSPECIFIC)


def test_a_long_lived_stale_time_has_three_octets() -> None:
    """RFC 9494 section 3.1."""
    read = decode_capabilities([b"\x47\x0e\0\1\1\x80\x01\x02\x03" + b"\0\2\1\x7f\xff\0\0"])
    assert read.long_lived_graceful_restart == LongLivedGracefulRestart(
        ((1, 1, True, 0x010203), (2, 1, False, 0xFF0000))
    )


def test_families_with_add_path_by_what_is_wanted() -> None:
    assert everything.add_path_families(AddPathMode.SEND) == frozenset(Family)
    assert everything.add_path_families(AddPathMode.RECEIVE) == {Family.IPV6}


def test_an_add_path_mode_that_is_not_defined_is_ignored() -> None:
    """RFC 7911 section 4."""
    read = decode_capabilities([b"\x45\x08\0\1\1\x04\0\2\1\x03"])
    assert read.add_path == ((2, 1, AddPathMode.SEND | AddPathMode.RECEIVE),)


def test_families_without_multiprotocol_are_ipv4() -> None:
    """RFC 4760 section 8."""
    assert Capabilities().families == {Family.IPV4}
    assert Capabilities(((2, 1),)).families == {Family.IPV6}
    assert Capabilities(((25, 65), (1, 2))).families == frozenset()


def body_of(parameters: bytes, length: int | None = None) -> bytes:
    return (
        struct.pack("!BHH4sB", 4, 64512, 90, b"\1\2\3\4", len(parameters) if length is None else length)
        + parameters
    )


@pytest.mark.parametrize(
    ("body", "subcode"),
    [
        (body_of(b"\x02\x02\x02\x00", 3), OpenError.UNSPECIFIC),
        (body_of(b"\x02\x02\x02\x00", 5), OpenError.UNSPECIFIC),
        (body_of(b"\x02\x03\x02\x00"), OpenError.UNSPECIFIC),
        (body_of(b"\x02"), OpenError.UNSPECIFIC),
        (body_of(b"\xff"), OpenError.UNSPECIFIC),
        (body_of(b"\xff\x00"), OpenError.UNSPECIFIC),
        (body_of(b"\xff\x00\x05\x02"), OpenError.UNSPECIFIC),
        (body_of(b"\x02\x02\x02\x00") + b"\0", OpenError.UNSPECIFIC),
        (body_of(b"\xff\x00\x00") + b"\0", OpenError.UNSPECIFIC),
        (body_of(b"\x01\x00"), OpenError.UNSUPPORTED_OPTIONAL_PARAMETER),
        (body_of(b"\xff\x00\x03\x01\x00\x00"), OpenError.UNSUPPORTED_OPTIONAL_PARAMETER),
    ],
    ids=lambda value: value.hex()[18:] if isinstance(value, bytes) else str(value),
)
def test_optional_parameters_that_cannot_be_read(body: bytes, subcode: OpenError) -> None:
    with pytest.raises(SessionError) as error:
        decode_open(body)
    assert (error.value.code, error.value.subcode) == (ErrorCode.OPEN_MESSAGE, subcode)


@pytest.mark.parametrize("my_as", [0, 23456])
def test_reserved_as_numbers(my_as: int) -> None:
    """RFC 7607 section 2, RFC 6793 section 9."""
    for capabilities in (b"", b"\x02\x06\x41\x04" + my_as.to_bytes(4)):
        with pytest.raises(SessionError) as error:
            decode_open(struct.pack("!BHH4sB", 4, my_as, 90, b"\1\2\3\4", len(capabilities)) + capabilities)
        assert error.value.subcode == OpenError.BAD_PEER_AS


def test_the_version_error_names_ours() -> None:
    with pytest.raises(SessionError) as error:
        decode_open(b"\x05" + body_of(b"")[1:])
    assert error.value.data == b"\0\4"


@given(st.integers(0, 255), st.integers(0, 255), st.binary(max_size=5000))
def test_notifications_can_be_read_back_and_are_cut_to_fit(code: int, subcode: int, data: bytes) -> None:
    message = encode_notification(Notification(code, subcode, data))
    assert len(message) <= 4096
    read = decode_notification(message[HEADER_OCTETS:])
    assert (read.code, read.subcode) == (code, subcode)
    assert read.data == data[:4075]
    assert read.describe().isprintable()
    assert len(read.describe()) < 400


def test_a_keepalive_is_a_header() -> None:
    assert KEEPALIVE == b"\xff" * 16 + b"\0\x13\4"


# Shutdown communication (RFC 9003)


@given(st.text(max_size=400))
def test_shutdown_communications_can_be_read_back(text: str) -> None:
    data = encode_shutdown_communication(text)
    assert len(data) <= 256
    read = decode_shutdown_communication(data)
    assert read.isprintable()
    encodable = text.encode("utf-8", "replace").decode()
    if encodable.isprintable() and len(encodable.encode()) <= 255:
        assert read == encodable
    if not text:
        assert data == b""


@given(st.binary(max_size=300))
def test_any_octets_give_a_printable_communication(data: bytes) -> None:
    assert decode_shutdown_communication(data).isprintable()
    assert Notification(ErrorCode.CEASE, Cease.ADMIN_RESET, data).describe().isprintable()


def test_a_long_communication_is_cut_between_characters() -> None:
    data = encode_shutdown_communication("é" * 200)
    assert data[0] == 254
    assert decode_shutdown_communication(data) == "é" * 127


def test_terminal_escapes_and_line_breaks_do_not_survive() -> None:
    hostile = "\x1b]0;owned\x07\r\nline\u202e\x00<script>"
    read = decode_shutdown_communication(encode_shutdown_communication(hostile))
    assert read == "�]0;owned���line��<script>"
    assert printable("plain words, ümlauts too") == "plain words, ümlauts too"


@pytest.mark.parametrize(
    ("notification", "text"),
    [
        (Notification(4), "Hold Timer Expired"),
        (Notification(2, 2), "OPEN Message Error/Bad Peer AS"),
        (Notification(6, 4, b"\3bye"), 'Cease/Administrative Reset: "bye"'),
        (Notification(6, 7, b"\3bye"), "Cease/Connection Collision Resolution"),
        (Notification(1, 3, b"\x09"), "Message Header Error/Bad Message Type (data 09)"),
        (Notification(3, 99), "UPDATE Message Error/subcode 99"),
        (Notification(99, 1), "error code 99/subcode 1"),
        (Notification(99), "error code 99"),
    ],
)
def test_notifications_in_words(notification: Notification, text: str) -> None:
    assert notification.describe() == text


def test_every_cease_subcode_has_a_name() -> None:
    for subcode in Cease:
        assert "subcode" not in notification_text(ErrorCode.CEASE, subcode)
