"""The conversation with ExaBGP on its text API, without I/O: wanted routes in, commands out, answers in.

ExaBGP answers each command with `done` or `error`, in order. What it took, what it refused and what it has
not answered yet is known here, so that only differences are said. Four habits of ExaBGP shape this:

* 4.2 reads commands through a buffer that its poll cannot see: of more than 8 KiB at once some would wait
  there until the next command. So no more than `WINDOW` octets are ever unanswered.
* It groups what it has yet to send by attributes, not by time: two changes of one route that follow closely
  can reach the peer in the wrong order (`OutgoingRIB.updates`). So a route is changed again after
  `SETTLE_TIME` at the earliest.
* A neighbor that its configuration has not, or not yet, is an `error`: it is tried again, and at once when
  ExaBGP says that the neighbor is up.
* `announce eor` is answered out of order where the session is down: it goes out when nothing is unanswered.
"""

from __future__ import annotations

import enum
import heapq
import itertools
import json
import re
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any, Final, NamedTuple

from routed.bgp.nlri import Network
from routed.resources import Address

#: Octets of commands that may be unanswered; one command may be longer.
WINDOW: Final = 4096
#: How long a route keeps before it is changed again, seconds.
SETTLE_TIME: Final = 1.0
#: How long ExaBGP may owe an answer before it is taken to send none (`exabgp.api.ack false`), seconds.
SILENCE_TIME: Final = 10.0
#: Without answers: how often a window's worth of commands goes out, seconds.
PACE_TIME: Final = 0.1
#: Unanswered commands that are remembered, in case the answers do come.
MAX_UNANSWERED: Final = 20_000
#: First and longest wait before routes are offered again for a neighbor that ExaBGP does not have, seconds.
RETRY_TIMES: Final = (5.0, 60.0)

SHOW: Final = "show adj-rib out extensive"
_SHOWN: Final = re.compile(r"neighbor (\S+) (?:.*? )?(?:ipv4|ipv6) unicast (\S+)")
_UP: Final = re.compile(r"neighbor (\S+) up")


class Route(NamedTuple):
    """One route of one neighbor."""

    peer: Address
    network: Network


Tables = Mapping[Address, Mapping[Network, str]]
"""What each neighbor is to be announced: attributes in ExaBGP's words by prefix. Neighbors that are announced
the same should share one table, and a table is never changed: that is what makes a difference cheap."""


class Kind(enum.Enum):
    """What a command does."""

    SHOW = "show"
    ANNOUNCE = "announce"
    WITHDRAW = "withdraw"
    END_OF_RIB = "end-of-rib"


@dataclass(frozen=True, slots=True)
class Command:
    """One line to ExaBGP, without the line break."""

    kind: Kind
    text: str
    route: Route | None = None
    peer: Address | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """ExaBGP answered `error`."""

    command: Command
    retry_in: float
    """Seconds."""


@dataclass(slots=True)
class Counts:
    """What happened since the process began."""

    announced: int = 0
    withdrawn: int = 0
    refused: int = 0
    adopted: int = 0


class Announcer:
    """Brings ExaBGP's Adj-RIB-Out to what is wanted, and keeps it there.

    `now` is in seconds of any clock that never goes back. Nothing is said before the first `want`, so that a
    datastore that is not there takes nothing away."""

    def __init__(self) -> None:
        self.counts = Counts()
        self.ended = False
        """ExaBGP said that it shuts down."""
        self.answers = True
        """False while ExaBGP owes an answer for too long: commands then go out unconfirmed."""
        self.refusals: list[Refused] = []
        """What was refused since the caller last emptied the list."""
        self._tables: Tables = {}
        self.started = False
        """True once something was wanted."""
        self._adopted = False
        self._said: dict[Route, str | None] = {}
        """What ExaBGP was told and has not refused; None: it has the route, or had it, in unknown words."""
        self._dirty: dict[Address, dict[Network, None]] = {}
        """Routes to look at, by neighbor."""
        self._settled_at: dict[Route, float] = {}
        self._parked: dict[Address, dict[Network, None]] = {}
        """The same, of neighbors that ExaBGP does not have."""
        self._retry_time: dict[Address, float] = {}
        self._timers: list[tuple[float, int, Route | Address]] = []
        self._order = itertools.count()
        self._unanswered: deque[Command] = deque()
        self._in_flight: dict[Route, int] = {}
        """Unanswered commands of each route: one, unless ExaBGP does not answer."""
        self._unanswered_octets = 0
        self._deaf = False
        """Too much was unanswered to know what an answer would be about."""
        self._heard_at = 0.0
        self._paced_at = 0.0
        self._end_of_rib: dict[Address, None] = {}

    # --- what is wanted -------------------------------------------------------------------------------------

    def want(self, tables: Tables) -> None:
        """Take other tables in place of the last ones."""
        before, self._tables = self._tables, tables
        if not self.started:
            self.started = True
            self._end_of_rib.update(dict.fromkeys(tables))
        differences: dict[tuple[int, int], list[Network]] = {}
        empty: Mapping[Network, str] = {}
        for peer in dict.fromkeys((*tables, *before)):
            old, new = before.get(peer, empty), tables.get(peer, empty)
            if old is new:
                continue
            # Neighbors of one export group share their tables, so this is done once a group.
            which = (id(old), id(new))
            if which not in differences:
                differences[which] = [
                    network for network in dict.fromkeys((*new, *old)) if old.get(network) != new.get(network)
                ]
            for network in differences[which]:
                self._mark(Route(peer, network))

    def _mark(self, route: Route) -> None:
        waiting = self._parked if route.peer in self._parked else self._dirty
        waiting.setdefault(route.peer, {})[route.network] = None

    def _wanted(self, route: Route) -> str | None:
        table = self._tables.get(route.peer)
        return None if table is None else table.get(route.network)

    # --- what to say ----------------------------------------------------------------------------------------

    def commands(self, now: float) -> list[Command]:
        """What to write now. Call it again after `want` and `receive`, and at `deadline`."""
        if self.ended or not self.started:
            return []
        self._expire(now)
        if not self._adopted:
            if self._unanswered:
                return []
            # What an earlier process of this name announced is still there.
            return [self._send(Command(Kind.SHOW, SHOW), now)]
        if not self.answers:
            if now < self._paced_at:
                return []
            self._paced_at = now + PACE_TIME
        room = WINDOW - (self._unanswered_octets if self.answers else 0)
        said: list[Command] = []
        while self._dirty and (room > 0 or not (said or self._unanswered)):
            command = self._command(self._next_dirty(), now)
            if command is not None:
                room -= len(command.text) + 1
                said.append(self._send(command, now))
        if not self._dirty and not said and not (self._unanswered and self.answers):
            said += self._ends_of_rib(now)
        return said

    def deadline(self) -> float | None:
        """When `commands` has something to do though nothing happened; None: never."""
        if self.ended or not self.started:
            return None
        times = [self._timers[0][0]] if self._timers else []
        if self._unanswered and self.answers:
            times.append(self._heard_at + SILENCE_TIME)
        if not self.answers and (self._dirty or self._end_of_rib):
            times.append(self._paced_at)
        return min(times, default=None)

    @property
    def idle(self) -> bool:
        """True where everything that is wanted was said and, where ExaBGP answers, answered."""
        owed = self._unanswered and self.answers
        return self._adopted and not (self._dirty or self._end_of_rib or owed)

    def _next_dirty(self) -> Route:
        peer, networks = next(iter(self._dirty.items()))
        network = next(iter(networks))
        del networks[network]
        if not networks:
            del self._dirty[peer]
        return Route(peer, network)

    def _command(self, route: Route, now: float) -> Command | None:
        wanted = self._wanted(route)
        if wanted is None and route not in self._said:
            return None
        if wanted is not None and self._said.get(route) == wanted:
            return None
        waits = self.answers and route in self._in_flight
        if waits or self._settled_at.get(route, now) > now:
            return None  # its answer, and the timer that was set with it, look again
        self._settled_at[route] = now + SETTLE_TIME
        self._at(now + SETTLE_TIME, route)
        if wanted is None:
            del self._said[route]
            self.counts.withdrawn += 1
            return Command(
                Kind.WITHDRAW, f"neighbor {route.peer} withdraw route {route.network} next-hop self", route
            )
        self._said[route] = wanted
        self.counts.announced += 1
        return Command(Kind.ANNOUNCE, f"neighbor {route.peer} announce route {route.network} {wanted}", route)

    def _ends_of_rib(self, now: float) -> Iterator[Command]:
        room = WINDOW
        while self._end_of_rib and room > 0:
            peer = next(iter(self._end_of_rib))
            del self._end_of_rib[peer]
            if peer in self._tables and peer not in self._parked:
                family = "ipv4" if peer.version == 4 else "ipv6"
                text = f"neighbor {peer} announce eor {family} unicast"
                room -= len(text) + 1
                yield self._send(Command(Kind.END_OF_RIB, text, peer=peer), now)

    def _send(self, command: Command, now: float) -> Command:
        if not self._unanswered:
            self._heard_at = now
        if not self.answers and len(self._unanswered) >= MAX_UNANSWERED:
            self._unanswered.clear()
            self._in_flight.clear()
            self._unanswered_octets = 0
            self._deaf = True
        if not self._deaf:
            self._unanswered.append(command)
            self._unanswered_octets += len(command.text) + 1
            if command.route is not None:
                self._in_flight[command.route] = self._in_flight.get(command.route, 0) + 1
        return command

    def _at(self, time: float, what: Route | Address) -> None:
        heapq.heappush(self._timers, (time, next(self._order), what))

    def _expire(self, now: float) -> None:
        while self._timers and self._timers[0][0] <= now:
            what = heapq.heappop(self._timers)[2]
            if isinstance(what, Route):
                if self._settled_at.get(what, now) <= now:
                    self._settled_at.pop(what, None)
                self._mark(what)
            else:
                self._unpark(what)
        if self.answers and self._unanswered and now >= self._heard_at + SILENCE_TIME:
            self.answers = False
            self._adopted = True
            for route in self._in_flight:
                self._mark(route)

    # --- what is heard --------------------------------------------------------------------------------------

    def receive(self, line: str, now: float) -> None:
        """One line from ExaBGP, without its line break. Lines that mean nothing here are passed over."""
        line = line.strip()
        if not line:
            return
        if line.startswith("{"):
            self._receive_json(line, now)
        elif line in ("done", "error"):
            self._answer(line == "done", now)
        elif line.split()[0] == "shutdown":
            self.ended = True
        elif up := _UP.fullmatch(line):
            self._up(up[1])
        elif self._unanswered and self._unanswered[0].kind is Kind.SHOW and (shown := _SHOWN.match(line)):
            self._heard_at = now
            self._adopt(shown[1], shown[2])

    def _receive_json(self, line: str, now: float) -> None:
        """`encoder json` words events, and may word answers, like this."""
        try:
            document: Any = json.loads(line)
            answer = document.get("answer")
            neighbor = document.get("neighbor") or {}
            if answer in ("done", "error"):
                self._answer(answer == "done", now)
            elif answer == "shutdown" or document.get("notification") == "shutdown":
                self.ended = True
            elif document.get("type") == "state" and neighbor.get("state") == "up":
                self._up(neighbor["address"]["peer"])
        except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
            return

    def _answer(self, done: bool, now: float) -> None:
        if not self._unanswered:
            return
        self._heard_at = now
        self.answers = True
        command = self._unanswered.popleft()
        self._unanswered_octets -= len(command.text) + 1
        if command.kind is Kind.SHOW:
            self._adopted = True
        if (route := command.route) is None:
            return
        self._in_flight[route] -= 1
        if self._in_flight[route]:
            return  # more was said of it since
        del self._in_flight[route]
        if done:
            self._retry_time.pop(route.peer, None)
            self._mark(route)
        else:
            self._refused(command, route, now)

    def _refused(self, command: Command, route: Route, now: float) -> None:
        self.counts.refused += 1
        self._said.pop(route, None)
        peer = route.peer
        if peer not in self._parked:
            wait = self._retry_time.get(peer, RETRY_TIMES[0])
            self._retry_time[peer] = min(wait * 2, RETRY_TIMES[1])
            self._at(now + wait, peer)
            self._parked[peer] = self._dirty.pop(peer, {})
            self.refusals.append(Refused(command, wait))
        if self._wanted(route) is not None:
            self._parked[peer][route.network] = None

    def _up(self, text: str) -> None:
        try:
            peer = ip_address(text)
        except ValueError:
            return
        self._unpark(peer)
        # It may have been taken out of the configuration and put back since, and its routes with it. What
        # ExaBGP still has it does not send twice.
        for network in self._tables.get(peer, {}):
            route = Route(peer, network)
            if route in self._said:
                self._said[route] = None
            self._mark(route)
        if peer in self._tables:
            self._end_of_rib[peer] = None

    def _unpark(self, peer: Address) -> None:
        parked = self._parked.pop(peer, None)
        if parked:
            self._dirty.setdefault(peer, {}).update(parked)

    def _adopt(self, peer: str, network: str) -> None:
        try:
            route = Route(ip_address(peer), ip_network(network))
        except ValueError:
            return
        self.counts.adopted += 1
        self._said.setdefault(route, None)
        self._mark(route)
