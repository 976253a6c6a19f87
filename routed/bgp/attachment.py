"""What a peer has in the tables: in each family a source of paths and, while its session is up, a place in an
export group; and how its routes outlive the session where graceful restart says so (RFC 4724 section 4.2)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

from routed.bgp.errors import Finding
from routed.bgp.export import ExportTarget
from routed.bgp.filters import compile_import
from routed.bgp.groups import GroupKey, Member
from routed.bgp.nlri import Family
from routed.bgp.path import Source, SourceKind
from routed.bgp.peer import Peer
from routed.bgp.restart import preserved_families
from routed.bgp.session import Negotiated
from routed.bgp.tables import Tables
from routed.bgp.update import Update
from routed.intent.filters import CompiledFilter, Direction

#: How long a peer that came back may take for its End-of-RIB before its stale routes go, seconds.
END_OF_RIB_TIME: Final = 120.0


class Attachment:
    """One peer in the tables. Made with the peer, and gone with it."""

    def __init__(self, peer: Peer, tables: Tables, stale_expired: Callable[[Peer], None]) -> None:
        """`stale_expired`: told when stale routes were dropped because the time for them was over."""
        self._peer = peer
        self._tables = tables
        self._stale_expired = stale_expired
        self._import_filters: dict[Family, tuple[tuple[str, CompiledFilter | None], ...]] = {}
        self._stale_timer: asyncio.TimerHandle | None = None
        self.sources: dict[Family, Source] = {}
        self.members: dict[Family, Member] = {}

    # A session

    def established(self, negotiated: Negotiated, *, end_of_rib: bool) -> None:
        """The session is up: join the export groups. `end_of_rib`: say when the table is whole."""
        preserved = preserved_families(negotiated)
        for family in negotiated.families:
            source = self._source(family, negotiated)
            old = self.sources.get(family)
            if old is not None and _same_peer(old, source):
                source = old
                if family not in preserved:
                    # RFC 4724 section 4.2: the peer lost its forwarding state, so its
                    # old routes lead nowhere.
                    self._tables.ribs[family].sweep_stale(source)
            elif old is not None:
                self._tables.ribs[family].drop(old)
            if old is not source:
                self._import_filters.pop(family, None)
            self.sources[family] = source
            self._set_import_policy(family, source)
            self._join(family, source, negotiated, end_of_rib=end_of_rib)
        for family in self.sources.keys() - negotiated.families:
            self._tables.ribs[family].drop(self.sources.pop(family))
        if self._stale_timer is not None:
            self._expire_stale_after(END_OF_RIB_TIME)

    def take(self, updates: list[Update]) -> tuple[list[Family], list[Finding]]:
        """Take in the routes of UPDATEs, in order. Returns the families whose table they made whole, and the
        errors that were handled (RFC 7606)."""
        sources, ribs = self.sources, self._tables.ribs
        whole: list[Family] = []
        findings: list[Finding] = []
        for update in updates:
            for family, nlri in update.withdrawn:
                ribs[family].withdraw(sources[family], nlri)
            for family, attributes, nlri in update.announced:
                ribs[family].insert(sources[family].path(attributes), nlri)
            if update.end_of_rib is not None:
                self._end_of_rib(update.end_of_rib)
                whole.append(update.end_of_rib)
            if update.errors:
                findings += update.errors
        return whole, findings

    def down(self, keep: frozenset[Family], seconds: float | None) -> None:
        """The session is over: leave the groups; routes of the families in `keep` stay, stale, for so long
        (None: until somebody else ends it)."""
        self._leave()
        for family in list(self.sources):
            rib = self._tables.ribs[family]
            if family in keep:
                # RFC 4724 section 4.2: what was stale before is not kept another time.
                rib.sweep_stale(self.sources[family])
                rib.mark_stale(self.sources[family])
            else:
                rib.drop(self.sources.pop(family))
        self._cancel_stale_timer()
        if keep and seconds is not None:
            self._expire_stale_after(seconds)

    def remove(self) -> None:
        """The peer is no more: so are its routes."""
        self._cancel_stale_timer()
        self._leave()
        for family, source in self.sources.items():
            self._tables.ribs[family].drop(source)

    def close(self) -> None:
        """The process ends: no timer is left."""
        self._cancel_stale_timer()

    def _leave(self) -> None:
        for family, member in self.members.items():
            self._tables.groups[family].leave(member)
        self.members.clear()

    # A changed configuration

    def regroup(self) -> None:
        """Move to the groups that the peer's configuration now calls for; only differences are sent."""
        peer = self._peer
        negotiated = peer.session.negotiated
        if peer.connection is None or negotiated is None:
            return
        for family, member in list(self.members.items()):
            self._update_source(family, self.sources[family])
            self._set_import_policy(family, self.sources[family])
            key = self._group_key(family, negotiated)
            if key != member.group.key:
                self.members[family] = self._tables.groups[family].move(member, key)
        peer.connection.outlets = list(self.members.values())
        peer.wake_writer()

    def renew_import_policy(self) -> None:
        """Judge what the peer sent by its filters as they are now."""
        for family, source in self.sources.items():
            self._set_import_policy(family, source)

    # What there is to see

    @property
    def restarting(self) -> bool:
        """True while stale routes are waited for."""
        return self._stale_timer is not None

    def received(self) -> Mapping[Family, int]:
        """The number of routes in Adj-RIB-In, by family."""
        tables = {family: self._tables.ribs[family].sources.get(one) for family, one in self.sources.items()}
        return {family: len(table.routes) for family, table in tables.items() if table is not None}

    def advertised(self) -> Mapping[Family, int]:
        """The number of routes the peer is told of, by family. Counts its own among them where its group
        has any."""
        return {family: len(member.group.adj_out) for family, member in self.members.items()}

    # Stale routes

    def _end_of_rib(self, family: Family) -> None:
        """The peer's table of a family is whole: what it did not send again is gone."""
        self._tables.ribs[family].sweep_stale(self.sources[family])
        if not self._has_stale():
            self._cancel_stale_timer()

    def _has_stale(self) -> bool:
        tables = (self._tables.ribs[family].sources.get(source) for family, source in self.sources.items())
        return any(table is not None and table.stale for table in tables)

    def _expire_stale_after(self, seconds: float) -> None:
        self._cancel_stale_timer()
        self._stale_timer = asyncio.get_running_loop().call_later(seconds, self._on_stale_timer)

    def _cancel_stale_timer(self) -> None:
        if self._stale_timer is not None:
            self._stale_timer.cancel()
            self._stale_timer = None

    def _on_stale_timer(self) -> None:
        """The restart time, or the time for End-of-RIB, is over."""
        self._stale_timer = None
        for family, source in list(self.sources.items()):
            if self._peer.established:
                self._tables.ribs[family].sweep_stale(source)
            else:
                self._tables.ribs[family].drop(self.sources.pop(family))
        self._stale_expired(self._peer)

    # Sources

    def _source(self, family: Family, negotiated: Negotiated) -> Source:
        config = self._peer.config
        return Source(
            self._peer.name,
            SourceKind.IBGP if negotiated.ibgp else SourceKind.EBGP,
            self._tables.router[family],
            address=config.remote.address.packed,
            router_id=negotiated.remote_router_id,
            remote_as=negotiated.remote_as,
            local_as=negotiated.local_as,
            client=config.route_reflector_client,
            allowed_local_as=config.allowed_local_as,
        )

    def _update_source(self, family: Family, source: Source) -> None:
        """Values of the configuration that do not need another session."""
        config = self._peer.config
        new = (config.route_reflector_client, config.allowed_local_as)
        if (source.client, source.allowed_local_as) != new:
            source.client, source.allowed_local_as = new
            self._tables.ribs[family].recheck(source)

    def _set_import_policy(self, family: Family, source: Source) -> None:
        """Judge what the peer sent, and what it sends from now on, by its filters."""
        names = self._peer.config.filters
        key = self._tables.filters(names)
        if self._import_filters.get(family, ()) != key:
            self._import_filters[family] = key
            ibgp = source.kind is SourceKind.IBGP
            functions = self._tables.filter_functions(names, family, Direction.IMPORT, ibgp)
            self._tables.ribs[family].set_policy(source, compile_import(functions))

    # Export groups

    def _group_key(self, family: Family, negotiated: Negotiated) -> GroupKey:
        config = self._peer.config
        target = ExportTarget(
            family=family,
            kind=SourceKind.IBGP if negotiated.ibgp else SourceKind.EBGP,
            local_as=negotiated.local_as,
            local_address=self._local_address(family),
            router=self._tables.router[family],
            client=config.route_reflector_client,
            next_hop_mode=config.next_hop_mode,
        )
        return GroupKey(target, negotiated.four_octet_as, negotiated.max_message_size, config.filters)

    def _local_address(self, family: Family) -> bytes:
        """Our address as next hop in a family: the node's own, else that end of the connection."""
        for known, address in self._tables.config.local_addresses:
            if known is family:
                return address.packed
        assert self._peer.connection is not None
        address = self._peer.connection.local.address
        if address.version == 4 and family is Family.IPV6:
            # RFC 4291 section 2.5.5.2: IPv4-mapped, for lack of another
            return b"\0" * 10 + b"\xff\xff" + address.packed
        return address.packed

    def _join(self, family: Family, source: Source, negotiated: Negotiated, *, end_of_rib: bool) -> None:
        assert self._peer.connection is not None
        key = self._group_key(family, negotiated)
        member = self._tables.groups[family].join(key, source, self._peer.wake_writer, end_of_rib=end_of_rib)
        self.members[family] = member
        self._peer.connection.outlets.append(member)


def _same_peer(old: Source, new: Source) -> bool:
    """Whether a session that came back is with the same router, so that its routes may have been kept."""
    names = ("router_id", "remote_as", "local_as", "client", "allowed_local_as", "router")
    return all(getattr(old, name) == getattr(new, name) for name in names)
