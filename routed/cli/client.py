"""The client of the status API: over its Unix socket, or HTTP on a loopback address.

A connection for each question, with the standard library alone: a command lives for a tenth of a second.
"""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlencode, urlsplit

from routed.cli.failure import CommandError, Status

API: Final = "/api/v1"
#: How long routed may take to answer, seconds.
TIMEOUT: Final = 10.0
_READ: Final = 256 * 1024
#: Between two attempts to connect where too many others do, seconds.
_AGAIN: Final = 0.05

Parameters = Mapping[str, str | int | Sequence[str] | None]
"""Of a query; None: left out; several values: repeated."""


class UnreachableError(CommandError):
    """There is no answer. Not every status: the caller may try again."""

    def __init__(self, message: str) -> None:
        super().__init__(message, Status.UNREACHABLE)


class RefusedError(CommandError):
    """routed's answer is an error."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message, _STATUSES.get(code, Status.UNREACHABLE))
        self.code = code


#: What an HTTP status means to scripts; all others: routed cannot say.
_STATUSES: Final[dict[int, Status]] = {
    HTTPStatus.NOT_FOUND: Status.NO,
    HTTPStatus.CONFLICT: Status.NO,
    HTTPStatus.BAD_REQUEST: Status.USAGE,
    HTTPStatus.UNPROCESSABLE_ENTITY: Status.USAGE,
}


@dataclass(frozen=True, slots=True)
class Server:
    """Where a routed answers: a Unix socket, else a host and port."""

    path: Path | None = None
    host: str = "localhost"
    port: int = 0

    @classmethod
    def from_url(cls, url: str) -> Server:
        """http://HOST:PORT. Raises ValueError, which says what to write, and quotes no password."""
        quoted = "a URL with a user or password" if "@" in url else repr(url)
        problem = f"{quoted}: write http://HOST:PORT, such as http://127.0.0.1:9180"
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise ValueError(problem) from None
        if parts.scheme != "http" or not parts.hostname or port is None or parts.path not in ("", "/"):
            raise ValueError(problem)
        if "@" in parts.netloc:
            raise ValueError(problem)
        return cls(host=parts.hostname, port=port)

    def __str__(self) -> str:
        return f"http://{self.host}:{self.port}" if self.path is None else str(self.path)


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Called at the first request."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        until = time.monotonic() + (self.timeout or 0.0)
        while True:
            try:
                return self.sock.connect(str(self._path))
            except BlockingIOError:  # unix(7): too many wait to be accepted
                if time.monotonic() > until:
                    raise TimeoutError from None
                time.sleep(_AGAIN)


class Client:
    """Asks one routed. Every method raises `UnreachableError`, or `RefusedError` where the answer is an
    error."""

    def __init__(self, server: Server, timeout: float = TIMEOUT) -> None:
        self.server = server
        self._timeout = timeout

    def get(self, path: str, parameters: Parameters | None = None) -> bytes:
        """A document, as it is. `path` is below /api/v1."""
        return b"".join(self.stream(path, parameters))

    def post(self, path: str, body: Mapping[str, object] | None = None) -> bytes:
        """Carry out an action; its answer."""
        content = json.dumps(body or {}).encode()
        headers = {"Content-Type": "application/json"}
        with _Exchange(self, "POST", API + path, content, headers) as answer:
            return answer.read()

    def stream(
        self,
        path: str,
        parameters: Parameters | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        timeout: float | None = None,
    ) -> Iterator[bytes]:
        """A document in pieces, as they come. `timeout`: how long the next piece may take, seconds."""
        given = {name: value for name, value in (parameters or {}).items() if value is not None}
        target = API + path + ("?" + urlencode(given, doseq=True) if given else "")
        with _Exchange(self, "GET", target, None, headers or {}) as answer:
            if timeout is not None:
                answer.wait_up_to(timeout)
            while piece := answer.read1():
                yield piece

    def probe(self, path: str) -> tuple[int, bytes]:
        """The HTTP status and body of a path outside of /api/v1, whatever they are."""
        with _Exchange(self, "GET", path, None, {}, refuse=False) as answer:
            return answer.status, answer.read()

    def connection(self) -> http.client.HTTPConnection:
        """A connection that is not made yet."""
        server = self.server
        if server.path is not None:
            return _UnixConnection(server.path, self._timeout)
        return http.client.HTTPConnection(server.host, server.port, timeout=self._timeout)

    def explain_error(self, error: Exception) -> UnreachableError:
        """What is wrong, and what to do about it."""
        server = str(self.server)
        match error:
            case FileNotFoundError():
                return UnreachableError(f"no socket {server}: is routed running, and with --api?")
            case ConnectionRefusedError() if (
                self.server.path is not None and not self.server.path.is_socket()
            ):
                return UnreachableError(
                    f"{server} is no socket: routed's log says where it serves the status API"
                )
            case ConnectionRefusedError() if self.server.path is not None:
                return UnreachableError(f"nobody answers at {server}: the routed that made it is gone")
            case ConnectionRefusedError():
                return UnreachableError(f"nobody listens at {server}: does routed run with --http?")
            case PermissionError():
                return UnreachableError(
                    f"{server} is its owner's alone: run this command as that user (sudo)"
                )
            case ConnectionResetError() | BrokenPipeError() | http.client.IncompleteRead():
                return UnreachableError(f"{server}: routed ended, or hung up, before its answer was whole")
            case TimeoutError():
                return UnreachableError(f"no answer from {server} within {self._timeout:g} s")
            case http.client.HTTPException():
                return UnreachableError(f"{server}: not an answer of routed ({type(error).__name__})")
            case OSError() if error.strerror:
                return UnreachableError(f"{server}: {error.strerror}")
        return UnreachableError(f"{server}: {str(error) or type(error).__name__}")


class _Exchange:
    """One request and its answer; closed at the end."""

    def __init__(
        self,
        client: Client,
        method: str,
        target: str,
        body: bytes | None,
        headers: Mapping[str, str],
        *,
        refuse: bool = True,
    ) -> None:
        self._client = client
        self._connection = client.connection()
        self._request = (method, target, body, dict(headers))
        self._refuse = refuse
        self._response: http.client.HTTPResponse

    def __enter__(self) -> _Exchange:
        try:
            self._connection.request(*self._request)
            self._socket = self._connection.sock
            self._response = self._connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise self._client.explain_error(error) from error
        if self._refuse and self._response.status != HTTPStatus.OK:
            try:
                raise _refused(self._response.status, self.read())
            finally:
                self._connection.close()
        return self

    def __exit__(self, *_: object) -> None:
        self._response.close()
        self._connection.close()

    @property
    def status(self) -> int:
        """HTTP's."""
        return self._response.status

    def wait_up_to(self, seconds: float) -> None:
        """How long the next piece may take from now on."""
        self._socket.settimeout(seconds)

    def read(self) -> bytes:
        """All of it."""
        try:
            return self._response.read()
        except (OSError, http.client.HTTPException) as error:
            raise self._client.explain_error(error) from error

    def read1(self) -> bytes:
        """What is there; empty at the end."""
        try:
            return self._response.read1(_READ)
        except (OSError, http.client.HTTPException) as error:
            raise self._client.explain_error(error) from error


def _refused(code: int, body: bytes) -> RefusedError:
    """From an error document; from whatever else the answer was."""
    try:
        document = json.loads(body)
        message, hint = str(document["error"]), document.get("hint")
    except (ValueError, KeyError, TypeError, AttributeError):
        return RefusedError(code, f"not an answer of routed (HTTP status {code})")
    return RefusedError(code, f"{message}: {hint}" if hint else message)


def peer_path(name: str, action: str = "") -> str:
    """Below /api/v1. A name may have any character in it."""
    path = f"/peers/{quote(name, safe='')}"
    return f"{path}/{action}" if action else path
