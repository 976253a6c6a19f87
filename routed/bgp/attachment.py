"""What a peer has in the tables: in each family a source of paths and, while its session is up, a place in an
export group. How its routes outlive the session is in `stale`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from routed.bgp.errors import Finding
from routed.bgp.export import ExportTarget
from routed.bgp.groups import GroupKey, Member
from routed.bgp.message import MessageType, RefreshSubtype, encode_route_refresh
from routed.bgp.nlri import NO_FAMILIES, Family, with_family
from routed.bgp.path import Source, SourceKind
from routed.bgp.peer import Peer
from routed.bgp.restart import long_lived_times, preserved_families, restart_families
from routed.bgp.session_types import Negotiated
from routed.bgp.stale import StaleRoutes
from routed.bgp.tables import Tables
from routed.bgp.update import Update

if TYPE_CHECKING:
    from routed.intent.filters import CompiledFilter


class Attachment:
    """One peer in the tables. Made with the peer, and gone with it."""

    def __init__(self, peer: Peer, tables: Tables, stale_changed: Callable[[Peer, str], None]) -> None:
        """`stale_changed` is told what became of stale routes when the time for them was over."""
        self._peer = peer
        self._tables = tables
        self._import_filters: dict[Family, tuple[tuple[str, CompiledFilter | None], ...]] = {}
        self.sources: dict[Family, Source] = {}
        self.members: dict[Family, Member] = {}
        self._stale = StaleRoutes(tables.ribs, self.sources, peer, stale_changed)
        self._ends_of_rib_due = False
        self._refresh_due = NO_FAMILIES
        self._whole = NO_FAMILIES

    # A session

    def established(self, negotiated: Negotiated, *, end_of_rib: bool) -> None:
        """The session is up: join the export groups. `end_of_rib`: say when the table is whole."""
        self._ends_of_rib_due = not end_of_rib
        self._refresh_due = NO_FAMILIES
        self._whole = NO_FAMILIES
        for family in negotiated.families:
            source = self._source(family, negotiated)
            old = self.sources.get(family)
            if old is not None and _same_peer(old, source):
                source = old
                kept = preserved_families(negotiated, long_lived=self._stale.is_long_lived(family))
                self._stale.up(family, preserved=family in kept)
            elif old is not None:
                self._drop(family)
            if old is not source:
                self._import_filters.pop(family, None)
            self.sources[family] = source
            self._set_import_policy(family, source)
            self._join(family, source, negotiated, end_of_rib=end_of_rib)
        for family in self.sources.keys() - negotiated.families:
            self._drop(family)

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
                ribs[family].announce(sources[family], attributes, nlri)
            if update.end_of_rib is not None:
                self._stale.end_of_rib(update.end_of_rib)
                self._whole = with_family(self._whole, update.end_of_rib)
                whole.append(update.end_of_rib)
            if update.errors:
                findings += update.errors
        return whole, findings

    def refresh(self, family: Family, subtype: int) -> None:
        """The peer sent a ROUTE-REFRESH (RFC 2918, RFC 7313)."""
        negotiated = self._peer.session.negotiated
        member = self.members.get(family)
        if member is None or negotiated is None:
            return
        if subtype == RefreshSubtype.BEGIN:
            # RFC 7313 section 4: with graceful restart, a BoRR before End-of-RIB means nothing.
            if negotiated.capabilities.graceful_restart is None or family in self._whole:
                self._stale.begin_refresh(family)
            else:
                self._peer.log.warning(
                    "route refresh ignored: it begins before End-of-RIB", family=family.name
                )
        elif subtype == RefreshSubtype.END:
            self._stale.end_refresh(family)
        elif not negotiated.enhanced_route_refresh:
            self._tables.groups[family].resend(member)
        elif self._ends_of_rib_due:
            self._refresh_due |= {family}  # our own BoRR may not come before our End-of-RIB either
        else:
            self._tables.groups[family].resend(member, *_refresh_marks(family))

    def send_end_of_rib(self) -> None:
        """Tell the peer that this is all, where that was put off; and what had to come after it."""
        if not self._ends_of_rib_due:
            return
        self._ends_of_rib_due = False
        for family, member in self.members.items():
            member.send_end_of_rib()
            if family in self._refresh_due:
                self._tables.groups[family].resend(member, *_refresh_marks(family))
        self._refresh_due = NO_FAMILIES

    def down(self, keep: frozenset[Family], negotiated: Negotiated | None) -> None:
        """The session is over: leave the groups; routes of the families in `keep` stay, stale, for as long as
        was agreed on (None: until somebody else ends it)."""
        self._leave()
        for family in list(self.sources):
            if family not in keep:
                self._drop(family)
                continue
            seconds: float | None = None
            if negotiated is not None:
                restart = negotiated.capabilities.graceful_restart
                listed = restart is not None and family in restart_families(negotiated)
                seconds = restart.restart_time if restart is not None and listed else 0
            times = {} if negotiated is None else long_lived_times(negotiated)
            self._stale.down(family, seconds, times)

    def remove(self) -> None:
        """The peer is no more: so are its routes."""
        self._leave()
        for family in list(self.sources):
            self._drop(family)

    def close(self) -> None:
        """The process ends: no timer is left."""
        self._stale.cancel()

    def _drop(self, family: Family) -> None:
        self._stale.forget(family)
        self._tables.ribs[family].drop(self.sources.pop(family))

    def _leave(self) -> None:
        for family, member in self.members.items():
            self._tables.groups[family].leave(member)
        self._peer.session.counters.sent[MessageType.UPDATE] += self.updates
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
        """True while routes outlive their session, or did and are not all sent again."""
        return self._stale.restarting

    @property
    def updates(self) -> int:
        """How many UPDATEs were written for the peer in the session that is up; see `Member.updates`. The
        session's counters have those of sessions before."""
        return sum(member.updates for member in self.members.values())

    def ignored(self) -> tuple[int, str | None]:
        """How many of its announcements could not be used (loops), and why the last one."""
        tables = [
            table
            for family, source in self.sources.items()
            if (table := self._tables.ribs[family].sources.get(source))
        ]
        reasons = [table.ignored_reason for table in tables if table.ignored_reason is not None]
        return sum(table.ignored for table in tables), reasons[-1] if reasons else None

    def received(self) -> Mapping[Family, int]:
        """The number of routes in Adj-RIB-In, by family."""
        tables = {family: self._tables.ribs[family].sources.get(one) for family, one in self.sources.items()}
        return {family: len(table) for family, table in tables.items() if table is not None}

    def advertised(self) -> Mapping[Family, int]:
        """The number of routes the peer is told of, by family. Counts its own among them where its group
        has any."""
        return {family: len(member.group.adj_out) for family, member in self.members.items()}

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
            add_path=family in negotiated.add_path_receive,
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
            policy = self._tables.import_policy(names, family, ibgp=ibgp)
            self._tables.ribs[family].set_policy(source, policy)

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
            long_lived=negotiated.capabilities.long_lived_graceful_restart is not None,
        )
        return GroupKey(
            target,
            negotiated.four_octet_as,
            negotiated.max_message_size,
            config.filters,
            config.add_path_limit if family in negotiated.add_path_send else 0,
        )

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
        connection = self._peer.connection
        assert connection is not None
        key = self._group_key(family, negotiated)
        member = self._tables.groups[family].join(key, source, connection.pump, end_of_rib=end_of_rib)
        self.members[family] = member
        connection.outlets.append(member)


def _refresh_marks(family: Family) -> tuple[bytes, bytes]:
    """BoRR and EoRR (RFC 7313 section 3)."""
    return encode_route_refresh(family, RefreshSubtype.BEGIN), encode_route_refresh(
        family, RefreshSubtype.END
    )


def _same_peer(old: Source, new: Source) -> bool:
    """Whether a session that came back is with the same router, so that its routes may have been kept."""
    names = ("router_id", "remote_as", "local_as", "client", "allowed_local_as", "router", "add_path")
    return all(getattr(old, name) == getattr(new, name) for name in names)
