"""What several commands share: options with their environment names, and how a command runs and fails."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from routed import log
from routed.bgp.transport import Endpoint

Datastore = Annotated[
    str,
    typer.Option(
        "--datastore",
        envvar="ROUTED_DATASTORE",
        metavar="URL",
        help="Where the records are: file:PATH, a YAML file or a folder of them.",
    ),
]
LogLevel = Annotated[
    str | None,
    typer.Option(
        "--log-level",
        envvar=["ROUTED_LOG_LEVEL", "BGP_LOGSEVERITYSCREEN"],
        help="debug, info, warning, error or fatal. Wins over the records' logSeverityScreen.",
    ),
]
LogFormat = Annotated[
    str,
    typer.Option(
        "--log-format",
        envvar="ROUTED_LOG_FORMAT",
        help="console, json, or auto: console on a terminal, else json.",
    ),
]


def fail(message: str) -> NoReturn:
    """Say on standard error what is wrong and what to do, and exit with status 2."""
    typer.echo(f"routed: {message}", err=True)
    raise typer.Exit(2)


def configure_logging(level: str | None, output: str) -> None:
    """Set up logs from the two options; exits with 2 where one of them is wrong."""
    if output not in ("auto", "console", "json"):
        fail(f"--log-format {output!r}: use console, json or auto")
    try:
        log.configure(level or "info", output)  # type: ignore[arg-type]
    except ValueError as error:
        fail(f"--log-level: {error}")


def endpoint(option: str, text: str) -> Endpoint:
    """`ADDR:PORT` or `[IPV6]:PORT`; exits with 2 where it is neither."""
    address, colon, port = text.rpartition(":")
    if address.startswith("[") and address.endswith("]"):
        address = address[1:-1]
    elif ":" in address:
        fail(f"{option} {text!r}: put an IPv6 address in brackets, [ADDR]:PORT")
    try:
        result = Endpoint(ip_address(address), int(port))
    except ValueError:
        fail(f"{option} {text!r}: write ADDR:PORT, such as 127.0.0.1:1790, or [::1]:1790")
    if not colon or not 1 <= result.port <= 65535:
        fail(f"{option} {text!r}: a port is 1 to 65535")
    return result


def node_name(option: str | None) -> str:
    """This node's name: the option (or NODENAME), then calico-node's nodename file, HOSTNAME, the host's
    name."""
    if option:
        return option
    path = Path(os.environ.get("CALICO_NODENAME_FILE", "/var/lib/calico/nodename"))
    try:
        name = path.read_text().strip()
    except OSError:
        name = ""
    return name or os.environ.get("HOSTNAME") or socket.gethostname()


def run_until_stopped(start: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    """Run a daemon: `start` gets an event that SIGTERM or SIGINT sets. A second signal ends at once."""

    async def body() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()

        def on_signal() -> None:
            if stop.is_set():
                os._exit(1)
            stop.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, on_signal)
        await start(stop)

    try:
        asyncio.run(body())
    except KeyboardInterrupt:
        sys.exit(130)
