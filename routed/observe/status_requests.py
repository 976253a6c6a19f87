"""The records that ask a node for its status, as they come from the datastore."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from routed.resources import CalicoNodeStatus, Key, Record


class StatusRequests:
    """The CalicoNodeStatus records of one node, by name."""

    def __init__(self, node: str) -> None:
        self.records: dict[str, CalicoNodeStatus] = {}
        self.changed = asyncio.Event()
        """Set when they are others than before; whoever follows clears it."""
        self._node = node

    def take(self, upserts: Iterable[Record], deletes: Iterable[Key]) -> None:
        """A batch of records of any kind."""
        for key in deletes:
            if key.kind == CalicoNodeStatus.kind and self.records.pop(key.name, None) is not None:
                self.changed.set()
        for record in upserts:
            if isinstance(record, CalicoNodeStatus):
                if record.node == self._node:
                    self.records[record.name] = record
                elif self.records.pop(record.name, None) is None:
                    continue
                self.changed.set()
