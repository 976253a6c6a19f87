"""What the tests of metrics share: a process with all its parts, a scrape of it, and the values in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from prometheus_client import Metric
from prometheus_client import parser as text_parser
from prometheus_client.openmetrics import parser as openmetrics_parser

from routed.intent.compiler import Compiler
from routed.intent.options import Options
from routed.kernel.dryrun import NullFib
from routed.kernel_writer import KernelWriter
from routed.observe.events import EventLog
from routed.observe.metrics import exposition
from routed.observe.observed import DatastoreState, Observed
from routed.observe.options import ObserveOptions
from routed.observe.route_changes import RouteChanges
from routed.resources import parse_record
from tests.bgp.test_speaker import Router

parse_text: Callable[[str], Iterable[Metric]] = text_parser.text_string_to_metric_families
parse_openmetrics: Callable[[str], Iterable[Metric]] = openmetrics_parser.text_string_to_metric_families
"""Prometheus' own parsers; that of OpenMetrics is the strict one."""

OPENMETRICS = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"

Values = dict[tuple[str, tuple[tuple[str, str], ...]], float]
"""By the name of the series and its labels, in the order of their names."""


def whole(router: Router, records: Iterable[Mapping[str, Any]] = (), node: str = "node-1") -> Observed:
    """A process with records and kernel."""
    speaker, events = router.speaker, EventLog()
    compiler = Compiler(Options(node))
    parsed = [parse_record(record).record for record in records]
    compiler.apply([record for record in parsed if record is not None])
    return Observed(
        node=node,
        speaker=speaker,
        events=events,
        route_changes=RouteChanges(speaker.ribs, events),
        compiler=compiler,
        writer=KernelWriter(NullFib(), speaker.ribs, lambda: None),
        datastore=DatastoreState(synced=True, changed_at=datetime.now(UTC).timestamp()),
    )


def alone(router: Router) -> Observed:
    """A reflector without records."""
    speaker, events = router.speaker, EventLog()
    return Observed(
        node="reflector",
        speaker=speaker,
        events=events,
        route_changes=RouteChanges(speaker.ribs, events),
        reflector=True,
    )


def text(observed: Observed, *, per_peer: bool = False, accept: str = "") -> str:
    """One scrape."""
    body, _ = exposition(observed, ObserveOptions(metrics_per_peer=per_peer), accept)
    return body.decode()


def families(observed: Observed, *, per_peer: bool = False) -> dict[str, Metric]:
    """One scrape as Prometheus' own parser for OpenMetrics, which is the strict one, reads it."""
    found = list(parse_openmetrics(text(observed, per_peer=per_peer, accept=OPENMETRICS)))
    assert len(found) == len({one.name for one in found}), "each metric is there once"
    return {one.name: one for one in found}


def values_of(found: Iterable[Metric]) -> Values:
    """All values."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in found
        for sample in family.samples
    }


def values(observed: Observed, *, per_peer: bool = False) -> Values:
    """All values of one scrape in Prometheus' text format."""
    return values_of(parse_text(text(observed, per_peer=per_peer)))


def value(of: Values, name: str, /, **labels: str) -> float:
    """One value."""
    return of[name, tuple(sorted(labels.items()))]


def total(of: Values, name: str, /, **labels: str) -> float:
    """The sum of all series that have these labels."""
    wanted = set(labels.items())
    return sum(one for (series, present), one in of.items() if series == name and wanted <= set(present))
