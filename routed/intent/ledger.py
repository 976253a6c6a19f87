"""Values by key from many sources, where the source that sorts first wins."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

Source = tuple[int, str, str]
"""Rank, then names: sorts by precedence, and names who said something."""


class Ledger(Generic[K, V]):
    """What several sources say about each key, the value that counts, and what changed since `take`.

    A change costs in proportion to what its source says, never to what others say."""

    def __init__(self) -> None:
        self._by_source: dict[Source, dict[K, V]] = {}
        self._by_key: dict[K, dict[Source, V]] = {}
        self._values: dict[K, V] = {}
        self._touched: set[K] = set()

    def put(self, source: Source, values: Mapping[K, V]) -> None:
        """Lets `source` say these values, and nothing it said before."""
        before = self._by_source.get(source, {})
        for key in before.keys() - values.keys():
            said = self._by_key[key]
            del said[source]
            if not said:
                del self._by_key[key]
            self._touched.add(key)
        for key, value in values.items():
            if before.get(key) != value:
                self._by_key.setdefault(key, {})[source] = value
                self._touched.add(key)
        if values:
            self._by_source[source] = dict(values)
        else:
            self._by_source.pop(source, None)

    def sources(self) -> list[Source]:
        """All sources that say something."""
        return list(self._by_source)

    def said_by(self, source: Source) -> Mapping[K, V]:
        """What a source says, winning or not."""
        return self._by_source.get(source, {})

    def take(self) -> dict[K, tuple[V | None, V | None]]:
        """The value before and after of each key whose value changed since the last call; None: absent."""
        changed: dict[K, tuple[V | None, V | None]] = {}
        for key in self._touched:
            said = self._by_key.get(key)
            after = said[min(said)] if said else None
            before = self._values.get(key)
            if before != after:
                changed[key] = before, after
                if after is None:
                    del self._values[key]
                else:
                    self._values[key] = after
        self._touched.clear()
        return changed

    @property
    def values(self) -> Mapping[K, V]:
        """The value of each key, as of the last `take`."""
        return self._values

    def __iter__(self) -> Iterator[K]:
        return iter(self._values)


class SourcedProblems(Generic[V]):
    """Findings by who found them, and which are new or gone since `take`. One may have two finders."""

    def __init__(self) -> None:
        self._by_source: dict[Hashable, tuple[V, ...]] = {}
        self._counts: dict[V, int] = {}
        self._before: dict[V, int] = {}

    def put(self, source: Hashable, findings: tuple[V, ...]) -> None:
        """Lets `source` have these findings, and none it had before."""
        before = self._by_source.get(source, ())
        if before == findings:
            return
        for finding in (*before, *findings):
            self._before.setdefault(finding, self._counts.get(finding, 0))
        for finding in before:
            self._counts[finding] -= 1
            if not self._counts[finding]:
                del self._counts[finding]
        for finding in findings:
            self._counts[finding] = self._counts.get(finding, 0) + 1
        if findings:
            self._by_source[source] = findings
        else:
            self._by_source.pop(source, None)

    def take(self) -> tuple[list[V], list[V]]:
        """The findings that are new since the last call, and those that are gone."""
        new = [f for f, count in self._before.items() if not count and f in self._counts]
        gone = [f for f, count in self._before.items() if count and f not in self._counts]
        self._before.clear()
        return new, gone

    def __iter__(self) -> Iterator[V]:
        return iter(self._counts)
