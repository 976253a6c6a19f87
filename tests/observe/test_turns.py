"""Turns: one portion of work in each turn of the event loop, in order, whoever goes meanwhile."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from http import HTTPStatus

from routed.observe.http.messages import Request, Response
from routed.observe.turns import Turns
from tests.observe.http.client import Here, on_virtual_time, serving

_CLIENTS = 20


class Ticks:
    """Counts turns of the event loop."""

    def __init__(self) -> None:
        self.number = 0
        self._loop = asyncio.get_running_loop()
        self._again()

    def _again(self) -> None:
        self.number += 1
        self._handle = self._loop.call_soon(self._again)

    def stop(self) -> None:
        self._handle.cancel()


@on_virtual_time
async def test_each_has_one_in_order_and_who_goes_is_passed_over() -> None:
    turns, ticks = Turns(), Ticks()
    worked: list[tuple[int, int]] = []

    async def work(who: int) -> None:
        for _ in range(3):
            await turns.next()
            worked.append((who, ticks.number))

    tasks = [asyncio.create_task(work(who)) for who in range(_CLIENTS)]
    await asyncio.sleep(0)
    tasks[1].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    ticks.stop()
    rest = [0, *range(2, _CLIENTS)]
    assert [who for who, _ in worked] == rest * 3
    assert max(Counter(tick for _, tick in worked).values()) == 1


@on_virtual_time
async def test_many_clients_have_one_portion_made_in_a_turn() -> None:
    ticks = Ticks()
    made: list[int] = []

    async def answer(request: Request) -> Response:
        made.append(ticks.number)

        async def body() -> AsyncGenerator[bytes, None]:
            for _ in range(10):
                made.append(ticks.number)
                yield b"x" * 1000

        return Response(HTTPStatus.OK, body(), "text/plain")

    async def ask(here: Here) -> None:
        assert len((await here.get("/")).body) == 10_000

    async with serving(answer) as here:
        await asyncio.gather(*(ask(here) for _ in range(_CLIENTS)))
        ticks.stop()
    assert len(made) == 11 * _CLIENTS
    assert max(Counter(made).values()) == 1
