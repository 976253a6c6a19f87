"""What one node should do: the frozen types between the compiler and everything right of it.

The speaker, the kernel room, the renderer and every explanation read these and
nothing else, so they agree by construction. Records are named by their key, so
that each line of intent can say where it comes from.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface
from typing import TYPE_CHECKING

from routed.bgp.nlri import Family, Network

if TYPE_CHECKING:
    # Only names here: the speaker reads these types also where there are no records, and a process without
    # the records' types has 3 MB less.
    from routed.intent.filters import CompiledFilter
    from routed.resources import Key, Problem, SecretValue

Address = IPv4Address | IPv6Address
Interface = IPv4Interface | IPv6Interface

#: Kernel metric of a route that nothing prefers or avoids (`ipv4NormalRoutePriority`).
NORMAL_ROUTE_PRIORITY = 1024
#: LOCAL_PREF and kernel metric add up to this (Calico's route priority).
PRIORITY_SUM = 2147483647


class PeeringKind(enum.StrEnum):
    """Which rule of Calico's made a peering; the value begins its name, as confd's (`Mesh_10_0_0_1`)."""

    MESH = "Mesh"
    GLOBAL = "Global"
    NODE = "Node"
    LOCAL_WORKLOAD = "Local_Workload"


class NextHopMode(enum.StrEnum):
    """`BGPPeer.spec.nextHopMode`; AUTO is BGP's default rules."""

    AUTO = "Auto"
    SELF = "Self"
    KEEP = "Keep"


@dataclass(frozen=True, slots=True)
class SessionIntent:
    """One BGP session of this node: one peer address, one family: a `protocol bgp` of confd's bird.cfg."""

    name: str
    kind: PeeringKind
    family: Family
    peer_address: Address
    port: int
    peer_as: int
    local_as: int
    """The effective local AS: `localASNumber` where set, else the node's."""
    source_address: Address | None
    """Local address of the TCP connection; None leaves it to the kernel."""
    passive: bool
    record: Key
    """The BGPPeer, or BGPConfiguration/default for the mesh."""
    reverse: bool = False
    """True for a peering back to a node whose BGPPeer selects us."""
    peer_node: str | None = None
    """Name of the peer's Node record, where the peer is one."""
    route_reflector_client: bool = False
    next_hop_mode: NextHopMode = NextHopMode.AUTO
    restart_time: int = 120
    """Graceful restart time, seconds."""
    keepalive_time: int | None = None
    """Seconds; None: a third of the hold time."""
    allowed_local_as: int = 0
    ttl_security_hops: int | None = None
    """GTSM with so many hops; None: off, and multihop."""
    reachable_by: Address | None = None
    filters: tuple[str, ...] = ()
    """BGPFilter names, in order; their rules are in `NodeIntent.filters`."""
    password: SecretValue | None = field(default=None, repr=False)
    """TCP-MD5 secret (a type that never prints), or None."""
    explicit: frozenset[str] = frozenset()
    """Which of `port`, `local_as` and `restart_time` a record sets, rather than leave to its default: a BIRD
    configuration says these, and the name of a peering says the port."""

    @property
    def ibgp(self) -> bool:
        """True where the peer's AS is the effective local AS."""
        return self.peer_as == self.local_as


class OriginKind(enum.StrEnum):
    """Why a node originates a route."""

    BLOCK = "block"
    BORROWED = "borrowed"
    SERVICE = "service"
    SERVICE_RANGE = "service-range"
    REACHABLE_BY = "reachable-by"


@dataclass(frozen=True, slots=True)
class OriginatedRoute:
    """One route that this node makes itself."""

    network: Network
    kind: OriginKind
    record: Key
    reason: str
    """For people: `confirmed affinity`, `allocated here from a block of worker01`."""
    advertise: bool
    """True where it is a candidate for BGP (the export policy still decides for each peer)."""
    blackhole: bool
    """True where the kernel gets a blackhole for it."""
    gateway: Address | None = None
    """A static route by way of this address (`reachableBy`)."""


@dataclass(frozen=True, slots=True)
class CommunityRule:
    """One `prefixAdvertisements` entry, names resolved: routes within `network` get these communities."""

    network: Network
    standard: tuple[int, ...] = ()
    large: tuple[tuple[int, int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class ExportPolicy:
    """Which routes of one family may leave, to any peer: what confd's bird_ipam.cfg and bird_aggr.cfg say in
    `calico_export_to_bgp_peers` and `calico_aggr`.

    In eleven steps, of which the first that decides is the last: LOCAL_PREF by the metric (1), and the
    peer's own filters (2), which are the session's; pools that are not exported (3); interfaces, towards
    internal peers (4) and towards all (5); communities, which decide nothing (6); the node's blocks, and what
    is inside of them (7); service routes (8); service ranges that a reflector passes on (9); enabled pools
    (10); nothing else leaves (11)."""

    normal_priority: int = NORMAL_ROUTE_PRIORITY
    rejected: tuple[Network, ...] = ()
    """Pools with `disableBGPExport` (step 3)."""
    ibgp_rejected_interfaces: tuple[str, ...] = ("*.cali", "*.calico", "tunl0")
    """Shell patterns (step 4)."""
    rejected_interfaces: tuple[str, ...] = ("bpf*.cali",)
    """Shell patterns (step 5)."""
    communities: tuple[CommunityRule, ...] = ()
    """`prefixAdvertisements` (step 6)."""
    aggregates: tuple[Network, ...] = ()
    """Confirmed blocks of this node (step 7)."""
    statics: tuple[Network, ...] = ()
    """Service routes (step 8)."""
    reflected: tuple[Network, ...] = ()
    """Service ranges that a route reflector passes on (step 9)."""
    accepted: tuple[Network, ...] = ()
    """Enabled pools (step 10)."""


class KernelAction(enum.StrEnum):
    """What the kernel policy does with a learned route that a rule matches."""

    REJECT = "reject"
    ACCEPT = "accept"
    TUNNEL = "tunnel"
    """By way of the next hop on the IPIP device, onlink."""
    TUNNEL_CROSS_SUBNET = "tunnel-cross-subnet"
    """As TUNNEL, unless the next hop is in our node's subnet."""


@dataclass(frozen=True, slots=True)
class KernelRule:
    """Learned routes within `network` get `action`; `reason` names the record and field."""

    network: Network
    action: KernelAction
    reason: str
    service: bool = False
    """True for a service range, False for a pool."""


@dataclass(frozen=True, slots=True)
class KernelPolicy:
    """Which learned routes of one family go into the kernel, and how: `calico_kernel_programming` of
    confd's bird_ipam.cfg.

    The first rule that matches decides; no match accepts."""

    normal_priority: int = NORMAL_ROUTE_PRIORITY
    rejected_next_hops: frozenset[Address] = frozenset()
    """Nodes that run WireGuard while this one does too: the agent routes to them."""
    rules: tuple[KernelRule, ...] = ()
    tunnel_device: str = "tunl0"


@dataclass(frozen=True, slots=True)
class FamilyIntent:
    """All of one address family that is not a session or a route."""

    family: Family
    node_address: Interface | None
    """The node's own BGP address with its subnet; None: the node has no sessions of this family."""
    export_policy: ExportPolicy = ExportPolicy()
    kernel_policy: KernelPolicy = KernelPolicy()
    local_workload_address: Address | None = None
    """`localWorkloadPeeringIPV4/V6`: the address of ours that local workloads peer with."""


@dataclass(frozen=True, slots=True)
class NodeIntent:
    """Everything that one node should do."""

    node: str
    router_id: IPv4Address | None
    """None: not known yet (the Node record is absent, or has no IPv4 address); no session can start."""
    local_as: int
    listen_port: int
    cluster_id: IPv4Address | None
    """`routeReflectorClusterID`: set where this node is a route reflector."""
    bind_address: tuple[Address, ...] = ()
    """Addresses to listen on (`bindMode: NodeIP`); empty: all."""
    families: Mapping[Family, FamilyIntent] = field(default_factory=dict)
    sessions: Mapping[str, SessionIntent] = field(default_factory=dict)
    """By session name."""
    originated: Mapping[Network, OriginatedRoute] = field(default_factory=dict)
    filters: Mapping[str, CompiledFilter] = field(default_factory=dict)
    """By BGPFilter name; a session may name one that is not there (yet), and goes without it."""
    ignored_interfaces: tuple[str, ...] = ()
    """Shell patterns of interfaces whose connected routes are not known (`ignoredInterfaces`)."""
    explicit: frozenset[str] = frozenset()
    """Holds `listen_port` where a record sets it."""
    log_severity: str = "Info"
    problems: tuple[Problem, ...] = ()
    """Findings that span records: conflicting affinities, references to nothing (pending), a peer without a
    family in common."""


@dataclass(frozen=True, slots=True)
class IntentDelta:
    """What a change of records changed in a NodeIntent: new values, None for what is gone."""

    sessions_changed: Mapping[str, SessionIntent | None] = field(default_factory=dict)
    originated_changed: Mapping[Network, OriginatedRoute | None] = field(default_factory=dict)
    filters_changed: Mapping[str, CompiledFilter | None] = field(default_factory=dict)
    families_changed: frozenset[Family] = frozenset()
    """Families whose FamilyIntent differs: node address, export or kernel policy."""
    node_changed: bool = False
    """Router ID, AS, listen port, cluster ID, bind addresses, ignored interfaces or log severity differ."""
    problems: tuple[Problem, ...] = ()
    """Problems that are new."""
    problems_solved: tuple[Problem, ...] = ()
    """Problems that are gone."""

    def __bool__(self) -> bool:
        """True where anything changed."""
        return bool(
            self.sessions_changed
            or self.originated_changed
            or self.filters_changed
            or self.families_changed
            or self.node_changed
            or self.problems
            or self.problems_solved
        )
