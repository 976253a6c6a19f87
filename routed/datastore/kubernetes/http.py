"""HTTP/1.1 as a client on one connection: h11 for the protocol, asyncio for the socket and TLS.

No pool, no redirects, no proxies, no cookies: a watch holds its connection for minutes, and the few requests
before it go over the same one. Every wait has its bound, so that a peer that fell silent is noticed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import Iterable
from typing import Final, NamedTuple

import h11

from routed.datastore import sockets

CONNECT_TIMEOUT: Final = 15.0
"""Seconds for name lookup, TCP and TLS together."""

ANSWER_TIMEOUT: Final = 60.0
"""Seconds until the head of a response, and between two pieces of its body: what API servers take for a large
list under load."""

_READ_SIZE: Final = 1 << 17
_SHOWN: Final = 100


class DisconnectedError(Exception):
    """There is no connection, or it broke. The text says in one line how, and holds no secret."""


class ClosedIdleError(DisconnectedError):
    """The server had closed a connection that was kept for reuse: nothing was answered, a new one will do."""


class Endpoint(NamedTuple):
    """Where a server listens. `host` is a name, or an address without brackets."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Head(NamedTuple):
    """The beginning of a response. Names of headers are lower case."""

    status: int
    headers: dict[str, str]


class Connection:
    """One connection; `request`, then `data` until it gives nothing more, then perhaps `request` again."""

    def __init__(
        self, endpoint: Endpoint, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.endpoint = endpoint
        self._reader = reader
        self._writer = writer
        self._http = h11.Connection(h11.CLIENT)
        self._used = False

    @classmethod
    async def open(
        cls, endpoint: Endpoint, tls: ssl.SSLContext | None, server_name: str | None = None
    ) -> Connection:
        """Connects. `server_name`: what the certificate must say, and SNI, in place of the host.

        Raises DisconnectedError."""
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                reader, writer = await asyncio.open_connection(
                    sock=await sockets.connect(endpoint.host, endpoint.port, CONNECT_TIMEOUT),
                    limit=_READ_SIZE,
                    ssl=tls,
                    server_hostname=(server_name or endpoint.host) if tls is not None else None,
                )
        except TimeoutError:
            raise DisconnectedError(f"{endpoint}: does not answer") from None
        except ssl.SSLCertVerificationError as error:
            raise DisconnectedError(
                f"{endpoint}: its certificate is not accepted: {error.verify_message}"
            ) from None
        except (OSError, ValueError) as error:  # ValueError: a host that is no name, as IDNA has it
            raise DisconnectedError(f"{endpoint}: {_why(error)}") from None
        return cls(endpoint, reader, writer)

    @property
    def reusable(self) -> bool:
        """Whether the last response ended such that another request can follow."""
        return (
            self._http.our_state is h11.DONE
            and self._http.their_state is h11.DONE
            and not self._reader.at_eof()
            and not self._writer.is_closing()
        )

    async def request(
        self,
        method: str,
        target: str,
        headers: Iterable[tuple[str, str]],
        timeout: float,
        body: bytes = b"",
    ) -> Head:
        """Sends a request and waits for the head of its response, `timeout` seconds at most.

        `Host` and, for a body, `Content-Length` are added. Raises DisconnectedError."""
        if self._used:
            self._http.start_next_cycle()
        reused, self._used = self._used, True
        all_headers = [("Host", str(self.endpoint)), *headers]
        if body:
            all_headers.append(("Content-Length", str(len(body))))
        events: list[h11.Event] = [h11.Request(method=method, target=target, headers=all_headers)]
        events += [h11.Data(data=body)] if body else []
        events.append(h11.EndOfMessage())
        try:
            self._writer.write(b"".join(self._http.send(event) or b"" for event in events))
            async with asyncio.timeout(timeout):
                await self._writer.drain()
        except TimeoutError:
            raise DisconnectedError(f"{self.endpoint}: does not read our request") from None
        except OSError as error:
            raise _broken(self.endpoint, _why(error), reused) from None
        while True:
            try:
                event = await self._next_event(timeout)
            except DisconnectedError as error:
                if reused and not isinstance(error.__cause__, TimeoutError):
                    raise ClosedIdleError(str(error)) from None
                raise
            if isinstance(event, h11.Response):
                return Head(event.status_code, {k.decode(): v.decode("latin-1") for k, v in event.headers})
            if not isinstance(event, h11.InformationalResponse):
                raise _broken(self.endpoint, "closed the connection without an answer", reused)

    async def data(self, timeout: float) -> bytes:
        """The next piece of the body, empty at its end; waits `timeout` seconds at most.

        Raises DisconnectedError, also where the body ends before its announced end."""
        event = await self._next_event(timeout)
        return bytes(event.data) if isinstance(event, h11.Data) else b""

    async def _next_event(self, timeout: float) -> object:
        while True:
            try:
                event = self._http.next_event()
            except h11.RemoteProtocolError as error:
                if self._reader.at_eof():
                    raise DisconnectedError(f"{self.endpoint}: closed the connection") from None
                said = str(error)[:_SHOWN]  # can quote what was received
                raise DisconnectedError(f"{self.endpoint}: does not speak HTTP/1.1: {said}") from None
            if event is not h11.NEED_DATA:
                return event
            try:
                async with asyncio.timeout(timeout):
                    received = await self._reader.read(_READ_SIZE)
            except TimeoutError as error:
                raise DisconnectedError(f"{self.endpoint}: silent for {timeout:g} s") from error
            except OSError as error:
                raise DisconnectedError(f"{self.endpoint}: {_why(error)}") from None
            self._http.receive_data(received)

    async def close(self) -> None:
        """Gives the socket back, whatever state the connection is in. Raises nothing."""
        self._writer.transport.abort()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()


def _broken(endpoint: Endpoint, reason: str, reused: bool) -> DisconnectedError:
    return (ClosedIdleError if reused else DisconnectedError)(f"{endpoint}: {reason}")


def _why(error: Exception) -> str:
    """In words."""
    if isinstance(error, ssl.SSLError):
        return f"TLS: {error.reason or error}"
    if isinstance(error, socket.gaierror):
        return f"name lookup: {error.strerror}"
    if isinstance(error, OSError) and error.strerror:
        # asyncio's own texts repeat the address.
        return os.strerror(error.errno) if error.errno else error.strerror
    return str(error) or type(error).__name__
