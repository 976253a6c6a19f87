"""Counts of durations by how long they were, in a form that costs next to nothing to keep."""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

#: From a millisecond to a minute, seconds: from one change handed on, to a start with a large table.
SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Histogram:
    """How many values there were up to each bound; Prometheus' histogram, without the library."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...] = SECONDS) -> None:
        """`bounds` ascend; a value is counted with the first one that is not less."""
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        """Not cumulative; the last one is of values beyond all bounds."""
        self.total = 0.0
        """The sum of all values."""

    def observe(self, value: float) -> None:
        """Count one."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value
