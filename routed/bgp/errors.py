"""Errors that carry their consequence.

A `SessionError` is the NOTIFICATION to send and the end of the session. A
`Finding` is an error inside an UPDATE that was handled without a reset
(RFC 7606): the session goes on, and the finding is for logs and counters.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from routed.text import printable


class ErrorCode(enum.IntEnum):
    """NOTIFICATION error codes (RFC 4271 section 4.5, RFC 7313, RFC 9687)."""

    MESSAGE_HEADER = 1
    OPEN_MESSAGE = 2
    UPDATE_MESSAGE = 3
    HOLD_TIMER_EXPIRED = 4
    FSM = 5
    CEASE = 6
    ROUTE_REFRESH = 7
    SEND_HOLD_TIMER_EXPIRED = 8


class HeaderError(enum.IntEnum):
    """Subcodes of ErrorCode.MESSAGE_HEADER (RFC 4271 section 6.1)."""

    NOT_SYNCHRONIZED = 1
    BAD_LENGTH = 2
    BAD_TYPE = 3


class OpenError(enum.IntEnum):
    """Subcodes of ErrorCode.OPEN_MESSAGE (RFC 4271 section 6.2, RFC 5492 section 5). 0 is "unspecific"."""

    UNSPECIFIC = 0
    UNSUPPORTED_VERSION = 1
    BAD_PEER_AS = 2
    BAD_BGP_IDENTIFIER = 3
    UNSUPPORTED_OPTIONAL_PARAMETER = 4
    UNACCEPTABLE_HOLD_TIME = 6
    UNSUPPORTED_CAPABILITY = 7


class UpdateError(enum.IntEnum):
    """Subcodes of ErrorCode.UPDATE_MESSAGE (RFC 4271 section 6.3)."""

    MALFORMED_ATTRIBUTE_LIST = 1
    UNRECOGNIZED_WELL_KNOWN = 2
    MISSING_WELL_KNOWN = 3
    ATTRIBUTE_FLAGS = 4
    ATTRIBUTE_LENGTH = 5
    INVALID_ORIGIN = 6
    INVALID_NEXT_HOP = 8
    OPTIONAL_ATTRIBUTE = 9
    INVALID_NETWORK_FIELD = 10
    MALFORMED_AS_PATH = 11


class FsmError(enum.IntEnum):
    """Subcodes of ErrorCode.FSM (RFC 6608)."""

    UNSPECIFIED = 0
    UNEXPECTED_IN_OPENSENT = 1
    UNEXPECTED_IN_OPENCONFIRM = 2
    UNEXPECTED_IN_ESTABLISHED = 3


class Cease(enum.IntEnum):
    """Subcodes of ErrorCode.CEASE (RFC 4486, RFC 8538, RFC 9384)."""

    MAX_PREFIXES = 1
    ADMIN_SHUTDOWN = 2
    PEER_DECONFIGURED = 3
    ADMIN_RESET = 4
    CONNECTION_REJECTED = 5
    CONFIGURATION_CHANGE = 6
    COLLISION = 7
    OUT_OF_RESOURCES = 8
    HARD_RESET = 9
    BFD_DOWN = 10


_CODE_TEXT: dict[int, str] = {
    ErrorCode.MESSAGE_HEADER: "Message Header Error",
    ErrorCode.OPEN_MESSAGE: "OPEN Message Error",
    ErrorCode.UPDATE_MESSAGE: "UPDATE Message Error",
    ErrorCode.HOLD_TIMER_EXPIRED: "Hold Timer Expired",
    ErrorCode.FSM: "Finite State Machine Error",
    ErrorCode.CEASE: "Cease",
    ErrorCode.ROUTE_REFRESH: "ROUTE-REFRESH Message Error",
    ErrorCode.SEND_HOLD_TIMER_EXPIRED: "Send Hold Timer Expired",
}

_SUBCODE_TEXT: dict[tuple[int, int], str] = {
    (1, 1): "Connection Not Synchronized",
    (1, 2): "Bad Message Length",
    (1, 3): "Bad Message Type",
    (2, 1): "Unsupported Version Number",
    (2, 2): "Bad Peer AS",
    (2, 3): "Bad BGP Identifier",
    (2, 4): "Unsupported Optional Parameter",
    (2, 5): "Authentication Failure",
    (2, 6): "Unacceptable Hold Time",
    (2, 7): "Unsupported Capability",
    (2, 11): "Role Mismatch",
    (3, 1): "Malformed Attribute List",
    (3, 2): "Unrecognized Well-known Attribute",
    (3, 3): "Missing Well-known Attribute",
    (3, 4): "Attribute Flags Error",
    (3, 5): "Attribute Length Error",
    (3, 6): "Invalid ORIGIN Attribute",
    (3, 7): "AS Routing Loop",
    (3, 8): "Invalid NEXT_HOP Attribute",
    (3, 9): "Optional Attribute Error",
    (3, 10): "Invalid Network Field",
    (3, 11): "Malformed AS_PATH",
    (5, 1): "Receive Unexpected Message in OpenSent State",
    (5, 2): "Receive Unexpected Message in OpenConfirm State",
    (5, 3): "Receive Unexpected Message in Established State",
    (6, 1): "Maximum Number of Prefixes Reached",
    (6, 2): "Administrative Shutdown",
    (6, 3): "Peer De-configured",
    (6, 4): "Administrative Reset",
    (6, 5): "Connection Rejected",
    (6, 6): "Other Configuration Change",
    (6, 7): "Connection Collision Resolution",
    (6, 8): "Out of Resources",
    (6, 9): "Hard Reset",
    (6, 10): "BFD Down",
    (7, 1): "Invalid Message Length",
}

_WITH_COMMUNICATION = (Cease.ADMIN_SHUTDOWN, Cease.ADMIN_RESET)
# RFC 8538 section 5.1: what ends a session for long, so that the peer is not to keep routes.
_HARD = (Cease.MAX_PREFIXES, Cease.ADMIN_SHUTDOWN, Cease.PEER_DECONFIGURED)
MAX_COMMUNICATION_OCTETS = 255


def notification_text(code: int, subcode: int) -> str:
    """The RFC's name of a code and subcode: `Cease/Administrative Shutdown`; numbers where it has none."""
    first = _CODE_TEXT.get(code, f"error code {code}")
    second = _SUBCODE_TEXT.get((code, subcode))
    if second is not None:
        return f"{first}/{second}"
    return f"{first}/subcode {subcode}" if subcode else first


def encode_shutdown_communication(message: str) -> bytes:
    """The data field of Cease/Administrative Shutdown or Reset: one octet of length, then UTF-8 (RFC 9003).

    A longer message is cut to 255 octets at a character's border; an empty one gives no data at all."""
    text = message.encode("utf-8", "replace")[:MAX_COMMUNICATION_OCTETS]
    text = text.decode("utf-8", "ignore").encode()
    return bytes((len(text),)) + text if text else b""


def decode_shutdown_communication(data: bytes) -> str:
    """The operator's message in such a data field, made safe to print; empty where there is none.

    RFC 9003 section 4: what is not UTF-8 or whose length is wrong must not harm us. Undecodable octets and
    every character that is not printable become U+FFFD, so that no terminal escape or line break survives."""
    if not data or not data[0]:
        return ""
    return printable(data[1 : 1 + data[0]].decode("utf-8", "replace"))


@dataclass(frozen=True, slots=True)
class Notification:
    """A NOTIFICATION message's content (RFC 4271 section 4.5)."""

    code: int
    subcode: int = 0
    data: bytes = b""

    @property
    def text(self) -> str:
        """The names of code and subcode."""
        return notification_text(self.code, self.subcode)

    @property
    def hard_reset(self) -> bool:
        """True for Cease/Hard Reset: routes are not to be kept (RFC 8538 section 3)."""
        return self.code == ErrorCode.CEASE and self.subcode == Cease.HARD_RESET

    @property
    def reason(self) -> Notification:
        """What a Hard Reset wraps up (RFC 8538 section 3.1); any other is its own."""
        if self.hard_reset and len(self.data) >= 2:
            return Notification(self.data[0], self.data[1], self.data[2:])
        return self

    def as_hard_reset(self) -> Notification:
        """For a peer that keeps routes after a NOTIFICATION: wrapped up in a Hard Reset where it should not
        (RFC 8538 section 5.1)."""
        if self.code != ErrorCode.CEASE or self.subcode not in _HARD:
            return self
        return Notification(ErrorCode.CEASE, Cease.HARD_RESET, bytes((self.code, self.subcode)) + self.data)

    @property
    def communication(self) -> str:
        """The shutdown communication, printable; empty where the message can have none (RFC 9003)."""
        if self.code == ErrorCode.CEASE and self.subcode in _WITH_COMMUNICATION:
            return decode_shutdown_communication(self.data)
        return ""

    def describe(self) -> str:
        """One line for people: the names, then the shutdown communication or the data in hexadecimal."""
        reason = self.reason
        if reason is not self and not reason.hard_reset:
            return f"{self.text} ({reason.describe()})"
        if communication := self.communication:
            return f'{self.text}: "{communication}"'
        if not self.data or self.code == ErrorCode.CEASE:
            return self.text
        return f"{self.text} (data {self.data[:32].hex()}{'...' if len(self.data) > 32 else ''})"


class RefusedError(Exception):
    """What an operator asks for cannot be done now; the text says why, and what to do."""


class SessionError(Exception):
    """The session has to end with this NOTIFICATION. `reason` says in plain words what was found."""

    def __init__(self, code: int, subcode: int = 0, data: bytes = b"", reason: str = "") -> None:
        self.notification = Notification(int(code), int(subcode), bytes(data))
        self.reason = reason or self.notification.text
        super().__init__(self.reason)

    @property
    def code(self) -> int:
        """The NOTIFICATION's error code."""
        return self.notification.code

    @property
    def subcode(self) -> int:
        """The NOTIFICATION's error subcode."""
        return self.notification.subcode

    @property
    def data(self) -> bytes:
        """The NOTIFICATION's data field."""
        return self.notification.data


class Action(enum.IntEnum):
    """What an error in an UPDATE leads to, weakest first; of several errors the strongest counts (RFC 7606
    sections 2 and 3 h). IGNORE is not of the RFC: the finding is noted and nothing is lost."""

    IGNORE = 0
    ATTRIBUTE_DISCARD = 1
    TREAT_AS_WITHDRAW = 2
    SESSION_RESET = 3


@dataclass(frozen=True, slots=True)
class Finding:
    """One error in an UPDATE, and what was done about it. `attribute` is the attribute's type code where the
    error is in one; `subcode` is the UPDATE Message Error it would have been; `text` is for people."""

    action: Action
    subcode: int
    text: str
    attribute: int | None = None
