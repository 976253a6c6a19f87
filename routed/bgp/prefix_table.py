"""Which of many networks hold a prefix: a look-up for each prefix length in use, not for each network."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Generic, TypeVar

from routed.bgp.nlri import Family, Network

V = TypeVar("V")


class PrefixTable(Generic[V]):
    """An ordered list of (network, value), asked by prefix. Networks of another family are left out.

    "First" and "in order" are by place in that list, as in a filter that is read from top to bottom; where a
    network is in the list twice, both places count."""

    __slots__ = ("_bits", "_by_length", "_items")

    def __init__(self, family: Family, items: Iterable[tuple[Network, V]]) -> None:
        bits = self._bits = family.max_prefix_length
        self._items: list[V] = []
        by_length: dict[int, dict[int, list[int]]] = {}
        for network, value in items:
            if Family.of(network) is family:
                length = network.prefixlen
                head = int(network.network_address) >> (bits - length)
                by_length.setdefault(length, {}).setdefault(head, []).append(len(self._items))
                self._items.append(value)
        self._by_length = sorted(by_length.items())

    def __len__(self) -> int:
        return len(self._items)

    def _matches(self, nlri: bytes) -> Iterator[list[int]]:
        bits = self._bits
        own_length = nlri[0]
        address = int.from_bytes(nlri[1:]) << (bits - 8 * (len(nlri) - 1))
        for length, heads in self._by_length:
            if length > own_length:
                return
            places = heads.get(address >> (bits - length))
            if places is not None:
                yield places

    def first(self, nlri: bytes) -> V | None:
        """The value of the first network that holds the prefix, or is it; None where none does."""
        # `min` of `_matches`, in a third of the time: asked for each route of a full table.
        bits = self._bits
        own_length = nlri[0]
        address = int.from_bytes(nlri[1:]) << (bits - 8 * (len(nlri) - 1))
        first = None
        for length, heads in self._by_length:
            if length > own_length:
                break
            places = heads.get(address >> (bits - length))
            if places is not None and (first is None or places[0] < first):
                first = places[0]
        return None if first is None else self._items[first]

    def all(self, nlri: bytes) -> tuple[V, ...]:
        """The values of all networks that hold the prefix, in order."""
        return tuple(self._items[place] for place in sorted(chain.from_iterable(self._matches(nlri))))
