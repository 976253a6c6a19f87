"""From values to the text that Prometheus reads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate, chain, groupby
from operator import attrgetter
from typing import Final

from routed.histogram import Histogram
from routed.observe.metrics.catalogue import METRICS, Metric
from routed.observe.metrics.library import (
    CONTENT_TYPE_PLAIN_0_0_4,
    Collector,
    CounterMetricFamily,
    Family,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    ProcessCollector,
    choose_encoder,
    generate_latest,
)
from routed.observe.metrics.values import Sample, samples
from routed.observe.observed import Observed

_END: Final = b"# EOF\n"


class _Of(Collector):
    """A collector of one family."""

    def __init__(self, family: Family) -> None:
        self._family = family

    def collect(self) -> Iterable[Family]:
        return (self._family,)


def families(observed: Observed, *, per_peer: bool) -> Iterator[Family]:
    """All metrics with their values, those of the process (memory, CPU, descriptors) at the end."""
    # Read at once: peers may be gone when the last of these is written.
    values = list(samples(observed, per_peer=per_peer))
    return chain(_families(values), ProcessCollector(registry=None).collect())


def _families(values: Iterable[Sample]) -> Iterator[Family]:
    for name, some in groupby(values, attrgetter("name")):
        yield _family(METRICS[name], some)


def _family(metric: Metric, values: Iterable[Sample]) -> Family:
    family: Family
    if metric.kind == "histogram":
        family = histogram = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
        for _, labels, value in values:
            assert isinstance(value, Histogram)
            histogram.add_metric(labels, _buckets(value), value.total)
    elif metric.kind == "info":
        family = info = InfoMetricFamily(metric.name, metric.help)
        for _, labels, _one in values:
            info.add_metric((), dict(zip(metric.labels, labels, strict=True)))
    else:
        kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
        family = number = kind(metric.name, metric.help, labels=metric.labels)
        for _, labels, value in values:
            assert not isinstance(value, Histogram)
            number.add_metric(labels, value)
    return family


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    """Cumulative, as Prometheus has them."""
    bounds = [*(str(bound) for bound in histogram.bounds), "+Inf"]
    return list(zip(bounds, accumulate(histogram.counts), strict=True))


def portions(observed: Observed, *, per_peer: bool, accept: str) -> tuple[Iterator[bytes], str]:
    """The text in pieces, a metric each, and its content type."""
    encoder, content_type = _encoder(accept)
    return _encoded(families(observed, per_peer=per_peer), encoder), content_type


def _encoded(found: Iterator[Family], encoder: Callable[[Collector], bytes]) -> Iterator[bytes]:
    end = b""
    for family in found:
        text = encoder(_Of(family))
        if text.endswith(_END):  # OpenMetrics: once, after all
            text, end = text.removesuffix(_END), _END
        yield text
    yield end


def _encoder(accept: str) -> tuple[Callable[[Collector], bytes], str]:
    """The format that the client asks for, as the library reads its header; the plain one where it cannot."""
    # Ours are names without anything to escape: the library would write them differently for some schemes.
    offers = (offer.split(";") for offer in accept.split(","))
    accept = ",".join(";".join(part for part in offer if "escaping" not in part) for offer in offers)
    try:
        encoder, content_type = choose_encoder(accept)
        encoder(_Of(GaugeMetricFamily("routed_nothing", "")))
    except Exception:  # the header is a stranger's, and the library trusts it
        return generate_latest, CONTENT_TYPE_PLAIN_0_0_4
    if not content_type.isascii() or not content_type.isprintable():
        return generate_latest, CONTENT_TYPE_PLAIN_0_0_4
    return encoder, content_type
