"""From Loc-RIB and intent to the kernel: what each prefix should be there, and the task that makes it so.

Changes are only noted when they come (`update`); they are worked off in portions, with the event loop turning
in between, so that keepalives are on time also while a full table goes into the kernel.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import groupby, islice
from typing import Final, cast

from routed import log
from routed.bgp.kernel_routes import KernelVerdict, route_by
from routed.bgp.nlri import Family, to_text
from routed.bgp.path import Path
from routed.bgp.policy import compile_kernel
from routed.bgp.rib import Entry, LocRib
from routed.bgp.route import Address, FibRoute, NextHop
from routed.intent.types import FamilyIntent, KernelAction, OriginatedRoute, OriginKind
from routed.kernel.base import Event, FibError, FibProtocol, LinkDown, LinkUp, Prefix
from routed.next_hops import Hop, NextHops

#: The metric of a blackhole under a borrowed address: the worst but one, so that the pod's own route
#: always wins.
FALLBACK_METRIC: Final = 0x7FFFFFFE
#: How long after a failure all failed wishes are tried again though no event called for it, seconds.
RETRY_TIME: Final = 30.0
#: How often all routes of ours are read back and repaired, though no event called for it, seconds.
RESYNC_TIME: Final = 600.0
#: Prefixes worked off before the event loop turns: some milliseconds.
PORTION: Final = 1024

Reranker = Callable[[Family, Collection[bytes]], None]
"""Has the paths of prefixes ranked again."""


class _FamilyState:
    """One family of the writer."""

    def __init__(self, rib: LocRib, wanted: Mapping[bytes, FibRoute]) -> None:
        self.rib = rib
        self.wanted = wanted
        self.intent: FamilyIntent | None = None
        self.verdict: KernelVerdict | None = None
        self.originated: dict[bytes, OriginatedRoute] = {}
        self.reasons: dict[bytes, str] = {}
        self.dirty: dict[bytes, None] = {}  # a set in order
        self.by_path: dict[tuple[Path, KernelAction], FibRoute | str] = {}
        """What was decided for prefixes of one path; until nothing is left to be worked out, or a next hop, a
        link or the policy changes."""
        self.tunnelled: set[bytes] = set()
        """Prefixes that the policy sends through the tunnel device."""


class KernelWriter:
    """Decides the kernel route of each prefix and hands the wishes to the FIB, many in one go."""

    def __init__(
        self,
        fib: FibProtocol,
        ribs: Mapping[Family, LocRib],
        on_change: Callable[[], None],
        *,
        next_hops: NextHops | None = None,
        rerank: Reranker | None = None,
    ) -> None:
        """`next_hops` None: all next hops are taken to be reachable, each through itself. `rerank` is told of
        the prefixes whose paths are to be ranked again; without it Loc-RIB is."""
        self.fib = fib
        self._states = {family: _FamilyState(ribs[family], fib.wanted[family]) for family in Family}
        self._on_change = on_change
        self._next_hops = next_hops
        self._rerank: Reranker = rerank or (lambda family, nlri: ribs[family].rerank(nlri))
        self._log = log.get("kernel")
        self._wake = asyncio.Event()
        self._sweep = False
        self._said: dict[Prefix, str] = {}
        if next_hops is not None:
            next_hops.bind(ribs, self._next_hop_changed)

    @property
    def reasons(self) -> Mapping[Family, Mapping[bytes, str]]:
        """Why a learned route is not in the kernel, by family and prefix."""
        return {family: state.reasons for family, state in self._states.items()}

    def not_installed(self, most: int) -> dict[str, dict[str, str]]:
        """Routes that are known and not in the kernel, with the reason, for people: at most so many a
        family."""
        return {
            family.name.lower(): {
                to_text(nlri, family): reason for nlri, reason in islice(state.reasons.items(), most)
            }
            for family, state in self._states.items()
        }

    def set_family(self, family: Family, intent: FamilyIntent) -> None:
        """Put a kernel policy in force."""
        state = self._states[family]
        old, state.intent = state.intent, intent
        if old is not None and (old.kernel_policy, old.node_address) == (
            intent.kernel_policy,
            intent.node_address,
        ):
            return
        state.verdict = compile_kernel(intent.kernel_policy, family)
        state.by_path.clear()
        self.update(family, state.rib.routes)
        self.update(family, state.originated)

    def originate(self, family: Family, nlri: bytes, route: OriginatedRoute | None) -> OriginatedRoute | None:
        """A route of our own came, changed or (None) went. Returns what it was."""
        originated = self._states[family].originated
        old = originated.pop(nlri, None)
        if route is not None:
            originated[nlri] = route
        if self._next_hops is not None:
            self._next_hops.set_static(family, nlri, None if route is None else route.gateway)
        self.update(family, (nlri,))
        return old

    def update(self, family: Family, nlri: Iterable[bytes]) -> None:
        """Have these prefixes worked out again: Loc-RIB, what is originated, or the way to a next hop has
        changed for them."""
        self._states[family].dirty.update(dict.fromkeys(nlri))
        self._wake.set()

    def work(self, limit: int = PORTION) -> bool:
        """Work out what `update` was told of, at most `limit` prefixes of each family. True where there is
        more."""
        for family, state in self._states.items():
            if not state.dirty:
                continue
            if len(state.dirty) <= limit:
                portion = list(state.dirty)
                state.dirty.clear()
            else:
                portion = list(islice(state.dirty, limit))
                for one in portion:
                    del state.dirty[one]
            if self._next_hops is not None:
                self._next_hops.routes_changed(family, portion)
            self._decide_all(family, state, portion)
        more = any(state.dirty for state in self._states.values())
        if not more:
            self._forget_decisions()
        return more

    def sweep(self) -> None:
        """Remove what an earlier run installed and nothing wishes now."""
        self._sweep = True
        self._wake.set()

    def note(self, event: Event) -> None:
        """Take in what the kernel's monitor saw."""
        if self.fib.note(event):
            self._wake.set()
        if isinstance(event, LinkUp | LinkDown):
            self._forget_decisions()
            for family, state in self._states.items():
                if (
                    state.intent is not None
                    and event.link.name == state.intent.kernel_policy.tunnel_device
                    and state.tunnelled
                ):
                    self.update(family, state.tunnelled)

    async def run(self) -> None:
        """Carry wishes out as they come, until cancelled."""
        loop = asyncio.get_running_loop()
        resync_at = loop.time() + RESYNC_TIME
        while True:
            errors: list[FibError] = []
            retry_at = loop.time() + RETRY_TIME if self.fib.failed else resync_at
            try:
                async with asyncio.timeout_at(min(retry_at, resync_at)):
                    await self._wake.wait()
            except TimeoutError:
                if loop.time() >= resync_at:
                    resync_at = loop.time() + RESYNC_TIME
                    errors += await self.fib.resync()
                else:
                    errors += await self.fib.retry_failed()
            self._wake.clear()
            while self.work():
                errors += await self.fib.flush()
                await asyncio.sleep(0)
            errors += await self.fib.flush()
            errors += await self.fib.reconcile()
            if self._sweep and not any(state.dirty for state in self._states.values()):
                self._sweep = False
                stale = self.fib.stale()
                errors += await self.fib.sweep()
                self._log.info("stale kernel routes removed", routes=len(stale))
            self._report(errors)
            self._on_change()

    # Decisions

    def _decide_all(self, family: Family, state: _FamilyState, portion: Sequence[bytes]) -> None:
        start = 0
        # Prefixes that came in one UPDATE have one path and are neighbours here: a step a run of them.
        for entry, run in groupby(map(state.rib.routes.get, portion)):
            end = start + len(list(run))
            some = portion[start:end]
            start = end
            alone = entry is None or (not isinstance(entry, tuple) and entry.source.kind.bgp)
            if alone and state.intent is not None and state.originated.keys().isdisjoint(some):
                self._decide_run(family, state, state.intent, some, cast("Path | None", entry))
            else:
                for one in some:
                    self._wish(family, state, (one,), self._decide(family, state, one))

    def _decide_run(
        self,
        family: Family,
        state: _FamilyState,
        intent: FamilyIntent,
        run: Sequence[bytes],
        path: Path | None,
    ) -> None:
        """What `_decide` says for each of these prefixes, which have one path of a peer, or none, and are not
        originated here: it differs by the policy's action alone."""
        if self._next_hops is not None:
            hops = () if path is None or path.hop is None else (cast(Hop, path.hop),)
            self._next_hops.track_all(family, run, hops)
        if state.tunnelled:
            state.tunnelled.difference_update(run)
        if path is None:
            self._wish(family, state, run, None)
            return
        assert state.verdict is not None
        by_verdict: dict[tuple[KernelAction, str], list[bytes]] = {}
        for one, verdict in zip(run, map(state.verdict, run), strict=True):
            by_verdict.setdefault(verdict, []).append(one)
        for (action, reason), some in by_verdict.items():
            if action is KernelAction.REJECT:
                self._wish(family, state, some, reason)
                continue
            if action is not KernelAction.ACCEPT:
                state.tunnelled.update(some)
            # Ten thousand prefixes of one path have one route: it is worked out, and encoded, once.
            wish = state.by_path.get((path, action))
            if wish is None:
                wish = state.by_path[path, action] = self._route_by((path,), action, intent)
            self._wish(family, state, some, wish)

    def _wish(
        self, family: Family, state: _FamilyState, nlri: Sequence[bytes], wish: FibRoute | str | None
    ) -> None:
        """Hand one decision for these prefixes on, to the FIB where it is another than before."""
        reasons = state.reasons
        if isinstance(wish, str):
            reasons.update(dict.fromkeys(nlri, wish))
            wish = None
        elif reasons:
            for one in nlri:
                reasons.pop(one, None)
        wanted = state.wanted
        if wish is None:
            nlri = [one for one in nlri if one in wanted]
        elif not wanted.keys().isdisjoint(nlri):
            nlri = [one for one in nlri if wanted.get(one) != wish]
        if nlri:
            self.fib.replace_all(family, nlri, wish)

    def _decide(self, family: Family, state: _FamilyState, nlri: bytes) -> FibRoute | str | None:
        """The wanted kernel route; None for none; a text for why a learned route is kept out."""
        origin = state.originated.get(nlri)
        entry = state.rib.routes.get(nlri)
        if self._next_hops is not None:
            self._track(family, nlri, entry)
        if state.tunnelled:
            state.tunnelled.discard(nlri)
        intent = state.intent
        if intent is None:
            return None
        metric = intent.kernel_policy.normal_priority
        if (
            origin is not None and origin.gateway is not None
        ):  # before what peers say, as BIRD's static routes
            return self._by_gateway(family, nlri, origin.gateway, metric)
        best = entry[0] if isinstance(entry, tuple) else entry
        if best is not None and best.source.kind.bgp:
            wish = self._learned(state, intent, nlri)
            if origin is None or not origin.blackhole or isinstance(wish, FibRoute):
                return wish
        if origin is None or not origin.blackhole:
            return None
        assert state.verdict is not None
        # BIRD's kernel filter is for static routes too: in a pool that BGP does not program, the node agent
        # makes the blackholes, and ours would be in their place.
        action, reason = state.verdict(nlri)
        if action is KernelAction.REJECT:
            return reason
        return FibRoute((), FALLBACK_METRIC if origin.kind is OriginKind.BORROWED else metric)

    def _by_gateway(self, family: Family, nlri: bytes, gateway: Address, metric: int) -> FibRoute | str:
        """The kernel route to a peer that is `reachableBy` a gateway."""
        if self._next_hops is None:
            return FibRoute((NextHop(gateway),), metric)
        hop = self._next_hops.static(family, nlri)
        assert hop is not None
        return FibRoute(hop.ways, metric) if hop.ways else f"reachableBy: {hop.reason}"

    def _learned(self, state: _FamilyState, intent: FamilyIntent, nlri: bytes) -> FibRoute | str:
        """The kernel route by the paths that peers gave."""
        assert state.verdict is not None
        action, reason = state.verdict(nlri)
        if action is KernelAction.REJECT:
            return reason
        if action is not KernelAction.ACCEPT:
            state.tunnelled.add(nlri)
        return self._route_by(state.rib.multipath(nlri), action, intent)

    def _route_by(
        self, paths: tuple[Path, ...], action: KernelAction, intent: FamilyIntent
    ) -> FibRoute | str:
        link_is_up = None if self._next_hops is None else self._next_hops.link_is_up
        return route_by(paths, action, intent.kernel_policy, intent.node_address, link_is_up)

    def _track(self, family: Family, nlri: bytes, entry: Entry | None) -> None:
        """Note which next hops the prefix depends on: those of all its paths."""
        assert self._next_hops is not None
        if isinstance(entry, tuple):
            hops = tuple(path.hop for path in entry if path.hop is not None)
        else:
            hops = () if entry is None or entry.hop is None else (entry.hop,)
        if self._next_hops.track(family, nlri, cast("tuple[Hop, ...]", hops)) and len(hops) > 1:
            # A next hop may have changed between the path's arrival and now.
            self._rerank(family, (nlri,))

    def _next_hop_changed(self, family: Family, nlri: Collection[bytes], rank: bool) -> None:
        self._forget_decisions()
        if rank:
            self._rerank(family, nlri)
        self.update(family, nlri)

    def _forget_decisions(self) -> None:
        for state in self._states.values():
            state.by_path.clear()

    def _report(self, errors: Sequence[FibError]) -> None:
        """Say each refusal once, not at each retry."""
        for error in errors:
            prefix = (error.family, error.nlri)
            if self._said.get(prefix) != error.name:
                self._said[prefix] = error.name
                self._log.debug(  # the FIB has said it in one line for all prefixes of a kind
                    "kernel refused a route",
                    prefix=to_text(error.nlri, error.family),
                    error=error.name,
                    why=error.text,
                )
        if self._said:
            failed = self.fib.failed
            for prefix in [one for one in self._said if one not in failed]:
                del self._said[prefix]
