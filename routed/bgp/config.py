"""What the speaker is told: its own identity, and each peer. Frozen, compared field by field."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network

from routed.bgp.capabilities import AddPathMode
from routed.bgp.nlri import Family
from routed.bgp.route import Address
from routed.bgp.session_types import OPEN_TIME, SessionConfig
from routed.bgp.transport import Endpoint
from routed.intent.types import NextHopMode
from routed.secret import SecretValue

DEFAULT_HOLD_TIME = 90
DEFAULT_RESTART_TIME = 120
#: How many paths of a prefix a peer with ADD-PATH is sent: more than routers share the load among.
DEFAULT_ADD_PATH_LIMIT = 128
#: How long a peer that sent too many prefixes stays down, seconds.
DEFAULT_LIMIT_TIME = 300.0
#: How long a client from a range may take for its OPEN, seconds. The four minutes of RFC 4271 section 8.2.2
#: are for peers that somebody has configured.
CLIENT_OPEN_TIME = 60.0


@dataclass(frozen=True, slots=True)
class SpeakerConfig:
    """Who we are. `router_id` and `cluster_id` are four octets; a cluster ID makes us a route reflector."""

    router_id: bytes
    local_as: int
    cluster_id: bytes | None = None
    listen: tuple[Endpoint, ...] = ()
    local_addresses: tuple[tuple[Family, Address], ...] = ()
    """Our own address in each family: the next hop of what we originate."""


@dataclass(frozen=True, slots=True)
class PeerConfig:
    """One configured peering."""

    name: str
    remote: Endpoint
    """The port is where we dial; a peer may connect from any."""
    families: frozenset[Family]
    local_as: int
    remote_as: int | None
    """None: whatever AS the OPEN says (a client range of a reflector still asks for our own)."""
    source: Address | None = None
    passive: bool = False
    route_reflector_client: bool = False
    next_hop_mode: NextHopMode = NextHopMode.AUTO
    hold_time: int = DEFAULT_HOLD_TIME
    keepalive_time: int | None = None
    restart_time: int = DEFAULT_RESTART_TIME
    long_lived_time: int = 0
    """Seconds for which routes outlive the restart time as a last resort, ours at the peer, and, for as long
    as it says, its routes here (RFC 9494); 0: not at all. What others mark so is the last choice anyhow."""
    add_path: AddPathMode = AddPathMode.RECEIVE | AddPathMode.SEND
    """Several paths of a prefix where the peer wants it too (RFC 7911): Calico's `add paths on`."""
    add_path_limit: int = DEFAULT_ADD_PATH_LIMIT
    """At most so many paths of a prefix are sent, the best ones; 1 or more."""
    allowed_local_as: int = 0
    filters: tuple[str, ...] = ()
    password: SecretValue | None = field(default=None, repr=False)
    """TCP-MD5 (RFC 2385)."""
    ttl_security_hops: int | None = None
    """GTSM (RFC 5082): how many hops away the peer may be; None: off, and multihop."""
    max_prefixes: int | None = None
    """The most prefixes of a family that the peer may send; with more of them its session ends (RFC 4486
    section 4)."""
    max_prefixes_time: float | None = DEFAULT_LIMIT_TIME
    """For so long, seconds; None: until it is configured otherwise."""
    held: str | None = None
    """Why there must be no session at all, such as a password that cannot be used; None: there may be one."""
    dynamic: bool = False
    """Made by a connection from a client range; gone when its session is."""


@dataclass(frozen=True, slots=True)
class ClientRange:
    """Accept a session from any address in `network` as a route reflector client."""

    network: IPv4Network | IPv6Network
    families: frozenset[Family] = frozenset(Family)
    password: SecretValue | None = field(default=None, repr=False)
    """TCP-MD5 for every client of the range."""
    max_prefixes: int | None = None
    max_prefixes_time: float | None = DEFAULT_LIMIT_TIME


def session_config(peer: PeerConfig, speaker: SpeakerConfig, *, restarting: bool) -> SessionConfig:
    """What of a peer's configuration the session needs. `restarting`: the Restart State bit (RFC 4724
    section 3)."""
    return SessionConfig(
        name=peer.name,
        local_as=peer.local_as,
        remote_as=peer.remote_as,
        local_router_id=speaker.router_id,
        families=peer.families,
        passive=peer.passive,
        open_time=CLIENT_OPEN_TIME if peer.dynamic else OPEN_TIME,
        hold_time=peer.hold_time,
        keepalive_time=peer.keepalive_time,
        enhanced_route_refresh=True,
        extended_message=True,
        add_path=peer.add_path,
        restart_time=peer.restart_time,
        long_lived_time=peer.long_lived_time,
        restarting=restarting,
    )
