"""One TCP connection of a session: its state, what was negotiated on it, and its timers."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from routed.bgp.errors import Notification
from routed.bgp.fsm import State
from routed.bgp.message_reader import MessageReader
from routed.bgp.session_types import ConnectionId, Negotiated, SessionConfig
from routed.bgp.timers import JITTER
from routed.text import printable


@dataclass(slots=True)
class Connection:
    """Deadlines are monotonic, in seconds; None: that timer does not run.

    dialed         we have opened it, not the peer
    blocked_since  since when the peer has taken nothing of what there is to send
    remark         why the peer may not be heard, for people
    """

    id: ConnectionId
    dialed: bool
    opened_at: float
    hold_deadline: float | None
    state: State = State.OPENSENT
    keepalive_deadline: float | None = None
    send_hold_deadline: float | None = None
    blocked_since: float | None = None
    remark: str = ""
    negotiated: Negotiated | None = None
    reader: MessageReader = field(default_factory=MessageReader)
    closed: bool = False

    def restart_hold(self, now: float) -> None:
        """The peer was heard."""
        assert self.negotiated is not None
        self.hold_deadline = now + self.negotiated.hold_time if self.negotiated.hold_time else None

    def restart_keepalive(self, now: float, rng: random.Random) -> None:
        """The peer was sent something."""
        assert self.negotiated is not None
        interval = self.negotiated.keepalive
        self.keepalive_deadline = now + interval * rng.uniform(*JITTER) if interval else None

    def set_send_hold(self, config: SessionConfig, since: float) -> None:
        """The SendHoldTimer runs from `since`: the greater of eight minutes and twice the hold time (RFC 9687
        section 3.2)."""
        assert self.negotiated is not None
        self.send_hold_deadline = since + max(config.send_hold_time, 2.0 * self.negotiated.hold_time)


@dataclass(frozen=True, slots=True)
class Detail:
    """What an event on a connection brings along."""

    body: bytes = b""
    text: str = ""
    sent: Notification | None = None
    received: Notification | None = None
    cause: Exception | None = None

    def describe(self, sent: Notification | None) -> str:
        """Why a connection ended, one line for people; `sent` is the NOTIFICATION that ended it."""
        if self.received is not None:
            return f"received NOTIFICATION {self.received.describe()}"
        parts = [f"sent NOTIFICATION {sent.describe()}"] if sent is not None else []
        if self.text and (sent is None or self.text != sent.text):
            parts.append(printable(self.text))
        return ": ".join(parts)
