"""The differences between routed and other reflectors that are known: a row of the table in docs/reflector.md
and a rule here for each, under one id, so that neither can say what the other does not."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.reflector.scene import CASES, EXTERNAL, Difference

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "reflector.md"
_ROW = re.compile(r"^\| `(?P<id>[a-z-]+)` \|(?P<cells>.*)\|$")
_DAEMONS = {"BIRD 2": "bird2", "FRR": "frr"}


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the table: which daemons differ, what they do, what routed does, and why."""

    id: str
    daemons: tuple[str, ...]
    """Keys of `daemons.DAEMONS`."""
    other: str
    routed: str
    why: str


def documented(text: str) -> dict[str, Row]:
    """The rows of the table by id. ValueError for a row that is not whole, that names an unknown daemon, or
    whose id is there twice."""
    rows: dict[str, Row] = {}
    for line in text.splitlines():
        found = _ROW.match(line)
        if found is None:
            continue
        cells = [cell.strip() for cell in found["cells"].split("|")]
        if len(cells) != 4 or not all(cells):
            raise ValueError(f"not a whole row: {line}")
        if found["id"] in rows:
            raise ValueError(f"twice in the table: {found['id']}")
        try:
            daemons = tuple(_DAEMONS[name.strip()] for name in cells[0].split(","))
        except KeyError as error:
            raise ValueError(f"unknown daemon {error} in {line}") from None
        rows[found["id"]] = Row(found["id"], daemons, *cells[1:])
    return rows


def _told(
    case: str | None, receivers: str | None, routed: str | None, other: str | None
) -> Callable[[Difference], bool]:
    """A whole route that only one of the two tells, of one case and to some receivers."""
    return lambda one: (
        one.attribute == "route"
        and case in (None, one.case)
        and (receivers is None or one.receiver in receivers.split())
        and (one.routed, one.other) == (routed, other)
    )


def _own_route(one: Difference) -> bool:
    """The receiver is one of those who announced it."""
    said = next(case for case in CASES if case.id == one.case)
    by = {change.by for change in (*said.first, *said.then) if not isinstance(change, tuple)}
    return _told(None, None, None, "told")(one) and one.receiver in by


#: As narrow as can be said: the values count, not only the place.
RULES: dict[str, Callable[[Difference], bool]] = {
    "next-hop-outside": lambda one: (
        one.attribute == "NEXT_HOP"
        and one.receiver in EXTERNAL
        and one.routed in ("192.0.2.1", "2001:db8::1")
        and one.other is not None
        and one.other.startswith(("192.0.2.", "2001:db8::"))
    ),
    "next-hop-of-peer": _told("third-party-next-hop", "c2", "told", None),
    "own-next-hop": _told("next-hop-is-the-reflector", "c2 c3 n1 n2 x1", None, "told"),
    "cluster-loop": _told("our-cluster-id-from-non-client", "x1", None, "told"),
    "back-to-sender": _own_route,
    "med-zero": lambda one: one.attribute == "MULTI_EXIT_DISC" and (one.routed, one.other) == (None, "0"),
    "no-local-pref": _told("no-local-pref", "c2 c3 n1 n2 x1", "told", None),
}


def explain(found: Iterable[Difference]) -> tuple[set[str], list[Difference]]:
    """The ids of the rules that hold for some difference, and the differences that no rule is for."""
    used: set[str] = set()
    rest: list[Difference] = []
    for one in found:
        ids = {name for name, holds in RULES.items() if holds(one)}
        used |= ids
        if not ids:
            rest.append(one)
    return used, rest
