"""What is known of a peering, as fields of `documents.PeerSummary` and `documents.Peer`."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

from routed.bgp.capabilities import AddPathMode, Capabilities, CapabilityCode
from routed.bgp.group import Group
from routed.bgp.member import Member
from routed.bgp.message import MAX_MESSAGE_OCTETS
from routed.bgp.nlri import Family
from routed.bgp.path import Source
from routed.bgp.peer import Peer
from routed.bgp.session_types import Negotiated
from routed.bgp.speaker import Speaker
from routed.observe import documents
from routed.observe.documents import FamilyName
from routed.observe.views.text import FAMILY_NAMES, address_text, time_text
from routed.text import clean, clean_or_none

if TYPE_CHECKING:
    from routed.intent.compiler import Compiler

#: Where a group advertises more, its members' own routes are counted among what they are told.
COUNTED_ADVERTS: Final = 500_000


class PeerSummaries:
    """Makes the fields of `PeerSummary`, of many peers at one moment."""

    def __init__(self, speaker: Speaker, compiler: Compiler | None = None) -> None:
        self._speaker = speaker
        self._compiler = compiler
        # Both at one moment, so that `since` is the same whenever it is asked for.
        self._now, self._loop_now = time.time(), speaker.loop.time()
        self._own: dict[Group, Counter[Source]] = {}

    def of(self, peer: Peer) -> dict[str, Any]:
        """Those of one peer."""
        speaker = self._speaker
        config, session = peer.config, peer.session
        negotiated = session.negotiated
        since = session.established_at
        up = None if since is None or not peer.established else max(0.0, self._loop_now - since)
        remote_as = config.remote_as if negotiated is None else negotiated.remote_as
        local_as = config.local_as if negotiated is None else negotiated.local_as
        intent = None if self._compiler is None else self._compiler.session(peer.name)
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
            "families": family_names(config.families if negotiated is None else negotiated.families),
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
            "rejected": rejected(speaker, peer, 0),
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


def rejected(speaker: Speaker, peer: Peer, most: int) -> dict[FamilyName, int] | None:
    """How many received routes are not eligible, by family; None where more than `most` routes would have to
    be looked at."""
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


def family_names(families: Iterable[Family]) -> list[FamilyName]:
    """Families, in order."""
    return [FAMILY_NAMES[family] for family in sorted(families)]


def agreed(negotiated: Negotiated) -> documents.Agreed:
    """What both ends of a session can do."""
    restart = negotiated.capabilities.graceful_restart
    return documents.Agreed(
        hold_time=negotiated.hold_time,
        keepalive=round(negotiated.keepalive, 3),
        families=family_names(negotiated.families),
        add_path_receive=family_names(negotiated.add_path_receive),
        add_path_send=family_names(negotiated.add_path_send),
        extended_messages=negotiated.max_message_size > MAX_MESSAGE_OCTETS,
        route_refresh=negotiated.route_refresh,
        enhanced_route_refresh=negotiated.enhanced_route_refresh,
        four_octet_as=negotiated.four_octet_as,
        graceful_restart=restart is not None,
        restart_time=None if restart is None else restart.restart_time,
        long_lived_graceful_restart=negotiated.long_lived,
    )


def protection(peer: Peer) -> documents.Protection:
    """How the peer's connections are protected."""
    return documents.Protection(
        tcp_md5=peer.config.password is not None,
        old_password_in_use=peer.protection.old_key_in_use,
        ttl_security_hops=peer.config.ttl_security_hops,
        segments_dropped=peer.protection.dropped,
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
