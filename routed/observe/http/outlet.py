"""The listening sockets of the API, and of metrics: nothing else is there, or imported, until somebody
connects."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Final

from routed import log
from routed.bgp.transport import Endpoint
from routed.observe.http.sockets import listen_tcp, listen_unix, remove_unix
from routed.observe.observed import Observed
from routed.observe.options import ObserveOptions

if TYPE_CHECKING:
    from routed.observe.http.endpoints import Site
    from routed.observe.http.serving import Server

#: Imported one a turn of the event loop, so that sessions do not notice.
_MODULES: Final = (
    "msgspec",
    "h11",
    "routed.observe.documents",
    "routed.observe.http.connection",
    "routed.observe.http.endpoints",
    "routed.observe.http.serving",
)
_NAMES: Final = {"api": "the status API", "metrics": "metrics and health"}


class HttpOutlet:
    """One listening socket, and behind it a server from the first connection on."""

    def __init__(
        self,
        observed: Observed,
        kind: str,
        where: str,
        listen: Callable[[], socket.socket],
        options: ObserveOptions,
        endpoint: Endpoint | None = None,
        path: Path | None = None,
    ) -> None:
        """`kind` is one of `endpoints.TABLES`, `where` for people. `listen` makes the socket: for `endpoint`
        or for `path`."""
        self._observed = observed
        self._kind = kind
        self._where = where
        self._listen = listen
        self._options = options
        self._endpoint = endpoint
        self._path = path
        self._made: os.stat_result | None = None
        self._log = log.get("api")
        self._loop = asyncio.get_running_loop()
        self._socket: socket.socket | None = None
        self._server: Server | None = None
        self._site: Site | None = None
        self._opening: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen. Raises OSError where that cannot be."""
        self._socket = self._listen()
        if self._path is not None:
            self._made = self._path.lstat()
        self._loop.add_reader(self._socket, self._on_first)
        self._log.info(f"serving {_NAMES[self._kind]}", at=self._where)
        if self._options.looking_glass and self._kind == "api" and self._endpoint is not None:
            self._on_first()  # the page is to show rates of the time before it was opened

    async def close(self) -> None:
        """End: requests at work get a moment, the others none. The socket's file is gone."""
        if self._path is not None and self._made is not None:
            remove_unix(self._path, self._made)
        if self._opening is not None:
            self._opening.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._opening
        if self._socket is not None:
            self._loop.remove_reader(self._socket)
        if self._server is not None:
            await self._server.close()
        if self._site is not None:
            self._site.close()
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _on_first(self) -> None:
        """Somebody connects for the first time."""
        assert self._socket is not None
        self._loop.remove_reader(self._socket)
        self._opening = self._loop.create_task(self._open(self._socket))

    async def _open(self, sock: socket.socket) -> None:
        try:
            for name in _MODULES:
                import_module(name)
                await asyncio.sleep(0)
            from routed.observe.http.endpoints import site
            from routed.observe.http.serving import Server

            self._site = site(self._kind, self._observed, self._options, self._endpoint)
            self._server = Server(self._site.answer, self._log, turns=self._observed.turns)
            self._socket = None  # the server's from now on
            self._server.start(sock)
        except (ImportError, OSError) as error:
            self._log.error(f"cannot serve {_NAMES[self._kind]}", error=str(error))


def api_outlet(options: ObserveOptions, observed: Observed) -> HttpOutlet | None:
    """The status API on a Unix socket, where `--api` asks for it."""
    path = options.api
    if path is None:
        return None
    return HttpOutlet(observed, "api", str(path), lambda: listen_unix(path), options, path=path)


def http_outlet(options: ObserveOptions, observed: Observed) -> HttpOutlet | None:
    """The status API on loopback TCP, where `--http` asks for it."""
    return _tcp(options, observed, "api", options.http)


def metrics_outlet(options: ObserveOptions, observed: Observed) -> HttpOutlet | None:
    """Metrics and health on TCP, where `--metrics` asks for them."""
    return _tcp(options, observed, "metrics", options.metrics)


def _tcp(
    options: ObserveOptions, observed: Observed, kind: str, endpoint: Endpoint | None
) -> HttpOutlet | None:
    if endpoint is None:
        return None
    where = f"http://{endpoint}/"
    return HttpOutlet(observed, kind, where, lambda: listen_tcp(endpoint), options, endpoint=endpoint)
