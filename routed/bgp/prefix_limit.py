"""The most prefixes that a peer may send (RFC 4271 section 6.7, RFC 4486 section 4)."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from routed.bgp.capabilities import SAFI_UNICAST
from routed.bgp.errors import Cease, ErrorCode, Notification
from routed.bgp.nlri import NO_FAMILIES, Family
from routed.log import Logger

if TYPE_CHECKING:
    from routed.bgp.peer import Peer

#: A peer that has sent this part of the prefixes that it may send is worth a warning.
WARNING_PART: Final = 0.75


class PrefixLimit:
    """Compares what a peer has sent with what it may send, and warns when it comes near."""

    def __init__(self) -> None:
        self._warned = NO_FAMILIES

    def exceeded(self, limit: int, received: Mapping[Family, int], log: Logger) -> Family | None:
        """The family of which there are more prefixes than `limit`. Warns once each time that a family comes
        to three quarters of it."""
        for family, count in received.items():
            if count > limit:
                return family
            if count < limit * WARNING_PART:
                if family in self._warned:
                    self._warned -= {family}
            elif family not in self._warned:
                self._warned |= {family}
                log.warning("near its most prefixes", family=family.name.lower(), received=count, limit=limit)
        return None


def over_limit(peer: Peer, received: Mapping[Family, int]) -> Family | None:
    """The family of which a peer has sent more prefixes than it may; None: there is none, or no session."""
    limit = peer.config.max_prefixes
    if limit is None or peer.prefix_limit is None or not peer.established:
        return None
    return peer.prefix_limit.exceeded(limit, received, peer.log)


def end_over_limit(peer: Peer, received: Mapping[Family, int]) -> None:
    """End the session of a peer that has sent more prefixes than it may."""
    family = over_limit(peer, received)
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


def limit_notification(family: Family, limit: int) -> Notification:
    """Cease/Maximum Number of Prefixes Reached: the family and the limit as its data."""
    data = struct.pack("!HBI", family, SAFI_UNICAST, min(limit, 0xFFFFFFFF))
    return Notification(ErrorCode.CEASE, Cease.MAX_PREFIXES, data)
