"""Peerings: a line each, or one whole."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from operator import itemgetter
from typing import Any, Final

from routed.bgp.capabilities import AddPathMode, Capabilities, CapabilityCode
from routed.bgp.group import Group
from routed.bgp.member import Member
from routed.bgp.message import MAX_MESSAGE_OCTETS, MessageType
from routed.bgp.nlri import Family
from routed.bgp.path import Source
from routed.bgp.peer import Peer
from routed.bgp.session import Negotiated
from routed.intent.types import SessionIntent
from routed.observe import documents
from routed.observe.documents import FamilyName
from routed.observe.observed import Observed
from routed.observe.views.events import event_document
from routed.observe.views.text import FAMILY_NAMES, address_text, clean, clean_or_none, time_text

#: Events of a peer in its history, at most.
HISTORY: Final = 50
#: Routes that filters are asked of again to count those they reject, at most: some milliseconds.
COUNTED: Final = 5_000
#: Where a group advertises more, its members' own routes are counted among what they are told.
COUNTED_ADVERTS: Final = 500_000


def peers(observed: Observed) -> documents.Peers:
    """All peerings, by name."""
    summaries = _Summaries(observed)
    found = sorted(observed.speaker.peers.values(), key=lambda peer: peer.name)
    return documents.Peers(peers=[documents.PeerSummary(**summaries.of(one)) for one in found])


def peer(observed: Observed, name: str) -> documents.Peer | None:
    """One peering, whole; None: there is none of this name."""
    speaker = observed.speaker
    found = speaker.peers.get(name)
    if found is None:
        return None
    config, session = found.config, found.session
    intent = _intent(observed, found)
    attached = speaker.attachment(found)
    now = speaker.loop.time()
    local = config.source if found.connection is None else found.connection.local.address
    negotiated = session.negotiated
    last = negotiated or found.last_negotiated
    ignored, reason = speaker.ignored(found)
    messages = speaker.messages_of(found)
    summary = _Summaries(observed).of(found)
    summary["rejected"] = _rejected(observed, found, COUNTED)
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
        agreed=None if negotiated is None else _agreed(negotiated),
        capabilities=[] if last is None else list(capability_texts(last.capabilities)),
        protection=documents.Protection(
            tcp_md5=config.password is not None,
            old_password_in_use=found.protection.old_key_in_use,
            ttl_security_hops=config.ttl_security_hops,
            segments_dropped=found.protection.dropped,
        ),
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


class _Summaries:
    """Makes the fields of `PeerSummary`, of many peers at one moment."""

    def __init__(self, observed: Observed) -> None:
        self._observed = observed
        self._now = time.time()
        self._own: dict[Group, Counter[Source]] = {}

    def of(self, peer: Peer) -> dict[str, Any]:
        """Those of one peer."""
        observed = self._observed
        speaker = observed.speaker
        config, session = peer.config, peer.session
        negotiated = session.negotiated
        since = session.established_at
        up = None if since is None or not peer.established else max(0.0, speaker.loop.time() - since)
        remote_as = config.remote_as if negotiated is None else negotiated.remote_as
        local_as = config.local_as if negotiated is None else negotiated.local_as
        intent = _intent(observed, peer)
        attached = speaker.attachment(peer)
        return {
            "name": clean(peer.name),
            "address": str(config.remote.address),
            "port": config.remote.port,
            "state": session.state.name.lower(),
            "local_as": local_as,
            "remote_as": remote_as,
            "router_id": None if negotiated is None else address_text(negotiated.remote_router_id),
            "kind": "unknown" if remote_as is None else "ibgp" if remote_as == local_as else "ebgp",
            "node": None if intent is None else clean_or_none(intent.peer_node),
            "families": _families(config.families if negotiated is None else negotiated.families),
            "route_reflector_client": config.route_reflector_client,
            "dynamic": config.dynamic,
            "passive": config.passive,
            "established_for": None if up is None else round(up, 3),
            "since": None if up is None else time_text(self._now - up),
            "flaps": session.flaps,
            "received": {FAMILY_NAMES[family]: count for family, count in attached.received().items()},
            "advertised": {
                FAMILY_NAMES[family]: self._advertised(member) for family, member in attached.members.items()
            },
            "rejected": _rejected(observed, peer, 0),
            "stale": attached.restarting,
            "shut_down": clean_or_none(peer.shut_down),
            "last_error": clean_or_none(session.last_error),
        }

    def _advertised(self, member: Member) -> int:
        """How many routes a peer is told of. Its group advertises its own routes too, which it is not told:
        they are counted for all members at once."""
        group = member.group
        if len(group.adj_out) > COUNTED_ADVERTS:
            return len(group.adj_out)
        own = self._own.get(group)
        if own is None:
            own = self._own[group] = Counter(map(itemgetter(1), group.adj_out.values()))
        return len(group.adj_out) - own[member.source]


def _intent(observed: Observed, peer: Peer) -> SessionIntent | None:
    return None if observed.compiler is None else observed.compiler.session(peer.name)


def _rejected(observed: Observed, peer: Peer, most: int) -> dict[FamilyName, int] | None:
    """How many received routes are not eligible, by family; None where more than `most` routes would have to
    be looked at."""
    speaker = observed.speaker
    found: dict[FamilyName, int] = {}
    for family, source in speaker.attachment(peer).sources.items():
        table = speaker.ribs[family].sources.get(source)
        if table is None or not table.hides:
            found[FAMILY_NAMES[family]] = 0
        elif len(table) > most:
            return None
        else:
            paths = (path for nlri in table.routes for path in table.admitted(nlri))
            found[FAMILY_NAMES[family]] = sum(path.ineligible is not None for path in paths)
    return found


def _families(families: Iterable[Family]) -> list[FamilyName]:
    return [FAMILY_NAMES[family] for family in sorted(families)]


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


def _agreed(negotiated: Negotiated) -> documents.Agreed:
    restart = negotiated.capabilities.graceful_restart
    return documents.Agreed(
        hold_time=negotiated.hold_time,
        keepalive=round(negotiated.keepalive, 3),
        families=_families(negotiated.families),
        add_path_receive=_families(negotiated.add_path_receive),
        add_path_send=_families(negotiated.add_path_send),
        extended_messages=negotiated.max_message_size > MAX_MESSAGE_OCTETS,
        route_refresh=negotiated.route_refresh,
        enhanced_route_refresh=negotiated.enhanced_route_refresh,
        four_octet_as=negotiated.four_octet_as,
        graceful_restart=restart is not None,
        restart_time=None if restart is None else restart.restart_time,
        long_lived_graceful_restart=negotiated.long_lived,
    )


# --- capabilities

_SAFIS = {1: "unicast", 2: "multicast", 4: "labelled", 128: "VPN"}
_AFIS = {1: "IPv4", 2: "IPv6"}
_MODES = {
    AddPathMode.RECEIVE: "receive",
    AddPathMode.SEND: "send",
    AddPathMode.RECEIVE | AddPathMode.SEND: "send and receive",
}


def _family(afi: int, safi: int) -> str:
    return f"{_AFIS.get(afi, f'AFI {afi}')} {_SAFIS.get(safi, f'SAFI {safi}')}"


def capability_texts(capabilities: Capabilities) -> Iterator[str]:
    """Capabilities of an OPEN for people, a line each. One that is not known is its code and its value in
    hexadecimal."""
    for afi, safi in capabilities.multiprotocol:
        yield f"multiprotocol: {_family(afi, safi)}"
    if capabilities.route_refresh:
        yield "route refresh"
    if capabilities.enhanced_route_refresh:
        yield "enhanced route refresh"
    if capabilities.extended_message:
        yield "extended messages"
    if capabilities.four_octet_as is not None:
        yield f"4-octet AS: {capabilities.four_octet_as}"
    restart = capabilities.graceful_restart
    if restart is not None:
        flags = [
            text for said, text in ((restart.restarted, "restarted"), (restart.notification, "N bit")) if said
        ]
        kept = [_family(afi, safi) + (" forwarding" if bit else "") for afi, safi, bit in restart.families]
        yield _listed(f"graceful restart: {restart.restart_time} s", [*flags, *kept])
    long_lived = capabilities.long_lived_graceful_restart
    if long_lived is not None:
        kept = [
            f"{_family(afi, safi)} {seconds} s{' forwarding' if bit else ''}"
            for afi, safi, bit, seconds in long_lived.families
        ]
        yield _listed("long-lived graceful restart", kept)
    for afi, safi, mode in capabilities.add_path:
        yield f"ADD-PATH: {_family(afi, safi)} {_MODES.get(mode, f'mode {int(mode)}')}"
    for code, value in capabilities.others:
        name = CapabilityCode(code).name.lower() if code in CapabilityCode._value2member_map_ else "unknown"
        yield f"capability {code} ({name}): {value.hex() or 'no value'}"


def _listed(text: str, more: list[str]) -> str:
    return f"{text}, {', '.join(more)}" if more else text
