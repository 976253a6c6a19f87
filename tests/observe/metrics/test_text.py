"""What is written, as Prometheus' own parsers read it: names, types, escapes, formats."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routed.histogram import Histogram
from routed.observe.metrics import portions, writing
from routed.observe.metrics.catalogue import METRICS, PER_PEER, SECTIONS
from routed.observe.metrics.values import Sample
from routed.observe.options import ObserveOptions
from tests.bgp.test_speaker import Router, join
from tests.observe.metrics.scrape import (
    OPENMETRICS,
    alone,
    families,
    parse_openmetrics,
    parse_text,
    text,
    values,
    values_of,
    whole,
)
from tests.virtual import Wire, until, virtual

#: What a peer's record, a shutdown message or a host name may hold.
HOSTILE = [
    'a"} 1\nrouted_ready 0\n# {x="',
    "back\\slash\\n\n\r\ttab",
    "\x1b[31m\x00\x85\u2028",
    "# EOF\n",
    "</script><b>äöü 漢字 😀",
    "",
]


def test_names_are_as_the_conventions_have_them() -> None:
    assert len(METRICS) == sum(map(len, SECTIONS.values())) + len(PER_PEER), "no name twice"
    for metric in METRICS.values():
        assert re.fullmatch(r"routed(_[a-z0-9]+)+", metric.name), metric.name
        assert metric.help.endswith("."), metric.name
        assert not metric.name.endswith(("_total", "_info", "_count", "_sum", "_bucket")), metric.name
        assert metric.kind != "histogram" or metric.name.endswith("_seconds"), metric.name
        assert "le" not in metric.labels
    series = [name for metric in METRICS.values() for name in metric.series]
    assert len(series) == len(set(series))


@virtual
async def test_each_metric_of_the_catalogue_is_there_and_no_other(wire: Wire) -> None:
    a, b, c = Router(wire, 1), Router(wire, 2), Router(wire, 3)
    join(a, b)
    a.speaker.set_peer(a.peer(c))  # not there
    await until(lambda: a.established() == 1 and a.speaker.converged)
    watched = whole(a)
    a.speaker.incidents.sessions["connection lost"] = 2
    a.speaker.incidents.attempts["received Cease/Connection Rejected"] = 3
    a.speaker.incidents.updates["treat as withdraw"] = 4
    assert watched.writer is not None
    watched.writer.fib.counters.errors_by_name["ENETUNREACH"] = 5
    watched.outlet_counters.update(
        mqtt_connected=1,
        mqtt_connections_lost=0,
        mqtt_events_published=6,
        mqtt_events_dropped=7,
        mqtt_waiting_bytes=8,
    )
    found = families(watched, per_peer=True)
    ours = {name: family for name, family in found.items() if not name.startswith("process_")}
    # The loop of the tests is not the daemon's: nobody counts its turns.
    assert ours.keys() == METRICS.keys() - {"routed_event_loop_turn_seconds"}
    for name, family in ours.items():
        metric = METRICS[name]
        assert (family.type, family.documentation) == (metric.kind, metric.help)
        for sample in family.samples:
            assert sample.name in metric.series
            assert sample.labels.keys() - {"le"} == set(metric.labels), name
    assert "process_resident_memory_bytes" in found


@virtual
async def test_what_a_reflector_does_not_have_is_left_out(wire: Wire) -> None:
    reflector = Router(wire, 1, cluster_id="10.0.0.1")
    reflector.set_peers()
    found = families(alone(reflector)).keys()
    assert not [name for name in found if name.startswith(("routed_datastore", "routed_kernel"))]
    assert not [name for name in found if name.startswith("routed_bgp_peer_")]
    assert "routed_bgp_peers" in found


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_stay_data(name: str) -> None:
    @virtual
    async def scenario(wire: Wire) -> None:
        a, b = Router(wire, 1), Router(wire, 2)
        a.set_peers(replace(a.peer(b), name=name))
        a.speaker.incidents.sessions[name] = 7
        watched = whole(a)
        watched.node = name
        for read in (
            values(watched, per_peer=True),
            values_of(parse_openmetrics(text(watched, per_peer=True, accept=OPENMETRICS))),
        ):
            assert read["routed_bgp_peer_up", (("peer", name),)] == 0
            assert read["routed_bgp_sessions_ended_total", (("reason", name),)] == 7
            assert read["routed_ready", ()] == 0
            (build,) = [dict(labels) for series, labels in read if series == "routed_build_info"]
            assert build["name"] == name

    scenario()


@settings(max_examples=60)
@given(name=st.text(max_size=40))
def test_any_text_comes_back_as_it_was(name: str) -> None:
    samples = [
        Sample("routed_bgp_sessions_ended", (name,), 3),
        Sample("routed_bgp_peer", (name, "10.0.0.1", "64512", name), 1),
        Sample("routed_bgp_peer_flaps", (name,), 4),
    ]
    for accept, parse in (("", parse_text), (OPENMETRICS, parse_openmetrics)):
        encoder, _ = writing._encoder(accept)
        written = b"".join(writing._encoded(writing._families(samples), encoder)).decode()
        read = values_of(parse(written))
        assert read["routed_bgp_sessions_ended_total", (("reason", name),)] == 3
        assert read["routed_bgp_peer_flaps_total", (("peer", name),)] == 4
        assert len(read) == 3


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("", "text/plain; version=0.0.4; charset=utf-8"),
        ("*/*", "text/plain; version=0.0.4; charset=utf-8"),
        ("text/html", "text/plain; version=0.0.4; charset=utf-8"),
        (OPENMETRICS, "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores"),
        ("application/openmetrics-text; version=0.0.1", "text/plain; version=0.0.4; charset=utf-8"),
        ("application/openmetrics-text; version=abc", "text/plain; version=0.0.4; charset=utf-8"),
    ],
)
def test_the_client_chooses_the_format(accept: str, kind: str) -> None:
    @virtual
    async def scenario(wire: Wire) -> None:
        router = Router(wire, 1)
        pieces, content_type = portions(whole(router), ObserveOptions(), accept)
        assert content_type == kind
        body = b"".join(pieces)
        assert body.endswith(b"# EOF\n") == kind.startswith("application/openmetrics-text")
        assert body.count(b"# EOF\n") <= 1

    scenario()


@settings(max_examples=200)
@given(
    accept=st.one_of(
        st.text(max_size=60),
        st.builds(
            "{};version={};escaping={},{}".format,
            st.sampled_from(["application/openmetrics-text", "text/plain", "*/*"]),
            st.one_of(st.from_regex(r"[0-9.]{0,8}", fullmatch=True), st.text(max_size=8)),
            st.one_of(st.sampled_from(["values", "dots", "allow-utf-8", "underscores"]), st.text(max_size=8)),
            st.text(max_size=10),
        ),
    )
)
def test_no_header_breaks_it(accept: str) -> None:
    encoder, content_type = writing._encoder(accept)
    assert content_type.isprintable()
    assert content_type.isascii()
    samples = [Sample("routed_ready", (), 1)]
    written = b"".join(writing._encoded(writing._families(samples), encoder))
    assert b"\nrouted_ready 1.0\n" in written


def test_a_histogram_is_cumulative_and_counts_its_bounds_in() -> None:
    histogram = Histogram((0.1, 1.0))
    for taken in (0.05, 0.1, 0.5, 1.0, 7.0):
        histogram.observe(taken)
    samples = [Sample("routed_datastore_to_wire_seconds", (), histogram)]
    encoder, _ = writing._encoder(OPENMETRICS)
    written = b"".join(writing._encoded(writing._families(samples), encoder)).decode()
    read = values_of(parse_openmetrics(written))
    name = "routed_datastore_to_wire_seconds"
    buckets = {le: read[f"{name}_bucket", (("le", le),)] for le in ("0.1", "1.0", "+Inf")}
    assert buckets == {"0.1": 2, "1.0": 4, "+Inf": 5}
    assert read[f"{name}_count", ()] == 5
    assert read[f"{name}_sum", ()] == pytest.approx(8.65)


def test_the_library_waits_for_the_first_scrape_and_tls_stays_away() -> None:
    program = (
        "import sys\n"
        "from routed.daemon import reflector\n"
        "reflector._without_tls()\n"
        "import routed.rr.process, routed.observe.metrics, routed.observe.health\n"
        "assert 'prometheus_client' not in sys.modules\n"
        "import routed.observe.metrics.writing\n"
        "assert 'prometheus_client' in sys.modules\n"
        "assert sys.modules['ssl'] is None and '_ssl' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
