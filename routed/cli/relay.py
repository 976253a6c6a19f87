"""`routed relay`: one watch of a datastore for all nodes."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Annotated

import typer

from routed.cli import common

if TYPE_CHECKING:
    import asyncio


def relay(
    datastore: common.Datastore,
    to: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="URL",
            envvar="ROUTED_RELAY_TO",
            help="mqtt://HOST:PORT/PREFIX, or mqtts:// with TLS: keep the records there, retained.",
        ),
    ],
    name: Annotated[
        str | None,
        typer.Option(
            "--name",
            metavar="NAME",
            envvar="ROUTED_NAME",
            help="The relay's name; default: the host's, and random digits.",
        ),
    ] = None,
    log_level: common.LogLevel = None,
    log_format: common.LogFormat = "auto",
) -> None:
    """Watch the records once, and publish them over MQTT for any number of nodes.

    Those read them with --datastore mqtt://... Secrets are not published. Several relays may run: one is
    active."""
    from routed.datastore import open_datastore
    from routed.datastore.mqtt_client import read_url
    from routed.relay import Relay

    common.configure_logging(log_level, log_format)
    if name is not None and (not name or set(name) & set("/+#\0")):
        common.fail(f"--name {name!r}: a level of a topic, without '/', '+' and '#'")
    try:
        source = open_datastore(datastore)
        options = read_url(to, os.environ)
    except ValueError as error:
        common.fail(str(error))

    async def job(stop: asyncio.Event) -> None:
        import asyncio

        running = asyncio.create_task(Relay(source, options, name).run())
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait((running, stopping), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if running.done():
            running.result()
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running

    common.run_until_stopped(job)
