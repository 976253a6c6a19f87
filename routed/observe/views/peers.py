"""Peerings: a line each, or one whole."""

from __future__ import annotations

from typing import Final

from routed.bgp.message import MessageType
from routed.observe import documents
from routed.observe.observed import Observed
from routed.observe.views.events import event_document
from routed.observe.views.peer_fields import PeerSummaries, agreed, capability_texts, protection, rejected
from routed.observe.views.text import FAMILY_NAMES
from routed.text import clean, clean_or_none

#: Events of a peer in its history, at most.
HISTORY: Final = 50
#: Routes that filters are asked of again to count those they reject, at most: some milliseconds.
COUNTED: Final = 5_000


def peers(observed: Observed) -> documents.Peers:
    """All peerings, by name."""
    speaker = observed.speaker
    summaries = PeerSummaries(speaker, observed.compiler)
    found = sorted(speaker.peers.values(), key=lambda peer: peer.name)
    return documents.Peers(peers=[documents.PeerSummary(**summaries.of(one)) for one in found])


def peer(observed: Observed, name: str) -> documents.Peer | None:
    """One peering, whole; None: there is none of this name."""
    speaker = observed.speaker
    found = speaker.peers.get(name)
    if found is None:
        return None
    config, session = found.config, found.session
    intent = None if observed.compiler is None else observed.compiler.session(name)
    attached = speaker.attachment(found)
    now = speaker.loop.time()
    local = config.source if found.connection is None else found.connection.local.address
    negotiated = session.negotiated
    last = negotiated or found.last_negotiated
    ignored, reason = speaker.ignored(found)
    messages = speaker.messages_of(found)
    summary = PeerSummaries(speaker, observed.compiler).of(found)
    summary["rejected"] = rejected(speaker, found, COUNTED)
    return documents.Peer(
        **summary,
        record=None if intent is None else clean(str(intent.record)),
        local_address=None if local is None else str(local),
        configured_hold_time=config.hold_time,
        configured_keepalive=config.keepalive_time,
        restart_time=config.restart_time,
        next_hop_mode=config.next_hop_mode.value,
        filters=[clean(one) for one in config.filters],
        max_prefixes=config.max_prefixes,
        hold_timer=_left(session.hold_deadline, now),
        keepalive_timer=_left(session.keepalive_deadline, now),
        agreed=None if negotiated is None else agreed(negotiated),
        capabilities=[] if last is None else list(capability_texts(last.capabilities)),
        protection=protection(found),
        messages_received=_messages(messages.received),
        messages_sent=_messages(messages.sent),
        unsent_octets=speaker.unsent(found),
        ignored=ignored,
        ignored_reason=clean_or_none(reason),
        bad_updates=found.findings,
        export_groups={
            FAMILY_NAMES[family]: len(member.group.members) for family, member in attached.members.items()
        },
        history=[event_document(one) for one in observed.events.latest(peer=name, most=HISTORY)],
    )


def _left(deadline: float | None, now: float) -> float | None:
    return None if deadline is None else round(max(0.0, deadline - now), 3)


def _messages(counts: list[int]) -> documents.Messages:
    return documents.Messages(
        open=counts[MessageType.OPEN],
        update=counts[MessageType.UPDATE],
        notification=counts[MessageType.NOTIFICATION],
        keepalive=counts[MessageType.KEEPALIVE],
        route_refresh=counts[MessageType.ROUTE_REFRESH],
    )
