"""The speaker: peers and their sessions on one event loop, with the tables that they fill and read.

It is told its configuration piece by piece and applies just that piece: a peer that
did not change is not touched. What it finds out goes to a `SpeakerListener`. The
tables are `tables`, what a peer has in them is `attachment`.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Mapping
from functools import partial
from ipaddress import ip_address
from typing import TYPE_CHECKING

from routed import log
from routed.bgp.admission import Admission
from routed.bgp.attachment import Attachment
from routed.bgp.config import ClientRange, PeerConfig, SpeakerConfig
from routed.bgp.errors import Cease, RefusedError
from routed.bgp.handover import Handover
from routed.bgp.incidents import Incidents
from routed.bgp.listener import SessionListener, SpeakerListener
from routed.bgp.message import RefreshSubtype
from routed.bgp.network import Network, TcpNetwork
from routed.bgp.nlri import Family
from routed.bgp.path import NextHopTracker
from routed.bgp.peer import Peer
from routed.bgp.prefix_limit import end_over_limit, over_limit
from routed.bgp.restart import Convergence, keeps_routes
from routed.bgp.route import Address
from routed.bgp.session_types import Counters, Down, Negotiated
from routed.bgp.speaker_view import SpeakerView
from routed.bgp.tables import Tables
from routed.bgp.transport import READ_OCTETS, Traffic
from routed.bgp.turns import Turns
from routed.bgp.update import Update
from routed.intent.types import ExportPolicy

if TYPE_CHECKING:
    from routed.intent.filters import CompiledFilter


class Speaker(SpeakerView):
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
        self.log = log.get("bgp")
        self.random = rng or random.Random()  # noqa: S311 (jitter, not cryptography)
        self.config = config
        self.peers: dict[str, Peer] = {}
        self.tables = Tables(config, self._changed, next_hops)
        self.turns = Turns(self.loop, self.tables, listener.on_status)
        # Routes of our own, and of the kernel, go straight there.
        self.originate, self.withdraw = self.tables.originate, self.tables.withdraw
        self.learn, self.rerank = self.tables.learn, self.tables.rerank
        self.ribs = self.tables.ribs
        self.groups = self.tables.groups
        self.incidents = Incidents()
        """What peers did wrong."""
        self.sessions = sessions or SessionListener()
        self._listener = listener
        self._attached: dict[Peer, Attachment] = {}
        self._messages_of_gone = Counters()
        self._draining = False
        self._stopping = False
        self.started_at: float | None = None
        """Since when it speaks BGP, by the loop's clock; None: not yet."""
        self.converged_at: float | None = None
        self._admission = Admission(
            self.loop,
            self.network,
            self.log,
            self.incidents,
            add_client=self._add_client,
            give_up=self._give_up,
            on_status=listener.on_status,
        )
        self._convergence = Convergence(self.loop, self._on_converged)
        self._handover = Handover(self.loop, self.ribs, self._attached, self._let_go)
        for family, rib in self.ribs.items():
            rib.subscribe(partial(listener.on_routes, family))

    # What it is told

    def start(self) -> None:
        """Listen, and begin to count the time that peers have until the speaker is taken to be converged."""
        if self.started_at is None:
            self.started_at = self.loop.time()
        self._admission.listen(() if self._draining else self.config.listen)
        self._convergence.start(unknown_peers=bool(self._admission.clients.ranges))

    def configure(self, config: SpeakerConfig) -> None:
        """Take another identity or other listening addresses. Sessions are reset only where their OPEN
        changes."""
        old, self.config = self.config, config
        self._admission.listen(() if self._draining else config.listen)
        if old == config:
            return
        self.tables.configure(config)
        for peer in list(self.peers.values()):
            peer.reconfigure(peer.config, config, restarting=self._convergence.pending)
            self._attached[peer].regroup()
        self.turns.schedule()

    def set_client_ranges(self, ranges: Iterable[ClientRange]) -> None:
        """Accept sessions from any address in these ranges."""
        self._admission.set_client_ranges(ranges)

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
        if config.max_prefixes != old.max_prefixes:
            end_over_limit(peer, self._attached[peer].received())
        self.turns.schedule()

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

    def drain(self, *, to_stop: bool = False) -> None:
        """Peers are told to use our routes only where they have no other (RFC 8326), and nobody new is taken.
        Sessions, and what changes, go on. `to_stop`: `close` follows, and nothing can take this back."""
        self._stopping = self._stopping or to_stop
        if self._draining:
            return
        self._draining = True
        self._admission.listen(())
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
            self._admission.listen(self.config.listen)
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
        self._admission.clients.settled(peer)
        self._convergence.forget(name)
        self.sessions.on_peer_shut_down(peer, message)
        peer.take_down(message)
        # Routes may have outlived an earlier session; nothing is to be had of this peer now.
        self._attached[peer].down(frozenset(), None)
        self.turns.schedule()
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
            self.turns.schedule()
        self.sessions.on_peer_refreshed(peer, asked=ask, resent=resend)

    def close(self, *, graceful: bool, message: str = "") -> None:
        """End. `graceful`: peers that agreed to graceful restart keep our routes for the restart time; they
        are told by a NOTIFICATION where they agreed to RFC 8538, too, and by the end of the connection where
        they did not (RFC 4724 section 4). The others, and all where it is not graceful, get a Cease (RFC
        9003)."""
        self.turns.close()
        self._admission.close_listeners()
        self._convergence.cancel()
        self._handover.cancel()
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
        self._admission.clients.close()

    # What happens: PeerOwner

    def on_established(self, peer: Peer, negotiated: Negotiated) -> None:
        """Routes may flow: join the export groups."""
        self._attached[peer].established(negotiated, end_of_rib=not self._convergence.pending)
        self._convergence.established(peer.name, negotiated)
        self._admission.clients.settled(peer)
        self.turns.schedule()  # its group may have to be filled
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
        if peer.prefix_limit is not None and over_limit(peer, self._attached[peer].received()) is not None:
            # Not from here: the session may be in the middle of what it read.
            self.loop.call_soon(self._end_over_limit, peer)
        self.turns.schedule()

    def on_refresh(self, peer: Peer, family: Family, subtype: int) -> None:
        """RFC 2918: the peer asks for everything again; RFC 7313: it begins or ends to send everything."""
        self._attached[peer].refresh(family, subtype)
        peer.wake_writer()
        self.turns.schedule()

    def on_down(self, peer: Peer, down: Down) -> None:
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
        self.turns.schedule()

    def on_state(self, peer: Peer) -> None:
        """A session's state changed."""
        if peer.config.dynamic and not peer.idle and not peer.has_connections:
            self.loop.call_soon(self._forget_if_idle, peer)  # its time in IDLE, after an error, is over
        self._listener.on_status()

    def on_listen_key(self, peer: Peer) -> None:
        """The peer's connections are to be signed with another key. A client has the key of its range."""
        self._admission.renew_key(peer)
        self._listener.on_status()

    def accept_waiting(self) -> None:
        """Accept connections that wait, before a key changes."""
        self._admission.accept_waiting()

    # Peers

    def _add(self, config: PeerConfig, shut_down: str | None = None) -> Peer:
        peer = Peer(config, self.config, self, restarting=self._convergence.pending)
        peer.shut_down = shut_down
        self.peers[config.name] = peer
        self._admission.add(peer, len(self.peers))
        self._attached[peer] = Attachment(peer, self.tables, self._on_stale_changed)
        if not config.dynamic and config.held is None and shut_down is None:
            self._convergence.expect(config.name, config.families)
        self.sessions.on_peer_added(peer)
        peer.start()
        if config.dynamic:
            self._admission.clients.came(peer)
        return peer

    def _end_over_limit(self, peer: Peer) -> None:
        if peer in self._attached:
            end_over_limit(peer, self._attached[peer].received())

    def _forget(self, peer: Peer) -> None:
        """Remove a peer whose session is over."""
        del self.peers[peer.name]
        self._messages_of_gone.add(peer.session.counters)
        peer.abandon()
        self._handover.keep(peer)
        self._attached.pop(peer).remove()
        self._admission.remove(peer)
        self._convergence.forget(peer.name)
        self.sessions.on_peer_removed(peer)
        self._listener.on_status()
        self.turns.schedule()

    def _forget_if_idle(self, peer: Peer) -> None:
        """Remove a client that came from a range and has gone, unless it is back already. One that made an
        error is remembered until its time in IDLE is over, so that it cannot come back sooner."""
        attached = self._attached.get(peer)
        stays = peer.has_connections or peer.idle or peer.shut_down is not None
        if attached is not None and not (stays or attached.restarting):
            peer.stop(Cease.PEER_DECONFIGURED)
            self._forget(peer)

    def _add_client(self, address: Address) -> Peer | None:
        config = self._admission.clients.config(address, self.config.local_as)
        return None if config is None else self._add(config)

    def _give_up(self, peer: Peer) -> None:
        """End a client that has no session, to make room for others."""
        peer.stop(Cease.OUT_OF_RESOURCES)
        self._forget(peer)

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
        self.turns.schedule()

    def _on_converged(self, reason: str) -> None:
        """Tell the peers that held our old routes that this is all (RFC 4724 section 4.1)."""
        self.converged_at = self.loop.time()
        self.flush()
        for peer in self.peers.values():
            peer.reconfigure(peer.config, self.config, restarting=False)
            self._attached[peer].send_end_of_rib()
            peer.wake_writer()
        self._listener.on_converged(reason)

    def flush(self) -> None:
        """Hand all changed prefixes to the export groups and the listener, now."""
        self.tables.flush()

    def _changed(self) -> None:
        self.turns.schedule()


def _names(families: Iterable[Family]) -> list[str]:
    return [family.name.lower() for family in sorted(families)]
