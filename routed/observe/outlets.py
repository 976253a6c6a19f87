"""The ways out that the options ask for: each is started, and closed at the end.

One that cannot start says why, and the process goes on without it: BGP does not depend on who watches.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Final, Protocol

from routed import log
from routed.observe.observed import Observed
from routed.observe.options import ObserveOptions


class Outlet(Protocol):
    """One way out."""

    async def start(self) -> None:
        """Begin. Raises OSError or ValueError, which say what is wrong and what to do."""

    async def close(self) -> None:
        """End; nothing is left open, no timer runs, no file stays."""


Factory = Callable[[ObserveOptions, Observed], Outlet | None]
"""Makes an outlet where the options ask for it. Imports what it needs inside."""


def _events(options: ObserveOptions, observed: Observed) -> Outlet | None:
    if options.events is None:
        return None
    import os

    from routed.observe.mqtt_events import MqttEvents, read_events_url

    return MqttEvents(read_events_url(options.events, os.environ), observed)


def _api(options: ObserveOptions, observed: Observed) -> Outlet | None:
    from routed.observe.http.outlet import api_outlet

    return api_outlet(options, observed)


def _http(options: ObserveOptions, observed: Observed) -> Outlet | None:
    from routed.observe.http.outlet import http_outlet

    return http_outlet(options, observed)


def _metrics(options: ObserveOptions, observed: Observed) -> Outlet | None:
    from routed.observe.http.outlet import metrics_outlet

    return metrics_outlet(options, observed)


def _bird_sockets(options: ObserveOptions, observed: Observed) -> Outlet | None:
    if options.bird_sockets is None:
        return None
    from routed.observe.bird.outlet import BirdSockets

    return BirdSockets(options.bird_sockets, observed)


def _node_status(options: ObserveOptions, observed: Observed) -> Outlet | None:
    requests, writer = observed.status_requests, observed.status_writer
    if not options.node_status or requests is None or writer is None:
        return None
    from routed.observe.node_status import NodeStatusReporter

    return NodeStatusReporter(observed, requests, writer)


#: By the option that asks for each.
FACTORIES: Final[dict[str, Factory]] = {
    "--api": _api,
    "--http": _http,
    "--metrics": _metrics,
    "--bird-sockets": _bird_sockets,
    "--events": _events,
    "node status": _node_status,
}


class Outlets:
    """All of them."""

    def __init__(self, options: ObserveOptions, observed: Observed) -> None:
        self._options = options
        self._observed = observed
        self._open: list[tuple[str, Outlet]] = []
        self._log = log.get("observe")

    async def start(self) -> None:
        """Open what is asked for."""
        for name, factory in FACTORIES.items():
            try:
                outlet = factory(self._options, self._observed)
                if outlet is None:
                    continue
                await outlet.start()
            except (OSError, ValueError) as error:
                self._log.error(f"no {name}", error=_text(error))
            else:
                self._open.append((name, outlet))

    async def close(self) -> None:
        """Close what is open, the last one first."""
        self._observed.route_changes.close()
        self._observed.events.close()
        while self._open:
            name, outlet = self._open.pop()
            with contextlib.suppress(OSError):
                await outlet.close()
            self._log.debug("closed", outlet=name)


def _text(error: OSError | ValueError) -> str:
    """What is wrong, without the errno's number."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"
    return str(error)
