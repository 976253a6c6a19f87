"""One client of a control socket: commands in, replies out, no faster than it reads."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

from routed.log import Logger
from routed.observe.bird.commands import Client, answer
from routed.observe.bird.replies import (
    OK,
    READY,
    TOO_LONG,
    Encoder,
    Line,
    Reply,
    whole,
)
from routed.observe.bird.view import View, version
from routed.observe.events import Subscription

#: The longest command, octets, as BIRD's (CLI_RX_BUF_SIZE).
MAX_COMMAND: Final = 4096
#: What is read at a time, octets.
READ_OCTETS: Final = 4096
#: Lines, or octets, that are written together, and after which the event loop turns.
PORTION: Final = 256
PORTION_OCTETS: Final = 32 * 1024
#: What waits in memory for a client that does not read, octets, beside a portion.
MOST_UNREAD: Final = 32 * 1024

#: Events that wait for a client that does not read: some name hundreds of prefixes.
WAITING: Final = 256


class Commands:
    """Cuts what a client sends into lines."""

    def __init__(self) -> None:
        self._rest = b""
        self._skip = False

    def feed(self, data: bytes) -> list[str | None]:
        """The lines that are whole now; None for one that was too long, and is dropped."""
        found: list[str | None] = []
        *whole, rest = (self._rest + data).split(b"\n")
        for line in whole:
            if self._skip or len(line) > MAX_COMMAND:
                found.append(None)
            else:
                found.append(line.decode("ascii", "replace"))
            self._skip = False
        if self._skip or len(rest) > MAX_COMMAND:
            self._skip, rest = True, b""
        self._rest = rest
        return found


class Connection:
    """A client. `serve` returns when it has gone, or `close` was called."""

    def __init__(
        self, view: View, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, logger: Logger
    ) -> None:
        self.view = view
        self._reader = reader
        self._writer = writer
        self._log = logger
        self._client = Client()
        self._encoder = Encoder()
        self._events: Subscription | None = None
        self._echo: asyncio.Task[None] | None = None
        self._replying = asyncio.Lock()
        self._loop = asyncio.get_running_loop()
        self.active_at = self._loop.time()
        """When it last sent a command or took a part of a reply, by the loop's clock."""
        self.closed = False
        """True from `close` on; `serve` returns soon after."""
        writer.transport.set_write_buffer_limits(MOST_UNREAD)

    async def serve(self) -> None:
        """Answer until the client goes."""
        commands = Commands()
        try:
            await self._send(iter((Line(READY, f"BIRD {version(self.view.observed.version)} ready.", True),)))
            while data := await self._reader.read(READ_OCTETS):
                for line in commands.feed(data):
                    self.active_at = self._loop.time()
                    await self._answer(line)
            # To close would wait as well, but with a descriptor that nobody counts.
            self._writer.transport.set_write_buffer_limits(0)
            await self._writer.drain()
        except OSError:
            pass  # it went in the middle of a reply
        finally:
            await self._stop_echo()
            self._writer.close()

    def close(self) -> None:
        """End now; what was not read is lost."""
        self.closed = True
        self._writer.transport.abort()

    async def _answer(self, line: str | None) -> None:
        async with self._replying:
            try:
                await self._send(_too_long() if line is None else answer(self.view, self._client, line))
            except OSError:  # of the connection
                raise
            except Exception as error:  # a fault of ours costs this answer, not the process
                self._log.error("command failed", command=line, error=f"{type(error).__name__}: {error}")
                await self._send(iter((Line(TOO_LONG, "internal error: routed's log has more", last=True),)))
        await self._follow_echo()

    async def _send(self, reply: Reply) -> None:
        """Write a reply in portions, with a turn of the event loop after each."""
        encode = self._encoder.encode
        portion: list[str] = []
        size = 0
        for line in whole(reply):
            if line is not None:
                text = encode(line)
                portion.append(text)
                size += len(text)
            if line is None or len(portion) >= PORTION or size >= PORTION_OCTETS:
                await self._write(portion)
                portion, size = [], 0
        await self._write(portion)

    async def _write(self, portion: list[str]) -> None:
        if portion:
            self._writer.write("".join(portion).encode("utf-8", "replace"))
        await self._writer.drain()
        self.active_at = self._loop.time()
        await self.view.observed.turns.next()

    # Events, for `echo`

    async def _follow_echo(self) -> None:
        if self._client.echo and self._events is None:
            self._events = self.view.observed.events.subscribe(waiting=WAITING)
            self._echo = self._loop.create_task(self._tell(self._events))
        elif not self._client.echo:
            await self._stop_echo()

    async def _stop_echo(self) -> None:
        if self._events is not None:
            self._events.close()
            self._events = None
        if self._echo is not None:
            self._echo.cancel()
            with contextlib.suppress(asyncio.CancelledError, OSError):
                await self._echo
            self._echo = None

    async def _tell(self, events: Subscription) -> None:
        """Lines of their own, between two replies: `+text` (nest/cli.c)."""
        async for event in events:
            text = event.text if event.peer is None else f"{event.peer}: {event.text}"
            async with self._replying:
                await self._write([Encoder().encode(Line(OK, text, last=True)).replace("0000 ", "+", 1)])


def _too_long() -> Reply:
    yield Line(TOO_LONG, f"Command too long: at most {MAX_COMMAND} octets", last=True)
