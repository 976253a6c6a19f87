"""The most prefixes that a peer may send (RFC 4271 section 6.7, RFC 4486 section 4)."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any, Final

from routed.bgp.capabilities import SAFI_UNICAST
from routed.bgp.errors import Cease, ErrorCode, Notification
from routed.bgp.nlri import NO_FAMILIES, Family

#: A peer that has sent this part of the prefixes that it may send is worth a warning.
WARNING_PART: Final = 0.75


class PrefixLimit:
    """Compares what a peer has sent with what it may send, and warns when it comes near."""

    def __init__(self) -> None:
        self._warned = NO_FAMILIES

    def exceeded(self, limit: int, received: Mapping[Family, int], log: Any) -> Family | None:
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


def limit_notification(family: Family, limit: int) -> Notification:
    """Cease/Maximum Number of Prefixes Reached: the family and the limit as its data."""
    data = struct.pack("!HBI", family, SAFI_UNICAST, min(limit, 0xFFFFFFFF))
    return Notification(ErrorCode.CEASE, Cease.MAX_PREFIXES, data)
