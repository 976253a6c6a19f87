"""BGP messages but UPDATE: the header, OPEN, NOTIFICATION, KEEPALIVE, ROUTE-REFRESH (RFC 4271 section 4)."""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass
from typing import Final

from routed.bgp.as_path import AS_TRANS
from routed.bgp.capabilities import SAFI_UNICAST, Capabilities, decode_capabilities
from routed.bgp.errors import ErrorCode, HeaderError, Notification, OpenError, SessionError
from routed.bgp.nlri import Family

MARKER: Final = b"\xff" * 16
HEADER_OCTETS: Final = 19
MAX_MESSAGE_OCTETS: Final = 4096
MAX_EXTENDED_MESSAGE_OCTETS: Final = 65535  # RFC 8654
VERSION: Final = 4

_CAPABILITIES_PARAMETER: Final = 2
_EXTENDED_PARAMETERS: Final = 255  # RFC 9072


class MessageType(enum.IntEnum):
    """RFC 4271 section 4.1, RFC 2918."""

    OPEN = 1
    UPDATE = 2
    NOTIFICATION = 3
    KEEPALIVE = 4
    ROUTE_REFRESH = 5


# The least and the greatest length of each type; None: what the session allows (RFC 4271 section 6.1, RFC
# 8654 section 4: OPEN and KEEPALIVE are never extended).
_LENGTHS: Final[dict[int, tuple[int, int | None]]] = {
    MessageType.OPEN: (29, MAX_MESSAGE_OCTETS),
    MessageType.UPDATE: (23, None),
    MessageType.NOTIFICATION: (21, None),
    MessageType.KEEPALIVE: (19, 19),
    MessageType.ROUTE_REFRESH: (23, None),
}


def check_header(length: int, kind: int, max_size: int = MAX_MESSAGE_OCTETS) -> None:
    """Raise `SessionError` where a message of type `kind` cannot have this length, header included, or where
    there is no such type (RFC 4271 section 6.1). `max_size` is what the session allows."""
    if not HEADER_OCTETS <= length <= max_size:
        raise _bad_length(length, "")
    limits = _LENGTHS.get(kind)
    if limits is None:
        raise SessionError(
            ErrorCode.MESSAGE_HEADER, HeaderError.BAD_TYPE, bytes((kind,)), f"a message of type {kind}"
        )
    least, greatest = limits
    if length < least or (greatest is not None and length > greatest):
        raise _bad_length(length, f" {MessageType(kind).name}")


def _bad_length(length: int, name: str) -> SessionError:
    reason = f"a{name} message of {length} octets"
    return SessionError(ErrorCode.MESSAGE_HEADER, HeaderError.BAD_LENGTH, length.to_bytes(2), reason)


def not_synchronized() -> SessionError:
    """The marker is not all ones (RFC 4271 section 6.1)."""
    return SessionError(
        ErrorCode.MESSAGE_HEADER, HeaderError.NOT_SYNCHRONIZED, b"", "the marker of a message is not all ones"
    )


def encode_message(kind: MessageType, body: bytes = b"") -> bytes:
    """A whole message."""
    return struct.pack("!16sHB", MARKER, HEADER_OCTETS + len(body), kind) + body


KEEPALIVE: Final = encode_message(MessageType.KEEPALIVE)


@dataclass(frozen=True, slots=True)
class Open:
    """An OPEN. `asn` is the AS number as the 4-octet AS capability gives it, else as My Autonomous System;
    `router_id` is the BGP Identifier, 4 octets; `hold_time` is in seconds."""

    asn: int
    hold_time: int
    router_id: bytes
    capabilities: Capabilities

    def encode(self) -> bytes:
        """The whole message. Parameters of more than 255 octets go in the extended form (RFC 9072)."""
        value = self.capabilities.encode()
        my_as = self.asn if self.asn < 65536 else AS_TRANS  # RFC 6793 section 4.2.3
        head = struct.pack("!BHH4s", VERSION, my_as, self.hold_time, self.router_id)
        if not value:
            return encode_message(MessageType.OPEN, head + b"\0")
        if len(value) <= 253:
            parameters = struct.pack("!BBB", len(value) + 2, _CAPABILITIES_PARAMETER, len(value))
        else:
            size = len(value)
            parameters = struct.pack(
                "!BBHBH", 255, _EXTENDED_PARAMETERS, size + 3, _CAPABILITIES_PARAMETER, size
            )
        return encode_message(MessageType.OPEN, head + parameters + value)


def decode_open(body: bytes) -> Open:
    """An OPEN without its header, at least 10 octets. Checks what the message alone can tell.

    Raises `SessionError` with the subcodes of RFC 4271 section 6.2."""
    version, my_as, hold_time, router_id = struct.unpack_from("!BHH4s", body)
    if version != VERSION:
        raise _open_error(OpenError.UNSUPPORTED_VERSION, f"BGP version {version}", VERSION.to_bytes(2))
    if hold_time in (1, 2):
        raise _open_error(OpenError.UNACCEPTABLE_HOLD_TIME, f"a hold time of {hold_time} s")
    if not any(router_id):  # RFC 6286 section 2.2
        raise _open_error(OpenError.BAD_BGP_IDENTIFIER, "the BGP identifier is 0")
    capabilities = decode_capabilities(_parameters(body))
    asn = my_as if capabilities.four_octet_as is None else capabilities.four_octet_as
    if asn in (0, AS_TRANS):  # RFC 7607 section 2, RFC 6793 section 9
        raise _open_error(OpenError.BAD_PEER_AS, f"AS {asn} is reserved")
    return Open(asn, hold_time, router_id, capabilities)


def _parameters(body: bytes) -> list[bytes]:
    """The values of the Capabilities parameters of an OPEN."""
    at, end, octets = 10, 10 + body[9], 1
    if body[9] and len(body) > 10 and body[10] == _EXTENDED_PARAMETERS:
        if len(body) < 13:
            raise _open_error(OpenError.UNSPECIFIC, "the optional parameters are cut short")
        at, end, octets = 13, 13 + int.from_bytes(body[11:13]), 2
    if end != len(body):
        raise _open_error(OpenError.UNSPECIFIC, "the length of the optional parameters is not what is there")
    values = []
    while at < end:
        value_at = at + 1 + octets
        stop = value_at + int.from_bytes(body[at + 1 : value_at])
        if max(value_at, stop) > end:
            raise _open_error(OpenError.UNSPECIFIC, "an optional parameter is cut short")
        if body[at] != _CAPABILITIES_PARAMETER:
            raise _open_error(
                OpenError.UNSUPPORTED_OPTIONAL_PARAMETER,
                f"an optional parameter of type {body[at]}",
                body[at:stop],
            )
        values.append(body[value_at:stop])
        at = stop
    return values


def _open_error(subcode: OpenError, reason: str, data: bytes = b"") -> SessionError:
    return SessionError(ErrorCode.OPEN_MESSAGE, subcode, data, reason)


def encode_notification(notification: Notification, max_size: int = MAX_MESSAGE_OCTETS) -> bytes:
    """The whole message; data that would not fit is cut."""
    body = bytes((notification.code, notification.subcode)) + notification.data
    return encode_message(MessageType.NOTIFICATION, body[: max_size - HEADER_OCTETS])


def decode_notification(body: bytes) -> Notification:
    """A NOTIFICATION without its header, at least 2 octets."""
    return Notification(body[0], body[1], body[2:])


class RefreshSubtype(enum.IntEnum):
    """RFC 7313 section 3: a request, or the marks around the routes that answer one."""

    REQUEST = 0
    BEGIN = 1
    END = 2


@dataclass(frozen=True, slots=True)
class RouteRefresh:
    """A ROUTE-REFRESH. `subtype` is a number, since unknown ones are ignored, not refused (RFC 7313 section
    5)."""

    afi: int
    safi: int
    subtype: int = RefreshSubtype.REQUEST

    @property
    def family(self) -> Family | None:
        """The family, None where it is not known here."""
        return Family(self.afi) if self.safi == SAFI_UNICAST and self.afi in (1, 2) else None


def encode_route_refresh(family: Family, subtype: RefreshSubtype = RefreshSubtype.REQUEST) -> bytes:
    """The whole message."""
    return encode_message(MessageType.ROUTE_REFRESH, struct.pack("!HBB", family, subtype, SAFI_UNICAST))


def decode_route_refresh(body: bytes) -> RouteRefresh:
    """A ROUTE-REFRESH without its header, at least 4 octets; an outbound route filter behind it is not read
    (RFC 5291: it was never offered).

    Raises `SessionError` for a mark with more in it than the family (RFC 7313 section 5)."""
    afi, subtype, safi = struct.unpack_from("!HBB", body)
    if subtype in (RefreshSubtype.BEGIN, RefreshSubtype.END) and len(body) != 4:
        message = encode_message(MessageType.ROUTE_REFRESH, body)
        raise SessionError(
            ErrorCode.ROUTE_REFRESH, 1, message, f"a ROUTE-REFRESH mark of {len(message)} octets"
        )
    return RouteRefresh(afi, safi, subtype)
