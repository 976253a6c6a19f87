"""Kubernetes' API conventions on top of HTTP: who we are, refusals as Status, bodies, streams of lines."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import urlencode

import msgspec

from routed import __version__
from routed.datastore.kubernetes import http
from routed.datastore.kubernetes.access import Access
from routed.datastore.kubernetes.http import ClosedIdleError, Connection, DisconnectedError
from routed.text import escaped

MAX_BODY: Final = 512 * 1024 * 1024
"""Bytes of a body, or of a line of a watch, above which something is wrong."""

MAX_RETRY_AFTER: Final = 300.0
"""Seconds that a server's wish to be left alone is followed at most."""

JSON: Final = "application/json"
# The second is what a server that cannot leave spec and status out answers with.
METADATA_LIST: Final = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"
METADATA: Final = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json"

_MAX_ERROR_BODY: Final = 64 * 1024
_SHOWN: Final = 300


class _Cause(msgspec.Struct):
    reason: str = ""


class _Details(msgspec.Struct, rename="camel"):
    retry_after_seconds: float = 0.0
    causes: list[_Cause] | None = None


class _StatusMetadata(msgspec.Struct, rename={"continue_token": "continue"}):
    continue_token: str = ""


class Status(msgspec.Struct):
    """`meta/v1.Status`, as much of it as is used."""

    message: str = ""
    reason: str = ""
    code: int = 0
    details: _Details | None = None
    metadata: _StatusMetadata | None = None

    @property
    def version_too_large(self) -> bool:
        """The server is behind the resource version that was asked for."""
        causes = self.details.causes if self.details is not None else None
        return any(cause.reason == "ResourceVersionTooLarge" for cause in causes or ())


_STATUS: Final = msgspec.json.Decoder(Status)


class RefusedError(Exception):
    """The server answered, and the answer is no. `status.code` is the HTTP status; `retry_after` the seconds
    that the server asks to be left alone, None where it does not."""

    def __init__(self, what: str, status: Status, retry_after: float | None = None) -> None:
        self.status = status
        self.retry_after = retry_after
        said = " ".join(status.message.split()) or "no reason given"
        super().__init__(f"{what}: {status.code} {status.reason}: {said[:_SHOWN]}".replace(" : ", ": "))

    @classmethod
    def of_event(cls, what: str, raw: bytes | msgspec.Raw) -> RefusedError:
        """From the Status in an ERROR event of a watch."""
        status = read_status(bytes(raw), 0)
        asked = status.details.retry_after_seconds if status.details is not None else 0.0
        return cls(what, status, _bounded(asked) if asked else None)


def read_status(body: bytes, code: int) -> Status:
    """The Status in a body, whatever the body is; with `code` where it says none."""
    try:
        status = _STATUS.decode(body)
    except msgspec.DecodeError:
        status = Status(message=body[:_SHOWN].decode("ascii", "replace"))
    status.message = escaped(status.message)
    status.code = status.code or code
    return status


def _retry_after(headers: Mapping[str, str], status: Status) -> float | None:
    """RFC 9110 section 10.2.3: seconds, or a date; else what the Status says."""
    text = headers.get("retry-after", "").strip()
    if text.isdecimal():
        return _bounded(float(text[:9]))
    if text:
        with contextlib.suppress(ValueError, TypeError):
            when = parsedate_to_datetime(text)
            if when.tzinfo is None:
                when = when.replace(tzinfo=UTC)
            return _bounded((when - datetime.now(UTC)).total_seconds())
    if status.details is not None and status.details.retry_after_seconds > 0:
        return _bounded(status.details.retry_after_seconds)
    return None


def _bounded(seconds: float) -> float:
    return min(max(seconds, 0.0), MAX_RETRY_AFTER)


class Caller:
    """Makes requests one after another, on one connection where that holds."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._connection: Connection | None = None

    async def get(self, path: str, query: Mapping[str, str] | None = None, accept: str = JSON) -> bytes:
        """The whole body of a GET. Raises RefusedError, DisconnectedError, AccessError, CredentialError."""
        return await self._whole(path, query or {}, accept, None)

    async def put(self, path: str, document: bytes) -> bytes:
        """The whole body of the answer to a PUT of a JSON document. It may be sent twice, where a connection
        ended under it: the document is to have a resource version. Raises as `get` does."""
        return await self._whole(path, {}, JSON, document)

    async def _whole(self, path: str, query: Mapping[str, str], accept: str, document: bytes | None) -> bytes:
        answer = self._get(path, query, accept, http.ANSWER_TIMEOUT, document)
        async with contextlib.aclosing(answer) as pieces:
            body = bytearray()
            async for piece in pieces:
                body += piece
                if len(body) > MAX_BODY:
                    await self.close()
                    raise DisconnectedError(f"{path}: an answer of more than {MAX_BODY >> 20} MiB")
            return bytes(body)

    async def lines(
        self, path: str, query: Mapping[str, str], accept: str, silence: float
    ) -> AsyncGenerator[list[bytes]]:
        """The lines of an endless GET, as many at once as have arrived; an empty list first, as soon as the
        server has said yes. It ends where the server ends it.

        `silence`: seconds without a byte after which DisconnectedError is raised. Raises as `get` does."""
        rest = bytearray()
        async with contextlib.aclosing(self._get(path, query, accept, silence)) as pieces:
            async for piece in pieces:
                *whole, last = piece.split(b"\n")
                if whole:
                    rest += whole[0]
                    whole[0] = bytes(rest)
                    rest = bytearray(last)
                else:
                    rest += last
                if len(rest) > MAX_BODY:
                    raise DisconnectedError(f"{path}: an event of more than {MAX_BODY >> 20} MiB")
                if whole or not piece:
                    yield [line for line in whole if line]

    async def close(self) -> None:
        """Gives the connection back."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def _get(
        self, path: str, query: Mapping[str, str], accept: str, silence: float, document: bytes | None = None
    ) -> AsyncGenerator[bytes]:
        """An empty piece when the answer is a 200, then its body piece by piece. With a `document` it is a
        PUT of that."""
        target = self._access.server.path + path + (f"?{urlencode(query)}" if query else "")
        connection = await self._answered(path, target, accept, document)
        try:
            yield b""
            while piece := await connection.data(silence):
                yield piece
        finally:
            if not connection.reusable:
                await self.close()

    async def _answered(self, path: str, target: str, accept: str, document: bytes | None) -> Connection:
        """A connection on which the answer to the request is a 200. After a 401 the credential is asked for
        anew, once: tokens are replaced, certificates too."""
        for attempt in range(2):
            connection, status, headers = await self._ask(target, accept, document)
            if status == 200:
                return connection
            what = f"{'GET' if document is None else 'PUT'} {path}"
            refusal = await self._refusal(what, connection, status, headers)
            if status != 401 or attempt:
                raise refusal
            self._access.credential.refused()
            await self.close()
        raise AssertionError  # the second attempt returns or raises

    async def _ask(
        self, target: str, accept: str, document: bytes | None
    ) -> tuple[Connection, int, dict[str, str]]:
        access = self._access
        headers = [
            ("Accept", accept),
            ("Accept-Encoding", "identity"),
            ("User-Agent", f"routed/{__version__}"),
        ]
        headers += access.headers
        method, body = "GET", b""
        if document is not None:
            method, body = "PUT", document
            headers.append(("Content-Type", JSON))
        if authorization := await access.credential.authorization():
            headers.append(("Authorization", authorization))
        while True:
            connection, fresh = self._connection, False
            if connection is None or not connection.reusable:
                await self.close()
                connection = self._connection = await access.connect()
                fresh = True
            try:
                head = await connection.request(method, target, headers, http.ANSWER_TIMEOUT, body)
            except ClosedIdleError:
                await self.close()
                if fresh:
                    raise
                continue
            except BaseException:
                await self.close()
                raise
            return connection, head.status, head.headers

    async def _refusal(
        self, what: str, connection: Connection, code: int, headers: Mapping[str, str]
    ) -> RefusedError:
        body = bytearray()
        with contextlib.suppress(DisconnectedError):
            while len(body) < _MAX_ERROR_BODY and (piece := await connection.data(http.ANSWER_TIMEOUT)):
                body += piece
        if not connection.reusable:
            await self.close()
        status = read_status(bytes(body), code)
        status.code = code
        return RefusedError(what, status, _retry_after(headers, status))
