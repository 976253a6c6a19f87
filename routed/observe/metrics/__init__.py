"""Metrics in Prometheus' text formats, read from the running process when somebody asks.

`catalogue` is the table of all there are, `values` reads them, `writing` writes them. prometheus-client is
imported with the first scrape: nobody pays for what nobody reads.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from routed.observe.observed import Observed
    from routed.observe.options import ObserveOptions


def exposition(observed: Observed, options: ObserveOptions, accept_header: str) -> tuple[bytes, str]:
    """All metrics as text, and its content type. `accept_header`: the request's Accept, which chooses between
    Prometheus' text format and OpenMetrics; empty: the first. `options.metrics_per_peer` adds series for each
    peer."""
    pieces, content_type = portions(observed, options, accept_header)
    return b"".join(pieces), content_type


def portions(observed: Observed, options: ObserveOptions, accept_header: str) -> tuple[Iterator[bytes], str]:
    """The same text in pieces, one metric each, to let the event loop turn between them. All values are
    those of the moment of the call."""
    from routed.observe.metrics import writing

    return writing.portions(observed, per_peer=options.metrics_per_peer, accept=accept_header)
