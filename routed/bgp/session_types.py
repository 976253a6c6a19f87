"""What goes into a `Session` and what comes out of it: configuration, actions, and what was negotiated."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from routed.bgp.capabilities import (
    NO_ADD_PATH,
    SAFI_UNICAST,
    AddPathMode,
    Capabilities,
    GracefulRestart,
    LongLivedGracefulRestart,
)
from routed.bgp.errors import Notification
from routed.bgp.message import MessageType
from routed.bgp.nlri import NO_FAMILIES, Family
from routed.bgp.update import Update

ConnectionId = int

#: How long to wait for an OPEN, seconds (RFC 4271 section 8.2.2: "a large value").
OPEN_TIME: Final = 240.0


@dataclass(frozen=True, slots=True)
class SessionConfig:
    """One peering. Times are in seconds.

    remote_as          None accepts any AS; iBGP or eBGP then follows from what the peer's OPEN says
    families           what is offered; what both ends offer is carried
    passive            never dial
    hold_time          offered; 0 for none, else 3 to 65535
    keepalive_time     wanted; never more than a third of the negotiated hold time, which is the default (None
                       or 0)
    connect_delay      the first dial comes within this time; the wait doubles with each failure ...
    connect_retry_time ... up to this
    idle_hold_min, _max how long to stay idle after an error: doubles with each error from one to the other
    open_time          how long to wait for an OPEN (RFC 4271 section 8.2.2: a large hold time)
    send_hold_time     how long the peer may take nothing of what we send (RFC 9687); or twice the negotiated
                       hold time where that is more
    restart_time       for how long the peer should keep our routes when we restart; 0: no graceful restart
    add_path           what we want to do with several paths of a prefix, in every family (RFC 7911)
    long_lived_time    for how long the peer should keep our routes after that, as a last resort, and we its
                       for as long as it says (RFC 9494); 0: not at all, but we know what such routes of
                       others are; None: nor that
    restarting         we have just started, and may have had a session before: the Restart State bit (RFC
                       4724 section 3)

    What OPEN says cannot change under a session: a new value of a field in `OPEN_FIELDS` resets it. Every
    other field takes effect in place.
    """

    name: str
    local_as: int
    remote_as: int | None
    local_router_id: bytes
    families: frozenset[Family]
    passive: bool = False
    hold_time: int = 90
    keepalive_time: int | None = None
    connect_delay: float = 1.0
    connect_retry_time: float = 5.0
    idle_hold_min: float = 5.0
    idle_hold_max: float = 30.0
    open_time: float = OPEN_TIME
    send_hold_time: float = 480.0
    four_octet_as: bool = True
    route_refresh: bool = True
    enhanced_route_refresh: bool = False
    extended_message: bool = False
    add_path: AddPathMode = NO_ADD_PATH
    restart_time: int = 0
    long_lived_time: int | None = None
    restarting: bool = False

    def __post_init__(self) -> None:
        if self.hold_time not in range(3, 65536) and self.hold_time != 0:
            raise ValueError(f"{self.name}: the hold time must be 0 or 3 to 65535 s, not {self.hold_time}")
        if not self.families:
            raise ValueError(f"{self.name}: a session needs a family")
        if len(self.local_router_id) != 4 or not any(self.local_router_id):
            raise ValueError(f"{self.name}: the router ID must be 4 octets and not 0.0.0.0")
        for asn in (self.local_as, self.remote_as):
            if asn is not None and not 0 < asn < 1 << 32:
                raise ValueError(f"{self.name}: an AS number is 1 to 4294967295, not {asn}")
        if self.local_as > 65535 and not self.four_octet_as:
            raise ValueError(f"{self.name}: AS {self.local_as} needs the 4-octet AS capability")

    def capabilities(self) -> Capabilities:
        """What our OPEN offers."""
        return Capabilities(
            multiprotocol=tuple((int(family), SAFI_UNICAST) for family in sorted(self.families)),
            route_refresh=self.route_refresh,
            four_octet_as=self.local_as if self.four_octet_as else None,
            extended_message=self.extended_message,
            enhanced_route_refresh=self.enhanced_route_refresh,
            # RFC 9494 section 4.1: without graceful restart the long-lived one is ignored.
            graceful_restart=self._graceful_restart() if self.restart_time or self.long_lived_time else None,
            long_lived_graceful_restart=self._long_lived(),
            add_path=tuple((int(family), SAFI_UNICAST, self.add_path) for family in sorted(self.families))
            if self.add_path
            else (),
        )

    def _graceful_restart(self) -> GracefulRestart:
        # The Forwarding State bit is always set: kernel routes outlive this process, and a reflector forwards
        # nothing that a restart could have harmed.
        families = tuple((int(family), SAFI_UNICAST, True) for family in sorted(self.families))
        return GracefulRestart(
            min(self.restart_time, 4095), families, restarted=self.restarting, notification=True
        )

    def _long_lived(self) -> LongLivedGracefulRestart | None:
        if not self.long_lived_time:
            return None if self.long_lived_time is None else LongLivedGracefulRestart()
        time = min(self.long_lived_time, (1 << 24) - 1)
        return LongLivedGracefulRestart(
            tuple((int(family), SAFI_UNICAST, True, time) for family in sorted(self.families))
        )

    def keepalive_interval(self, hold_time: int) -> float:
        """Seconds between KEEPALIVEs under a negotiated hold time: a third of it, less where so configured,
        none where it is 0 (RFC 4271 section 4.4)."""
        third = hold_time / 3
        return min(third, self.keepalive_time or third)


OPEN_FIELDS: Final = (
    "local_as",
    "remote_as",
    "local_router_id",
    "families",
    "hold_time",
    "four_octet_as",
    "route_refresh",
    "enhanced_route_refresh",
    "extended_message",
    "add_path",
    "long_lived_time",
)


@dataclass(frozen=True, slots=True)
class Negotiated:
    """What both ends agreed on. `hold_time` and `keepalive` are in seconds, 0 for none.

    `add_path_receive` and `add_path_send` are the families in which the peer, or we, send path identifiers
    (RFC 7911); `long_lived`: we keep the peer's routes as a last resort, as both want (RFC 9494);
    `restart_on_notification`: graceful restart holds after a NOTIFICATION too (RFC 8538)."""

    hold_time: int
    keepalive: float
    families: frozenset[Family]
    four_octet_as: bool
    local_as: int
    remote_as: int
    remote_router_id: bytes
    route_refresh: bool
    capabilities: Capabilities
    max_message_size: int
    enhanced_route_refresh: bool = False
    add_path_receive: frozenset[Family] = NO_FAMILIES
    add_path_send: frozenset[Family] = NO_FAMILIES
    long_lived: bool = False
    restart_on_notification: bool = False

    @property
    def ibgp(self) -> bool:
        """True where the peer is in our AS."""
        return self.local_as == self.remote_as


@dataclass(slots=True)
class Counters:
    """Messages; the place in a list is the `MessageType`. UPDATEs that the owner sends are counted where it
    reports them (`Session.sent`), or by the export groups while the session is up (`Speaker.messages`)."""

    received: list[int] = field(default_factory=lambda: [0] * (1 + max(MessageType)))
    sent: list[int] = field(default_factory=lambda: [0] * (1 + max(MessageType)))

    def add(self, other: Counters) -> None:
        """Count what another one has counted, too."""
        self.received = [a + b for a, b in zip(self.received, other.received, strict=True)]
        self.sent = [a + b for a, b in zip(self.sent, other.sent, strict=True)]


@dataclass(frozen=True, slots=True)
class Dial:
    """Connect to the peer; report `connected` or `connect_failed`."""


@dataclass(frozen=True, slots=True)
class Send:
    """Send a whole message on a connection."""

    conn: ConnectionId
    data: bytes


@dataclass(frozen=True, slots=True)
class Close:
    """Close a connection after what was given to it to send. It is not reported as lost."""

    conn: ConnectionId


@dataclass(frozen=True, slots=True)
class Established:
    """The session is up on this connection."""

    conn: ConnectionId
    negotiated: Negotiated


@dataclass(frozen=True, slots=True)
class Updates:
    """The UPDATEs of one read, in order."""

    conn: ConnectionId
    updates: list[Update]


@dataclass(frozen=True, slots=True)
class RefreshRequested:
    """The peer sent a ROUTE-REFRESH; `subtype` is a `message.RefreshSubtype` (0: it asks for our routes)."""

    family: Family
    subtype: int


@dataclass(frozen=True, slots=True)
class Down:
    """A session has ended, or an attempt at one, with its last connection and no dial under way.
    `was_established`: routes were exchanged, and are void now.

    `sent` and `received` hold the NOTIFICATION that ended it, where there was one; `cause` is an exception of
    ours that should not have been possible; `text` is one line for people, safe to print."""

    conn: ConnectionId
    was_established: bool
    text: str
    sent: Notification | None = None
    received: Notification | None = None
    cause: Exception | None = None


Action = Dial | Send | Close | Established | Updates | RefreshRequested | Down
