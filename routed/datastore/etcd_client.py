"""One connection to one etcd member: gRPC over HTTP/2, TLS, and errors in words."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from grpclib.client import Channel, Handler, Stream, StreamStreamMethod, UnaryUnaryMethod
from grpclib.const import Status
from grpclib.encoding.base import CodecBase
from grpclib.exceptions import GRPCError, ProtocolError, StreamTerminatedError
from grpclib.protocol import H2Protocol
from h2.exceptions import H2Error

from routed.datastore import etcd_wire as wire
from routed.datastore.retry import UnavailableError

CONNECT_TIMEOUT = 5.0
"""Seconds that TCP and TLS may take."""

PROGRESS_PERIOD = 10.0
"""Seconds between two looks at whether the member still answers."""

ANSWER_TIME = 10.0
"""Seconds without an octet of data, while an answer is due, after which the connection is taken for dead."""

PAGE = 500
"""Keys that are asked for at once."""


class Endpoint(NamedTuple):
    """A member's client address."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class TLS:
    """Files in PEM. Without `ca_file` the system's authorities are trusted; `cert_file` and `key_file` are
    the client's own, both or neither."""

    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None

    def context(self) -> ssl.SSLContext:
        """Read anew for each connection, so that renewed certificates are taken up. Raises
        UnavailableError: the files may come later, as mounts do."""
        reading = self.ca_file
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
            if self.cert_file is not None:
                reading = f"{self.cert_file} and {self.key_file}"
                # Without this OpenSSL would ask for a passphrase at the terminal.
                context.load_cert_chain(self.cert_file, self.key_file, password=lambda: "")
        except (OSError, ValueError) as error:
            text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise UnavailableError(f"TLS: {reading}: {text}") from None
        context.set_alpn_protocols(["h2"])
        return context


@dataclass(frozen=True, slots=True)
class EtcdOptions:
    """Where etcd is and how to get in. The password is in no text that is made of this."""

    endpoints: tuple[Endpoint, ...]
    tls: TLS | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)


class CompactedError(Exception):
    """The revision that was asked for is not kept any more."""


class _Codec(CodecBase):
    """Messages go in and come out as bytes: `etcd_wire` makes and reads them."""

    __content_subtype__ = "proto"

    def encode(self, message: Any, message_type: Any) -> bytes:
        assert isinstance(message, bytes)
        return message

    def decode(self, data: bytes, message_type: Any) -> bytes:
        return data


class _Protocol(H2Protocol):
    """Keeps what grpclib forgets: why a connection was lost, and the transport, to end it at once."""

    transport: asyncio.Transport | None = None
    loss: str = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        self.loss = _words(exc) if exc is not None else ""
        super().connection_lost(exc)


class _Channel(Channel):
    """A grpclib channel of one connection: where that is lost, so is the channel."""

    def _protocol_factory(self) -> _Protocol:
        return _Protocol(Handler(), self._config, self._h2_config)

    async def _create_connection(self) -> H2Protocol:
        if self._protocol is not None:
            raise StreamTerminatedError("Connection lost")
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                return await super()._create_connection()
        except TimeoutError:
            raise OSError(f"no connection within {CONNECT_TIMEOUT:g} s") from None
        except ConnectionError as error:
            # TCP was there, and went in the middle of TLS: asyncio's own error, without a number, or a reset.
            if self._ssl is not None and error.errno in (None, errno.ECONNRESET, errno.EPIPE):
                raise OSError("it ended the connection in the TLS handshake: has it TLS?") from None
            raise

    @property
    def encrypted(self) -> bool:
        """Whether TLS is between us."""
        return self._ssl is not None

    @property
    def protocol(self) -> _Protocol | None:
        """The connection, None before there is one."""
        return self._protocol if isinstance(self._protocol, _Protocol) else None

    def abort(self) -> None:
        """Ends it without a farewell: what does not answer would not answer that either."""
        if self.protocol is not None and self.protocol.transport is not None:
            self.protocol.transport.abort()
        self.close()


def _words(error: BaseException) -> str:
    """What an error of the network says, for people."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"TLS: its certificate is not accepted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        reason = (error.reason or str(error)).replace("_", " ").lower()
        if "alert" in reason:
            _, _, alert = reason.partition("alert ")
            return f"TLS: it refused ({alert}): it wants a client certificate, or does not accept this one"
        return f"TLS: {reason}"
    if isinstance(error, socket.gaierror):
        return f"its name cannot be looked up: {error.strerror}"
    if isinstance(error, OSError) and error.errno is not None:
        # asyncio puts addresses and words of its own around the reason.
        return os.strerror(error.errno)
    return str(error) or type(error).__name__


# AssertionError: grpclib's word for a message that ends before its length.
_RESETS = (os.strerror(errno.ECONNRESET), os.strerror(errno.EPIPE))
_FAULTS = (StreamTerminatedError, ProtocolError, H2Error, OSError, wire.WireError, AssertionError)


class Connection:
    """Calls on one member. Every failure is an UnavailableError that names the endpoint."""

    def __init__(self, endpoint: Endpoint, channel: _Channel) -> None:
        self.endpoint = endpoint
        self._channel = channel
        self._metadata: dict[str, str] = {}
        self._silent = False

    async def call(self, method: str, request: bytes) -> bytes:
        """A request and its answer. Raises UnavailableError, CompactedError."""
        stub = UnaryUnaryMethod[bytes, bytes](self._channel, method, bytes, bytes)
        with self._errors():
            answer = asyncio.ensure_future(stub(request, metadata=self._metadata))
            try:
                while not (await asyncio.wait((answer,), timeout=ANSWER_TIME))[0]:
                    self._end_if_silent_since(time.monotonic() - ANSWER_TIME)
                return await answer
            finally:
                answer.cancel()

    async def authenticate(self, username: str, password: str) -> None:
        """All calls from now on are made as this user. Raises UnavailableError."""
        try:
            answer = await self.call(wire.AUTHENTICATE, wire.authenticate_request(username, password))
        except _AuthNotEnabledError:
            return
        with self._errors():
            self._metadata = {"token": wire.read_token(answer)}

    async def pages(
        self, prefix: bytes, end: bytes, revision: int = 0
    ) -> AsyncGenerator[wire.RangeResponse, None]:
        """All keys of a range at one revision (0: the newest), in pages. Raises UnavailableError,
        CompactedError."""
        key = prefix
        while True:
            answer = await self.call(wire.RANGE, wire.range_request(key, end, PAGE, revision))
            with self._errors():
                page = wire.RangeResponse.read(answer)
            yield page
            if not page.more or not page.kvs:
                return
            revision = revision or page.header.revision
            key = page.kvs[-1].key + b"\0"

    async def watch(self, requests: Sequence[bytes]) -> AsyncGenerator[wire.WatchResponse, None]:
        """What the watches that `requests` create are told, until the connection is lost. It is asked for
        progress in between, so that silence is noticed. Raises UnavailableError."""
        stub = StreamStreamMethod[bytes, bytes](self._channel, wire.WATCH, bytes, bytes)
        # A member that has lost its leader, and so hears of nothing, is to end the watch.
        with self._errors():
            async with stub.open(metadata=self._metadata | {"hasleader": "true"}) as stream:
                for request in requests:
                    await stream.send_message(request)
                asking = asyncio.create_task(self._ask_for_progress(stream))
                try:
                    while (message := await stream.recv_message()) is not None:
                        yield wire.WatchResponse.read(message)
                finally:
                    asking.cancel()
                    await asyncio.gather(asking, return_exceptions=True)
        raise UnavailableError(f"{self.endpoint}: it ended the watch")

    async def _ask_for_progress(self, stream: Stream[bytes, bytes]) -> None:
        with contextlib.suppress(StreamTerminatedError, ProtocolError, H2Error, UnavailableError):
            while True:
                await asyncio.sleep(PROGRESS_PERIOD)
                asked = time.monotonic()
                sending = asyncio.ensure_future(stream.send_message(wire.WATCH_PROGRESS_REQUEST))
                try:
                    await asyncio.sleep(ANSWER_TIME)
                finally:
                    sending.cancel()
                    await asyncio.gather(sending, return_exceptions=True)
                self._end_if_silent_since(asked)

    def _end_if_silent_since(self, since: float) -> None:
        protocol = self._channel.protocol
        heard = protocol.connection.last_data_received if protocol is not None else None
        if heard is None or heard < since:
            self._silent = True
            self._channel.abort()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turns what grpclib, h2, TLS and sockets raise into UnavailableError."""
        try:
            yield
        except GRPCError as error:
            raise self._from_status(error) from None
        except (
            StreamTerminatedError,
            ProtocolError,
            H2Error,
            OSError,
            wire.WireError,
            AssertionError,
        ) as error:
            raise UnavailableError(f"{self.endpoint}: {self._reason(error)}") from None

    def _reason(self, error: Exception) -> str:
        if self._silent:
            return f"it has not answered for {ANSWER_TIME:g} s"
        protocol = self._channel.protocol
        unheard = protocol is None or protocol.connection.last_data_received is None
        words = protocol.loss if protocol is not None and isinstance(error, StreamTerminatedError) else ""
        words = words or _words(error)
        if unheard and words in _RESETS and self._channel.encrypted:
            # Under TLS 1.3 our handshake is over before the server has judged our
            # certificate, and its reset can
            # overtake its alert.
            return "TLS: it ended the connection: it wants a client certificate, or does not accept this one"
        ended = protocol is not None and not protocol.loss and isinstance(error, StreamTerminatedError)
        if unheard and (ended or words in _RESETS):
            return "it ended the connection without a word: is it etcd, and with TLS or without as we are?"
        return words

    def _from_status(self, error: GRPCError) -> Exception:
        message = (error.message or error.status.name).removeprefix("etcdserver: ")
        if "required revision has been compacted" in message:
            return CompactedError(message)
        if "authentication is not enabled" in message:
            return _AuthNotEnabledError(message)
        if "user name is empty" in message:
            message += ": set ETCD_USERNAME and ETCD_PASSWORD, or give a client certificate"
        elif error.status is Status.PERMISSION_DENIED:
            message += ": the user needs to read what is below /calico/; and to write, for CalicoNodeStatus"
        return UnavailableError(f"{self.endpoint}: {message}")


class _AuthNotEnabledError(Exception):
    """Everyone may do everything: a user and password are of no use, and do no harm."""


@asynccontextmanager
async def connected(endpoint: Endpoint, options: EtcdOptions) -> AsyncIterator[Connection]:
    """A connection to one member, as the user that the options name. Raises UnavailableError."""
    context = options.tls.context() if options.tls is not None else None
    channel = _Channel(endpoint.host, endpoint.port, ssl=context, codec=_Codec())
    try:
        connection = Connection(endpoint, channel)
        with connection._errors():
            await channel.__connect__()
        if options.username is not None:
            await connection.authenticate(options.username, options.password or "")
        yield connection
    finally:
        channel.abort()
