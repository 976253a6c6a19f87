"""What the kernel refused: remembered by prefix, counted, and told in one line a kind of error."""

from __future__ import annotations

from collections import Counter
from typing import Any

from routed.bgp.nlri import to_text
from routed.bgp.route import FibRoute
from routed.kernel.base import FibCounters, FibError
from routed.kernel.fib_state import FibState
from routed.kernel.netlink import errno_name


class FibFailures:
    """The refusals of both families."""

    def __init__(self, counters: FibCounters, log: Any) -> None:
        self._counters = counters
        self._log = log
        self._unreported: list[FibError] = []

    def note(self, state: FibState, nlri: bytes, route: FibRoute | None, number: int, text: str) -> FibError:
        """The wish for `route` at a prefix (None: for none there) failed, with errno `number`."""
        error = FibError(state.family, nlri, route, number, errno_name(number), text)
        if state.failed.get(nlri) != error:
            self._unreported.append(error)
        state.failed[nlri] = error
        state.suspect.discard(nlri)
        counters = self._counters
        counters.errors += 1
        counters.errors_by_name[error.name] = counters.errors_by_name.get(error.name, 0) + 1
        return error

    def report(self) -> None:
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
