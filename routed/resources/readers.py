"""Readers of single values: what a YAML or JSON document holds comes in, the typed value goes out.

Each raises `InvalidValueError` with what is wrong and what to write instead. The structures around the
values, and the paths of the fields, are the job of `fields.Fields`."""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import StrEnum
from ipaddress import (
    AddressValueError,
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)
from typing import TypeVar

from routed.resources.fields import InvalidValueError, is_encodable, kind_of, show
from routed.resources.selector import Selector, SelectorError, parse_selector
from routed.resources.values import (
    Address,
    CommunityValue,
    LargeCommunity,
    Network,
    PeerAddress,
    StandardCommunity,
)

E = TypeVar("E", bound=StrEnum)

MAX_UINT32 = 0xFFFFFFFF
MAX_METRIC = 2147483646
"""Metrics stay below 2147483647, what LOCAL_PREF counts down from."""

# Names of records become file names, identifiers and lines in rendered configurations.
_NAME = re.compile(r"[A-Za-z0-9_.:-]{1,253}")
# An interface name as the kernel takes it, or a shell pattern of such; without what could end a quoted text.
_INTERFACE = re.compile(r"[A-Za-z0-9_.@:+*?\[\]!^-]{1,64}")
_DECIMAL = re.compile(r"[0-9]{1,10}")
_ASDOT = re.compile(r"([0-9]{1,5})\.([0-9]{1,5})")
_PORT = re.compile(r"[0-9]{1,5}")
_COMMUNITY = re.compile(r"([0-9]{1,10}):([0-9]{1,10})(?::([0-9]{1,10}))?")
_DURATION = re.compile(r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:ns|us|µs|μs|ms|s|m|h)")
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
# metav1.Duration is an int64 of nanoseconds.
_MAX_SECONDS = 9223372036.0


def text(value: object) -> str:
    """Any text but an empty one."""
    if not isinstance(value, str):
        raise InvalidValueError(f"must be a text, but is {kind_of(value)}: put it in quotes")
    if not value:
        raise InvalidValueError("is empty: write a text or leave it out")
    if not is_encodable(value):
        raise InvalidValueError("holds half a surrogate pair, which is no character")
    return value


def name(value: object) -> str:
    """The name of a record."""
    if not _NAME.fullmatch(text(value)):
        raise InvalidValueError(
            f"{show(value)} is not a name: use 1 to 253 letters, digits, '-', '_', ':' and '.'"
        )
    return str(value)


def interface_pattern(value: object) -> str:
    """An interface name, or a shell pattern of such."""
    if not _INTERFACE.fullmatch(text(value)):
        raise InvalidValueError(f"{show(value)} is not an interface name or pattern such as 'eth0' or 'eth*'")
    return str(value)


def boolean(value: object) -> bool:
    """true or false."""
    if not isinstance(value, bool):
        raise InvalidValueError(f"must be true or false, but is {show(value)}")
    return value


def boolean_or_text(value: object) -> bool:
    """true or false, or one of these as a text: BlockAffinity's `deleted` is stored both ways."""
    if value in ("true", "false"):
        return value == "true"
    return boolean(value)


def integer(minimum: int, maximum: int) -> Callable[[object], int]:
    """A whole number within bounds, both included."""

    def read(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise InvalidValueError(f"must be a whole number, but is {show(value)}")
        if not minimum <= value <= maximum:
            raise InvalidValueError(f"{show(value)} is out of range: write {minimum} to {maximum}")
        return value

    return read


def one_of(choices: type[E]) -> Callable[[object], E]:
    """One of an enumeration's texts, exactly."""
    known = {str(choice): choice for choice in choices}

    def read(value: object) -> E:
        if not isinstance(value, str) or value not in known:
            raise InvalidValueError(f"{show(value)} is not known: write one of {', '.join(known)}")
        return known[value]

    return read


def one_of_any_case(choices: type[E]) -> Callable[[object], E]:
    """One of an enumeration's texts, in upper, lower or mixed case."""
    known = {str(choice).lower(): choice for choice in choices}

    def read(value: object) -> E:
        if not isinstance(value, str) or value.lower() not in known:
            raise InvalidValueError(f"{show(value)} is not known: write one of {', '.join(choices)}")
        return known[value.lower()]

    return read


def as_number(value: object) -> int:
    """An AS number: 1 to 4294967295, also as a text, also as asdot (`"1.10"`, RFC 5396)."""
    number: int | None = None
    if isinstance(value, int) and not isinstance(value, bool):
        number = value
    elif isinstance(value, float):
        # 1.10 and 1.1 are one number, but two AS numbers.
        raise InvalidValueError(f"{show(value)} is no AS number: put one with a dot in quotes")
    elif isinstance(value, str):
        if _DECIMAL.fullmatch(value):
            number = int(value)
        elif (dotted := _ASDOT.fullmatch(value)) and all(int(part) <= 0xFFFF for part in dotted.groups()):
            number = int(dotted[1]) << 16 | int(dotted[2])
    if number is None:
        raise InvalidValueError(f"{show(value)} is no AS number: write 1 to {MAX_UINT32}")
    if not 1 <= number <= MAX_UINT32:
        raise InvalidValueError(f"{show(number)} is out of range for an AS number: write 1 to {MAX_UINT32}")
    return number


def _parse_address(value: str) -> Address | None:
    """None where the text is no address. As in Calico (Go's net.ParseIP) there is no zone, and an IPv4
    address mapped into IPv6 is that IPv4 address."""
    try:
        if ":" not in value:
            return IPv4Address(value)
        if "%" in value:
            return None
        address = IPv6Address(value)
    except AddressValueError:
        return None
    return address.ipv4_mapped or address


def address(value: object) -> Address:
    """An IPv4 or IPv6 address."""
    parsed = _parse_address(text(value))
    if parsed is None:
        raise InvalidValueError(f"{show(value)} is not an IP address")
    return parsed


def ipv4_address(value: object) -> IPv4Address:
    """An IPv4 address."""
    parsed = address(value)
    if not isinstance(parsed, IPv4Address):
        raise InvalidValueError(f"{show(value)} is an IPv6 address: an IPv4 address belongs here")
    return parsed


def ipv6_address(value: object) -> IPv6Address:
    """An IPv6 address."""
    parsed = address(value)
    if not isinstance(parsed, IPv6Address):
        raise InvalidValueError(f"{show(value)} is an IPv4 address: an IPv6 address belongs here")
    return parsed


def _address_and_length(value: object) -> tuple[Address, int]:
    """`address/length`, or an address alone, which has the length of its family."""
    before, slash, after = text(value).partition("/")
    parsed = _parse_address(before)
    if parsed is None or (slash and not re.fullmatch(r"[0-9]{1,3}", after)):
        raise InvalidValueError(f"{show(value)} is not a prefix such as 10.0.0.0/16 or fd00::/64")
    length = int(after) if slash else parsed.max_prefixlen
    if length > parsed.max_prefixlen:
        raise InvalidValueError(f"{show(value)} has a prefix length over {parsed.max_prefixlen}")
    return parsed, length


def network(value: object) -> Network:
    """A prefix. Host bits are masked away, as Calico does; an address alone is a prefix of full length."""
    parsed, length = _address_and_length(value)
    if isinstance(parsed, IPv4Address):
        return IPv4Network((parsed, length), strict=False)
    return IPv6Network((parsed, length), strict=False)


def ipv4_interface(value: object) -> IPv4Interface:
    """An IPv4 address with the length of its subnet; an address alone has 32."""
    parsed, length = _address_and_length(value)
    if not isinstance(parsed, IPv4Address):
        raise InvalidValueError(f"{show(value)} is an IPv6 address: an IPv4 address belongs here")
    return IPv4Interface((parsed, length))


def ipv6_interface(value: object) -> IPv6Interface:
    """An IPv6 address with the length of its subnet; an address alone has 128."""
    parsed, length = _address_and_length(value)
    if not isinstance(parsed, IPv6Address):
        raise InvalidValueError(f"{show(value)} is an IPv4 address: an IPv6 address belongs here")
    return IPv6Interface((parsed, length))


def peer_address(value: object) -> PeerAddress:
    """`IP`, `IPv4:port` or `[IPv6]:port`."""
    written = text(value)
    whole = _parse_address(written)
    if whole is not None:
        return PeerAddress(whole)
    before, _, port = written.rpartition(":")
    if before.startswith("[") and before.endswith("]"):
        before = before[1:-1]
        host = _parse_address(before) if ":" in before else None
    else:
        host = _parse_address(before) if ":" not in before else None
    if host is None or not _PORT.fullmatch(port):
        raise InvalidValueError(
            f"{show(value)} is not a peer's address: write 10.0.0.1, 10.0.0.1:1790, fd00::1 or [fd00::1]:1790"
        )
    if not 1 <= int(port) <= 65535:
        raise InvalidValueError(f"{show(value)} has a port out of range: write 1 to 65535")
    return PeerAddress(host, int(port))


def duration(value: object) -> float:
    """A time as Go and metav1.Duration write it (`120s`, `1m30s`), in seconds."""
    if not isinstance(value, str):
        raise InvalidValueError(
            f"{show(value)} is not a time: write a number with a unit, in quotes, such as '120s'"
        )
    if value == "0":
        return 0.0
    if value.startswith("-"):
        raise InvalidValueError(f"{show(value)} is negative: a time is at least '0s'")
    parts = _DURATION.findall(value) if len(value) <= 64 else []
    if not parts or "".join(parts) != value:
        raise InvalidValueError(f"{show(value)} is not a time: write it like '120s', '1m30s' or '500ms'")
    seconds = 0.0
    for part in parts:
        unit = part.lstrip("0123456789.")
        seconds += float(part.removesuffix(unit)) * _SECONDS[unit]
    if seconds > _MAX_SECONDS:
        raise InvalidValueError(f"{show(value)} is over 292 years, the longest time there is")
    return seconds


def selector(value: object) -> Selector:
    """A label selector."""
    try:
        return parse_selector(text(value))
    except SelectorError as fault:
        raise InvalidValueError(f"the selector {show(value)} does not parse: {fault}") from None


def community(value: object) -> CommunityValue:
    """`aa:nn` (16 bits each) or `aa:nn:mm` (32 bits each).

    A number counts too: a tool of YAML 1.1 that met an unquoted `5663:12` took it for minutes and seconds,
    and wrote 339792."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 0xFFFF * 60 + 59:
        return StandardCommunity(*divmod(value, 60))
    match = _COMMUNITY.fullmatch(text(value))
    if match is None:
        raise InvalidValueError(f"{show(value)} is not a community: write it like '65000:100' or '65000:1:2'")
    parts = [int(part) for part in match.groups() if part is not None]
    if max(parts) > (0xFFFF if len(parts) == 2 else MAX_UINT32):
        limit = "65535" if len(parts) == 2 else str(MAX_UINT32)
        raise InvalidValueError(f"{show(value)} is out of range: each part of it goes to {limit}")
    if len(parts) == 2:
        return StandardCommunity(parts[0], parts[1])
    return LargeCommunity(parts[0], parts[1], parts[2])


def community_or_name(value: object) -> CommunityValue | str:
    """A community, or else the name of one."""
    if isinstance(value, str) and not _COMMUNITY.fullmatch(value):
        return text(value)
    return community(value)
