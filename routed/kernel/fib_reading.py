"""What the FIB reads back from the kernel: our routes, those that are taken over, and nexthop objects."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address
from itertools import chain
from typing import Any

from routed.bgp.nlri import Family
from routed.kernel.base import Prefix
from routed.kernel.decode import KernelRoute, Path
from routed.kernel.encode import RTNH_F_ONLINK
from routed.kernel.fib_state import FibState, Install, next_hops_of
from routed.kernel.next_hop_objects import Gateway, NextHopObjects
from routed.kernel.reader import KernelReader

#: RTPROT_BIRD, linux/rtnetlink.h.
RTPROT_BIRD = 12


class FibReading:
    """Reads into the states of both families. Raises OSError where the kernel's table cannot be read."""

    def __init__(
        self,
        states: Mapping[Family, FibState],
        reader: KernelReader,
        objects: NextHopObjects,
        *,
        protocol: int,
        takeover: frozenset[int],
        log: Any,
    ) -> None:
        self.swept = False
        """True once stale routes were removed: from then on nothing more is taken over."""
        self.due = False
        """True where what the kernel has is not known any more: all is to be read again."""
        self._states = states
        self._reader = reader
        self._objects = objects
        self._protocol = protocol
        self._takeover = takeover
        self._log = log

    def taken_over(self, state: FibState, nlri: bytes) -> frozenset[int]:
        """The protocols whose routes at a prefix are to be taken over."""
        return frozenset() if self.swept and nlri not in state.inherited else self._takeover

    async def learn(self) -> None:
        """Read our routes of both families, and believe that."""
        names = await self._reader.link_names()
        await self._objects.learn()
        for state in self._states.values():
            suspect = frozenset(state.suspect)
            fresh = FibState(state.family)
            fresh.wanted = state.wanted
            async for part in self._reader.routes(state.family, self._protocol):
                for route in part:
                    fresh.add_found(self.with_paths(route), names)
            state.take_beliefs(fresh)
            # What came under suspicion meanwhile may have been read before it changed.
            state.suspect -= suspect
            await self._learn_inherited(state)

    def with_paths(self, route: KernelRoute) -> KernelRoute:
        """A route that names a nexthop object and nothing else, with the object's gateway."""
        gateway = None if route.paths else self._objects.gateway(route.object_id)
        if gateway is None:
            return route
        path = Path(IPv4Address(gateway.address), gateway.ifindex, bool(gateway.flags))
        return route._replace(paths=(path,))

    async def remove_unused_objects(self) -> bool:
        """Remove nexthop objects that no route of ours has any more, nor is to have. To be called just after
        the routes were read: an object takes the routes that name it with it. True where there were some."""
        if not self._objects.ids:
            return False
        indexes = {name: index for index, name in (await self._reader.link_names()).items()}
        state = self._states[Family.IPV4]
        hops = next_hops_of(chain(state.installed.values(), state.wanted.values()))
        if state.surplus:
            return False  # routes of ours with another metric: their next hops are not known here
        used: set[Gateway] = set()
        for hop in hops:
            # A wish that names no interface may be carried out by a route through any.
            for index in indexes.values() if hop.interface is None else (indexes.get(hop.interface, 0),):
                used.add(Gateway(RTNH_F_ONLINK if hop.onlink else 0, index, hop.gateway.packed))
        return self._objects.remove_unused(used) > 0

    async def _learn_inherited(self, state: FibState) -> None:
        """Read what is to be taken over. After the sweep that is only what could not be replaced before."""
        if self.swept and not state.inherited:
            return
        found: dict[bytes, list[KernelRoute]] = {}
        for protocol in self._takeover:
            async for part in self._reader.routes(state.family, protocol):
                for route in part:
                    if not self.swept or route.nlri in state.inherited:
                        found.setdefault(route.nlri, []).append(route)
        state.inherited.clear()
        for nlri, routes in found.items():
            state.learn_inherited(nlri, routes)

    async def tell_of_bird(self) -> None:
        """Say what becomes of routes that a BIRD has left, or has."""
        count = 0
        for family in Family:
            async for part in self._reader.routes(family, RTPROT_BIRD):
                count += len(part)
        if count and RTPROT_BIRD in self._takeover:
            self._log.info("kernel routes of BIRD are taken over", routes=count)
        elif count:
            self._log.warning(
                "kernel routes of BIRD are there, and left alone",
                routes=count,
                hint="where that BIRD is stopped for good, --takeover bird replaces them in place",
            )

    async def look_up(self, wishes: Iterable[tuple[FibState, Install]]) -> dict[Prefix, list[KernelRoute]]:
        """All routes, of whatever protocol, at these prefixes."""
        found: dict[Prefix, list[KernelRoute]] = {
            (state.family, install.nlri): [] for state, install in wishes
        }
        for family in {family for family, _ in found}:
            async for part in self._reader.routes(family):
                for route in part:
                    at = found.get((family, route.nlri))
                    if at is not None and route.tos == 0:
                        at.append(route)
        return found
