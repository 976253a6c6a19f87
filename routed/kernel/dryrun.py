"""The kernel left alone (`--no-kernel`): a FIB that only remembers, a monitor that sees nothing.

For a reflector, or to look at what a node would do. The agent uses them as it uses `Fib` and `Monitor`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence

from routed.bgp.nlri import Family
from routed.bgp.route import FibRoute
from routed.kernel.base import Event, FibCounters, FibError, Prefix, Snapshot


class NullFib:
    """Remembers wishes; `installed` is always empty, and nothing fails."""

    def __init__(self) -> None:
        self.counters = FibCounters()
        self._wanted: dict[Family, dict[bytes, FibRoute]] = {family: {} for family in Family}

    @property
    def port(self) -> int:
        """0: nothing comes from here."""
        return 0

    @property
    def wanted(self) -> Mapping[Family, Mapping[bytes, FibRoute]]:
        """The wishes, by family and NLRI."""
        return self._wanted

    @property
    def installed(self) -> Mapping[Family, Mapping[bytes, FibRoute]]:
        """Nothing."""
        return {family: {} for family in Family}

    @property
    def failed(self) -> Mapping[Prefix, FibError]:
        """Nothing."""
        return {}

    @property
    def failures(self) -> int:
        """None."""
        return 0

    async def adopt(self) -> dict[Prefix, FibRoute]:
        """Nothing is adopted."""
        return {}

    def replace(self, family: Family, nlri: bytes, route: FibRoute | None) -> None:
        """Remember a wish."""
        if route is None:
            self._wanted[family].pop(nlri, None)
        else:
            self._wanted[family][nlri] = route

    def replace_all(self, family: Family, nlri: Sequence[bytes], route: FibRoute | None) -> None:
        """Remember the same wish for many prefixes."""
        for one in nlri:
            self.replace(family, one, route)

    async def flush(self) -> list[FibError]:
        """Nothing to do."""
        return []

    async def retry_failed(self) -> list[FibError]:
        """Nothing to do."""
        return []

    def stale(self) -> list[Prefix]:
        """Nothing is stale."""
        return []

    async def sweep(self) -> list[FibError]:
        """Nothing to do."""
        return []

    async def resync(self) -> list[FibError]:
        """Nothing to do."""
        return []

    def note(self, event: Event) -> bool:
        """No event matters."""
        return False

    async def reconcile(self) -> list[FibError]:
        """Nothing to do."""
        return []

    def close(self) -> None:
        """Nothing to let go of."""


class NullMonitor:
    """Sees no link, no address, no route."""

    def __init__(self) -> None:
        self._closed = asyncio.Event()

    async def snapshot(self) -> Snapshot:
        """An empty one."""
        return Snapshot((), (), ())

    async def changes(self) -> AsyncIterator[Sequence[Event]]:
        """No event ever; ends when the monitor is closed."""
        await self._closed.wait()
        never: tuple[Sequence[Event], ...] = ()
        for events in never:
            yield events

    def close(self) -> None:
        """End `changes`."""
        self._closed.set()
