"""`routed run`: the speaker of one node."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Annotated

import typer

from routed.cli import common


def run(
    datastore: common.Datastore,
    node: Annotated[
        str | None,
        typer.Option(
            "--node",
            envvar=["ROUTED_NODE", "NODENAME"],
            help="Name of this node's record; without it as calico-node finds it: its nodename "
            "file, HOSTNAME, the host's name.",
        ),
    ] = None,
    kernel: Annotated[
        bool,
        typer.Option("--kernel/--no-kernel", envvar="ROUTED_KERNEL", help="Program and learn kernel routes."),
    ] = True,
    takeover: Annotated[
        str,
        typer.Option(
            "--takeover",
            envvar="ROUTED_TAKEOVER",
            help="bird: replace, without a gap, the kernel routes (proto bird) that a BIRD has left on this "
            "node, and remove the stale ones after convergence. For a node whose BIRD is stopped.",
        ),
    ] = "none",
    port: Annotated[
        int | None,
        typer.Option(
            "--port",
            envvar="ROUTED_PORT",
            min=1,
            max=65535,
            help="Listen here instead of at the records' listenPort.",
        ),
    ] = None,
    families_per_session: Annotated[
        str,
        typer.Option(
            "--families-per-session",
            envvar="ROUTED_FAMILIES_PER_SESSION",
            help="one: as Calico, IPv4 over the IPv4 session and IPv6 over the IPv6 session. "
            "both: offer both on each; a peer that offers one gets one.",
        ),
    ] = "one",
    on_stop: Annotated[
        str,
        typer.Option(
            "--on-stop",
            envvar="ROUTED_ON_STOP",
            help="graceful-restart: peers keep our routes for the restart time, as for an upgrade. "
            "shutdown: they drop them at once.",
        ),
    ] = "graceful-restart",
    status_file: Annotated[
        Path | None,
        typer.Option(
            "--status-file", envvar="ROUTED_STATUS_FILE", help="Write the state as JSON here, on each change."
        ),
    ] = None,
    log_level: common.LogLevel = None,
    log_format: common.LogFormat = "auto",
) -> None:
    """Speak BGP for one node: watch its records, keep its sessions, announcements and kernel routes as they
    say.

    Nothing needs a reload: a changed record is in force at once. SIGTERM stops it within a second; kernel
    routes stay."""
    common.configure_logging(log_level, log_format)
    from routed.agent import Agent, AgentOptions
    from routed.datastore import open_datastore
    from routed.intent.options import Options

    for name, value, choices in (
        ("--families-per-session", families_per_session, ("one", "both")),
        ("--on-stop", on_stop, ("graceful-restart", "shutdown")),
        ("--takeover", takeover, ("none", "bird")),
    ):
        if value not in choices:
            common.fail(f"{name} {value!r}: use {' or '.join(choices)}")
    try:
        store = open_datastore(datastore)
    except ValueError as error:
        common.fail(f"--datastore {error}")
    try:
        compiler = Options.from_environ(os.environ, common.node_name(node))
    except ValueError as error:
        common.fail(str(error))
    options = AgentOptions(
        compiler=compiler,
        use_kernel=kernel,
        takeover=frozenset({12}) if takeover == "bird" else frozenset(),
        port=port,
        both_families=families_per_session == "both",
        graceful_stop=on_stop == "graceful-restart",
        status_file=status_file,
        log_level=log_level,
    )

    async def start(stop: asyncio.Event) -> None:
        await Agent(options, store).run(stop)

    common.run_until_stopped(start)
