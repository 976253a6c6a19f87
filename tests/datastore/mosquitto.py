"""A real mosquitto on loopback, ended by its process; and an observer of all that it retains."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiomqtt

from benchmarks.reflector.processes import free_port

STARTING = 20.0
"""Seconds after which a mosquitto that does not answer is given up."""

PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"


def unavailable() -> str | None:
    """Why there can be no mosquitto here, None where there can."""
    found = shutil.which("mosquitto", path=PATH)
    return None if found else "mosquitto is not installed (Debian: apt-get install mosquitto)"


class Mosquitto:
    """One broker that keeps its port from start to start, and its retained messages where `persistent`."""

    def __init__(self, folder: Path, persistent: bool = False, extra: str = "") -> None:
        self.folder = folder
        self.port = free_port()
        self.persistent = persistent
        self.extra = extra
        self.process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Mosquitto:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Starts it and waits until it answers."""
        program = shutil.which("mosquitto", path=PATH)
        assert program is not None
        self.folder.mkdir(parents=True, exist_ok=True)
        configuration = self.folder / "mosquitto.conf"
        configuration.write_text(
            f"listener {self.port} 127.0.0.1\n"
            "max_queued_messages 0\nmax_inflight_messages 0\nset_tcp_nodelay true\n"
            f"persistence {'true' if self.persistent else 'false'}\n"
            f"persistence_location {self.folder}/\n"
            + (self.extra or "allow_anonymous true\n")
            # As root it would become another user, to whom the folder is closed.
            + ("user root\n" if os.geteuid() == 0 else "")
        )
        with (self.folder / "log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                program, "-c", str(configuration), stdout=log, stderr=log
            )
        async with asyncio.timeout(STARTING):
            while True:
                if self.process.returncode is not None:
                    raise AssertionError(f"mosquitto has ended: {(self.folder / 'log').read_text()[-2000:]}")
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                except OSError:
                    await asyncio.sleep(0.02)
                    continue
                writer.close()
                await writer.wait_closed()
                return

    async def stop(self) -> None:
        """Ends the process."""
        if self.process is not None:
            if self.process.returncode is None:
                self.process.terminate()
            await self.process.wait()
            self.process = None


class Observer:
    """All that a broker holds below a prefix, and all that ever went by."""

    def __init__(self) -> None:
        self.held: dict[str, bytes] = {}
        self.seen: list[tuple[str, bytes]] = []
        self._news = asyncio.Event()

    def take(self, topic: str, payload: bytes) -> None:
        """A message."""
        self.seen.append((topic, payload))
        if payload:
            self.held[topic] = payload
        else:
            self.held.pop(topic, None)

    def look(self) -> None:
        """All that has come is taken."""
        self._news.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Until the condition holds."""
        async with asyncio.timeout(30):
            while not condition():
                self._news.clear()
                await self._news.wait()


@asynccontextmanager
async def observing(port: int, prefix: str, **options: str) -> AsyncIterator[Observer]:
    """Follows a broker for as long as the block runs."""
    observer = Observer()

    async def follow(client: aiomqtt.Client) -> None:
        async for message in client.messages:
            assert isinstance(message.payload, bytes)
            observer.take(str(message.topic), message.payload)
            if not len(client.messages):
                observer.look()

    async with aiomqtt.Client("127.0.0.1", port, **options) as client:  # type: ignore[arg-type]
        await client.subscribe(f"{prefix}/#", 1)
        task = asyncio.create_task(follow(client))
        try:
            yield observer
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
