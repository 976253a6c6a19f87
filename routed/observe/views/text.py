"""Values as the documents have them: times, families, addresses, prefixes, and texts of others."""

from __future__ import annotations

from datetime import UTC, datetime
from ipaddress import ip_address
from socket import AF_INET, AF_INET6, inet_ntop
from typing import TYPE_CHECKING, Final

from routed.bgp.nlri import Family, to_text

if TYPE_CHECKING:
    # Only a name here: who writes text, not documents, goes without msgspec.
    from routed.observe.documents import FamilyName

FAMILY_NAMES: Final[dict[Family, FamilyName]] = {Family.IPV4: "ipv4", Family.IPV6: "ipv6"}

_LENGTHS: Final = tuple(f"/{length}" for length in range(129))
#: What addresses begin with that the C library writes in another way than RFC 5952 and `ipaddress` do.
_EMBEDS_IPV4: Final = bytes(8)


def clean(text: str) -> str:
    """A text of others as one that UTF-8 can hold: lone surrogates, such as those of file names and of the
    command line, become U+FFFD. Control characters stay: they are data."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def clean_or_none(text: str | None) -> str | None:
    """`clean`, where there is a text."""
    return None if text is None else clean(text)


def plain(value: object) -> object:
    """A value that JSON has, with every text in it clean."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        return {clean(str(key)): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def time_text(seconds: float, *, milliseconds: bool = False) -> str:
    """Seconds since 1970 as RFC 3339 in UTC: `2025-11-20T07:34:00Z`."""
    text = datetime.fromtimestamp(seconds, UTC).isoformat(
        timespec="milliseconds" if milliseconds else "seconds"
    )
    return f"{text[:-6]}Z"


def address_text(packed: bytes) -> str:
    """4 or 16 octets."""
    return str(ip_address(packed))


def prefix_text(nlri: bytes, family: Family) -> str:
    """What `nlri.to_text` gives, in a tenth of the time."""
    if family is Family.IPV4:
        return inet_ntop(AF_INET, nlri[1:].ljust(4, b"\0")) + _LENGTHS[nlri[0]]
    address = nlri[1:].ljust(16, b"\0")
    if address.startswith(_EMBEDS_IPV4):
        return to_text(nlri, family)
    return inet_ntop(AF_INET6, address) + _LENGTHS[nlri[0]]
