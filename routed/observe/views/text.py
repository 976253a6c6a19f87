"""Values as the documents have them: times, families, addresses, prefixes. Texts of others: `routed.text`."""

from __future__ import annotations

from datetime import UTC, datetime
from ipaddress import ip_address
from socket import AF_INET, AF_INET6, inet_ntop
from typing import TYPE_CHECKING, Final

from routed.bgp.nlri import Family

if TYPE_CHECKING:
    # Only a name here: who writes text, not documents, goes without msgspec.
    from routed.observe.documents import FamilyName

FAMILY_NAMES: Final[dict[Family, FamilyName]] = {Family.IPV4: "ipv4", Family.IPV6: "ipv6"}

_LENGTHS: Final = tuple(f"/{length}" for length in range(129))
#: What addresses begin with that the C library writes in another way than RFC 5952 and `ipaddress` do.
_EMBEDS_IPV4: Final = bytes(8)


def time_text(seconds: float, *, milliseconds: bool = False) -> str:
    """Seconds since 1970 as RFC 3339 in UTC: `2025-11-20T07:34:00Z`."""
    text = datetime.fromtimestamp(seconds, UTC).isoformat(
        timespec="milliseconds" if milliseconds else "seconds"
    )
    return f"{text[:-6]}Z"


def address_text(packed: bytes) -> str:
    """4 or 16 octets as `ipaddress` writes them."""
    if len(packed) == 4:
        return inet_ntop(AF_INET, packed)
    return str(ip_address(packed)) if packed.startswith(_EMBEDS_IPV4) else inet_ntop(AF_INET6, packed)


def next_hop_text(next_hop: bytes) -> str:
    """A next hop of 4, 16 or 32 octets; the last as its global and its link-local address."""
    if len(next_hop) <= 16:
        return address_text(next_hop)
    return f"{address_text(next_hop[:16])} {address_text(next_hop[16:])}"


def prefix_text(nlri: bytes, family: Family) -> str:
    """What `nlri.to_text` gives, in a tenth of the time."""
    return address_text(nlri[1:].ljust(family.address_octets, b"\0")) + _LENGTHS[nlri[0]]
