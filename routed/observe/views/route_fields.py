"""Paths and adverts as the fields of a `documents.Route`, worked out once for all that share them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

import msgspec

from routed.bgp.adj_rib_in import route_key
from routed.bgp.as_path import path_text
from routed.bgp.attributes import AttributeSet
from routed.bgp.nlri import Family, to_network
from routed.bgp.path import PREFERENCE, NextHopState, Path, Source
from routed.bgp.path_attributes import community_text
from routed.intent.types import OriginatedRoute, OriginKind
from routed.observe import documents
from routed.observe.observed import Observed
from routed.observe.views.text import FAMILY_NAMES, address_text, next_hop_text, prefix_text
from routed.text import clean, clean_or_none

Fields = dict[str, Any]
Way = tuple[int | None, str | None, str | None]
"""To a next hop: its cost, else why there is none; its interface."""

ORIGINS: Final = ("IGP", "EGP", "incomplete")
#: What the kernel says of a prefix that it has.
INSTALLED: Final = "installed"
PENDING: Final = "not yet installed"
#: So many are remembered: as many as there are paths in a cluster of that many nodes.
BODIES: Final = 4096
#: What the JSON of a route without its prefix begins with.
_NO_PREFIX: Final = b'{"prefix":""'


class RouteBody:
    """A route without its prefix (it is empty). As a rule many prefixes share one, and so its JSON."""

    __slots__ = ("_json", "route")

    def __init__(self, route: documents.Route) -> None:
        self.route = route
        self._json: bytes | None = None

    @property
    def json(self) -> bytes:
        """All that follows after the prefix in the route's JSON."""
        if self._json is None:
            self._json = msgspec.json.encode(self.route)[len(_NO_PREFIX) :]
        return self._json


class Row(msgspec.Struct, frozen=True, gc=False):
    """A route as its two parts."""

    prefix: str
    body: RouteBody

    def document(self) -> documents.Route:
        """As a whole."""
        return msgspec.structs.replace(self.body.route, prefix=self.prefix)

    def encode(self) -> bytes:
        """The same document as JSON. A prefix has nothing in it that JSON writes in another way."""
        return b'{"prefix":"%b"%b' % (self.prefix.encode(), self.body.json)


class RouteFields:
    """Makes the routes of one family. What may change when the event loop turns is looked up anew after
    `forget`."""

    def __init__(self, observed: Observed, family: Family) -> None:
        self.family = family
        self._name = FAMILY_NAMES[family]
        self._rib = observed.speaker.ribs[family]
        self._stale: dict[Source, set[bytes]] = {}
        self._compiler = observed.compiler
        self._ways: dict[NextHopState, Way] = {}
        self._bodies: dict[tuple[object, ...], RouteBody] = {}
        """By all that they are made of."""
        self._writer = writer = observed.writer
        if writer is not None:
            fib = writer.fib
            self._programs = fib.port != 0
            self._reasons = writer.reasons[family]
            self._wanted, self._installed = fib.wanted[family], fib.installed[family]
            self._failed = fib.failed  # as of now: it is made anew for each who asks

    def forget(self) -> None:
        """The event loop may have turned."""
        self._ways.clear()
        self._stale = {source: table.stale for source, table in self._rib.sources.items() if table.stale}

    # One route

    def route(
        self,
        nlri: bytes,
        path: Path,
        *,
        best: bool,
        multipath: bool = False,
        not_best: str | None = None,
    ) -> Row:
        """A path of a prefix."""
        source = path.source
        record, reason = self._origin(nlri, source)
        kernel = self.kernel(nlri) if best or multipath else None
        stale = bool(self._stale) and self._is_stale(nlri, path)
        way = None if path.hop is None else self._way(path.hop)
        key = (path, source.name, way, best, multipath, not_best, kernel, record, reason, stale)
        body = self._bodies.get(key)
        if body is None:
            body = self._remember(
                key,
                documents.Route(
                    prefix="",
                    best=best,
                    multipath=multipath,
                    not_best=not_best,
                    kernel=kernel,
                    origin_record=record,
                    origin_reason=reason,
                    stale=stale,
                    **self._of_path(path, way),
                ),
            )
        return Row(prefix_text(nlri, self.family), body)

    def advert(
        self, nlri: bytes, path_id: int, attributes: AttributeSet, source: Source, *, best: bool
    ) -> Row:
        """What a peer is told of a prefix; `path_id` 0: without one."""
        record, reason = self._origin(nlri, source)
        key = (attributes, source, source.name, path_id, best, record, reason)
        body = self._bodies.get(key)
        if body is None:
            body = self._remember(
                key,
                documents.Route(
                    prefix="",
                    origin_record=record,
                    origin_reason=reason,
                    best=best,
                    **self._of_advert(attributes, source, path_id),
                ),
            )
        return Row(prefix_text(nlri, self.family), body)

    def without_path(self, nlri: bytes) -> Row:
        """A kernel route that Loc-RIB knows nothing of: one that is not advertised, or of an earlier run."""
        origin = self.originated(nlri)
        kind: documents.SourceName = "kernel"
        if origin is not None:
            kind = "allocated" if origin.kind is OriginKind.BORROWED else "static"
        gateway = None if origin is None else origin.gateway
        route = documents.Route(
            prefix="",
            family=self._name,
            source=kind,
            source_kind=kind,
            peer_address=None,
            best=False,
            multipath=False,
            ineligible=None,
            not_best=None,
            next_hop=None if gateway is None else str(gateway),
            reachable=True,
            unreachable_reason=None,
            igp_cost=None,
            interface=None,
            as_path="",
            origin=ORIGINS[0],
            local_pref=None,
            med=None,
            preference=0,
            communities=[],
            large_communities=[],
            originator_id=None,
            cluster_list=[],
            path_id=None,
            kernel=self.kernel(nlri),
            origin_record=None if origin is None else clean(str(origin.record)),
            origin_reason="of an earlier run: nobody wishes it now"
            if origin is None
            else clean(origin.reason),
        )
        return Row(prefix_text(nlri, self.family), RouteBody(route))

    # Of a prefix

    def originated(self, nlri: bytes) -> OriginatedRoute | None:
        """The route of our own that the records ask for there."""
        if self._compiler is None:
            return None
        return self._compiler.originated.get(to_network(nlri, self.family))

    def kernel(self, nlri: bytes) -> str | None:
        """`installed`, why it is not in the kernel, or None where nothing is to be there."""
        if self._writer is None:
            return None
        if self._programs:
            if self._failed and (error := self._failed.get((self.family, nlri))) is not None:
                return clean(f"{error.name}: {error.text}")
            if nlri in self._installed:
                return INSTALLED
            if nlri in self._wanted:
                return PENDING
        return clean_or_none(self._reasons.get(nlri))

    def in_kernel(self) -> Collection[bytes]:
        """The prefixes that `kernel` has something to say of."""
        if self._writer is None:
            return ()
        failed = [nlri for family, nlri in self._failed if family is self.family]
        wanted = self._wanted if self._programs else ()
        return dict.fromkeys((*self._installed, *wanted, *failed, *self._reasons))

    def kept_out(self) -> Collection[bytes]:
        """Those of them that the kernel has not."""
        if self._writer is None:
            return ()
        failed = [nlri for family, nlri in self._failed if family is self.family]
        return (*failed, *self._reasons)

    def is_kept_out(self, nlri: bytes) -> bool:
        """Whether the kernel has not what it should have, or what is known."""
        if self._writer is None:
            return False
        return nlri in self._reasons or (self.family, nlri) in self._failed

    def _is_stale(self, nlri: bytes, path: Path) -> bool:
        keys = self._stale.get(path.source, ())
        return (route_key(path, nlri) if path.source.add_path else nlri) in keys

    def _origin(self, nlri: bytes, source: Source) -> tuple[str, str] | tuple[None, None]:
        """The record that makes a route of our own, and why."""
        if self._compiler is None or source.kind.bgp or (origin := self.originated(nlri)) is None:
            return None, None
        return clean(str(origin.record)), clean(origin.reason)

    # What prefixes share

    def _remember(self, key: tuple[object, ...], route: documents.Route) -> RouteBody:
        if len(self._bodies) >= BODIES:
            self._bodies.clear()
        body = self._bodies[key] = RouteBody(route)
        return body

    def _way(self, hop: NextHopState) -> Way:
        """As it is now."""
        way = self._ways.get(hop)
        if way is None:
            reason = clean(hop.reason) if hop.cost is None else None
            way = self._ways[hop] = (hop.cost, reason, hop.ways[0].interface if hop.ways else None)
        return way

    def _of_path(self, path: Path, way: Way | None) -> Fields:
        source, attributes = path.source, path.attributes
        cost, reason, interface = way or (None, None, None)
        if path.interface is not None:
            interface = path.interface
        return {
            **self._of_attributes(attributes, source),
            "ineligible": clean_or_none(path.ineligible),
            "next_hop": next_hop_text(attributes.next_hop) if any(attributes.next_hop) else None,
            "reachable": path.reachable,
            "unreachable_reason": reason,
            "igp_cost": cost,
            "interface": clean_or_none(interface),
            "preference": path.preference,
            "path_id": path.path_id if source.add_path else None,
        }

    def _of_advert(self, attributes: AttributeSet, source: Source, path_id: int) -> Fields:
        return {
            **self._of_attributes(attributes, source),
            "multipath": False,
            "ineligible": None,
            "not_best": None,
            "next_hop": next_hop_text(attributes.next_hop),
            "reachable": True,
            "unreachable_reason": None,
            "igp_cost": None,
            "interface": None,
            "preference": PREFERENCE[source.kind],
            "path_id": path_id or None,
            "kernel": None,
        }

    def _of_attributes(self, attributes: AttributeSet, source: Source) -> Fields:
        originator = attributes.originator_id
        return {
            "family": self._name,
            "source": clean(source.name),
            "source_kind": source.kind.value,
            "peer_address": address_text(source.address) if source.kind.bgp else None,
            "as_path": path_text(attributes.as_path),
            "origin": ORIGINS[attributes.origin],
            "local_pref": attributes.local_pref,
            "med": attributes.med,
            "communities": [community_text(one) for one in attributes.communities],
            "large_communities": [":".join(map(str, one)) for one in attributes.large_communities],
            "originator_id": None if originator is None else address_text(originator),
            "cluster_list": [address_text(one) for one in attributes.cluster_list],
        }
