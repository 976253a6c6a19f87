"""Whole agents on the event loop of the test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from routed.agent import Agent
from routed.agent_options import AgentOptions
from routed.datastore import Datastore


@asynccontextmanager
async def running(options: AgentOptions, datastore: Datastore) -> AsyncIterator[Agent]:
    """One at work, which must stop within seconds at the end."""
    stop = asyncio.Event()
    agent = Agent(options, datastore)
    task = asyncio.create_task(agent.run(stop))
    try:
        yield agent
    finally:
        stop.set()
        async with asyncio.timeout(5):
            await task
