"""What the monitor's events mean to the FIB: which routes are to be looked at again."""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Mapping

from routed.bgp.nlri import Family, to_network
from routed.kernel.base import (
    AddressAdded,
    Event,
    LinkDown,
    LinkUp,
    Overflow,
    OwnNextHopGone,
    OwnRouteChanged,
    OwnRoutesInDoubt,
    Prefix,
    RouteDown,
    RouteUp,
    is_workload_interface,
)
from routed.kernel.fib_failures import FibFailures
from routed.kernel.fib_reading import FibReading
from routed.kernel.fib_state import FibState, may_help, next_hops_of
from routed.kernel.fib_writing import FibWriting
from routed.kernel.next_hop_objects import NextHopObjects

#: How often between two retries (or resyncs) a route is put back that somebody else took away or changed.
MOST_REPAIRS = 10


class FibEvents:
    """Makes prefixes pending, or a resync due."""

    def __init__(
        self,
        states: Mapping[Family, FibState],
        reading: FibReading,
        writing: FibWriting,
        objects: NextHopObjects,
        failures: FibFailures,
    ) -> None:
        self._states = states
        self._reading = reading
        self._writing = writing
        self._objects = objects
        self._failures = failures
        self._repairs: Counter[Prefix] = Counter()

    def forget_repairs(self) -> None:
        """All was, or is, tried again: what somebody else keeps changing is put back once more."""
        self._repairs.clear()

    def note(self, event: Event) -> bool:
        """Take in an event of the monitor. True where there is something to do now."""
        match event:
            case OwnRouteChanged():
                return self._note_own_change(self._states[event.family], event.nlri)
            case OwnRoutesInDoubt():
                if is_workload_interface(event.interface) and not self._uses(event):
                    return False
                self._reading.due = True
                return True
            case Overflow():
                self._reading.due = True
                return True
            case OwnNextHopGone():
                self._writing.forget_tails()
                self._objects.forget((event.object_id,))
                self._reading.due = True
                return True
            case LinkDown():
                self._writing.forget_tails()
                self._objects.forget_interface(event.link.index)
                return False
            case RouteUp() | RouteDown() | LinkUp() | AddressAdded():
                if isinstance(event, LinkUp):
                    self._writing.forget_tails()  # it may have another index than before
                return self._note_reachability(event)
            case _:
                return False

    def _note_own_change(self, state: FibState, nlri: bytes) -> bool:
        if nlri in state.wanted:
            state.suspect.add(nlri)
            if self._may_repair(state, nlri):
                state.pending[nlri] = None
            return True
        if nlri in state.pending or not self._reading.swept:
            return False  # to be removed anyway, or adopted and left alone until the sweep
        self._reading.due = True
        return True

    def _may_repair(self, state: FibState, nlri: bytes) -> bool:
        """False where somebody keeps changing the route: then it counts as failed, and waits for the next
        retry or resync, lest two programs that both insist keep each other, and the CPU, busy."""
        self._repairs[state.family, nlri] += 1
        if self._repairs[state.family, nlri] <= MOST_REPAIRS:
            return True
        if self._repairs[state.family, nlri] == MOST_REPAIRS + 1:
            text = "another program keeps removing or changing this route of ours; tried again later"
            self._failures.note(state, nlri, state.wanted[nlri], errno.EBUSY, text)
            self._failures.report()
        state.suspect.add(nlri)
        return False

    def _note_reachability(self, event: RouteUp | RouteDown | LinkUp | AddressAdded) -> bool:
        again = False
        for state in self._states.values():
            for nlri, error in state.failed.items():
                if may_help(event, error):
                    state.pending[nlri] = None
                    again = True
        return again

    def _uses(self, event: OwnRoutesInDoubt) -> bool:
        """True where one of our next hops is, or may be, behind the event's interface."""
        networks = [to_network(nlri, family) for family, nlri in event.behind]
        hops = next_hops_of(r for state in self._states.values() for r in state.installed.values())
        return any(
            hop.interface == event.interface
            if hop.interface is not None
            else not hop.gateway.is_link_local and any(hop.gateway in network for network in networks)
            for hop in hops
        )
