"""Accepts connections, so many at a time, and ends them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import traceback
from typing import Final

from routed.bgp.errors import printable
from routed.bgp.seldom import Seldom
from routed.log import Logger
from routed.observe.http.connection import Answer, Connection, Limits
from routed.observe.http.messages import Request

#: Connections at a time. A further one takes the place of the one that has asked for nothing for longest.
CONNECTIONS: Final = 64
#: How long responses that are on their way have at the end, seconds.
END_TIME: Final = 1.0
#: Of internal errors so many are logged, then one each so many seconds.
ERRORS_SAID: Final = 3
ERROR_TIME: Final = 60.0


class Server:
    """All connections of one listening socket."""

    def __init__(
        self, answer: Answer, logger: Logger, limits: Limits | None = None, connections: int = CONNECTIONS
    ) -> None:
        self._answer = answer
        self._limits = limits or Limits()
        self._most = connections
        self._log = logger
        self._server: asyncio.Server | None = None
        self._connections: dict[Connection, asyncio.Task[None]] = {}
        self._errors = Seldom(
            asyncio.get_running_loop(), self._say_error, burst=ERRORS_SAID, seconds=ERROR_TIME
        )

    async def start(self, sock: socket.socket) -> None:
        """Accept on a listening socket, and own it."""
        self._server = await asyncio.start_server(self._on_connected, sock=sock)

    async def close(self) -> None:
        """Accept no more; responses on their way get a moment, connections that wait none."""
        if self._server is not None:
            self._server.close()
        for connection, task in self._connections.items():
            connection.closing = True
            if not connection.answering:
                task.cancel()
        tasks = list(self._connections.values())
        if tasks:
            await asyncio.wait(tasks, timeout=END_TIME)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        self._errors.close()

    def _on_connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._connections) >= self._most:
            waiting = next((one for one in self._connections if not one.answering), None)
            if waiting is None:
                with contextlib.suppress(OSError):
                    writer.write(_BUSY)
                writer.close()
                return
            self._connections.pop(waiting).cancel()
        connection = Connection(reader, writer, self._answer, self._errors, self._limits)
        task = asyncio.get_running_loop().create_task(self._serve(connection))
        self._connections[connection] = task

    async def _serve(self, connection: Connection) -> None:
        try:
            await connection.run()
        except Exception as error:  # a fault of ours costs this connection, not the process
            self._errors(Request("", ""), error)
        finally:
            self._connections.pop(connection, None)

    def _say_error(self, count: int, request: Request, error: Exception) -> None:
        frames = traceback.extract_tb(error.__traceback__)
        self._log.error(
            "internal error",
            request=printable(f"{request.method} {request.path}"[:200]),
            error=printable(f"{type(error).__name__}: {error}"[:500]),
            at=f"{frames[-1].filename.rpartition('/routed/')[2]}:{frames[-1].lineno}" if frames else None,
            times=count,
        )


_BUSY: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nConnection: close\r\n"
    b"Retry-After: 1\r\nContent-Length: 47\r\n\r\n"
    b'{"error":"too many requests at once","hint":""}'
)
