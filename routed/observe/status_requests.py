"""The records that ask a node for its status, as they come from the datastore."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from routed import log
from routed.resources import CalicoNodeStatus, Key, Record


class StatusRequests:
    """The CalicoNodeStatus records of one node, by name."""

    def __init__(self, node: str, *, answered: bool) -> None:
        """`answered`: there is a datastore that takes the status. Else that is logged, once."""
        self.records: dict[str, CalicoNodeStatus] = {}
        self.changed = asyncio.Event()
        """Set when they are others than before; whoever follows clears it."""
        self._node = node
        self._unanswered = not answered

    def take(self, upserts: Iterable[Record], deletes: Iterable[Key]) -> None:
        """A batch of records of any kind."""
        for key in deletes:
            if key.kind == CalicoNodeStatus.kind and self.records.pop(key.name, None) is not None:
                self.changed.set()
        for record in upserts:
            if isinstance(record, CalicoNodeStatus):
                if record.node == self._node:
                    self.records[record.name] = record
                    self._say_unanswered()
                elif self.records.pop(record.name, None) is None:
                    continue
                self.changed.set()

    def _say_unanswered(self) -> None:
        if self._unanswered:
            self._unanswered = False
            text = "this datastore takes no status: CalicoNodeStatus stays as it is"
            log.get("node-status").debug(text)
