"""Graceful shutdown (RFC 8326): before a speaker stops, it becomes everybody's last choice.

All that it advertises is sent again with the community GRACEFUL_SHUTDOWN and, to internal peers, LOCAL_PREF
0. Internal peers need no policy for that; external ones, which get no LOCAL_PREF, act on the community
(section 4.1). Whoever knows another path takes it while this one still works, so that nothing is missing
when the session ends.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from routed.bgp.attributes import AttributeSet
from routed.bgp.communities import GRACEFUL_SHUTDOWN
from routed.bgp.export import Decision, Exporter, ExportTarget
from routed.bgp.path import Path


def last_choice(attributes: AttributeSet, target: ExportTarget) -> AttributeSet:
    """Attributes as they leave, made those of a path to use only where there is no other."""
    communities = attributes.communities
    if GRACEFUL_SHUTDOWN not in communities:
        communities = (*communities, GRACEFUL_SHUTDOWN)
    if target.ebgp:
        return attributes.replace(communities=communities)
    return attributes.replace(communities=communities, local_pref=0)


class LastChoiceExporter(Exporter):
    """The rules of an export group while the speaker drains: the same routes, as a last choice."""

    def _judge(self, nlri: bytes, path: Path, attributes: AttributeSet) -> Decision:
        decision = super()._judge(nlri, path, attributes)
        if decision.attributes is None:
            return decision
        return replace(decision, attributes=last_choice(decision.attributes, self.target))

    def export(
        self, path: Path, nlri: Sequence[bytes]
    ) -> Iterator[tuple[AttributeSet | None, Sequence[bytes]]]:
        """See `Exporter.export`."""
        for attributes, some in super().export(path, nlri):
            yield None if attributes is None else last_choice(attributes, self.target), some
