"""Accepts connections, so many at a time, and ends them."""

from __future__ import annotations

import asyncio
import socket
import traceback
from http import HTTPStatus
from typing import Final

from routed.bgp.seldom import Seldom
from routed.log import Logger
from routed.observe.http.connection import Answer, Connection, Limits
from routed.observe.http.messages import EVENT_STREAM, HttpError, Request, Response
from routed.observe.turns import Turns
from routed.text import printable

#: Connections at a time. A further one takes the place of the one that has asked for nothing for longest, or
#: else of the one that has taken nothing of its response for longest.
CONNECTIONS: Final = 64
#: Of which so many may listen to events, so that there is always room for questions.
LISTENERS: Final = 48
#: Who takes nothing for so long may have to make room, seconds.
PATIENCE: Final = 1.0
#: Connections accepted in one turn of the event loop.
ACCEPTED_A_TURN: Final = 16
#: Before it is looked again whether there are descriptors, seconds.
PAUSE_TIME: Final = 1.0
#: Where all are at work so many more are told to come later; others are hung up on.
TOLD_LATER: Final = 16
#: How long responses that are on their way have at the end, seconds.
END_TIME: Final = 1.0
#: Of internal errors so many are logged, then one each so many seconds.
ERRORS_SAID: Final = 3
ERROR_TIME: Final = 60.0


class Server:
    """All connections of one listening socket."""

    def __init__(
        self,
        answer: Answer,
        logger: Logger,
        limits: Limits | None = None,
        connections: int = CONNECTIONS,
        turns: Turns | None = None,
    ) -> None:
        self._answer = answer
        self._limits = limits or Limits()
        self._turns = turns or Turns()
        self._most = connections
        self._most_listeners = connections * LISTENERS // CONNECTIONS
        self._log = logger
        self._loop = asyncio.get_running_loop()
        self._socket: socket.socket | None = None
        self._again: asyncio.TimerHandle | None = None
        self._tasks: dict[asyncio.Task[None], Connection | socket.socket] = {}
        """The socket first, and then the connection that has it."""
        self._errors = Seldom(self._loop, self._say_error, burst=ERRORS_SAID, seconds=ERROR_TIME)
        self._exhausted = Seldom(self._loop, self._say_exhausted, burst=1, seconds=ERROR_TIME)

    def start(self, sock: socket.socket) -> None:
        """Accept on a listening socket, and own it."""
        self._socket = sock
        self._loop.add_reader(sock, self._accept)

    async def close(self) -> None:
        """Accept no more; responses on their way get a moment, connections that wait none."""
        if self._again is not None:
            self._again.cancel()
        if self._socket is not None:
            self._loop.remove_reader(self._socket)
            self._socket.close()
            self._socket = None
        for task, connection in self._tasks.items():
            if isinstance(connection, Connection):
                connection.closing = True
                if connection.answering or connection.unsent:
                    continue
            task.cancel()
        tasks = list(self._tasks)
        if tasks:
            await asyncio.wait(tasks, timeout=END_TIME)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        self._errors.close()
        self._exhausted.close()

    def _accept(self) -> None:
        """Take what waits; a few in a turn of the event loop."""
        assert self._socket is not None
        for _ in range(ACCEPTED_A_TURN):
            try:
                sock, _address = self._socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                # No descriptors are left, as a rule. The one that waits stays ready: look away for a while.
                self._exhausted(error)
                self._evict()
                self._loop.remove_reader(self._socket)
                self._again = self._loop.call_later(
                    PAUSE_TIME, self._loop.add_reader, self._socket, self._accept
                )
                return
            sock.setblocking(False)
            busy = len(self._tasks) >= self._most and not self._evict()
            if busy and len(self._tasks) >= self._most + TOLD_LATER:
                sock.close()
                continue
            answer = _come_later if busy else self._answer_or_refuse
            task = self._loop.create_task(self._serve(sock, answer))
            self._tasks[task] = sock
            task.add_done_callback(self._forget)

    def _evict(self) -> bool:
        """End a connection, so that a further one has its place: see `CONNECTIONS`. False where all are at
        work."""
        now = self._loop.time()
        open_ones = [
            (task, connection)
            for task, connection in self._tasks.items()
            if isinstance(connection, Connection) and not connection.closing
        ]
        waiting = [
            (connection.waiting_since, task, connection)
            for task, connection in open_ones
            if not connection.answering
        ] or [
            (connection.stalled_since, task, connection)
            for task, connection in open_ones
            if connection.stalled_since is not None and connection.stalled_since + PATIENCE < now
        ]
        if not waiting:
            return False
        _since, task, connection = min(waiting, key=lambda one: one[0])
        connection.closing = True
        task.cancel()
        return True

    async def _answer_or_refuse(self, request: Request) -> Response:
        """The answer; but no more listeners than `LISTENERS`. Raises HttpError."""
        response = await self._answer(request)
        if response.content_type == EVENT_STREAM:
            listeners = sum(
                isinstance(connection, Connection) and connection.streaming
                for connection in self._tasks.values()
            )
            if listeners >= self._most_listeners:
                raise HttpError(
                    HTTPStatus.SERVICE_UNAVAILABLE,
                    f"{listeners} listen to events already",
                    "end one of them",
                    (("Retry-After", "10"),),
                )
        return response

    def _forget(self, task: asyncio.Task[None]) -> None:
        left = self._tasks.pop(task)
        if isinstance(left, socket.socket):  # ended before a connection was made of it
            left.close()

    async def _serve(self, sock: socket.socket, answer: Answer) -> None:
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        try:
            transport, _ = await self._loop.connect_accepted_socket(lambda: protocol, sock)
        except OSError:
            return
        try:
            writer = asyncio.StreamWriter(transport, protocol, reader, self._loop)
            connection = Connection(reader, writer, answer, self._errors, self._limits, self._turns)
            task = asyncio.current_task()
            assert task is not None
            self._tasks[task] = connection
            await connection.run()
        except Exception as error:  # a fault of ours costs this connection, not the process
            self._errors(Request("", ""), error)

    def _say_error(self, count: int, request: Request, error: Exception) -> None:
        frames = traceback.extract_tb(error.__traceback__)
        self._log.error(
            "internal error",
            request=printable(f"{request.method} {request.path}"[:200]),
            error=printable(f"{type(error).__name__}: {error}"[:500]),
            at=f"{frames[-1].filename.rpartition('/routed/')[2]}:{frames[-1].lineno}" if frames else None,
            times=count,
        )

    def _say_exhausted(self, count: int, error: OSError) -> None:
        self._log.error(
            "connections to the API wait",
            error=error.strerror,
            hint="raise the limit of open files (LimitNOFILE, ulimit -n)",
            times=count,
        )


async def _come_later(request: Request) -> Response:
    """The answer where all connections are at work."""
    raise HttpError(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "too many requests at once",
        "try again",
        (("Retry-After", "1"), ("Connection", "close")),
    )
