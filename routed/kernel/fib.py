"""The FIB: wishes for routes in, kernel routes out.

`replace` only remembers. `flush` sends all that is pending, hundreds of requests in one netlink send: first
what is to be installed, then what is to be removed, so that a prefix whose metric changes is never without a
route. A route goes in with NLM_F_EXCL unless one of ours is known to be in its place: IPv4 and IPv6 both
replace by prefix and metric alone, whoever's route it is.
"""

from __future__ import annotations

import asyncio
import errno
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from routed.bgp.nlri import Family, to_network, to_text
from routed.bgp.route import FibRoute, NextHop
from routed.kernel.base import (
    MAIN_TABLE,
    PROTOCOL,
    AddressAdded,
    Event,
    FibCounters,
    FibError,
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
from routed.kernel.batch import CHUNK_REQUESTS, BatchSender, Tails
from routed.kernel.decode import KernelRoute
from routed.kernel.encode import (
    DELETE,
    REPLACE,
    with_acknowledgement,
)
from routed.kernel.fib_reading import RTPROT_BIRD, FibReading
from routed.kernel.fib_state import FibState, Install, Removal, may_help
from routed.kernel.netlink import (
    RouteSocket,
    errno_name,
    require_net_admin,
)
from routed.kernel.next_hop_objects import MANY, NextHopObjects
from routed.kernel.protocols import protocol_name
from routed.kernel.reader import KernelReader

#: How often in a row a resync is tried whose replies get lost.
RESYNC_ATTEMPTS = 10
#: How often between two retries (or resyncs) a route is put back that somebody else took away or changed.
MOST_REPAIRS = 10

#: How long encoded routes, and the indexes of interfaces in them, are used where no event tells otherwise,
#: seconds.
TAILS_TIME = 1.0
_NOT_THERE = frozenset((errno.ESRCH, errno.ENOENT))
_Item = TypeVar("_Item")


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
        self._senders = {
            family: BatchSender(sock, family, table=table, protocol=protocol, counters=self.counters, log=log)
            for family in Family
        }
        self._objects = NextHopObjects(sock, protocol=protocol, log=log, many=many_gateways)
        self._tails: dict[Family, Tails] = {}
        self._tails_made = 0.0
        self._repairs: Counter[Prefix] = Counter()
        self._unreported: list[FibError] = []
        self._resync_needed = False
        self._reading = FibReading(
            self._states, self._reader, self._objects, protocol=protocol, takeover=takeover, log=log
        )

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
        self._repairs.clear()
        self._tails.clear()
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
        match event:
            case OwnRouteChanged():
                return self._note_own_change(self._states[event.family], event.nlri)
            case OwnRoutesInDoubt():
                if is_workload_interface(event.interface) and not self._uses(event):
                    return False
                self._resync_needed = True
                return True
            case Overflow():
                self._resync_needed = True
                return True
            case OwnNextHopGone():
                self._tails.clear()
                self._objects.forget((event.object_id,))
                self._resync_needed = True
                return True
            case LinkDown():
                self._tails.clear()
                self._objects.forget_interface(event.link.index)
                return False
            case RouteUp() | RouteDown() | LinkUp() | AddressAdded():
                if isinstance(event, LinkUp):
                    self._tails.clear()  # it may have another index than before
                return self._note_reachability(event)
            case _:
                return False

    async def reconcile(self) -> list[FibError]:
        """Do what the noted events call for, and carry out pending wishes. Returns what the kernel
        refused."""
        return await (self.resync() if self._resync_needed else self.flush())

    def close(self) -> None:
        """Close the socket. All routes stay in the kernel."""
        self._socket.close()

    # Events

    def _note_own_change(self, state: FibState, nlri: bytes) -> bool:
        if nlri in state.wanted:
            state.suspect.add(nlri)
            if self._may_repair(state, nlri):
                state.pending[nlri] = None
            return True
        if nlri in state.pending or not self._reading.swept:
            return False  # to be removed anyway, or adopted and left alone until the sweep
        self._resync_needed = True
        return True

    def _may_repair(self, state: FibState, nlri: bytes) -> bool:
        """False where somebody keeps changing the route: then it counts as failed, and waits for the next
        retry or resync, lest two programs that both insist keep each other, and the CPU, busy."""
        self._repairs[state.family, nlri] += 1
        if self._repairs[state.family, nlri] <= MOST_REPAIRS:
            return True
        if self._repairs[state.family, nlri] == MOST_REPAIRS + 1:
            text = "another program keeps removing or changing this route of ours; tried again later"
            self._fail(state, nlri, state.wanted[nlri], errno.EBUSY, text)
            self._report()
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
        # Routes of one peer share their next hops: look at each set of them once.
        hop_sets = {
            id(r.next_hops): r.next_hops for state in self._states.values() for r in state.installed.values()
        }
        hops: set[NextHop] = {hop for hops in hop_sets.values() for hop in hops}
        return any(
            hop.interface == event.interface
            if hop.interface is not None
            else not hop.gateway.is_link_local and any(hop.gateway in network for network in networks)
            for hop in hops
        )

    # Sending. All below runs with the lock held.

    async def _flush(self) -> list[FibError]:
        errors = await self._carry_out()
        if self._resync_needed:
            errors = await self._resync()
        return errors

    async def _resync(self) -> list[FibError]:
        errors: list[FibError] = []
        for _ in range(RESYNC_ATTEMPTS):
            self.counters.resyncs += 1
            try:
                self._wait_for_links()
                await self._learn()
            except OSError as error:
                self._resync_needed = True
                self._log.error("cannot read the kernel's routes", error=str(error))
                return errors
            self._resync_needed = False
            self._repairs.clear()
            await self._plan_repairs()
            errors = await self._carry_out()
            if not self._resync_needed:  # else replies were lost again: the next sends are smaller
                if await self._reading.remove_unused_objects():
                    self._tails.clear()
                break
        return errors

    async def _plan_repairs(self) -> None:
        """Make pending what differs from what was just read."""
        repairs: list[Prefix] = self.stale() if self._reading.swept else []
        for family, nlri in repairs:
            self._states[family].pending.setdefault(nlri)
        for family, state in self._states.items():
            for part in _parts(list(state.wanted)):
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

    async def _carry_out(self, *, final: bool = False) -> list[FibError]:
        """Plan and send all that is pending. What was not as believed is looked at and tried once more
        (`final`)."""
        errors: list[FibError] = []
        occupied: list[tuple[FibState, Install]] = []
        removals: dict[Family, list[Removal]] = {family: [] for family in Family}
        taken = {family: state.pending for family, state in self._states.items()}
        try:
            for family, state in self._states.items():
                state.pending = {}
                tails = self._tails_of(family)
                for part in _parts(list(taken[family])):
                    installs, to_remove = state.plan(part)
                    removals[family] += to_remove
                    removals[family] += self._install(state, installs, tails, errors, occupied)
                    await asyncio.sleep(0)
            for family, state in self._states.items():
                for some in _parts(removals[family]):
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
            self._report()
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
                self._senders[family].encoder,
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
        refused, unknown = self._senders[state.family].install(installs, tails)
        self._resync_needed |= bool(unknown)
        removals: list[Removal] = []
        for position, install in enumerate(installs):
            if position in refused:
                number, text = refused[position]
                if number == errno.EEXIST or (number in _NOT_THERE and install.flags is REPLACE):
                    occupied.append((state, install))
                else:
                    errors.append(self._fail(state, install.nlri, install.route, number, text))
                    if install.flags is REPLACE and len(install.route.next_hops) > 1:
                        # IPv6 replaces by several next hops one after the other: what is left is not known.
                        state.suspect.add(install.nlri)
            elif position not in unknown:
                state.note_installed(install.nlri, install.route)
                if state.surplus or state.inherited:
                    removals += state.leftovers(install.nlri)
        return removals

    def _remove(self, state: FibState, removals: Sequence[Removal], errors: list[FibError]) -> None:
        refused, unknown = self._senders[state.family].remove(removals)
        self._resync_needed |= bool(unknown)
        for position, removal in enumerate(removals):
            if position in refused:
                errors.append(self._fail(state, removal.nlri, None, *refused[position]))
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
            known = state.failed.get(install.nlri)
            if (
                known is not None
                and known.errno == errno.EEXIST
                and known.route == install.route
                and install.nlri not in state.suspect
            ):
                errors.append(known)  # the conflict that was reported already: no need to look again
            else:
                unknown.append((state, install))
        if not unknown:
            return errors
        try:
            found = await self._reading.look_up(unknown)
            names = await self._reader.link_names()
        except OSError as error:
            self._log.error("cannot read the kernel's routes", error=str(error))
            self._resync_needed = True
            return errors
        again = False
        for state, install in unknown:
            there = found[state.family, install.nlri]
            ours = [self._reading.with_paths(r) for r in there if r.protocol == self.protocol]
            state.learn(install.nlri, ours, names)
            taken = self._reading.taken_over(state, install.nlri)
            state.learn_inherited(install.nlri, [r for r in there if r.protocol in taken])
            metric = state.metric_of(install.route)
            foreign = [r for r in there if r.protocol not in (self.protocol, *taken) and r.metric == metric]
            if foreign or final:
                text = (
                    _conflict_text(foreign, metric) if foreign else "another route took its place meanwhile"
                )
                errors.append(self._fail(state, install.nlri, install.route, errno.EEXIST, text))
            else:
                state.pending.setdefault(install.nlri)
                again = True
        return errors + (await self._carry_out(final=True) if again else [])

    def _fail(self, state: FibState, nlri: bytes, route: FibRoute | None, number: int, text: str) -> FibError:
        error = FibError(state.family, nlri, route, number, errno_name(number), text)
        if state.failed.get(nlri) != error:
            self._unreported.append(error)
        state.failed[nlri] = error
        state.suspect.discard(nlri)
        counters = self.counters
        counters.errors += 1
        counters.errors_by_name[error.name] = counters.errors_by_name.get(error.name, 0) + 1
        return error

    def _report(self) -> None:
        """One line a kind of error, not one a route; a retry that fails as before is not told again."""
        errors, self._unreported = self._unreported, []
        for name, count in Counter(error.name for error in errors).items():
            example = next(error for error in errors if error.name == name)
            self._log.warning(
                "kernel routes refused",
                error=name,
                routes=count,
                first=to_text(example.nlri, example.family),
                text=example.text,
            )

    async def _learn(self) -> None:
        """Read what the kernel has of ours, and believe that."""
        self._tails.clear()
        await self._reading.learn()

    def _wait_for_links(self) -> None:
        """Wait for a link change that is under way: the kernel tells of a link that goes down before it drops
        the routes through it, and a dump takes no lock. A removal does; this one is of a route that nobody
        has."""
        sequence = self._socket.sequences(1)
        encoder = self._senders[Family.IPV4].encoder
        request = encoder.request(DELETE, sequence, b"\x20\xff\xff\xff\xff", encoder.delete_tail(1))
        self._socket.transact(with_acknowledgement([request]), sequence)


def _parts(items: Sequence[_Item]) -> Iterator[Sequence[_Item]]:
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
