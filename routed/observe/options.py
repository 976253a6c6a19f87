"""Which ways out there are to be: the options that `routed run` and `routed rr` share."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from routed.bgp.transport import Endpoint

#: `--api`: a socket of the node's name in the runtime folder, and no socket.
DEFAULT: Final = "auto"
NONE: Final = "none"


@dataclass(frozen=True, slots=True)
class ObserveOptions:
    """What to open."""

    api: Path | None = None
    """The Unix socket of the status API."""
    http: Endpoint | None = None
    """The status API over HTTP; a loopback address."""
    looking_glass: bool = False
    """Serve the page there."""
    metrics: Endpoint | None = None
    """Metrics and health over HTTP, and nothing else; any address."""
    metrics_per_peer: bool = False
    bird_sockets: Path | None = None
    """The folder of `bird.ctl` and `bird6.ctl`."""
    events: str | None = None
    """A broker's URL: mqtt://HOST:PORT/PREFIX."""
    node_status: bool = True
    """Fill in CalicoNodeStatus records, where the datastore has them."""


#: Nothing is opened.
NOTHING: Final = ObserveOptions()


def runtime_folder() -> Path:
    """Where sockets are: /run/routed for root; else in `XDG_RUNTIME_DIR`, else in /tmp."""
    if os.geteuid() == 0:
        return Path("/run/routed")
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return Path(runtime) / "routed" if runtime else Path(f"/tmp/routed-{os.geteuid()}")  # noqa: S108


def socket_of(node: str) -> Path:
    """The default socket of a node or reflector."""
    return runtime_folder() / f"{node.replace('/', '_')}.sock"


def observe_options(
    node: str,
    *,
    api: str,
    http: str | None,
    looking_glass: bool,
    metrics: str | None,
    metrics_per_peer: bool,
    bird_sockets: str | None,
    events: str | None,
) -> ObserveOptions:
    """The options as the command line has them. Raises ValueError, which names the option, where one is
    wrong."""
    endpoint = None if http is None else _endpoint("--http", http)
    if endpoint is not None and not endpoint.address.is_loopback:
        raise ValueError(
            f"--http {http!r}: the status API can shut peers down, so it listens on a loopback address only; "
            "--metrics serves metrics and health on any address"
        )
    if looking_glass and endpoint is None:
        raise ValueError("--looking-glass: give --http ADDR:PORT too, such as 127.0.0.1:9180")
    # Not quoted: there may be a password in it.
    if events is not None and events.partition("://")[0].lower() not in ("mqtt", "mqtts"):
        raise ValueError("--events: use mqtt://HOST:PORT/PREFIX or mqtts://HOST:PORT/PREFIX")
    metrics_endpoint = None if metrics is None else _endpoint("--metrics", metrics)
    if endpoint is not None and endpoint == metrics_endpoint:
        raise ValueError(f"--metrics {metrics!r}: --http serves metrics there already: leave it out")
    return ObserveOptions(
        api={DEFAULT: socket_of(node), NONE: None}.get(api, Path(api)),
        http=endpoint,
        looking_glass=looking_glass,
        metrics=metrics_endpoint,
        metrics_per_peer=metrics_per_peer,
        bird_sockets=None if bird_sockets is None else Path(bird_sockets),
        events=events,
    )


def _endpoint(option: str, text: str) -> Endpoint:
    # Not at the top: it brings asyncio, which the commands that only ask where a socket is do without.
    from routed.bgp.transport import Endpoint

    try:
        return Endpoint.parse(text)
    except ValueError as error:
        raise ValueError(f"{option} {text!r}: {error}") from None
