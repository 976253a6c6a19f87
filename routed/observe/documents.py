"""The documents of the status API, version 1: what the command line, the page and other programs read.

Plain data; `openapi.py` publishes their schema. A field is never taken away or given another meaning within
version 1; new ones may come. Times are RFC 3339 in UTC, durations seconds, prefixes and addresses text,
families `ipv4` and `ipv6`. No field ever holds a secret. Texts may come from peers and records: they are
data.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from routed.text import plain

FamilyName = Literal["ipv4", "ipv6"]
SourceName = Literal["ebgp", "ibgp", "static", "direct", "kernel", "allocated"]


class Document(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=False):
    """A JSON object."""


def encode(document: object) -> bytes:
    """A document, or plain data, as JSON. What UTF-8 cannot hold in it becomes U+FFFD."""
    try:
        return msgspec.json.encode(document)
    except UnicodeEncodeError:  # a name of a file or of a record; seldom, so that it is not looked for
        return msgspec.json.encode(plain(msgspec.to_builtins(document)))


# --- status


class DatastoreStatus(Document, frozen=True, kw_only=True):
    """Where the records come from."""

    synced: bool
    """The first snapshot was read."""
    lost_since: str | None
    lost_reason: str | None
    changed_at: str | None
    """When records came last."""
    losses: int
    """How often it was lost since the start."""


class KernelStatus(Document, frozen=True, kw_only=True):
    """Routes of ours in the kernel."""

    error: str | None
    """Why there are none though they were wanted."""
    installed: dict[FamilyName, int]
    failed: int
    """Routes that the kernel refused, and that are tried again."""
    kept_out: dict[FamilyName, int]
    """Learned routes that are not to be in the kernel; `routes?scope=rejected` has the reasons."""


class Status(Document, frozen=True, kw_only=True):
    """The process as a whole."""

    node: str
    version: str
    role: Literal["node", "reflector"]
    started_at: str
    uptime: float
    router_id: str
    local_as: int
    cluster_id: str | None
    listening: list[str]
    converged: bool
    """False after the start until every peer that can be waited for has sent its table."""
    draining: bool
    ready: bool
    """As `/readiness` says."""
    peers: int
    peers_by_state: dict[str, int]
    """How many are `idle`, `connect`, `active`, `opensent`, `openconfirm`, `established`."""
    routes: dict[FamilyName, int]
    """Prefixes in Loc-RIB."""
    paths: dict[FamilyName, int]
    """Paths in all Adj-RIB-Ins, local routes included."""
    originated: int
    """Routes that this node makes itself."""
    blocks: int
    """Blocks that this node holds."""
    updates_received: int
    updates_sent: int
    datastore: DatastoreStatus | None
    """None: works without records."""
    kernel: KernelStatus | None
    """None: programs no kernel routes by design."""
    problems: list[str]
    """What is wrong with records, and where; of more than 1,000 the last one is their number."""
    incidents: dict[str, Any]
    """What peers did wrong, counted by what it was."""


# --- peers


class Protection(Document, frozen=True, kw_only=True):
    """TCP-MD5 (RFC 2385) and GTSM (RFC 5082)."""

    tcp_md5: bool
    old_password_in_use: bool
    ttl_security_hops: int | None
    segments_dropped: int


class Agreed(Document, frozen=True, kw_only=True):
    """What both ends of an Established session agreed on."""

    hold_time: int
    keepalive: float
    families: list[FamilyName]
    add_path_receive: list[FamilyName]
    add_path_send: list[FamilyName]
    extended_messages: bool
    route_refresh: bool
    enhanced_route_refresh: bool
    four_octet_as: bool
    graceful_restart: bool
    restart_time: int | None
    """For how long the peer asks us to keep its routes, seconds."""
    long_lived_graceful_restart: bool


class Messages(Document, frozen=True, kw_only=True):
    """Messages since the start of the process."""

    open: int
    update: int
    notification: int
    keepalive: int
    route_refresh: int


class PeerSummary(Document, frozen=True, kw_only=True):
    """One peering in a line."""

    name: str
    address: str
    port: int
    state: str
    """`idle`, `connect`, `active`, `opensent`, `openconfirm`, `established`."""
    local_as: int
    remote_as: int | None
    """None: any, and not known yet."""
    router_id: str | None
    kind: Literal["ibgp", "ebgp", "unknown"]
    node: str | None
    """The Calico node that it is, where the records say so."""
    families: list[FamilyName]
    route_reflector_client: bool
    dynamic: bool
    """Accepted from an address range."""
    passive: bool
    established_for: float | None
    since: str | None
    """When the session came up."""
    flaps: int
    """How often the session was up and was lost."""
    received: dict[FamilyName, int]
    advertised: dict[FamilyName, int]
    """What it is told. Its own routes, which it is not told, are counted too where there are more than half a
    million."""
    rejected: dict[FamilyName, int] | None
    """Received routes that the import filters or loop checks keep out; None where that was not counted."""
    stale: bool
    """Routes outlive the session (graceful restart)."""
    shut_down: str | None
    """The message with which an operator shut it down, perhaps empty; None: it is not."""
    last_error: str | None


class Peer(PeerSummary, frozen=True, kw_only=True):
    """One peering, whole."""

    record: str | None
    """The record that asks for it."""
    local_address: str | None
    configured_hold_time: int
    configured_keepalive: int | None
    restart_time: int
    """For how long we ask the peer to keep our routes, seconds."""
    next_hop_mode: str
    filters: list[str]
    max_prefixes: int | None
    hold_timer: float | None
    """Seconds until the session ends unless the peer is heard."""
    keepalive_timer: float | None
    agreed: Agreed | None
    capabilities: list[str]
    """Those of the peer's OPEN, for people."""
    protection: Protection
    messages_received: Messages
    messages_sent: Messages
    unsent_octets: int
    """Octets of UPDATEs that the peer has not taken yet, about."""
    ignored: int
    """Announcements that could not be used (loops)."""
    ignored_reason: str | None
    bad_updates: int
    export_groups: dict[FamilyName, int]
    """How many peers share its export group."""
    history: list[Event]
    """Its latest events, oldest first."""


class Peers(Document, frozen=True, kw_only=True):
    """All peerings, by name."""

    peers: list[PeerSummary]


# --- routes


class Route(Document, frozen=True, kw_only=True, gc=False):  # no cycles, and there are many
    """One path of a prefix."""

    prefix: str
    family: FamilyName
    source: str
    """The peering's name, or `static`, `direct`, `kernel`, `allocated`."""
    source_kind: SourceName
    peer_address: str | None
    best: bool
    multipath: bool
    """Shares the load with others, the best path among them."""
    ineligible: str | None
    """Why best path does not consider it."""
    not_best: str | None
    """The step of the decision process that was lost, and to whom."""
    next_hop: str | None
    """None: ourselves."""
    reachable: bool
    unreachable_reason: str | None
    igp_cost: int | None
    interface: str | None
    as_path: str
    origin: str
    local_pref: int | None
    med: int | None
    preference: int
    communities: list[str]
    large_communities: list[str]
    originator_id: str | None
    cluster_list: list[str]
    path_id: int | None
    kernel: str | None
    """`installed`, or why the prefix is not in the kernel; None where nothing is to be there."""
    origin_record: str | None
    """The record that makes a route of our own."""
    origin_reason: str | None
    stale: bool = False
    """Not announced again since the peer's session was lost, or since it began to send everything again."""


class Routes(Document, frozen=True, kw_only=True):
    """A page of routes, in the order of prefixes."""

    routes: list[Route]
    total: int
    """How many there are on all pages; -1 where that was not counted."""
    next: str | None
    """Give this as `after` for the next page; None: this was the last."""


# --- blocks


class Lent(Document, frozen=True, kw_only=True):
    """Addresses of a block that a node other than its owner uses."""

    node: str
    addresses: int


class Block(Document, frozen=True, kw_only=True):
    """One IPAM block of the cluster."""

    cidr: str
    family: FamilyName
    pool: str | None
    """The pool that holds it, by name."""
    owner: str | None
    state: str | None
    """Of the affinity: `confirmed`, `pending`, `pendingDeletion`; None: there is none."""
    ours: bool
    advertised: bool
    blackholed: bool
    size: int
    """Addresses, at most 2**53, the greatest number that every reader of JSON has."""
    allocated: int | None
    """None: there is no IPAM block that would say."""
    lent: list[Lent]
    problem: str | None
    record: str


class Borrowed(Document, frozen=True, kw_only=True):
    """An address that a node uses of another one's block."""

    address: str
    block: str
    owner: str | None
    node: str
    pod: str | None


class Pool(Document, frozen=True, kw_only=True):
    """One IP pool and how full it is."""

    name: str
    cidr: str
    family: FamilyName
    disabled: bool
    bgp_export: bool
    encapsulation: str
    """`none`, `ipip`, `ipip-cross-subnet`, `vxlan`, `vxlan-cross-subnet`."""
    size: int
    """As of a block."""
    blocks: int
    allocated: int
    borrowed: int


class Blocks(Document, frozen=True, kw_only=True):
    """Pools, blocks and borrowed addresses."""

    node: str
    pools: list[Pool]
    blocks: list[Block]
    borrowed_in: list[Borrowed]
    """What this node uses of others' blocks."""
    borrowed_out: list[Borrowed]
    """What others use of this node's blocks."""


# --- explain


class Step(Document, frozen=True, kw_only=True):
    """One gate on the way, in order."""

    gate: str
    """`record`, `pool`, `block`, `affinity`, `origin`, `received`, `import`, `best-path`, `export`, `group`,
    `kernel`, `session`, `tcp`, ..."""
    outcome: Literal["pass", "stop", "info"]
    text: str
    record: str | None = None
    field: str | None = None
    peer: str | None = None
    prefix: str | None = None


TargetKind = Literal["prefix", "address", "peer"]


class Explanation(Document, frozen=True, kw_only=True):
    """Why something is, or is not."""

    target: str
    kind: TargetKind
    verdict: str
    """One line."""
    ok: bool
    """True where it is as one would wish: known, best, told, in the kernel; a session that is up."""
    stopped_by: Step | None
    """The first gate that stopped it."""
    steps: list[Step]


# --- events and the rest


class Event(Document, frozen=True, kw_only=True):
    """One thing that happened."""

    number: int
    time: str
    kind: str
    text: str
    peer: str | None
    fields: dict[str, Any]


class Events(Document, frozen=True, kw_only=True):
    """Events that are still kept, oldest first."""

    events: list[Event]
    last: int
    """The number of the latest event there was."""


class Sample(Document, frozen=True, kw_only=True):
    """Counters at one time."""

    time: str
    established: int
    routes: int
    updates_received: int
    updates_sent: int
    route_changes: int


class Rates(Document, frozen=True, kw_only=True):
    """Counters over the last while, oldest first; the interval is in seconds."""

    interval: float
    samples: list[Sample]


class Health(Document, frozen=True, kw_only=True):
    """The answer to a probe, with the status 200 or 503."""

    ok: bool
    reason: str


# --- actions


class Action(Document, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An action that takes nothing: an empty object, or no body at all."""


class Refresh(Action, frozen=True, kw_only=True):
    """Have routes sent again."""

    direction: Literal["in", "out", "both"] = "in"
    """The peer's routes (RFC 2918), ours, or both."""


class ShutDown(Action, frozen=True, kw_only=True):
    """Shut a peer down."""

    message: str = ""
    """What the peer's operator is told (RFC 9003): a line of at most 255 octets."""


class Done(Document, frozen=True, kw_only=True):
    """An action was carried out."""

    done: str


class Error(Document, frozen=True, kw_only=True):
    """Why there is no answer, and what to do."""

    error: str
    hint: str | None = None
