"""What is wanted and what is believed to be installed, one family: pure bookkeeping, no netlink.

A prefix has at most one wish. The kernel may have several routes of ours for it,
one a metric: while a changed metric is under way (the new route goes in before the old
goes out), or after a crash in between. `installed` is the one that counts, `surplus` the metrics of the
others.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Mapping
from itertools import chain
from typing import NamedTuple

from routed.bgp.nlri import Family, Network, to_network
from routed.bgp.route import FibRoute, NextHop
from routed.kernel.base import AddressAdded, FibError, LinkUp, RouteDown, RouteUp
from routed.kernel.decode import KernelRoute
from routed.kernel.encode import CREATE, REPLACE, UNREACHABLE, kernel_metric


class Install(NamedTuple):
    """A route to put in; `flags` is encode.CREATE or encode.REPLACE."""

    nlri: bytes
    route: FibRoute
    flags: bytes


class Removal(NamedTuple):
    """A route of one metric to take out; the metric is as the kernel shows it. `protocol` 0 is ours."""

    nlri: bytes
    metric: int
    protocol: int = 0


def same_route(family: Family, wish: FibRoute, found: FibRoute) -> bool:
    """True where `found`, read from the kernel, carries out `wish`: next hops in any order, and an interface
    only where one is wished (the kernel always names the one it chose)."""
    if kernel_metric(family, wish.metric) != found.metric:
        return False
    left = list(found.next_hops)
    for hop in dict.fromkeys(wish.next_hops):
        for candidate in left:
            if (
                candidate.gateway == hop.gateway
                and candidate.onlink == hop.onlink
                and hop.interface in (None, candidate.interface)
            ):
                left.remove(candidate)
                break
        else:
            return False
    return not left


class FibState:
    """Wishes and beliefs of one family."""

    def __init__(self, family: Family) -> None:
        self.family = family
        self.wanted: dict[bytes, FibRoute] = {}
        self.installed: dict[bytes, FibRoute] = {}
        self.surplus: dict[bytes, set[int]] = {}
        self.inherited: dict[bytes, dict[int, int]] = {}
        """Routes of protocols that we take over: protocol by metric. They stay until ours is in, or until
        `keep_inherited` is false."""
        self.keep_inherited = True
        self.as_found: set[bytes] = set()
        """Of `installed`: as read from the kernel and never installed by this process."""
        self.suspect: set[bytes] = set()
        """What the kernel has there is not known: somebody else touched it."""
        self.pending: dict[bytes, None] = {}
        """Prefixes to look at in the next flush, in order (a dict is an ordered set)."""
        self.failed: dict[bytes, FibError] = {}

    def plan(self, pending: Iterable[bytes]) -> tuple[list[Install], list[Removal]]:
        """What to send for these prefixes. Wishes that are carried out already are settled here."""
        installs: list[Install] = []
        removals: list[Removal] = []
        wanted, installed = self.wanted, self.installed
        for nlri in pending:
            wish = wanted.get(nlri)
            if wish is None:
                self.failed.pop(nlri, None)
                self.suspect.discard(nlri)
                if nlri in installed:
                    removals.append(Removal(nlri, self.metric_of(installed[nlri])))
                removals.extend(self.surplus_removals(nlri))
                if not self.keep_inherited:
                    removals.extend(self.inherited_removals(nlri))
            elif nlri not in installed and not self.surplus and not self.suspect and not self.inherited:
                installs.append(Install(nlri, wish, CREATE))  # the common case, first
            elif self._is_installed(nlri, wish):
                installed[nlri] = wish
                self.as_found.discard(nlri)
                self.failed.pop(nlri, None)
                removals.extend(self.leftovers(nlri))
            else:
                installs.append(Install(nlri, wish, REPLACE if self._may_replace(nlri, wish) else CREATE))
        return installs, removals

    def surplus_removals(self, nlri: bytes) -> list[Removal]:
        """Removals of what else of ours is at a prefix."""
        return [Removal(nlri, metric) for metric in self.surplus.get(nlri, ())]

    def inherited_removals(self, nlri: bytes) -> list[Removal]:
        """Removals of what we take over at a prefix."""
        inherited = self.inherited.get(nlri, {})
        return [Removal(nlri, metric, protocol) for metric, protocol in inherited.items()]

    def leftovers(self, nlri: bytes) -> list[Removal]:
        """Removals of all that is at a prefix beside the wish, once that is installed."""
        return self.surplus_removals(nlri) + self.inherited_removals(nlri)

    def note_installed(self, nlri: bytes, route: FibRoute) -> None:
        """The kernel took `route`. What was there with another metric is still there: surplus from now on."""
        old = self.installed.get(nlri)
        self.installed[nlri] = route
        if old is not None:
            self.as_found.discard(nlri)
            if self.metric_of(old) != self.metric_of(route):
                self._add_surplus(nlri, self.metric_of(old))
        if self.surplus:
            self._drop_surplus(nlri, self.metric_of(route))
        if self.inherited:
            self._drop_inherited(nlri, self.metric_of(route))  # ours is in its place
        if self.suspect:
            self.suspect.discard(nlri)
        if self.failed:
            self.failed.pop(nlri, None)

    def note_removed(self, removal: Removal) -> None:
        """The kernel has no such route any more."""
        nlri, metric, protocol = removal
        if protocol:
            self._drop_inherited(nlri, metric)
            return
        self._drop_surplus(nlri, metric)
        held = self.installed.get(nlri)
        if held is not None and self.metric_of(held) == metric:
            self.forget(nlri)

    def forget(self, nlri: bytes) -> None:
        """The route that was believed to be installed is not there."""
        self.installed.pop(nlri, None)
        self.as_found.discard(nlri)

    def learn(self, nlri: bytes, routes: Iterable[KernelRoute], names: Mapping[int, str]) -> None:
        """Believe just this of a prefix: our routes there, as the kernel has them. `names` are those of
        interfaces."""
        self.suspect.discard(nlri)
        self.surplus.pop(nlri, None)
        self.forget(nlri)
        for route in routes:
            self.add_found(route, names)

    def add_found(self, route: KernelRoute, names: Mapping[int, str]) -> None:
        """Believe that the kernel has this route of ours too. Of several for one prefix the one with the
        wished metric counts as installed, else the one with the best."""
        if route.tos:
            return  # we make none with a TOS, and cannot remove one by its metric
        nlri = route.nlri
        found = route.fib_route(names)
        held = self.installed.get(nlri)
        if found is None:  # not one that we would install: in the way, if it has the metric that is wished
            self._add_surplus(nlri, route.metric)
        elif held is None or self._rank(nlri, found.metric) < self._rank(nlri, self.metric_of(held)):
            if held is not None:
                self._add_surplus(nlri, self.metric_of(held))
            self.installed[nlri] = found
            self.as_found.add(nlri)
        else:
            self._add_surplus(nlri, found.metric)

    def learn_inherited(self, nlri: bytes, routes: Iterable[KernelRoute]) -> None:
        """Believe just this of a prefix: these routes are there to be taken over."""
        found = {route.metric: route.protocol for route in routes if not route.tos}
        if found:
            self.inherited[nlri] = found
        else:
            self.inherited.pop(nlri, None)

    def take_beliefs(self, fresh: FibState) -> None:
        """Believe what `fresh` found in the kernel, and nothing else."""
        self.installed, self.as_found, self.surplus = fresh.installed, fresh.as_found, fresh.surplus

    def differs(self, nlri: bytes) -> bool:
        """True where what is wished at a prefix is not what is installed there."""
        wish = self.wanted.get(nlri)
        return wish is not None and (
            nlri in self.surplus or nlri in self.inherited or not self._is_installed(nlri, wish)
        )

    def stale(self) -> list[bytes]:
        """Prefixes with a route of ours, or one to take over, that nobody wishes, and whose removal was not
        asked for either."""
        wanted, pending = self.wanted, self.pending
        there = dict.fromkeys(chain(self.installed, self.surplus, self.inherited))
        return [nlri for nlri in there if nlri not in wanted and nlri not in pending]

    def metric_of(self, route: FibRoute) -> int:
        """The metric the kernel shows for a wish."""
        return kernel_metric(self.family, route.metric)

    def _is_installed(self, nlri: bytes, wish: FibRoute) -> bool:
        held = self.installed.get(nlri)
        if held is None or nlri in self.suspect:
            return False
        if nlri in self.as_found:
            return same_route(self.family, wish, held)
        return held is wish or held == wish

    def _may_replace(self, nlri: bytes, wish: FibRoute) -> bool:
        """True where a route of ours, or one to take over, is known to be at the wish's prefix and metric, so
        that replacing it hits no other."""
        if nlri in self.suspect:
            return False
        metric = self.metric_of(wish)
        held = self.installed.get(nlri)
        return (
            (held is not None and self.metric_of(held) == metric)
            or metric in self.surplus.get(nlri, ())
            or metric in self.inherited.get(nlri, ())
        )

    def _rank(self, nlri: bytes, metric: int) -> tuple[bool, int]:
        wish = self.wanted.get(nlri)
        return wish is None or self.metric_of(wish) != metric, metric

    def _add_surplus(self, nlri: bytes, metric: int) -> None:
        self.surplus.setdefault(nlri, set()).add(metric)

    def _drop_inherited(self, nlri: bytes, metric: int) -> None:
        others = self.inherited.get(nlri)
        if others is not None:
            others.pop(metric, None)
            if not others:
                del self.inherited[nlri]

    def _drop_surplus(self, nlri: bytes, metric: int) -> None:
        others = self.surplus.get(nlri)
        if others is not None:
            others.discard(metric)
            if not others:
                del self.surplus[nlri]


def next_hops_of(routes: Iterable[FibRoute]) -> set[NextHop]:
    """All next hops of these routes. Routes of one peer share theirs: each set of them is looked at once."""
    hop_sets = {id(route.next_hops): route.next_hops for route in routes}
    return {hop for hops in hop_sets.values() for hop in hops}


def may_help(event: RouteUp | RouteDown | LinkUp | AddressAdded, error: FibError) -> bool:
    """True where the event may let a refused wish succeed."""
    route = error.route
    if route is None:
        return False
    network: Network | None = None
    interface: str | None = None
    match event:
        case RouteDown():
            there = event.route
            return error.errno == errno.EEXIST and (there.family, there.nlri) == (error.family, error.nlri)
        case RouteUp():
            network = to_network(event.route.nlri, event.route.family)
        case AddressAdded():
            network, interface = event.address.network, event.address.interface
        case LinkUp():
            interface = event.link.name
    return error.errno in UNREACHABLE and any(
        (interface is not None and hop.interface == interface)
        or (network is not None and hop.gateway in network)
        for hop in route.next_hops
    )
