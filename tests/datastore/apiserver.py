"""A Kubernetes API server for tests: in memory, in the test's own process, and as strict and as odd as the
real one where a client can notice. Here are its sockets, who is let in, and the faults; `apiserver_api` has
the answers.

These were compared with kube-apiserver 1.32: the plain text of a 404 for an unknown group, `items` without
apiVersion and kind for built-in resources and with them for custom ones, `remainingItemCount` only without
selectors, 410 as an event of a watch with status 200 and as the status of a list, a watch from a version of
the future that says nothing.

Served: discovery, get, list, watch, create, update, patch (merge), delete; JSON; objects and
PartialObjectMetadata. Not served, and refused as the real one would: everything else."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import h11
import msgspec

from tests.datastore.apiserver_api import API, CALICO_V3, CRD_V1, Request, StatusError, Watch


@dataclass
class Fault:
    """Refuses the next `times` requests whose path and query hold `match`."""

    error: StatusError
    match: str = ""
    times: int = 1


@dataclass
class Token:
    """Who has a token, and until when (of `time.monotonic`)."""

    user: str
    expires: float = float("inf")


@dataclass
class APIServer(API):
    """The server. `async with` starts and stops it; `stop` and `start` in between keep what it has."""

    tls: ssl.SSLContext | None = None
    tokens: dict[str, Token] = field(default_factory=dict)
    """Where there are none everybody is let in."""
    latency: float = 0.0
    """Seconds before each answer."""
    faults: list[Fault] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    sent: int = 0
    """Bytes of bodies."""
    watchers: int = 0
    """How many watches are on."""
    host: str = "127.0.0.1"
    port: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._server: asyncio.Server | None = None
        self._connections: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._crashes: list[BaseException] = []

    # Life

    async def start(self) -> None:
        """Listens, where it listened before."""
        self._server = await asyncio.start_server(self._accept, self.host, self.port, ssl=self.tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Ends all connections and does not listen any more."""
        assert self._server is not None
        self._server.close()
        self.cut()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def cut(self) -> None:
        """Every connection ends at once."""
        for task, writer in self._connections.items():
            writer.transport.abort()
            task.cancel()

    async def __aenter__(self) -> APIServer:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()
        # A fault of the server itself must not look like one that the test made.
        if self._crashes:
            raise self._crashes[0]

    @property
    def url(self) -> str:
        """Where it is."""
        return f"{'https' if self.tls else 'http'}://{self.host}:{self.port}"

    def fail(
        self, code: int, reason: str = "InternalError", match: str = "", times: int = 1, **more: Any
    ) -> None:
        """The next requests that match are refused."""
        self.faults.append(
            Fault(StatusError(code, reason, more.pop("message", "on purpose"), **more), match, times)
        )

    # HTTP

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._connections[task] = writer
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._connections[task]
        if not task.cancelled() and (error := task.exception()) is not None:
            self._crashes.append(error)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        http = h11.Connection(h11.SERVER)
        try:
            while True:
                request = await self._receive(http, reader)
                if request is None:
                    break
                await self._answer(http, request, reader, writer)
                if http.our_state is not h11.DONE or http.their_state is not h11.DONE:
                    break
                http.start_next_cycle()
        except (OSError, h11.RemoteProtocolError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _receive(self, http: h11.Connection, reader: asyncio.StreamReader) -> Request | None:
        head: h11.Request | None = None
        body = bytearray()
        while True:
            event = http.next_event()
            if event is h11.NEED_DATA:
                http.receive_data(await reader.read(65536))
            elif isinstance(event, h11.Request):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                assert head is not None
                parts = urlsplit(head.target.decode())
                headers = {k.decode(): v.decode("latin-1") for k, v in head.headers}
                query = dict(parse_qsl(parts.query, keep_blank_values=True))
                return Request(head.method.decode(), unquote(parts.path), query, headers, bytes(body), "")
            else:
                return None

    async def _answer(
        self,
        http: h11.Connection,
        request: Request,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        try:
            request = request._replace(user=self._authenticate(request))
            self.requests.append(request)
            if self.latency:
                await asyncio.sleep(self.latency)
            self._inject(request)
            answer = self.answer(request)
            if isinstance(answer, Watch):
                await self._stream(http, answer, reader, writer)
                return
            code, document = answer
            headers: dict[str, str] = {}
        except StatusError as error:
            code, document = error.code, error.status
            headers = {"Retry-After": str(error.retry_after)} if error.retry_after else {}
            if error.plain:
                await self._send(
                    http, writer, code, b"404 page not found\n", headers, "text/plain; charset=utf-8"
                )
                return
        await self._send(http, writer, code, msgspec.json.encode(document) + b"\n", headers)

    async def _send(
        self,
        http: h11.Connection,
        writer: asyncio.StreamWriter,
        code: int,
        body: bytes,
        headers: Mapping[str, str],
        content_type: str = "application/json",
    ) -> None:
        all_headers = {"Content-Type": content_type, "Content-Length": str(len(body)), **headers}
        head = h11.Response(status_code=code, headers=list(all_headers.items()))
        pieces = [http.send(e) for e in (head, h11.Data(data=body), h11.EndOfMessage())]
        writer.write(b"".join(piece or b"" for piece in pieces))
        self.sent += len(body)
        await writer.drain()

    # Who may what

    def _authenticate(self, request: Request) -> str:
        if not self.tokens:
            return "anybody"
        token = self.tokens.get(request.headers.get("authorization", "").removeprefix("Bearer "))
        if token is None or token.expires <= time.monotonic():
            self.requests.append(request)
            raise StatusError(401, "Unauthorized", "Unauthorized")
        return token.user

    def _inject(self, request: Request) -> None:
        where = f"{request.path}?{'&'.join(f'{k}={v}' for k, v in request.query.items())}"
        for fault in self.faults:
            if fault.match in where:
                fault.times -= 1
                if fault.times <= 0:
                    self.faults.remove(fault)
                raise fault.error

    async def _stream(
        self,
        http: h11.Connection,
        watch: Watch,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        head = h11.Response(
            status_code=200, headers=[("Content-Type", "application/json"), ("Transfer-Encoding", "chunked")]
        )
        writer.write(http.send(head) or b"")
        await writer.drain()
        closed = asyncio.create_task(reader.read(1))  # a client says nothing during a watch, it only goes
        self.watchers += 1
        try:
            async for events in self.events(watch, closed):
                for event in events:
                    line = event if isinstance(event, bytes) else msgspec.json.encode(event)
                    self.sent += len(line) + 1
                    writer.write(http.send(h11.Data(data=line + b"\n")) or b"")
                await writer.drain()
            # Not while it is read: the next request may follow at once.
            await _cancelled(closed)
            writer.write(http.send(h11.EndOfMessage()) or b"")
            await writer.drain()
        finally:
            self.watchers -= 1
            await _cancelled(closed)


async def _cancelled(task: asyncio.Task[bytes]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def write_kubeconfig(
    path: Path, url: str, user: Mapping[str, object] | None = None, **cluster: object
) -> Path:
    """A kubeconfig with one context."""
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": {"server": url, **cluster}}],
        "users": [{"name": "tester", "user": dict(user or {})}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "tester"}}],
        "current-context": "test",
    }
    path.write_text(json.dumps(document))
    return path


__all__ = ["CALICO_V3", "CRD_V1", "APIServer", "Fault", "Token", "write_kubeconfig"]
