"""Counters over the last hour: a sample of a few numbers every ten seconds."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Final

from routed.bgp.message import MessageType
from routed.observe import documents
from routed.observe.observed import Observed
from routed.observe.views.text import time_text

#: Seconds between two samples, and how many are kept: an hour.
INTERVAL: Final = 10.0
KEPT: Final = 360


class Rates:
    """The sampler. To be started only where somebody may look, and closed at the end."""

    def __init__(self, observed: Observed, *, interval: float = INTERVAL, kept: int = KEPT) -> None:
        self._observed = observed
        self._interval = interval
        self._samples: deque[documents.Sample] = deque(maxlen=kept)
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Take the first sample now, and then one each interval. Starting it again does nothing."""
        if self._timer is None:
            self._take()

    def close(self) -> None:
        """Take no more; those there are stay."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def rates(self) -> documents.Rates:
        """The samples, and one of this moment as the last."""
        return documents.Rates(interval=self._interval, samples=[*self._samples, self._sample()])

    def _take(self) -> None:
        self._samples.append(self._sample())
        self._timer = self._observed.speaker.loop.call_later(self._interval, self._take)

    def _sample(self) -> documents.Sample:
        observed = self._observed
        speaker = observed.speaker
        messages = speaker.messages()
        return documents.Sample(
            time=time_text(time.time(), milliseconds=True),
            established=sum(peer.established for peer in speaker.peers.values()),
            routes=sum(len(rib.routes) for rib in speaker.ribs.values()),
            updates_received=messages.received[MessageType.UPDATE],
            updates_sent=messages.sent[MessageType.UPDATE],
            route_changes=sum(observed.route_changes.total.values()),
        )
