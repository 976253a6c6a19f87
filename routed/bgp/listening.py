"""The sockets that accept: as many as are wanted, and patience where one cannot be had."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Iterable
from typing import Any, Final

from routed.bgp.transport import AcceptCallback, Closable, Endpoint, Network

#: How long to wait before a port that was taken is asked for again, seconds.
RETRY_TIME: Final = 5.0

_HINTS: Final = {
    errno.EADDRINUSE: "another process listens there (BIRD?): stop it, or use another listenPort; "
    "sessions that we dial go on",
    errno.EACCES: "ports below 1024 need CAP_NET_BIND_SERVICE: give it, or use another listenPort",
    errno.EADDRNOTAVAIL: "no interface has this address",
}


class Listeners:
    """Accepts on the wanted endpoints; one that cannot be had is said, and tried again."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, network: Network, on_accept: AcceptCallback, log: Any
    ) -> None:
        self._loop = loop
        self._network = network
        self._on_accept = on_accept
        self._log = log
        self._open: dict[Endpoint, Closable] = {}
        self._wanted: tuple[Endpoint, ...] = ()
        self._errors: dict[Endpoint, str] = {}
        self._retry: asyncio.TimerHandle | None = None

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """Where connections are accepted now."""
        return tuple(self._open)

    @property
    def errors(self) -> dict[Endpoint, str]:
        """The wanted endpoints that could not be had, and why."""
        return dict(self._errors)

    def want(self, endpoints: Iterable[Endpoint]) -> None:
        """Accept on these and no others. Those that stay are not touched."""
        self._wanted = tuple(dict.fromkeys(endpoints))
        for endpoint in self._open.keys() - set(self._wanted):
            self._open.pop(endpoint).close()
        self._open_missing()

    def close(self) -> None:
        """Accept no more."""
        self.want(())

    def _open_missing(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        before, self._errors = self._errors, {}
        for endpoint in self._wanted:
            if endpoint in self._open:
                continue
            try:
                self._open[endpoint] = self._network.listen(endpoint, self._on_accept)
            except OSError as error:
                self._errors[endpoint] = error.strerror or str(error)
                if endpoint not in before:  # said once, not every five seconds
                    hint = _HINTS.get(error.errno or 0, "")
                    self._log.error("cannot listen", endpoint=str(endpoint), error=error.strerror, hint=hint)
            else:
                self._log.info("listening", endpoint=str(endpoint))
        if self._errors:
            self._retry = self._loop.call_later(RETRY_TIME, self._open_missing)
