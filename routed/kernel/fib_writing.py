"""What the FIB sends to the kernel: the pending wishes of both families, planned, sent and settled."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from routed.bgp.nlri import Family
from routed.kernel.base import FibCounters, FibError
from routed.kernel.batch import CHUNK_REQUESTS, BatchSender, Tails
from routed.kernel.decode import KernelRoute
from routed.kernel.encode import REPLACE
from routed.kernel.fib_failures import FibFailures
from routed.kernel.fib_reading import RTPROT_BIRD, FibReading
from routed.kernel.fib_state import FibState, Install, Removal
from routed.kernel.netlink import RouteSocket
from routed.kernel.next_hop_objects import NextHopObjects
from routed.kernel.protocols import protocol_name
from routed.kernel.reader import KernelReader

#: How long encoded routes, and the indexes of interfaces in them, are used where no event tells otherwise,
#: seconds.
TAILS_TIME = 1.0
_NOT_THERE = frozenset((errno.ESRCH, errno.ENOENT))
_Item = TypeVar("_Item")


class FibWriting:
    """Sends from the states of both families, and settles there what became of it. One call at a time."""

    def __init__(
        self,
        states: Mapping[Family, FibState],
        sock: RouteSocket,
        reader: KernelReader,
        reading: FibReading,
        objects: NextHopObjects,
        failures: FibFailures,
        *,
        protocol: int,
        table: int,
        counters: FibCounters,
        log: Any,
    ) -> None:
        self._states = states
        self._reader = reader
        self._reading = reading
        self._objects = objects
        self._failures = failures
        self._protocol = protocol
        self._log = log
        self.senders = {
            family: BatchSender(sock, family, table=table, protocol=protocol, counters=counters, log=log)
            for family in Family
        }
        self._tails: dict[Family, Tails] = {}
        self._tails_made = 0.0

    def forget_tails(self) -> None:
        """Encode all anew: an interface or a nexthop object may have another index than before."""
        self._tails.clear()

    async def carry_out(self, *, final: bool = False) -> list[FibError]:
        """Plan and send all that is pending; returns what the kernel refused. What was not as believed is
        looked at and tried once more (`final`).

        Other tasks run between two sends."""
        errors: list[FibError] = []
        occupied: list[tuple[FibState, Install]] = []
        removals: dict[Family, list[Removal]] = {family: [] for family in Family}
        taken = {family: state.pending for family, state in self._states.items()}
        try:
            for family, state in self._states.items():
                state.pending = {}
                tails = self._tails_of(family)
                for part in portions(list(taken[family])):
                    installs, to_remove = state.plan(part)
                    removals[family] += to_remove
                    removals[family] += self._install(state, installs, tails, errors, occupied)
                    await asyncio.sleep(0)
            for family, state in self._states.items():
                for some in portions(removals[family]):
                    self._remove(state, some, errors)
                    await asyncio.sleep(0)
            if occupied:
                errors += await self._settle_occupied(occupied, final=final)
        except BaseException:
            # Cancelled half-way: all is planned again next time, and what is done settles there at once.
            for family, state in self._states.items():
                state.pending = {**taken[family], **state.pending}
            raise
        if not final:
            self._failures.report()
        return errors

    def _tails_of(self, family: Family) -> Tails:
        """The encoded routes of flushes that follow each other at once, as when a full table goes in by
        portions."""
        now = asyncio.get_running_loop().time()
        if now - self._tails_made > TAILS_TIME:
            self._tails.clear()
        tails = self._tails.get(family)
        if tails is None:
            self._tails_made = now
            tails = self._tails[family] = Tails(
                self.senders[family].encoder,
                self._reader.interface_index,
                self._objects if family is Family.IPV4 else None,
            )
        return tails

    def _install(
        self,
        state: FibState,
        installs: list[Install],
        tails: Tails,
        errors: list[FibError],
        occupied: list[tuple[FibState, Install]],
    ) -> list[Removal]:
        """Send installs; returns what they made surplus. Refused ones go to `errors`, those whose place was
        not as believed to `occupied`."""
        refused, unknown = self.senders[state.family].install(installs, tails)
        self._reading.due |= bool(unknown)
        removals: list[Removal] = []
        for position, install in enumerate(installs):
            if position in refused:
                number, text = refused[position]
                if number == errno.EEXIST or (number in _NOT_THERE and install.flags is REPLACE):
                    occupied.append((state, install))
                else:
                    errors.append(self._failures.note(state, install.nlri, install.route, number, text))
                    if install.flags is REPLACE and len(install.route.next_hops) > 1:
                        # IPv6 replaces by several next hops one after the other: what is left is not known.
                        state.suspect.add(install.nlri)
            elif position not in unknown:
                state.note_installed(install.nlri, install.route)
                if state.surplus or state.inherited:
                    removals += state.leftovers(install.nlri)
        return removals

    def _remove(self, state: FibState, removals: Sequence[Removal], errors: list[FibError]) -> None:
        refused, unknown = self.senders[state.family].remove(removals)
        self._reading.due |= bool(unknown)
        for position, removal in enumerate(removals):
            if position in refused:
                errors.append(self._failures.note(state, removal.nlri, None, *refused[position]))
            elif position not in unknown:
                state.note_removed(removal)

    async def _settle_occupied(
        self, occupied: list[tuple[FibState, Install]], *, final: bool
    ) -> list[FibError]:
        """Installs that met something where we believed nothing, or nothing where we believed ours: look,
        then try once more. A route of another protocol is left alone, and named in the error."""
        errors: list[FibError] = []
        unknown = []
        for state, install in occupied:
            if (known := _known_conflict(state, install)) is not None:
                errors.append(known)
            else:
                unknown.append((state, install))
        if not unknown:
            return errors
        try:
            found = await self._reading.look_up(unknown)
            names = await self._reader.link_names()
        except OSError as error:
            self._log.error("cannot read the kernel's routes", error=str(error))
            self._reading.due = True
            return errors
        again = False
        for state, install in unknown:
            there = found[state.family, install.nlri]
            ours = [self._reading.with_paths(r) for r in there if r.protocol == self._protocol]
            state.learn(install.nlri, ours, names)
            taken = self._reading.taken_over(state, install.nlri)
            state.learn_inherited(install.nlri, [r for r in there if r.protocol in taken])
            metric = state.metric_of(install.route)
            foreign = [r for r in there if r.protocol not in (self._protocol, *taken) and r.metric == metric]
            if foreign or final:
                text = (
                    _conflict_text(foreign, metric) if foreign else "another route took its place meanwhile"
                )
                errors.append(self._failures.note(state, install.nlri, install.route, errno.EEXIST, text))
            else:
                state.pending.setdefault(install.nlri)
                again = True
        return errors + (await self.carry_out(final=True) if again else [])


def _known_conflict(state: FibState, install: Install) -> FibError | None:
    """The conflict of this install that was reported already: no need to look again."""
    known = state.failed.get(install.nlri)
    if (
        known is not None
        and known.errno == errno.EEXIST
        and known.route == install.route
        and install.nlri not in state.suspect
    ):
        return known
    return None


def portions(items: Sequence[_Item]) -> Iterator[Sequence[_Item]]:
    """The items in parts of as many as one send may have."""
    for start in range(0, len(items), CHUNK_REQUESTS):
        yield items[start : start + CHUNK_REQUESTS]


def _conflict_text(foreign: Sequence[KernelRoute], metric: int) -> str:
    protocols = {route.protocol for route in foreign}
    names = ", ".join(sorted(map(protocol_name, protocols)))
    return (
        f"a route of protocol {names} with the same metric {metric} is there and is left alone; "
        "remove it, or give one of the two another metric"
        + ("; --takeover bird replaces what a stopped BIRD has left" if RTPROT_BIRD in protocols else "")
    )
