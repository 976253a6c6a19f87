"""What there is to see of a speaker: whom it waits for, what it counted, what peers have in the tables."""

from __future__ import annotations

from collections.abc import Mapping, Set

from routed.bgp.admission import Admission
from routed.bgp.attachment import Attachment
from routed.bgp.config import ClientRange
from routed.bgp.message import MessageType
from routed.bgp.nlri import Family
from routed.bgp.peer import Peer
from routed.bgp.restart import Convergence
from routed.bgp.session_types import Counters
from routed.bgp.transport import Endpoint, Traffic


class SpeakerView:
    """The part of a `Speaker` that changes nothing. The speaker sets what is looked at here."""

    peers: dict[str, Peer]
    """By name."""
    traffic: Traffic
    """Of connections that are over; `octets` has all."""
    _attached: dict[Peer, Attachment]
    _admission: Admission
    _convergence: Convergence
    _messages_of_gone: Counters
    _draining: bool

    @property
    def listening(self) -> tuple[Endpoint, ...]:
        """Where connections are accepted now."""
        return self._admission.endpoints

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
        return self._admission.clients.ranges

    def messages(self) -> Counters:
        """All messages since the start, those of peers that are gone too: the counts never go down."""
        all_of_them = [self._messages_of_gone, *(peer.session.counters for peer in self.peers.values())]
        total = Counters(
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

    def messages_of(self, peer: Peer) -> Counters:
        """All messages of one peer since it is known."""
        counters = peer.session.counters
        total = Counters(list(counters.received), list(counters.sent))
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
