"""Why a route, an address or a peering is as it is, or is not: `explain`.

Each kind of question is a table of gates (`gates`), from the records by way of peers, best path and export to
the kernel; the first gate that stops is the answer. Nothing is changed, and nothing is kept.
"""

from __future__ import annotations

from routed.observe.explain.explain import ADDRESS_GATES, LOOKUP_GATES, PEER_GATES, PREFIX_GATES, explain

__all__ = ["ADDRESS_GATES", "LOOKUP_GATES", "PEER_GATES", "PREFIX_GATES", "explain"]
