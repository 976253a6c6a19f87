"""One connection of a client: HTTP/1.1 by h11, on asyncio's streams.

Whatever a client does costs it its connection, and nobody else anything: heads, bodies and waits are bounded,
requests are answered one after the other, and no more of a response is made than the client takes.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

import h11

from routed.observe.http.guard import API_HEADERS
from routed.observe.http.messages import (
    EVENT_STREAM,
    HttpError,
    Request,
    Response,
    error_response,
    query_of,
)
from routed.observe.turns import Turns

Answer = Callable[[Request], Awaitable[Response]]
"""What makes a response of a request. Raises HttpError where there is no other."""

_PIECE: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class Limits:
    """Octets and seconds."""

    head: int = 16 * 1024
    """The request line and headers."""
    target: int = 4 * 1024
    body: int = 64 * 1024
    unsent: int = 64 * 1024
    """What waits for a client that does not read."""
    idle_time: float = 75.0
    """Between requests."""
    request_time: float = 10.0
    """From the first octet of a request to its last."""
    stall_time: float = 30.0
    """How long a client may take nothing of a response."""
    linger_time: float = 1.0
    """After a response to a broken request: so that it arrives, the rest of the request is read away."""


class Connection:
    """Answers requests until one of the ends has enough. `run` does it all."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        answer: Answer,
        failed: Callable[[Request, Exception], None],
        limits: Limits,
        turns: Turns,
    ) -> None:
        """`failed` is told of what the handlers should not have raised. `turns`: for each portion of work."""
        self._reader = reader
        self._writer = writer
        self._answer = answer
        self._failed = failed
        self._limits = limits
        self._turns = turns
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.head)
        self._loop = asyncio.get_running_loop()
        self.answering = False
        """True from the end of a request to that of its response."""
        self.waiting_since = self._loop.time()
        """Since when no request is at work."""
        self.streaming = False
        """True while the response is events as they come."""
        self.stalled_since: float | None = None
        """Since when the client takes nothing of its response; None where it takes it, or there is none."""
        self.closing = False
        """Set it to have the connection end with the response that is on its way."""
        writer.transport.set_write_buffer_limits(high=limits.unsent)

    async def run(self) -> None:
        """Returns when the connection is over. Never raises but to be cancelled."""
        try:
            while await self._one():
                self._http.start_next_cycle()
            await self._taken(all_of_it=True)
        except (OSError, h11.ProtocolError):
            pass  # it is gone, or sent what is no HTTP in the middle of a response
        except asyncio.CancelledError:
            # To close would wait for a client that may never read, with a descriptor that nobody counts.
            self._writer.transport.abort()
            raise
        finally:
            self._writer.close()

    async def _one(self) -> bool:
        """One request and its response. True where another may follow."""
        try:
            request = await self._request()
        except HttpError as error:
            await self._refuse(error)
            return False
        if request is None:
            return False
        self.answering = True
        try:
            response = await self._respond(request)
            await self._send(response, head=request.method == "HEAD")
        finally:
            self.answering = self.streaming = False
            self.waiting_since = self._loop.time()
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            return not self.closing
        return False

    # In

    async def _request(self) -> Request | None:
        """The next one, whole; None where the client is silent or gone. Raises HttpError for one that cannot
        be answered but with that; then the connection is to end."""
        head: h11.Request | None = None
        body = bytearray()
        begun = False
        deadline = self._loop.time() + self._limits.idle_time
        while True:
            try:
                event = self._http.next_event()
            except h11.RemoteProtocolError as error:
                raise self._broken(error) from None
            match event:
                case h11.NEED_DATA:
                    if self._http.they_are_waiting_for_100_continue:
                        self._write(h11.InformationalResponse(status_code=100, headers=[]))
                    try:
                        async with asyncio.timeout_at(deadline):
                            data = await self._reader.read(_PIECE)
                    except TimeoutError:
                        if not begun:
                            return None
                        raise HttpError(HTTPStatus.REQUEST_TIMEOUT, "the request takes too long") from None
                    if data and not begun:
                        begun = True
                        deadline = self._loop.time() + self._limits.request_time
                    self._http.receive_data(data)
                case h11.Request():
                    head = event
                    self._check_head(head)
                case h11.Data():
                    body += event.data
                    if len(body) > self._limits.body:
                        raise self._too_large()
                case h11.EndOfMessage():
                    assert head is not None
                    return _request_of(head, bytes(body))
                case _:  # the end of the connection
                    return None

    def _check_head(self, head: h11.Request) -> None:
        if len(head.target) > self._limits.target:
            raise HttpError(
                HTTPStatus.REQUEST_URI_TOO_LONG, f"the path has more than {self._limits.target} octets"
            )
        # h11 bounds a head that is not there yet; one may have come whole.
        if sum(len(name) + len(value) + 4 for name, value in head.headers) > self._limits.head:
            raise HttpError(
                HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"headers of more than {self._limits.head} octets"
            )
        for name, value in head.headers:
            if name == b"content-length" and int(value) > self._limits.body:
                raise self._too_large()

    def _too_large(self) -> HttpError:
        return HttpError(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the body has more than {self._limits.body} octets"
        )

    def _broken(self, error: h11.RemoteProtocolError) -> HttpError:
        """What to say to somebody who does not speak HTTP."""
        status = HTTPStatus(error.error_status_hint)
        if status is HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE and b"\n" not in self._http.trailing_data[0]:
            status = HTTPStatus.REQUEST_URI_TOO_LONG
        return HttpError(status, f"not understood: {error}")

    # The response

    async def _respond(self, request: Request) -> Response:
        await self._turns.next()
        try:
            response = await self._answer(request)
        except HttpError as error:
            response = error_response(error)
        except Exception as error:
            self._failed(request, error)
            response = error_response(
                HttpError(
                    HTTPStatus.INTERNAL_SERVER_ERROR, "internal error", "routed's log has a line about it"
                )
            )
        self.streaming = response.content_type == EVENT_STREAM
        # What a handler says for itself counts, as the page's policy does.
        headers = tuple({**dict(API_HEADERS), **dict(response.headers)}.items())
        return Response(response.status, response.body, response.content_type, headers)

    async def _refuse(self, error: HttpError) -> None:
        """Answer a request that was not read to its end, or is none, and hang up."""
        if self._http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return
        self.closing = True
        response = error_response(error)
        await self._send(
            Response(response.status, response.body, response.content_type, API_HEADERS), head=False
        )
        # To close while there is something to read would reset the connection, and the response with it.
        with contextlib.suppress(TimeoutError, OSError):
            self._writer.write_eof()
            async with asyncio.timeout(self._limits.linger_time):
                while await self._reader.read(_PIECE):
                    pass

    # Out

    async def _send(self, response: Response, *, head: bool) -> None:
        body = response.body
        headers = [
            ("Date", formatdate(usegmt=True)),
            ("Content-Type", response.content_type),
            *response.headers,
        ]
        if isinstance(body, bytes):
            headers.append(("Content-Length", str(len(body))))
        if self.closing:
            headers.append(("Connection", "close"))
        self._write(
            h11.Response(status_code=response.status, headers=headers, reason=response.status.phrase.encode())
        )
        if isinstance(body, bytes):
            for at in range(0, 0 if head else len(body), _PIECE):
                self._write(h11.Data(data=body[at : at + _PIECE]))
                await self._taken()
        else:
            await self._send_pieces(body, head=head, watched=response.content_type == EVENT_STREAM)
        self._write(h11.EndOfMessage())
        await self._taken()

    async def _send_pieces(self, body: AsyncGenerator[bytes, None], *, head: bool, watched: bool) -> None:
        """Send pieces as they come. `watched`: they may be long in coming, so the client's end of the
        connection ends them."""
        async with contextlib.aclosing(body) as pieces:
            if head:
                return
            if not watched:
                while True:
                    await self._turns.next()
                    if (some := await anext(pieces, None)) is None:
                        return
                    self._write(h11.Data(data=some))
                    await self._taken()
            gone = asyncio.create_task(self._gone())
            try:
                while (piece := await _before(gone, pieces)) is not None:
                    self._write(h11.Data(data=piece))
                    await self._taken()
            finally:
                gone.cancel()
                with contextlib.suppress(asyncio.CancelledError, OSError):
                    await gone

    async def _gone(self) -> None:
        """Returns when the client has closed its end. What it sends before that is kept for later, but only
        so much."""
        kept = 0
        while kept <= self._limits.head and (data := await self._reader.read(_PIECE)):
            kept += len(data)
            self._http.receive_data(data)

    def _write(self, event: h11.Event) -> None:
        data = self._http.send(event)
        if data:
            self._writer.write(data)

    @property
    def unsent(self) -> int:
        """Octets that the client has not taken yet."""
        return self._writer.transport.get_write_buffer_size()

    async def _taken(self, *, all_of_it: bool = False) -> None:
        """Wait until the client has taken most of what there was to send, or all of it. Raises OSError where
        it is gone, or takes nothing for too long."""
        transport = self._writer.transport
        if transport.is_closing():
            raise ConnectionResetError("the client is gone")
        if all_of_it:
            transport.set_write_buffer_limits(high=0)
        elif self.unsent <= self._limits.unsent:
            return
        self.stalled_since = self._loop.time()
        try:
            async with asyncio.timeout(self._limits.stall_time):
                await self._writer.drain()
        except TimeoutError:
            transport.abort()
            raise ConnectionAbortedError("the client does not read") from None
        finally:
            self.stalled_since = None


async def _before(end: asyncio.Task[None], pieces: AsyncIterator[bytes]) -> bytes | None:
    """The next piece; None after the last one. Raises OSError where the connection is at its end before."""

    async def following() -> bytes | None:
        return await anext(pieces, None)

    task = asyncio.create_task(following())
    try:
        await asyncio.wait((task, end), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ConnectionResetError("the client is gone")
        return task.result()
    finally:
        if not task.done():
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


def _request_of(head: h11.Request, body: bytes) -> Request:
    """Raises HttpError where the target is none."""
    try:
        target = urlsplit(head.target.decode("ascii"))
    except ValueError:
        raise HttpError(HTTPStatus.BAD_REQUEST, "the path is none") from None
    return Request(
        method=head.method.decode("ascii"),
        path=target.path,
        query=query_of(target.query),
        headers={name.decode("ascii"): value.decode("latin-1") for name, value in head.headers},
        body=body,
    )
