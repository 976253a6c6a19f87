"""What is used of prometheus-client, imported when somebody asks for metrics for the first time."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from types import ModuleType


class _NoTls(ModuleType):
    """Stands in for `ssl` while the library is imported: it names its constants and classes in functions for
    servers and push gateways that are not used here."""

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        return object


@contextlib.contextmanager
def _tls_for_show() -> Iterator[None]:
    """Where the process has put TLS aside (`daemon.reflector`), an import of it inside succeeds with nothing
    behind; it stays away afterwards."""
    if "ssl" not in sys.modules or sys.modules["ssl"] is not None:
        yield
        return
    sys.modules["ssl"] = _NoTls("ssl")
    try:
        yield
    finally:
        sys.modules["ssl"] = None


with _tls_for_show():
    from prometheus_client.core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
        InfoMetricFamily,
    )
    from prometheus_client.core import Metric as Family
    from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, choose_encoder, generate_latest
    from prometheus_client.process_collector import ProcessCollector
    from prometheus_client.registry import Collector

__all__ = [
    "CONTENT_TYPE_PLAIN_0_0_4",
    "Collector",
    "CounterMetricFamily",
    "Family",
    "GaugeMetricFamily",
    "HistogramMetricFamily",
    "InfoMetricFamily",
    "ProcessCollector",
    "choose_encoder",
    "generate_latest",
]
