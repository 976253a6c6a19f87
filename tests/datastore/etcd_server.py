"""A real etcd on loopback, for one test or one session of tests, ended by its process."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.reflector.processes import free_port
from routed.datastore import etcd_wire as wire
from routed.datastore.etcd_client import TLS, Connection, Endpoint, EtcdOptions, connected
from routed.datastore.retry import UnavailableError

STARTING = 30.0
"""Seconds after which an etcd that does not answer is given up."""

_TXN_SIZE = 100


def unavailable() -> str | None:
    """Why there can be no etcd here, None where there can."""
    return None if shutil.which("etcd") else "etcd is not installed (Debian: apt-get install etcd-server)"


class EtcdServer:
    """One member, or one of several (`cluster`, a text for --initial-cluster). It keeps its ports and data
    from start to start. Asynchronous context: started, and ended at the end."""

    def __init__(
        self,
        folder: Path,
        arguments: Sequence[str] = (),
        tls: TLS | None = None,
        name: str = "one",
        options: EtcdOptions | None = None,
    ) -> None:
        self.folder = folder
        self.arguments = tuple(arguments)
        self.name = name
        self.port = free_port()
        self.peer_port = free_port()
        self.scheme = "https" if tls is not None else "http"
        self.endpoint = Endpoint("127.0.0.1", self.port)
        self.options = options or EtcdOptions((self.endpoint,), tls)
        self.cluster = ""
        self.process: asyncio.subprocess.Process | None = None
        self._connection: Connection | None = None
        self._leave: asyncio.Event = asyncio.Event()
        self._using: asyncio.Task[None] | None = None

    async def __aenter__(self) -> EtcdServer:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def launch(self) -> None:
        """Starts the process, without waiting for it to answer."""
        self.folder.mkdir(parents=True, exist_ok=True)
        peer = f"http://127.0.0.1:{self.peer_port}"
        client = f"{self.scheme}://127.0.0.1:{self.port}"
        with (self.folder / "log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                "etcd",
                *("--name", self.name, "--data-dir", str(self.folder / "data")),
                *("--listen-client-urls", client, "--advertise-client-urls", client),
                *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
                *("--initial-cluster", self.cluster or f"{self.name}={peer}"),
                # An election among one needs no long wait; nothing here must outlive the machine.
                *("--heartbeat-interval", "20", "--election-timeout", "200", "--unsafe-no-fsync"),
                *("--logger", "zap", "--log-outputs", "stderr", *self.arguments),
                stdout=log,
                stderr=log,
                env={"PATH": "/usr/bin:/bin"},
            )

    async def start(self) -> None:
        """Starts it and waits until it answers."""
        await self.launch()
        await self.answering()

    async def answering(self) -> None:
        """Until it answers."""
        assert self.process is not None
        async with asyncio.timeout(STARTING):
            while True:
                if self.process.returncode is not None:
                    raise AssertionError(f"etcd has ended: {(self.folder / 'log').read_text()[-2000:]}")
                try:
                    await self.call(wire.RANGE, wire.range_request(b"/", b"", 1))
                    return
                except UnavailableError:
                    await self._hang_up()
                    await asyncio.sleep(0.02)

    async def stop(self) -> None:
        """Ends the process at once, as a crash does."""
        await self._hang_up()
        if self.process is not None:
            if self.process.returncode is None:
                self.process.kill()
            await self.process.wait()
            self.process = None

    def forget(self) -> None:
        """Throws its data away, while it is stopped."""
        shutil.rmtree(self.folder / "data")

    async def call(self, method: str, request: bytes) -> bytes:
        """A request by a connection of the test's own."""
        if self._connection is None:
            ready: asyncio.Future[Connection] = asyncio.get_running_loop().create_future()
            self._leave = asyncio.Event()
            self._using = asyncio.create_task(self._use(ready))
            await asyncio.wait((ready, self._using), return_when=asyncio.FIRST_COMPLETED)
            if not ready.done():
                ready.cancel()
                await self._using  # raises
            self._connection = await ready
        return await self._connection.call(method, request)

    async def _use(self, ready: asyncio.Future[Connection]) -> None:
        async with connected(self.endpoint, self.options) as connection:
            ready.set_result(connection)
            await self._leave.wait()

    async def _hang_up(self) -> None:
        self._connection = None
        if self._using is not None:
            self._leave.set()
            await asyncio.gather(self._using, return_exceptions=True)
            self._using = None

    async def put(self, pairs: Iterable[tuple[str, bytes]]) -> int:
        """Puts many keys, in transactions. Gives the revision."""
        waiting = [(key.encode(), value) for key, value in pairs]
        revision = 0
        while waiting:
            size = sum(len(value) for _, value in waiting[:_TXN_SIZE])
            count = _TXN_SIZE if size < 1_000_000 else 1
            now, waiting = waiting[:count], waiting[count:]
            revision = wire.revision_of(await self.call(wire.TXN, wire.txn_request(now)))
        return revision

    async def delete(self, keys: Iterable[str]) -> int:
        """Deletes many keys. Gives the revision."""
        waiting = [key.encode() for key in keys]
        revision = 0
        while waiting:
            now, waiting = waiting[:_TXN_SIZE], waiting[_TXN_SIZE:]
            revision = wire.revision_of(await self.call(wire.TXN, wire.txn_request((), now)))
        return revision

    async def compact(self, revision: int) -> None:
        """Forgets what was before this revision."""
        await self.call(wire.COMPACT, wire.compaction_request(revision))
