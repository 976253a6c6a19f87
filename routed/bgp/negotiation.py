"""What both ends of a connection agree on by their OPENs (RFC 4271 section 4.2, RFC 5492)."""

from __future__ import annotations

from functools import lru_cache

from routed.bgp.capabilities import AddPathMode, Capabilities
from routed.bgp.errors import ErrorCode, OpenError, SessionError
from routed.bgp.message import MAX_EXTENDED_MESSAGE_OCTETS, MAX_MESSAGE_OCTETS, Open
from routed.bgp.nlri import NO_FAMILIES, Family
from routed.bgp.session_types import Negotiated, SessionConfig


def open_message(config: SessionConfig) -> Open:
    """Our OPEN."""
    return Open(config.local_as, config.hold_time, config.local_router_id, config.capabilities())


def negotiate(config: SessionConfig, peer: Open) -> Negotiated:
    """What our OPEN, that of `config`, and the peer's have in common. Raises `SessionError` (RFC 4271
    section 6.2)."""
    if config.remote_as is not None and peer.asn != config.remote_as:
        reason = f"the peer is in AS {peer.asn}, configured is AS {config.remote_as}"
        raise SessionError(ErrorCode.OPEN_MESSAGE, OpenError.BAD_PEER_AS, b"", reason)
    if peer.asn == config.local_as and peer.router_id == config.local_router_id:  # RFC 6286 section 2.2
        reason = "the peer is in our AS and has our router ID"
        raise SessionError(ErrorCode.OPEN_MESSAGE, OpenError.BAD_BGP_IDENTIFIER, b"", reason)
    ours, theirs = config.capabilities(), peer.capabilities
    families = _in_all(config.families, theirs.families)
    if not families:  # RFC 5492 section 5: the data are the capabilities that are missing
        names = ", ".join(family.name for family in sorted(config.families))
        raise SessionError(
            ErrorCode.OPEN_MESSAGE,
            OpenError.UNSUPPORTED_CAPABILITY,
            Capabilities(multiprotocol=ours.multiprotocol).encode(),
            f"the peer carries none of {names}",
        )
    extended = ours.extended_message and theirs.extended_message
    hold_time = min(config.hold_time, peer.hold_time)
    refresh = ours.route_refresh and theirs.route_refresh
    return Negotiated(
        hold_time=hold_time,
        keepalive=config.keepalive_interval(hold_time),
        families=families,
        four_octet_as=config.four_octet_as and theirs.four_octet_as is not None,
        local_as=config.local_as,
        remote_as=peer.asn,
        remote_router_id=peer.router_id,
        route_refresh=refresh,
        capabilities=theirs,
        max_message_size=MAX_EXTENDED_MESSAGE_OCTETS if extended else MAX_MESSAGE_OCTETS,
        enhanced_route_refresh=refresh and ours.enhanced_route_refresh and theirs.enhanced_route_refresh,
        add_path_receive=_in_all(
            families,
            ours.add_path_families(AddPathMode.RECEIVE),
            theirs.add_path_families(AddPathMode.SEND),
        ),
        add_path_send=_in_all(
            families,
            ours.add_path_families(AddPathMode.SEND),
            theirs.add_path_families(AddPathMode.RECEIVE),
        ),
        restart_on_notification=all(
            one.graceful_restart is not None and one.graceful_restart.notification for one in (ours, theirs)
        ),
        long_lived=bool(config.long_lived_time)
        and theirs.graceful_restart is not None
        and theirs.long_lived_graceful_restart is not None,
    )


@lru_cache
def _in_all(first: frozenset[Family], *others: frozenset[Family]) -> frozenset[Family]:
    """What is in all of them. Remembered, because a set has 216 octets, and most of a reflector's clients
    have the same."""
    return first.intersection(*others) or NO_FAMILIES
