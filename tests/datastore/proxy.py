"""A TCP proxy on loopback with all that a network does to a connection."""

from __future__ import annotations

import asyncio
import contextlib
import socket


class Proxy:
    """Stands before a server and keeps its own port while the server comes and goes.

    `cut` resets every connection; while `refusing` new ones are reset as soon as they come; while `frozen`
    nothing passes, in either direction, and nobody is told; `pace` is how long each `chunk` octets take
    towards the client, in seconds."""

    def __init__(self, target_port: int, target_host: str = "127.0.0.1") -> None:
        self.target = (target_host, target_port)
        self.port = 0
        self.refusing = False
        self.pace = 0.0
        self.chunk = 1 << 16
        self.accepted = 0
        self.passed = 0
        self._thawed = asyncio.Event()
        self._thawed.set()
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Proxy:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def cut(self) -> None:
        """Every connection ends at once, with a reset."""
        for writer in self._writers:
            _reset(writer)
        for task in self._connections:
            task.cancel()

    def freeze(self) -> None:
        """From now on nothing passes, and no connection ends."""
        self._thawed.clear()

    def thaw(self) -> None:
        """All passes again."""
        self._thawed.set()

    @property
    def connections(self) -> int:
        """How many there are now."""
        return len(self._connections)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        task = asyncio.create_task(self._serve(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        others: list[asyncio.StreamWriter] = [writer]
        self._writers.add(writer)
        try:
            if self.refusing:
                _reset(writer)
                return
            await self._thawed.wait()
            upstream_reader, upstream = await asyncio.open_connection(*self.target)
            others.append(upstream)
            self._writers.add(upstream)
            pumps = [
                asyncio.create_task(self._pump(reader, upstream, paced=False)),
                asyncio.create_task(self._pump(upstream_reader, writer, paced=True)),
            ]
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
        except OSError:
            _reset(writer)
        finally:
            for each in others:
                self._writers.discard(each)
                each.close()
                with contextlib.suppress(OSError):
                    await each.wait_closed()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, paced: bool) -> None:
        while data := await reader.read(self.chunk):
            await self._thawed.wait()
            if paced and self.pace:
                await asyncio.sleep(self.pace)
            if paced:
                self.passed += len(data)
            writer.write(data)
            await writer.drain()


def _reset(writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    if connection is not None:
        with contextlib.suppress(OSError):
            linger = b"\1\0\0\0\0\0\0\0"  # struct linger: on, no time: close sends RST
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()
