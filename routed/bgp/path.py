"""Who told us about a route, and what was told: `Source` and `Path`.

A path is one attribute set from one source, not one route: ten thousand prefixes that a peer announces with
the same attributes share one `Path`, and every table below holds references to it. So what is decided about
a path (eligible or not, its place in the decision process) is worked out once.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import ip_address
from itertools import count
from typing import Final, Protocol
from weakref import WeakValueDictionary

from routed.bgp.attributes import AttributeSet
from routed.bgp.communities import LLGR_STALE
from routed.bgp.route import NextHop
from routed.intent.types import NORMAL_ROUTE_PRIORITY, PRIORITY_SUM
from routed.rr.reflection import reflection_loop

#: LOCAL_PREF of a path that has none, as BIRD sets it (`default bgp_local_pref`).
DEFAULT_LOCAL_PREF: Final = 100


class SourceKind(enum.Enum):
    """Where paths come from."""

    EBGP = "ebgp"
    IBGP = "ibgp"
    STATIC = "static"
    """Originated here: blocks, services, gateways."""
    DIRECT = "direct"
    """The networks of this node's own interfaces."""
    KERNEL = "kernel"
    """Learned from the kernel's table: workload routes."""
    ALLOCATED = "allocated"
    """A borrowed address by its IPAM block alone: any route that somebody holds is better."""

    @property
    def bgp(self) -> bool:
        """True for a peer."""
        return self in (SourceKind.EBGP, SourceKind.IBGP)


#: BIRD's protocol preferences (`DEF_PREF_DIRECT`, `DEF_PREF_STATIC`, `DEF_PREF_BGP`, `DEF_PREF_INHERITED`).
PREFERENCE: Final = {
    SourceKind.EBGP: 100,
    SourceKind.IBGP: 100,
    SourceKind.DIRECT: 240,
    SourceKind.STATIC: 200,
    SourceKind.KERNEL: 10,
    SourceKind.ALLOCATED: 5,
}
#: What Calico's import filter gives a path whose LOCAL_PREF is better than normal.
OVERRIDE_PREFERENCE: Final = 200
#: That of a long-lived stale path: the least of all that somebody holds (RFC 9494 section 4.3).
LONG_LIVED_STALE_PREFERENCE: Final = 7


class NextHopState(Protocol):
    """What is known now of the way to a next hop."""

    @property
    def cost(self) -> int | None:
        """What it costs to get there, smaller is nearer; None: it cannot be reached."""

    @property
    def ways(self) -> tuple[NextHop, ...]:
        """Gateways and their interfaces; none: it cannot be reached."""

    @property
    def reason(self) -> str:
        """Why it cannot be reached, for people."""


class NextHopTracker(Protocol):
    """Who knows the ways to next hops."""

    def follow(self, path: Path) -> NextHopState:
        """The state of the path's next hop. When it changes, `Path.renew_key` is called and the path's
        prefixes are ranked again (`LocRib.rerank`)."""


@dataclass(frozen=True, slots=True)
class Router:
    """What of ourselves received paths are checked against."""

    router_id: bytes
    """BGP identifier, four octets."""
    cluster_id: bytes | None = None
    """Set where we are a route reflector, four octets."""
    addresses: frozenset[bytes] = frozenset()
    """Our own addresses, packed; a path whose next hop is one of them is of no use."""
    normal_priority: int = NORMAL_ROUTE_PRIORITY
    """Kernel metric of a route that nothing prefers; a LOCAL_PREF that means a better one overrides local
    routes."""
    next_hops: NextHopTracker | None = field(default=None, compare=False)
    """Knows the ways to next hops; None: all are taken to be reachable and equally near."""


#: The paths that somebody holds, of all sources: a dictionary for each source would have 800 octets, and most
#: have one path. The key begins with the source's epoch, another number for every source, and for a source
#: that is to make its paths anew.
_paths: WeakValueDictionary[tuple[object, ...], Path] = WeakValueDictionary()
_epochs = count()


class Source:
    """One origin of paths in one family: a peer's session, or a kind of local route.

    Compared by identity. A session that comes back may use the same object as long as nothing in it
    changed."""

    __slots__ = (
        "__weakref__",
        "_epoch",
        "add_path",
        "address",
        "address_key",
        "allowed_local_as",
        "client",
        "kind",
        "local_as",
        "name",
        "remote_as",
        "router",
        "router_id",
    )

    def __init__(
        self,
        name: str,
        kind: SourceKind,
        router: Router,
        *,
        address: bytes = b"",
        router_id: bytes = b"\0\0\0\0",
        remote_as: int = 0,
        local_as: int = 0,
        client: bool = False,
        allowed_local_as: int = 0,
        add_path: bool = False,
    ) -> None:
        """`address` is the peer's, packed; `router_id` its BGP identifier; `local_as` the effective one of
        the session; `client`: a route reflector client; `allowed_local_as`: how often our AS may be in
        AS_PATH; `add_path`: the peer sends path identifiers (RFC 7911)."""
        self.name = name
        self.kind = kind
        self.router = router
        self.address = address
        self.address_key = address.rjust(16, b"\0")
        self.router_id = router_id
        self.remote_as = remote_as
        self.local_as = local_as
        self.client = client
        self.allowed_local_as = allowed_local_as
        self.add_path = add_path
        self._epoch = next(_epochs)

    def path(
        self,
        attributes: AttributeSet,
        *,
        path_id: int = 0,
        interface: str | None = None,
        metric: int | None = None,
    ) -> Path:
        """The one path of this source with these values. `interface` (the outgoing link's name) and `metric`
        (the kernel's, smaller is better) belong to local routes."""
        key = (self._epoch, attributes, path_id, interface, metric)
        found = _paths.get(key)
        if found is None:
            preference = self._preference(attributes)
            ineligible = None
            if self.kind.bgp:
                ineligible = why_ineligible(self, attributes)
                better = (attributes.local_pref or 0) > PRIORITY_SUM - self.router.normal_priority
                if better and preference != LONG_LIVED_STALE_PREFERENCE:
                    preference = OVERRIDE_PREFERENCE
            found = _paths[key] = Path(self, attributes, path_id, interface, metric, preference, ineligible)
        return found

    def accepted_path(self, path: Path, attributes: AttributeSet) -> Path:
        """A path of this source as an import filter accepts it, with the attributes it leaves it with. A
        filter that accepts ends the import: a better than normal LOCAL_PREF does not raise the preference
        after it. Loops were looked for before the filter, in what the peer sent."""
        return self._after_filter(path, attributes, None)

    def rejected_path(self, path: Path, reason: str) -> Path:
        """A path of this source as an import filter rejects it: ineligible."""
        return self._after_filter(path, path.attributes, reason)

    def _after_filter(self, path: Path, attributes: AttributeSet, reason: str | None) -> Path:
        if path.ineligible is not None:
            return path
        key = (self._epoch, path, attributes, reason)
        found = _paths.get(key)
        if found is None:
            found = _paths[key] = Path(
                self,
                attributes,
                path.path_id,
                path.interface,
                path.metric,
                self._preference(attributes),
                reason,
            )
        return found

    def _preference(self, attributes: AttributeSet) -> int:
        if self.kind.bgp and LLGR_STALE in attributes.communities:
            return LONG_LIVED_STALE_PREFERENCE
        return PREFERENCE[self.kind]

    def forget_paths(self) -> None:
        """Make paths anew from now on, after something in the source changed."""
        self._epoch = next(_epochs)

    def same_path(self, path: Path) -> Path:
        """The path with the values of `path`, checked anew where `forget_paths` was called since."""
        return self.path(path.attributes, path_id=path.path_id, interface=path.interface, metric=path.metric)

    def describe(self) -> str:
        """`Mesh_10_0_0_2 (10.0.0.2, AS 64512)` for people."""
        if not self.kind.bgp:
            return self.name
        return f"{self.name} ({ip_address(self.address)}, AS {self.remote_as})"

    def __repr__(self) -> str:
        return f"Source({self.name!r}, {self.kind.value})"


# The sort key of a path, as bytes: one memcmp compares two paths. MED is not in it (see `bestpath`).
_KEY: Final = struct.Struct(">HBIHBBI4sH16sI")
#: Octets of the key before MED's place in the decision process, and up to the multipath boundary.
KEY_BEFORE_MED: Final = 10
KEY_MULTIPATH: Final = 15


class Path:
    """One attribute set from one source. Made by a `Source` only; compared by identity.

    ineligible  why best path must not consider it, for people; None where it may
    preference  BIRD's route preference, greater wins
    hop         the way to the next hop of a peer's path; None where nobody knows the ways
    key         everything that best path compares but MED, as bytes: the smaller key wins
    med         MULTI_EXIT_DISC; a missing one is 0, the lowest (RFC 4271 section 9.1.2.2 c)
    """

    __slots__ = (
        "__weakref__",
        "attributes",
        "hop",
        "ineligible",
        "interface",
        "key",
        "med",
        "metric",
        "path_id",
        "preference",
        "source",
    )

    def __init__(
        self,
        source: Source,
        attributes: AttributeSet,
        path_id: int,
        interface: str | None,
        metric: int | None,
        preference: int,
        ineligible: str | None,
    ) -> None:
        self.source = source
        self.attributes = attributes
        self.path_id = path_id
        self.interface = interface
        self.metric = metric
        self.preference = preference
        self.ineligible = ineligible
        self.med = attributes.med or 0
        tracker = source.router.next_hops
        self.hop = None if tracker is None or not source.kind.bgp else tracker.follow(self)
        self.key = self._make_key()

    def renew_key(self) -> None:
        """Make the key anew: the way to the next hop has changed."""
        self.key = self._make_key()

    @property
    def local_pref(self) -> int:
        """LOCAL_PREF, or 100."""
        value = self.attributes.local_pref
        return DEFAULT_LOCAL_PREF if value is None else value

    @property
    def router_id(self) -> bytes:
        """ORIGINATOR_ID in place of the peer's BGP identifier (RFC 4456 section 9)."""
        return self.attributes.originator_id or self.source.router_id

    @property
    def igp_metric(self) -> int:
        """The cost to the next hop, or the kernel metric of a local route."""
        if self.hop is None:
            return self.metric or 0
        cost = self.hop.cost
        return 0xFFFFFFFF if cost is None else cost

    @property
    def reachable(self) -> bool:
        """False where the next hop cannot be reached (RFC 4271 section 9.1.2.1)."""
        return self.hop is None or self.hop.cost is not None

    def _make_key(self) -> bytes:
        attributes = self.attributes
        source = self.source
        return _KEY.pack(
            0xFFFF - self.preference,
            not source.kind.bgp if self.reachable else 2,
            0xFFFFFFFF - self.local_pref,
            min(attributes.as_path_length, 0xFFFF),
            attributes.origin,
            source.kind is SourceKind.IBGP,
            self.igp_metric,
            self.router_id,
            min(len(attributes.cluster_list), 0xFFFF),
            source.address_key,
            self.path_id,
        )

    def __repr__(self) -> str:
        return f"Path({self.source.name!r}, {self.attributes!r})"


def why_ineligible(source: Source, attributes: AttributeSet) -> str | None:
    """Why a path from a peer must not be used (RFC 4271 section 9.1.2, RFC 4456 section 8), or None."""
    own_as = source.local_as
    times = sum(segment.asns.count(own_as) for segment in attributes.as_path)
    if times > source.allowed_local_as:
        return f"AS_PATH holds our AS {own_as} ({times} times, allowed: {source.allowed_local_as})"
    if attributes.next_hop[:16] in source.router.addresses:
        return "NEXT_HOP is an address of ours"
    if source.kind is SourceKind.IBGP:
        return reflection_loop(attributes, source.router.router_id, source.router.cluster_id)
    return None


PathFilter = Callable[[bytes, Path], Path]
"""Import policy: NLRI and the path as received in; the path as it is after policy out (the same one, one with
other attributes, or an ineligible one)."""
