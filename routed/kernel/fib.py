"""The FIB: wishes for routes in, kernel routes out.

`replace` only remembers. `flush` sends all that is pending, hundreds of requests in one netlink send: first
what is to be installed, then what is to be removed, so that a prefix whose metric changes is never without a
route. A route goes in with NLM_F_EXCL unless one of ours is known to be in its place: IPv4 and IPv6 both
replace by prefix and metric alone, whoever's route it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from routed.bgp.nlri import Family, to_text
from routed.bgp.route import FibRoute
from routed.kernel.base import MAIN_TABLE, PROTOCOL, Event, FibCounters, FibError, Prefix
from routed.kernel.fib_events import FibEvents
from routed.kernel.fib_failures import FibFailures
from routed.kernel.fib_reading import FibReading
from routed.kernel.fib_state import FibState
from routed.kernel.fib_writing import FibWriting, portions
from routed.kernel.netlink import RouteSocket, require_net_admin
from routed.kernel.next_hop_objects import MANY, NextHopObjects
from routed.kernel.reader import KernelReader

#: How often in a row a resync is tried whose replies get lost.
RESYNC_ATTEMPTS = 10


class Fib:
    """The routes of our protocol in one table of the kernel, both families. Make it with `open`."""

    def __init__(
        self,
        sock: RouteSocket,
        *,
        protocol: int,
        table: int,
        log: Any,
        takeover: frozenset[int] = frozenset(),
        many_gateways: int = MANY,
    ) -> None:
        self.counters = FibCounters()
        self.protocol = protocol
        self.table = table
        self._socket = sock
        self._reader = KernelReader(sock, table)
        self._log = log
        self._lock = asyncio.Lock()
        self._states = {family: FibState(family) for family in Family}
        self._wanted = {family: state.wanted for family, state in self._states.items()}
        # `replace` runs for each route of a full table: a tuple by AFI is found faster than a dict by enum.
        self._by_afi = (None, self._states[Family.IPV4], self._states[Family.IPV6])
        self._failures = FibFailures(self.counters, log)
        objects = NextHopObjects(sock, protocol=protocol, log=log, many=many_gateways)
        self._reading = FibReading(
            self._states, self._reader, objects, protocol=protocol, takeover=takeover, log=log
        )
        self._writing = FibWriting(
            self._states,
            sock,
            self._reader,
            self._reading,
            objects,
            self._failures,
            protocol=protocol,
            table=table,
            counters=self.counters,
            log=log,
        )
        self._events = FibEvents(self._states, self._reading, self._writing, objects, self._failures)

    @classmethod
    async def open(
        cls,
        *,
        log: Any,
        protocol: int = PROTOCOL,
        table: int = MAIN_TABLE,
        takeover: frozenset[int] = frozenset(),
        many_gateways: int = MANY,
        netns: str | None = None,
        receive_buffer: int = 4 << 20,
    ) -> Fib:
        """Open the kernel's routing table, in the network namespace `netns` (a name as of `ip netns`) or this
        one.

        `takeover` are the protocols of a program that we stand in for, and that is not running any more: its
        routes of our wishes are replaced in place, the others removed by `sweep`. Until that they stay.

        IPv4 gateways beyond `many_gateways` different ones get nexthop objects.

        Raises KernelUnavailable where routes cannot be programmed: no netlink, no CAP_NET_ADMIN."""
        sock = RouteSocket.open(netns=netns, receive_buffer=receive_buffer)
        try:
            require_net_admin(sock)
        except BaseException:
            sock.close()
            raise
        return cls(
            sock, protocol=protocol, table=table, log=log, takeover=takeover, many_gateways=many_gateways
        )

    @property
    def port(self) -> int:
        """Our netlink port: notifications of our own changes carry it."""
        return self._socket.port

    @property
    def wanted(self) -> Mapping[Family, Mapping[bytes, FibRoute]]:
        """The wishes, by family and NLRI. A view: do not change it."""
        return self._wanted

    @property
    def installed(self) -> Mapping[Family, Mapping[bytes, FibRoute]]:
        """What the kernel has of ours, as far as we know, by family and NLRI. A view: do not change it."""
        return {family: state.installed for family, state in self._states.items()}

    @property
    def failed(self) -> Mapping[Prefix, FibError]:
        """The wishes the kernel refused."""
        return {
            (family, nlri): error
            for family, state in self._states.items()
            for nlri, error in state.failed.items()
        }

    @property
    def failures(self) -> int:
        """How many those are."""
        return sum(len(state.failed) for state in self._states.values())

    async def adopt(self) -> dict[Prefix, FibRoute]:
        """Read the routes of our protocol that an earlier run left, and count them as installed. Nothing is
        changed.

        Raises OSError where the kernel's table cannot be read."""
        async with self._lock:
            await self._learn()
            await self._reading.tell_of_bird()
        adopted = {
            (f, nlri): route for f, state in self._states.items() for nlri, route in state.installed.items()
        }
        if adopted:
            self._log.debug(
                "kernel routes adopted", routes=len(adopted), protocol=self.protocol, table=self.table
            )
        return adopted

    def replace(self, family: Family, nlri: bytes, route: FibRoute | None) -> None:
        """Wish for `route` at the prefix, or for none of ours there. Carried out by the next `flush`; the
        last wish counts."""
        state = self._by_afi[family]
        assert state is not None
        if route is None:
            state.wanted.pop(nlri, None)
        else:
            state.wanted[nlri] = route
        state.pending[nlri] = None

    def replace_all(self, family: Family, nlri: Sequence[bytes], route: FibRoute | None) -> None:
        """`replace` for many prefixes, in a fifth of the time."""
        state = self._by_afi[family]
        assert state is not None
        if route is None:
            for one in nlri:
                state.wanted.pop(one, None)
        else:
            state.wanted.update(dict.fromkeys(nlri, route))
        state.pending.update(dict.fromkeys(nlri))

    async def flush(self) -> list[FibError]:
        """Carry out all pending wishes; returns those the kernel refused now. They are kept in `failed`.

        Other tasks run between two sends; what they wish meanwhile is for the next flush."""
        async with self._lock:
            return await self._flush()

    async def retry_failed(self) -> list[FibError]:
        """Try all failed wishes again; returns those that fail again."""
        self._events.forget_repairs()
        self._writing.forget_tails()
        for state in self._states.values():
            state.pending.update(dict.fromkeys(state.failed))
        return await self.flush()

    def stale(self) -> list[Prefix]:
        """The adopted (or left over) routes that nobody wishes. They stay until `sweep`."""
        return [(family, nlri) for family, state in self._states.items() for nlri in state.stale()]

    async def sweep(self) -> list[FibError]:
        """Remove the stale routes, and from now on let resync remove any route of our protocol that nobody
        wishes.

        To be called after convergence: when all that peers had to say was heard."""
        self._reading.swept = True
        for state in self._states.values():
            state.keep_inherited = False
        stale = self.stale()
        for family, nlri in stale:
            self._states[family].pending[nlri] = None
        if stale:
            self._log.debug("stale kernel routes are removed", routes=len(stale))
        return await self.flush()

    async def resync(self) -> list[FibError]:
        """Read all our routes from the kernel, repair what differs from the wishes, carry out pending wishes.

        Failed wishes are tried again. Returns what the kernel refused. Where the kernel cannot be read this
        is logged, and stays due for `reconcile`."""
        async with self._lock:
            return await self._resync()

    def note(self, event: Event) -> bool:
        """Take in an event of the monitor. True where it gave `reconcile` something to do."""
        return self._events.note(event)

    async def reconcile(self) -> list[FibError]:
        """Do what the noted events call for, and carry out pending wishes. Returns what the kernel
        refused."""
        return await (self.resync() if self._reading.due else self.flush())

    def close(self) -> None:
        """Close the socket. All routes stay in the kernel."""
        self._socket.close()

    # All below runs with the lock held.

    async def _flush(self) -> list[FibError]:
        errors = await self._writing.carry_out()
        if self._reading.due:
            errors = await self._resync()
        return errors

    async def _resync(self) -> list[FibError]:
        errors: list[FibError] = []
        for _ in range(RESYNC_ATTEMPTS):
            self.counters.resyncs += 1
            try:
                self._reader.wait_for_links()
                await self._learn()
            except OSError as error:
                self._reading.due = True
                self._log.error("cannot read the kernel's routes", error=str(error))
                return errors
            self._reading.due = False
            self._events.forget_repairs()
            await self._plan_repairs()
            errors = await self._writing.carry_out()
            if not self._reading.due:  # else replies were lost again: the next sends are smaller
                if await self._reading.remove_unused_objects():
                    self._writing.forget_tails()
                break
        return errors

    async def _plan_repairs(self) -> None:
        """Make pending what differs from what was just read."""
        repairs: list[Prefix] = self.stale() if self._reading.swept else []
        for family, nlri in repairs:
            self._states[family].pending.setdefault(nlri)
        for family, state in self._states.items():
            for part in portions(list(state.wanted)):
                for nlri in part:
                    if nlri not in state.pending and state.differs(nlri):
                        state.pending[nlri] = None
                        if nlri not in state.failed:
                            repairs.append((family, nlri))
                await asyncio.sleep(0)
        if repairs:
            self.counters.repaired += len(repairs)
            family, nlri = repairs[0]
            self._log.warning(
                "kernel routes differ: repairing", routes=len(repairs), first=to_text(nlri, family)
            )

    async def _learn(self) -> None:
        """Read what the kernel has of ours, and believe that."""
        self._writing.forget_tails()
        await self._reading.learn()
