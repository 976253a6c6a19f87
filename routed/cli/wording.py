"""How times, counts and states are put for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from routed.observe.documents import FamilyName

_FAMILIES: Final = {"ipv4": "IPv4", "ipv6": "IPv6"}
#: Seconds in each unit, from the largest on.
_UNITS: Final = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))
_COLOURS: Final = {"established": "green", "idle": "red", "active": "red", "connect": "red"}


def duration(seconds: float | None) -> str:
    """The two largest units: `3d4h`, `5m12s`, `7s`. Nothing for None."""
    if seconds is None:
        return ""
    rest = max(0, int(seconds))
    parts: list[str] = []
    for unit, size in _UNITS:
        count, rest = divmod(rest, size)
        if count or parts or unit == "s":
            parts.append(f"{count}{unit}")
        if len(parts) == 2:
            break
    return "".join(parts if len(parts) < 2 or not parts[1].startswith("0") else parts[:1])


def moment(time: str | None) -> str:
    """An RFC 3339 time to the second, in UTC as the API has it; nothing for None."""
    return "" if time is None else time[:19].replace("T", " ") + "Z"


def count(number: int, noun: str) -> str:
    """`1 peer`, `2 peers`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def family(name: str) -> str:
    """`IPv4`."""
    return _FAMILIES.get(name, name)


def by_family(numbers: Mapping[FamilyName, int] | None) -> str:
    """`IPv4 8, IPv6 6`."""
    return ", ".join(f"{family(name)} {number}" for name, number in (numbers or {}).items())


def total(numbers: Mapping[FamilyName, int] | None) -> str:
    """Of all families; nothing for None."""
    return "" if numbers is None else str(sum(numbers.values()))


def state_colour(state: str) -> str:
    """Of a session's state."""
    return _COLOURS.get(state, "yellow")
