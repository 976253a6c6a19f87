"""Reflection beside BIRD 2 and FRR: the same peers with the same routes, first at routed, then at another
reflector, and everybody must be told the same. What is not the same is in the table of docs/reflector.md."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from tests.netns import DeadlineError, temporary_lab, wait_for
from tests.reflector.explained import DOCUMENT, RULES, documented, explain
from tests.reflector.scene import Outcome, differences, scene

OTHERS = ("bird2", "frr")


def outcomes(
    kind: str, version: int, directory: Path, expected: dict[str, Outcome] | None = None
) -> dict[str, Outcome]:
    """What everybody was told by one reflector, after the announcements and after the changes. One that waits
    with its UPDATEs is given time to come to what is expected."""
    found: dict[str, Outcome] = {}
    with temporary_lab(directory) as lab, scene(lab, kind, version) as one:
        for phase, begin, last in (
            ("announced", one.begin, "last-of"),
            ("changed", one.change, "very-last-of"),
        ):
            begin()
            one.settled(last)
            if expected is not None:

                def same(wanted: Outcome = expected[phase]) -> bool:
                    return not explain(differences(wanted, one.outcome()))[1]

                with contextlib.suppress(DeadlineError):
                    wait_for(same, phase, timeout=10)
            found[phase] = one.outcome()
    return found


@pytest.fixture(scope="module", params=[4, 6])
def version(request: pytest.FixtureRequest) -> int:
    number: int = request.param
    return number


@pytest.fixture(scope="module")
def routed(version: int, _no_leftovers: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    """What routed told; once for all that it is compared with."""
    return outcomes("routed", version, tmp_path_factory.mktemp(f"routed{version}"))


@pytest.mark.netns
@pytest.mark.parametrize("kind", [pytest.param(kind, marks=pytest.mark.daemon(kind)) for kind in OTHERS])
def test_everybody_is_told_the_same(
    kind: str, version: int, routed: dict[str, Outcome], tmp_path: Path
) -> None:
    rows = documented(DOCUMENT.read_text())
    other = outcomes(kind, version, tmp_path, routed)
    seen: set[str] = set()
    for phase in routed:
        used, rest = explain(differences(routed[phase], other[phase]))
        seen |= used
        assert not rest, f"{phase}: not in {DOCUMENT.name}:\n" + "\n".join(map(str, rest))
    assert seen == {row.id for row in rows.values() if kind in row.daemons}, "the table says otherwise"


def test_every_row_has_a_rule_and_every_rule_a_row() -> None:
    assert documented(DOCUMENT.read_text()).keys() == RULES.keys()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("| `x` | BIRD 2 | a | b |", "not a whole row"),
        ("| `x` | BIRD 9 | a | b | c |", "unknown daemon"),
        ("| `x` | FRR | a | b | c |\n| `x` | FRR | a | b | c |", "twice"),
    ],
)
def test_a_row_that_is_not_whole_is_refused(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        documented(text)
