"""BIRD 1.6 and routed as the same node: every difference is in the table of docs/differences.md, and
everything in the table is a difference."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.differential.cluster import Cluster
from tests.differential.clusters import CLUSTERS
from tests.differential.explained import DOCUMENT, EVERYWHERE, RULES, documented, expected, explain
from tests.differential.outcome import Difference, Outcome, differences
from tests.differential.sides import QUIET, BirdSide, RoutedSide, Side
from tests.netns import temporary_lab
from tests.rendered_bird import for_stock_bird

#: How many nodes at work at once. They wait most of the time: for each other's timers.
AT_ONCE = 6
Outcomes = list[Outcome]


def observe(kind: type[Side], cluster: Cluster, directory: Path, quiet: float = QUIET) -> Outcomes:
    """What there is to see of one side at the start and after each change, when nothing happened for `quiet`
    seconds. An exception has the daemons' logs."""
    with temporary_lab(directory / cluster.name / kind.name) as lab, kind(cluster, lab) as side:
        try:
            side.start()
            outcomes = [side.settled(quiet)]
            for change in cluster.changes:
                side.change(change)
                outcomes.append(side.settled(quiet))
        except Exception as error:
            error.add_note(side.log()[-20000:])
            raise
        log = side.log()
        assert "Traceback" not in log, log[-5000:]
        return outcomes


@pytest.fixture(scope="module")
def outcomes(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[Cluster], tuple[Outcomes, Outcomes]]]:
    """Both sides of a cluster. All clusters that this run is for are begun at once and wait beside each
    other."""
    wanted = {
        str(item.callspec.id)
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.originalname == test_routed_does_what_bird_does.__name__
    }
    directory = tmp_path_factory.mktemp("differential")
    with ThreadPoolExecutor(AT_ONCE) as pool:
        futures: dict[str, tuple[Future[Outcomes], ...]] = {
            cluster.name: tuple(
                pool.submit(observe, kind, cluster, directory) for kind in (BirdSide, RoutedSide)
            )
            for cluster in CLUSTERS
            if cluster.name in wanted
        }

        def get(cluster: Cluster) -> tuple[Outcomes, Outcomes]:
            bird, routed = futures[cluster.name]
            return bird.result(), routed.result()

        yield get
        pool.shutdown(cancel_futures=True)


@pytest.mark.netns
@pytest.mark.daemon("bird1")
@pytest.mark.parametrize("cluster", CLUSTERS, ids=lambda cluster: cluster.name)
def test_routed_does_what_bird_does(
    cluster: Cluster, outcomes: Callable[[Cluster], tuple[Outcomes, Outcomes]], tmp_path: Path
) -> None:
    fault = _fault(cluster, *outcomes(cluster))
    if fault is not None:
        # Both daemons go by timers, which on a busy machine may run out in another order: once more, alone,
        # and with more patience.
        again = (observe(kind, cluster, tmp_path, quiet=5 * QUIET) for kind in (BirdSide, RoutedSide))
        fault = _fault(cluster, *again)
    assert fault is None, fault


def _fault(cluster: Cluster, bird: Outcomes, routed: Outcomes) -> str | None:
    """What the table of differences does not have, or has and should not; None: they agree."""
    rows = documented(DOCUMENT.read_text())
    stages = ["at the start", *(change.about for change in cluster.changes)]
    seen: set[str] = set()
    for stage, one, other in zip(stages, bird, routed, strict=True):
        by_id, rest = explain(cluster.name, differences(one, other))
        if rest:
            return f"{cluster.name}, {stage}: in no row of docs/differences.md:\n" + _lines(rest)
        seen |= by_id.keys()
    listed = expected(cluster.name, rows)
    if not seen <= listed:
        return f"{cluster.name}: the table does not have it here: {sorted(seen - listed)}"
    if not listed <= seen:
        return f"{cluster.name}: the table has it, and it is no more: {sorted(listed - seen)}"
    return None


def _lines(found: list[Difference]) -> str:
    return "\n".join(f"  {one}" for one in found)


def test_the_table_and_the_rules_have_the_same_ids() -> None:
    rows = documented(DOCUMENT.read_text())
    assert rows.keys() == {rule.id for rule in RULES}
    known = {cluster.name for cluster in CLUSTERS} | {EVERYWHERE}
    for row in rows.values():
        assert set(row.clusters) <= known, row


def test_a_row_must_be_whole() -> None:
    whole = "| `one` | a | b | c | mesh, ipv6 |"
    assert documented(whole)["one"].clusters == ("mesh", "ipv6")
    for text in ("| `one` | a | b | mesh |", "| `one` | a |  | c | mesh |", f"{whole}\n{whole}"):
        with pytest.raises(ValueError, match="one"):
            documented(text)


def test_differences_are_told_once_a_route() -> None:
    bird = {
        ("peer", "a", "10.0.0.0/8"): "told",
        ("peer", "a", "10.0.0.0/8", "ORIGIN"): "igp",
        ("open", "a", "AS"): "1",
    }
    assert differences(bird, dict(bird)) == []
    assert differences(bird, {}) == [
        Difference(("open", "a", "AS"), "1", None),
        Difference(("peer", "a", "10.0.0.0/8"), "told", None),
    ]
    changed = {**bird, ("peer", "a", "10.0.0.0/8", "ORIGIN"): "egp", ("peer", "a", "10.0.0.0/8", "MED"): "5"}
    assert differences(bird, changed) == [
        Difference(("peer", "a", "10.0.0.0/8", "MED"), None, "5"),
        Difference(("peer", "a", "10.0.0.0/8", "ORIGIN"), "igp", "egp"),
    ]
    assert explain("mesh", differences(bird, changed))[0] == {}, "what no rule is for stays unexplained"


def test_krt_tunnel_becomes_a_realm() -> None:
    line = 'if (net ~ 10.0.0.0/8) then { if (a) then krt_tunnel=""; else krt_tunnel="tunl0"; accept; }'
    assert for_stock_bird(line) == (
        "if (net ~ 10.0.0.0/8) then { if (a) then krt_realm = 0; else krt_realm = 77; accept; }"
    )
