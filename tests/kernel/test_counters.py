"""What the FIB asked of the kernel, and what it said: counted by kind and result."""

from __future__ import annotations

import pytest

from tests.kernel.kernel import Namespace, opened_fib, prefix, route, run

pytestmark = pytest.mark.netns


def test_requests_are_counted_by_kind_and_result(ns: Namespace) -> None:
    ns.ip("-4 route add 10.1.0.0/26 via 10.9.0.2 metric 1024 proto static")

    async def scenario() -> None:
        async with opened_fib(ns) as fib:
            counters = fib.counters
            for number in range(10):
                fib.replace(*prefix(f"10.2.{number}.0/24"), route("10.9.0.2"))
            assert await fib.flush() == []
            assert (counters.installs, counters.installs_refused, counters.installs_unknown) == (10, 0, 0)
            assert (fib.failures, counters.errors_by_name) == (0, {})

            fib.replace(*prefix("10.3.0.0/24"), route("10.77.0.1"))  # a gateway that nobody knows
            assert len(await fib.flush()) == 1
            assert (counters.installs, counters.installs_refused) == (11, 1)
            assert (fib.failures, counters.errors_by_name) == (1, {"ENETUNREACH": 1})

            fib.replace(*prefix("10.1.0.0/26"), route("10.9.0.3"))  # somebody else's
            assert len(await fib.flush()) == 1
            assert counters.errors_by_name == {"ENETUNREACH": 1, "EEXIST": 1}
            assert fib.failures == len(fib.failed) == 2

            await fib.retry_failed()
            assert counters.errors_by_name["ENETUNREACH"] == 2, "each try counts"
            assert fib.failures == 2

            for number in range(4):
                fib.replace(*prefix(f"10.2.{number}.0/24"), None)
            assert await fib.flush() == []
            assert (counters.removals, counters.removals_refused, counters.removals_unknown) == (4, 0, 0)
            assert counters.installs + counters.removals <= counters.requests

    run(scenario())
