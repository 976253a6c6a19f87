"""The speaker: peers and their sessions on one event loop, with the tables that they fill and read.

It is told its configuration piece by piece and applies just that piece: a peer that
did not change is not touched. What it finds out goes to a `SpeakerListener`. The
tables are `tables`, what a peer has in them is `attachment`.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Mapping, Set
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Final

from routed import log
from routed.bgp import session as sans_io
from routed.bgp.attachment import Attachment
from routed.bgp.clients import Clients
from routed.bgp.config import ClientRange, PeerConfig, SpeakerConfig
from routed.bgp.errors import Cease, RefusedError
from routed.bgp.handover import Handover
from routed.bgp.incidents import Incidents
from routed.bgp.listener import SessionListener, SpeakerListener
from routed.bgp.listening import Listeners
from routed.bgp.message import MessageType, RefreshSubtype
from routed.bgp.network import Network, TcpNetwork, descriptors_for_connections
from routed.bgp.nlri import Family
from routed.bgp.path import NextHopTracker, SourceKind
from routed.bgp.peer import Peer
from routed.bgp.prefix_limit import limit_notification
from routed.bgp.restart import Convergence, keeps_routes
from routed.bgp.route import Address
from routed.bgp.session import Negotiated
from routed.bgp.tables import PREFIXES_A_TURN, Tables
from routed.bgp.transport import READ_OCTETS, Endpoint, Link, Traffic, reset
from routed.bgp.update import Update
from routed.histogram import Histogram
from routed.intent.types import ExportPolicy

if TYPE_CHECKING:
    from routed.intent.filters import CompiledFilter

#: A turn of the loop that hands on changes is to take about so long, seconds: the next one gets more
#: prefixes, or fewer. What a prefix costs depends on how many peers are told of it, and how many share
#: their attributes.
FLUSH_TIME: Final = 0.05
LEAST_PREFIXES_A_TURN: Final = 500
FIRST_PREFIXES: Final = 8_000
#: While more changes come in they are gathered for so long at most, seconds: what comes together is encoded
#: together.
GATHER_TIME: Final = 0.02
#: How often what was kept for joining peers is let go, seconds.
SNAPSHOT_TIME: Final = 5.0
#: So many batches are timed at the same time.
MOST_BATCHES: Final = 1000


class Speaker:
    """All of BGP on this node. Must be made, used and closed on one running event loop."""

    def __init__(
        self,
        config: SpeakerConfig,
        listener: SpeakerListener,
        *,
        network: Network | None = None,
        rng: random.Random | None = None,
        next_hops: NextHopTracker | None = None,
        sessions: SessionListener | None = None,
    ) -> None:
        """`next_hops` knows which next hops can be reached; None: all are taken to be. `sessions` hears of
        the peerings' lives."""
        self.loop = asyncio.get_running_loop()
        self.network: Network = network or TcpNetwork(self.loop)
        self.read_buffer = memoryview(bytearray(READ_OCTETS))
        self.traffic = Traffic()
        """Of connections that are over; `octets` has all."""
        self.log = log.get("bgp")
        self.random = rng or random.Random()  # noqa: S311 (jitter, not cryptography)
        self.config = config
        self.peers: dict[str, Peer] = {}
        self.tables = Tables(config, self._schedule_flush, next_hops)
        self.ribs = self.tables.ribs
        self.groups = self.tables.groups
        self.incidents = Incidents()
        """What peers did wrong."""
        self.sessions = sessions or SessionListener()
        self._listener = listener
        self._attached: dict[Peer, Attachment] = {}
        self._by_address: dict[Address, list[Peer]] = {}
        self._messages_of_gone = sans_io.Counters()
        self._descriptors_said = 0
        self._clients = Clients(self.loop, self._give_up, self.log)
        self._flush_due = False
        self._more_came = False
        self._gather_until = 0.0
        self._portion = FIRST_PREFIXES
        self._draining = False
        self._stopping = False
        self._closed = False
        self.started_at: float | None = None
        """Since when it speaks BGP, by the loop's clock; None: not yet."""
        self.converged_at: float | None = None
        self.flush_times = Histogram()
        """From a change in Loc-RIB until its UPDATEs were handed to the connections, seconds."""
        self.batch_times = Histogram()
        """The same, from the arrival of what `began` told of."""
        self._changed_at: float | None = None
        self._batches: list[float] = []
        self._listeners = Listeners(
            self.loop, self.network, self._on_accept, self._clients.make_room, self.log
        )
        self._convergence = Convergence(self.loop, self._on_converged)
        self._handover = Handover(self.loop, self._covered, self._let_go)
        self._housekeeping = self.loop.call_later(SNAPSHOT_TIME, self._release_snapshots)
        for family, rib in self.ribs.items():
            rib.subscribe(lambda nlri, family=family: listener.on_routes(family, nlri))  # type: ignore[misc]

    # What it is told

    def start(self) -> None:
        """Listen, and begin to count the time that peers have until the speaker is taken to be converged."""
        if self.started_at is None:
            self.started_at = self.loop.time()
        self._listeners.want(() if self._draining else self.config.listen)
        self._convergence.start(unknown_peers=bool(self._clients.ranges))

    def configure(self, config: SpeakerConfig) -> None:
        """Take another identity or other listening addresses. Sessions are reset only where their OPEN
        changes."""
        old, self.config = self.config, config
        self._listeners.want(() if self._draining else config.listen)
        if old == config:
            return
        self.tables.configure(config)
        for peer in list(self.peers.values()):
            peer.reconfigure(peer.config, config, restarting=self._convergence.pending)
            self._attached[peer].regroup()
        self._schedule_flush()

    def set_client_ranges(self, ranges: Iterable[ClientRange]) -> None:
        """Accept sessions from any address in these ranges."""
        for one in self._clients.ranges:
            self._listeners.set_key(one.network, None)
        self._clients.set(ranges)
        for one in self._clients.ranges:
            self._listeners.set_key(one.network, one.password)

    def set_peer(self, config: PeerConfig) -> None:
        """Add a peer, or give one another configuration."""
        peer = self.peers.get(config.name)
        if peer is None:
            self._add(config)
            return
        old = peer.config
        self._handover.keep(peer)
        if old == config:
            return
        if (old.remote.address, old.source) != (config.remote.address, config.source):
            # Another address is another peering; so is another end of the TCP connection.
            self.remove_peer(config.name)
            self._add(config, peer.shut_down)
            return
        peer.reconfigure(config, self.config, restarting=self._convergence.pending)
        self._attached[peer].regroup()
        if config.max_prefixes != old.max_prefixes and self._over_limit(peer) is not None:
            self._limit_exceeded(peer)
        self._schedule_flush()

    def rename_peer(self, name: str, config: PeerConfig) -> None:
        """The same peering under another name, such as a mesh peer that has become a reflector: its session
        goes on where its OPEN would be the same."""
        peer = self.peers.pop(name)
        self.peers[config.name] = peer
        self._convergence.rename(name, config.name)
        peer.rename(config.name)
        for source in self._attached[peer].sources.values():
            source.name = config.name
        self.set_peer(config)

    def remove_peer(self, name: str) -> None:
        """End a peering: a NOTIFICATION to the peer, and all its routes are gone."""
        peer = self.peers.get(name)
        if peer is not None:
            peer.stop(Cease.PEER_DECONFIGURED)
            self._forget(peer)

    def retire_peer(self, name: str) -> None:
        """End a peering as soon as all its routes are known from others; see `handover`."""
        peer = self.peers.get(name)
        if peer is not None and peer.established:
            peer.log.info("session retires: it ends when others give its routes")
            self._handover.retire(peer)
        else:
            self.remove_peer(name)

    def set_export_policy(self, family: Family, policy: ExportPolicy | None) -> None:
        """Put an export policy in force for every peer; None lets all routes pass. Only what it changes is
        sent."""
        if self.tables.export_policy(family) == policy:
            return
        if self.tables.set_export_policy(family, policy):
            for attached in self._attached.values():
                attached.regroup()
        self.tables.refresh(family)

    def set_filters(self, changed: Mapping[str, CompiledFilter | None]) -> None:
        """Put BGPFilters in force, or out of it. Only what they change for a peer is sent, or decided
        anew."""
        self.tables.set_filters(changed)
        for peer, attached in self._attached.items():
            if peer.established and not changed.keys().isdisjoint(peer.config.filters):
                attached.renew_import_policy()
        self.tables.refresh_filtered(changed)

    def originate(self, family: Family, nlri: bytes, kind: SourceKind = SourceKind.STATIC) -> None:
        """Have a route of our own in Loc-RIB: its next hop is ourselves."""
        self.tables.originate(family, nlri, kind)

    def learn(
        self,
        family: Family,
        nlri: bytes,
        *,
        interface: str | None,
        gateway: Address | None,
        metric: int | None,
        kind: SourceKind = SourceKind.KERNEL,
    ) -> None:
        """Have a route in Loc-RIB that somebody else put into the kernel, a workload's, as a rule; or a
        network of an interface of ours (DIRECT)."""
        self.tables.learn(family, nlri, interface=interface, gateway=gateway, metric=metric, kind=kind)

    def withdraw(self, family: Family, nlri: bytes, kind: SourceKind) -> None:
        """Take back what `originate` (STATIC, ALLOCATED) or `learn` (KERNEL, DIRECT) put into Loc-RIB."""
        self.tables.withdraw(family, nlri, kind)

    def rerank(self, family: Family, nlri: Iterable[bytes]) -> None:
        """Rank the paths of these prefixes again: the way to a next hop of theirs has changed."""
        self.tables.rerank(family, nlri)

    def drain(self, *, to_stop: bool = False) -> None:
        """Peers are told to use our routes only where they have no other (RFC 8326), and nobody new is taken.
        Sessions, and what changes, go on. `to_stop`: `close` follows, and nothing can take this back."""
        self._stopping = self._stopping or to_stop
        if self._draining:
            return
        self._draining = True
        self._listeners.want(())
        self.tables.drain()
        self.sessions.on_draining()
        self._listener.on_status()

    def undrain(self) -> None:
        """Take `drain` back: routes are as before, and connections are accepted. Raises RefusedError where
        the process is about to stop."""
        if self._stopping:
            raise RefusedError("the process is about to stop: it drains until then")
        if not self._draining:
            return
        self._draining = False
        if self.started_at is not None:
            self._listeners.want(self.config.listen)
        self.tables.drain(False)
        self.sessions.on_drain_ended()
        self._listener.on_status()

    def shut_down_peer(self, name: str, message: str = "") -> None:
        """End a peering's session with a message (RFC 9003), and have none until `bring_up_peer`, or until
        the peer is removed. Raises KeyError for an unknown peer."""
        peer = self.peers[name]
        peer.log.warning("shut down by an operator", message=message)
        if peer in self._handover:  # nobody wants it any more: there is nothing to bring up
            peer.take_down(message)
            self._forget(peer)
            return
        self._clients.settled(peer)
        self._convergence.forget(name)
        self.sessions.on_peer_shut_down(peer, message)
        peer.take_down(message)
        # Routes may have outlived an earlier session; nothing is to be had of this peer now.
        self._attached[peer].down(frozenset(), None)
        self._schedule_flush()
        self._listener.on_status()

    def bring_up_peer(self, name: str) -> None:
        """Take `shut_down_peer` back. Raises KeyError for an unknown peer."""
        peer = self.peers[name]
        if peer.shut_down is None:
            return
        peer.log.info("brought up by an operator")
        peer.bring_up()
        self.sessions.on_peer_brought_up(peer)
        self._listener.on_status()

    def refresh_peer(self, name: str, *, ask: bool, resend: bool) -> None:
        """`ask` the peer for all its routes again (RFC 2918), `resend` all of ours. Raises KeyError for an
        unknown peer, and RefusedError, with nothing done, where it has no session, or is to be asked and did
        not agree to that."""
        peer = self.peers[name]
        negotiated = peer.session.negotiated
        if negotiated is None:
            raise RefusedError(f"{name}: no session is established")
        if ask and not negotiated.route_refresh:
            raise RefusedError(
                f"{name}: the peer did not negotiate route refresh (RFC 2918): "
                "shut it down and bring it up to have its routes again"
            )
        peer.log.info("route refresh by an operator", asked=ask, resent=resend)
        if ask:
            peer.refresh()
        if resend:
            for family in negotiated.families:
                self._attached[peer].refresh(family, RefreshSubtype.REQUEST)
            peer.wake_writer()
            self._schedule_flush()
        self.sessions.on_peer_refreshed(peer, asked=ask, resent=resend)

    def close(self, *, graceful: bool, message: str = "") -> None:
        """End. `graceful`: peers that agreed to graceful restart keep our routes for the restart time; they
        are told by a NOTIFICATION where they agreed to RFC 8538, too, and by the end of the connection where
        they did not (RFC 4724 section 4). The others, and all where it is not graceful, get a Cease (RFC
        9003)."""
        self._closed = True
        self._listeners.close()
        self._convergence.cancel()
        self._handover.cancel()
        self._housekeeping.cancel()
        for peer in list(self.peers.values()):
            negotiated = peer.session.negotiated
            restarts = negotiated is not None and negotiated.capabilities.graceful_restart is not None
            if not (graceful and restarts):
                peer.stop(Cease.ADMIN_SHUTDOWN, message)
            elif negotiated is not None and negotiated.restart_on_notification:
                peer.stop(Cease.ADMIN_RESET, message)  # is no Hard Reset: the peer keeps our routes
            peer.abandon()
            self._attached.pop(peer).close()
        self.peers.clear()
        self._clients.close()

    # What there is to see

    @property
    def listening(self) -> tuple[Endpoint, ...]:
        """Where connections are accepted now."""
        return self._listeners.endpoints

    @property
    def draining(self) -> bool:
        """True while everything is advertised as a last choice."""
        return self._draining

    @property
    def converged(self) -> bool:
        """False after the start until every peer that can be waited for has sent its table."""
        return not self._convergence.pending

    @property
    def awaited(self) -> Mapping[str, Set[Family]]:
        """The peers, by name, and the families of theirs that are waited for until then."""
        return self._convergence.waiting

    @property
    def awaited_until(self) -> float | None:
        """How long at the most, by the loop's clock; None: nobody is waited for (yet)."""
        return self._convergence.ends_at

    @property
    def client_ranges(self) -> tuple[ClientRange, ...]:
        """Where clients may come from that nobody has named."""
        return self._clients.ranges

    def messages(self) -> sans_io.Counters:
        """All messages since the start, those of peers that are gone too: the counts never go down."""
        all_of_them = [self._messages_of_gone, *(peer.session.counters for peer in self.peers.values())]
        total = sans_io.Counters(
            received=[sum(column) for column in zip(*(one.received for one in all_of_them), strict=True)],
            sent=[sum(column) for column in zip(*(one.sent for one in all_of_them), strict=True)],
        )
        total.sent[MessageType.UPDATE] += sum(attached.updates for attached in self._attached.values())
        return total

    def octets(self) -> Traffic:
        """All octets since the start."""
        open_ones = [one for peer in self.peers.values() for one in peer.connections]
        return Traffic(
            self.traffic.received + sum(one.octets_in for one in open_ones),
            self.traffic.sent + sum(one.octets_out for one in open_ones),
        )

    def messages_of(self, peer: Peer) -> sans_io.Counters:
        """All messages of one peer since it is known."""
        counters = peer.session.counters
        total = sans_io.Counters(list(counters.received), list(counters.sent))
        total.sent[MessageType.UPDATE] += self._attached[peer].updates
        return total

    def attachment(self, peer: Peer) -> Attachment:
        """What a peer has in the tables; to look at, not to change."""
        return self._attached[peer]

    def received(self, peer: Peer) -> Mapping[Family, int]:
        """The number of routes in the peer's Adj-RIB-In, by family."""
        return self._attached[peer].received()

    def ignored(self, peer: Peer) -> tuple[int, str | None]:
        """How many announcements of the peer's session could not be used (loops), and why the last one."""
        return self._attached[peer].ignored()

    def unsent(self, peer: Peer) -> int:
        """How many octets of UPDATEs the peer has not taken yet, about: that it does not read shows here."""
        return sum(member.octets_behind for member in self._attached[peer].members.values())

    def advertised(self, peer: Peer) -> Mapping[Family, int]:
        """The number of routes the peer is told of, by family. Counts its own among them where its group
        has any."""
        return self._attached[peer].advertised()

    # What happens: PeerOwner

    def on_established(self, peer: Peer, negotiated: Negotiated) -> None:
        """Routes may flow: join the export groups."""
        self._attached[peer].established(negotiated, end_of_rib=not self._convergence.pending)
        self._convergence.established(peer.name, negotiated)
        self._clients.settled(peer)
        self._schedule_flush()  # its group may have to be filled
        say = peer.log.debug if peer.flaps else peer.log.info
        say(
            "session established",
            remote_as=negotiated.remote_as,
            router_id=str(ip_address(negotiated.remote_router_id)),
            families=_names(negotiated.families),
            hold_time=negotiated.hold_time,
        )
        if not peer.flaps:
            self.sessions.on_session_up(peer, negotiated)
        peer.wake_writer()

    def on_updates(self, peer: Peer, updates: list[Update]) -> None:
        """Routes from a peer."""
        whole, findings = self._attached[peer].take(updates)
        for family in whole:
            self._convergence.end_of_rib(peer.name, family)
        for finding in findings:
            self.incidents.finding(finding)
            peer.log_finding(str(finding))
        if peer.prefix_limit is not None and self._over_limit(peer) is not None:
            # Not from here: the session may be in the middle of what it read.
            self.loop.call_soon(self._limit_exceeded, peer)
        self._schedule_flush()

    def on_refresh(self, peer: Peer, family: Family, subtype: int) -> None:
        """RFC 2918: the peer asks for everything again; RFC 7313: it begins or ends to send everything."""
        self._attached[peer].refresh(family, subtype)
        peer.wake_writer()
        self._schedule_flush()

    def on_down(self, peer: Peer, down: sans_io.Down) -> None:
        """A session, or an attempt, has ended."""
        self.incidents.down(down)
        if not down.was_established:
            peer.log_attempt(down.text)
            if peer.config.dynamic and peer.name in self.peers:
                self.loop.call_soon(self._forget_if_idle, peer)
            return
        attached = self._attached[peer]
        negotiated = peer.last_negotiated
        keep: frozenset[Family] = frozenset()
        if peer in self._handover:  # the other end let go first; what it told us is as good as before
            keep = frozenset(attached.sources)
        elif negotiated is not None and peer.name in self.peers:
            keep = keeps_routes(negotiated, down)
        attached.down(keep, None if peer in self._handover else negotiated)
        peer.log_down(down.text, "kept while it restarts" if keep else "dropped")
        if peer.config.dynamic and not attached.restarting:
            self.loop.call_soon(self._forget_if_idle, peer)
        self._convergence.lost(peer.name)
        self._schedule_flush()

    def on_state(self, peer: Peer) -> None:
        """A session's state changed."""
        if peer.config.dynamic and not peer.idle and not peer.has_connections:
            self.loop.call_soon(self._forget_if_idle, peer)  # its time in IDLE, after an error, is over
        self._listener.on_status()

    def on_listen_key(self, peer: Peer) -> None:
        """The peer's connections are to be signed with another key. A client has the key of its range."""
        if not peer.config.dynamic:
            self._set_listen_key(peer.config.remote.address)
        self._listener.on_status()

    def accept_waiting(self) -> None:
        """Accept connections that wait, before a key changes."""
        self._listeners.accept_waiting()

    # Peers

    def _add(self, config: PeerConfig, shut_down: str | None = None) -> Peer:
        peer = Peer(config, self.config, self, restarting=self._convergence.pending)
        peer.shut_down = shut_down
        self.peers[config.name] = peer
        self._check_descriptors()
        self._attached[peer] = Attachment(peer, self.tables, self._on_stale_changed)
        self._by_address.setdefault(config.remote.address, []).append(peer)
        if not config.dynamic:
            self._set_listen_key(config.remote.address)
            if config.held is None and shut_down is None:
                self._convergence.expect(config.name, config.families)
        self.sessions.on_peer_added(peer)
        peer.start()
        if config.dynamic:
            self._clients.came(peer)
        return peer

    def _check_descriptors(self) -> None:
        """A session needs a file descriptor, and another one while a collision is judged."""
        needed, limit = 2 * len(self.peers), descriptors_for_connections()
        if needed > limit > self._descriptors_said:
            self._descriptors_said = limit
            self.log.warning(
                "the limit of open files is low for so many peers",
                peers=len(self.peers),
                sessions_possible=limit,
                hint=f"raise it (LimitNOFILE, ulimit -n) by {needed - limit} or more",
            )

    def _set_listen_key(self, address: Address) -> None:
        """Listen with the key of the peers at an address. A socket has one key for it."""
        peers = [peer for peer in self._by_address.get(address, ()) if not peer.config.dynamic]
        keys = dict.fromkeys(peer.protection.listening for peer in peers)
        key = next((key for key in keys if key is not None), None)
        self._listeners.set_key(ip_network(address), key)
        if len({peer.config.password for peer in peers}) > 1:
            names = ", ".join(sorted(peer.name for peer in peers))
            self.log.warning(
                "peerings with one address have different passwords: one of them counts for what they dial",
                peers=names,
            )

    def _over_limit(self, peer: Peer) -> Family | None:
        limit = peer.config.max_prefixes
        if limit is None or peer.prefix_limit is None or not peer.established:
            return None
        return peer.prefix_limit.exceeded(limit, self._attached[peer].received(), peer.log)

    def _limit_exceeded(self, peer: Peer) -> None:
        """The peer sent more prefixes than it may."""
        family = self._over_limit(peer)
        limit = peer.config.max_prefixes
        if family is None or limit is None:
            return
        time = peer.config.max_prefixes_time
        peer.log.error(
            "too many prefixes: the session ends",
            family=family.name.lower(),
            limit=limit,
            again="in so many seconds" if time is not None else "when it is configured otherwise",
            seconds=time,
        )
        peer.pause(limit_notification(family, limit), time)

    def _forget(self, peer: Peer) -> None:
        """Remove a peer whose session is over."""
        del self.peers[peer.name]
        self._messages_of_gone.add(peer.session.counters)
        same_address = self._by_address[peer.config.remote.address]
        same_address.remove(peer)
        if not same_address:
            del self._by_address[peer.config.remote.address]
        peer.abandon()
        self._handover.keep(peer)
        self._attached.pop(peer).remove()
        self._clients.settled(peer)
        if not peer.config.dynamic:
            self._set_listen_key(peer.config.remote.address)
        self._convergence.forget(peer.name)
        self.sessions.on_peer_removed(peer)
        self._listener.on_status()
        self._schedule_flush()

    def _forget_if_idle(self, peer: Peer) -> None:
        """Remove a client that came from a range and has gone, unless it is back already. One that made an
        error is remembered until its time in IDLE is over, so that it cannot come back sooner."""
        attached = self._attached.get(peer)
        stays = peer.has_connections or peer.idle or peer.shut_down is not None
        if attached is not None and not (stays or attached.restarting):
            peer.stop(Cease.PEER_DECONFIGURED)
            self._forget(peer)

    def _on_accept(self, link: Link) -> None:
        """A connection from somewhere: give it to the peer it belongs to."""
        peer = self._peer_for(link.remote)
        if peer is None:
            self.incidents.refused += 1
            self._listener.on_status()
            self.log.debug(
                "connection refused: no peer has this address", remote=str(link.remote), local=str(link.local)
            )
            reset(link.sock)
            return
        if peer.config.password is not None and self._listeners.unprotected(link.remote.address):
            peer.session.last_error = "connection refused: no listening socket has room for the password"
            reset(link.sock)
            return
        if peer.established:
            self.incidents.second_connections += 1
            self._listener.on_status()
        peer.accept(link)

    def _peer_for(self, remote: Endpoint) -> Peer | None:
        peers = self._by_address.get(remote.address)
        if peers:
            # Several peers with one address differ in the port we dial; an accepted connection may be any's.
            return min(peers, key=lambda peer: (peer.established, peer.has_connections))
        config = self._clients.config(remote.address, self.config.local_as)
        return None if config is None else self._add(config)

    def _give_up(self, peer: Peer) -> None:
        """End a client that has no session, to make room for others."""
        peer.stop(Cease.OUT_OF_RESOURCES)
        self._forget(peer)

    # Handover

    def _covered(self, peer: Peer) -> bool:
        """Whether each route of a retiring peer is also known from somebody who stays."""
        retiring = {
            source
            for other, attached in self._attached.items()
            if other is peer or other in self._handover
            for source in attached.sources.values()
        }
        for family, source in self._attached[peer].sources.items():
            rib = self.ribs[family]
            table = rib.sources.get(source)
            for nlri in table.routes if table is not None else ():
                paths = rib.ranked(nlri)
                if paths and all(path.source in retiring for path in paths):
                    return False
        return True

    def _let_go(self, peer: Peer, reason: str) -> None:
        peer.log.info("session retired", reason=reason)
        self.remove_peer(peer.name)

    # The start, and restarts

    def _on_stale_changed(self, peer: Peer, what: str) -> None:
        """The time of a peer's stale routes is over; `what` became of them."""
        peer.log.warning(what)
        self.sessions.on_stale_routes(peer, what)
        if peer.config.dynamic:
            self._forget_if_idle(peer)
        self._schedule_flush()

    def _on_converged(self, reason: str) -> None:
        """Tell the peers that held our old routes that this is all (RFC 4724 section 4.1)."""
        self.converged_at = self.loop.time()
        self.flush()
        for peer in self.peers.values():
            peer.reconfigure(peer.config, self.config, restarting=False)
            self._attached[peer].send_end_of_rib()
            peer.wake_writer()
        self._listener.on_converged(reason)

    # The turn of the loop

    def began(self, at: float) -> None:
        """What was just changed follows from something that arrived at this time (the loop's): `batch_times`
        counts how long it takes until the peers are told."""
        anybody = any(groups.groups for groups in self.groups.values())
        if anybody and self.tables.changes_pending and len(self._batches) < MOST_BATCHES:
            self._batches.append(at)

    def _count_times(self) -> None:
        """All that was pending is handed to the connections."""
        now = self.loop.time()
        if self._changed_at is not None:
            self.flush_times.observe(now - self._changed_at)
            self._changed_at = None
        if self._batches:
            for at in self._batches:
                self.batch_times.observe(now - at)
            self._batches.clear()

    def flush(self) -> None:
        """Hand all changed prefixes to the export groups and the listener, now."""
        self.tables.flush()

    def _schedule_flush(self) -> None:
        """Changes of one turn of the event loop go out together in the next; or soon after, while every turn
        brings more."""
        if self._flush_due:
            self._more_came = True
        elif not self._closed:
            self._flush_due = True
            self._more_came = False
            now = self.loop.time()
            self._gather_until = now + GATHER_TIME
            if self._changed_at is None:
                self._changed_at = now
            self.loop.call_soon(self._flush_turn)

    def _flush_turn(self) -> None:
        if self._closed:
            return
        begun = self.loop.time()
        before = self.tables.changes_pending
        if self._more_came and begun < self._gather_until and before < self._portion:
            self._more_came = False
            self.loop.call_soon(self._flush_turn)
            return
        self._flush_due = False
        if not before:
            self._changed_at = None  # no route changed
        waiting = self.tables.flush_some(self._portion)
        self._listener.on_status()
        took = self.loop.time() - begun
        if took > FLUSH_TIME or waiting:
            # As many as will take FLUSH_TIME, by what these took. A few prefixes say little of many.
            fitting = int((before - waiting) * FLUSH_TIME / max(took, 1e-6))
            self._portion = min(max(fitting, LEAST_PREFIXES_A_TURN), PREFIXES_A_TURN)
        if waiting:
            self._schedule_flush()
        else:
            self._count_times()

    def _release_snapshots(self) -> None:
        self.tables.release_snapshots()
        self._housekeeping = self.loop.call_later(SNAPSHOT_TIME, self._release_snapshots)


def _names(families: Iterable[Family]) -> list[str]:
    return [family.name.lower() for family in sorted(families)]
