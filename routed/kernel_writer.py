"""From Loc-RIB and intent to the kernel: what each prefix should be there, and the task that makes it so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from routed import log
from routed.bgp.kernel_routes import KernelVerdict, learned_route
from routed.bgp.nlri import Family, to_text
from routed.bgp.policy import compile_kernel
from routed.bgp.rib import LocRib
from routed.bgp.route import FibRoute, NextHop
from routed.intent.types import FamilyIntent, KernelAction, OriginatedRoute, OriginKind
from routed.kernel.base import Event, FibError, FibProtocol, Prefix

#: The metric of a blackhole under a borrowed address: the worst but one, so that the pod's own route
#: always wins.
FALLBACK_METRIC: Final = 0x7FFFFFFE
#: How long after a failure all failed wishes are tried again though no event called for it, seconds.
RETRY_TIME: Final = 30.0
#: How often all routes of ours are read back and repaired, though no event called for it, seconds.
RESYNC_TIME: Final = 600.0


class KernelWriter:
    """Decides the kernel route of each prefix and hands the wishes to the FIB, many in one go."""

    def __init__(
        self, fib: FibProtocol, ribs: Mapping[Family, LocRib], on_change: Callable[[], None]
    ) -> None:
        self.fib = fib
        self.originated: dict[Prefix, OriginatedRoute] = {}
        self.reasons: dict[Prefix, str] = {}
        """Why a learned route is not in the kernel, by prefix."""
        self._ribs = ribs
        self._on_change = on_change
        self._families: dict[Family, FamilyIntent] = {}
        self._verdicts: dict[Family, KernelVerdict] = {}
        self._log = log.get("kernel")
        self._wake = asyncio.Event()
        self._sweep = False
        self._said: dict[Prefix, str] = {}

    def set_family(self, family: Family, intent: FamilyIntent) -> None:
        """Put a kernel policy in force."""
        old = self._families.get(family)
        self._families[family] = intent
        if old is not None and (old.kernel_policy, old.node_address) == (
            intent.kernel_policy,
            intent.node_address,
        ):
            return
        self._verdicts[family] = compile_kernel(intent.kernel_policy, family)
        originated = {nlri for of, nlri in self.originated if of is family}
        self.update(family, tuple(originated.union(self._ribs[family].routes)))

    def update(self, family: Family, nlri: Sequence[bytes]) -> None:
        """Work these prefixes out again; Loc-RIB, or what is originated, has changed for them."""
        for one in nlri:
            wish = self._decide(family, one)
            if isinstance(wish, str):
                self.reasons[family, one] = wish
                wish = None
            elif self.reasons:
                self.reasons.pop((family, one), None)
            if wish != self.fib.wanted[family].get(one):
                self.fib.replace(family, one, wish)
                self._wake.set()

    def sweep(self) -> None:
        """Remove what an earlier run installed and nothing wishes now."""
        self._sweep = True
        self._wake.set()

    def note(self, event: Event) -> None:
        """Take in what the kernel's monitor saw."""
        if self.fib.note(event):
            self._wake.set()

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
            errors += await self.fib.flush()
            errors += await self.fib.reconcile()
            if self._sweep:
                self._sweep = False
                stale = self.fib.stale()
                errors += await self.fib.sweep()
                self._log.info("stale kernel routes removed", routes=len(stale))
            self._report(errors)
            self._on_change()

    def _decide(self, family: Family, nlri: bytes) -> FibRoute | str | None:
        """The wanted kernel route; None for none; a text for why a learned route is kept out."""
        rib = self._ribs[family]
        best = rib.best(nlri)
        origin = self.originated.get((family, nlri))
        intent = self._families.get(family)
        if intent is not None and best is not None and best.source.kind.bgp:
            policy = intent.kernel_policy
            wish = learned_route(
                nlri, rib.multipath(nlri), policy, self._verdicts[family], intent.node_address
            )
            if isinstance(wish, FibRoute) or origin is None or not origin.blackhole:
                return wish
        if origin is None or intent is None:
            return None
        if origin.gateway is not None:
            return FibRoute((NextHop(origin.gateway),), intent.kernel_policy.normal_priority)
        if not origin.blackhole:
            return None
        # BIRD's kernel filter is for static routes too: in a pool that BGP does not program, the node agent
        # makes the blackholes, and ours would be in their place.
        action, reason = self._verdicts[family](nlri)
        if action is KernelAction.REJECT:
            return reason
        if origin.kind is OriginKind.BORROWED:
            return FibRoute((), FALLBACK_METRIC)
        return FibRoute((), intent.kernel_policy.normal_priority)

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
        for prefix in [one for one in self._said if one not in self.fib.failed]:
            del self._said[prefix]
