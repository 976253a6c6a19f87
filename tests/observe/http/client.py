"""A server on a Unix socket in this process, on virtual time, and clients that ask it: raw, and with h11."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any

import h11
import msgspec

from routed import log
from routed.bgp.transport import Endpoint
from routed.observe.http.connection import Answer, Limits
from routed.observe.http.endpoints import Site, site
from routed.observe.http.messages import JSON, Request, Response
from routed.observe.http.serving import CONNECTIONS, Server
from routed.observe.http.sockets import listen_unix
from routed.observe.observed import Observed
from routed.observe.options import ObserveOptions
from tests import virtual

JSON_HEADERS = {"Content-Type": JSON}


@dataclass(frozen=True)
class Answered:
    """A response."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as a document."""
        return msgspec.json.decode(self.body)


class Client:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._http = h11.Connection(h11.CLIENT)

    async def ask(
        self, method: str, target: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> Answered:
        """One request and its response."""
        self.begin(method, target, body, headers)
        return await self.answer()

    def begin(
        self, method: str, target: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> None:
        """Send a request."""
        all_headers = {"Host": "localhost", **(headers or {})}
        if body:
            all_headers["Content-Length"] = str(len(body))
        self.writer.write(
            self._http.send(h11.Request(method=method, target=target, headers=list(all_headers.items())))
            or b""
        )
        if body:
            self.writer.write(self._http.send(h11.Data(data=body)) or b"")
        self.writer.write(self._http.send(h11.EndOfMessage()) or b"")

    async def head(self) -> h11.Response:
        """The beginning of the response."""
        event = await self.event()
        assert isinstance(event, h11.Response), event
        return event

    async def event(self) -> h11.Event | type[h11.PAUSED]:
        """What comes next."""
        while (event := self._http.next_event()) is h11.NEED_DATA:
            self._http.receive_data(await self.reader.read(1 << 16))
        return event  # type: ignore[return-value]

    async def answer(self) -> Answered:
        """A response, whole."""
        head = await self.head()
        body = b""
        while isinstance(event := await self.event(), h11.Data):
            body += event.data
        assert isinstance(event, h11.EndOfMessage), event
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
        headers = {name.decode(): value.decode() for name, value in head.headers}
        return Answered(head.status_code, headers, body)

    async def raw(self, data: bytes) -> bytes:
        """Send octets; all that comes until the server hangs up."""
        self.writer.write(data)
        with contextlib.suppress(ConnectionError):
            return await self.reader.read()
        return b""

    def close(self) -> None:
        """Hang up."""
        self.writer.close()


class Here:
    """A server that is running."""

    def __init__(self, path: Path, server: Server) -> None:
        self.path = path
        self.server = server
        self.clients: list[Client] = []

    async def connect(self, *, buffer: int | None = None) -> Client:
        """A new connection; `buffer`: octets that the client's end takes before it reads."""
        sock = socket.socket(socket.AF_UNIX)
        if buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, str(self.path))
        client = Client(*await asyncio.open_unix_connection(sock=sock, limit=1 << 16))
        self.clients.append(client)
        return client

    async def ask(
        self, method: str, target: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> Answered:
        """One request on a connection of its own."""
        client = await self.connect()
        try:
            return await client.ask(method, target, body, headers)
        finally:
            client.close()

    async def get(self, target: str, **headers: str) -> Answered:
        """GET."""
        return await self.ask("GET", target, headers=headers)

    async def post(self, target: str, body: Any = None) -> Answered:
        """POST with a document."""
        content = b"" if body is None else msgspec.json.encode(body)
        return await self.ask("POST", target, content, JSON_HEADERS)

    async def good(self, target: str) -> Any:
        """The document of a GET that must succeed."""
        answered = await self.get(target)
        assert answered.status == 200, answered
        return answered.json()


@contextlib.asynccontextmanager
async def serving(
    answer: Answer, limits: Limits | None = None, connections: int = CONNECTIONS
) -> AsyncIterator[Here]:
    """Serve by an answer function."""
    with tempfile.TemporaryDirectory(prefix="routed-api-") as folder:
        path = Path(folder) / "api.sock"
        server = Server(answer, log.get("api"), limits, connections)
        server.start(listen_unix(path))
        here = Here(path, server)
        try:
            yield here
        finally:
            await server.close()
            for client in here.clients:
                client.close()
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def api_of(
    observed: Observed,
    kind: str = "api",
    listen: str | None = None,
    options: ObserveOptions | None = None,
) -> AsyncIterator[Here]:
    """Serve the API of a process; `listen`: as if over loopback TCP."""
    one: Site = site(
        kind, observed, options or ObserveOptions(), None if listen is None else Endpoint.parse(listen)
    )
    try:
        async with serving(one.answer) as here:
            yield here
    finally:
        one.close()


async def echo(request: Request) -> Response:
    """Says what was asked."""
    from http import HTTPStatus

    return Response(HTTPStatus.OK, f"{request.method} {request.path}".encode() + request.body, "text/plain")


def on_virtual_time(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Make a test of a coroutine function."""

    @wraps(test)
    def run(*arguments: Any, **named: Any) -> None:
        async def body() -> None:
            await test(*arguments, **named)

        virtual.run(body())

    return run
