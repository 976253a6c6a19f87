"""`routed run`: the speaker of one node."""

from __future__ import annotations

from typing import Annotated

import typer

from routed import daemon
from routed.cli import common


def run(
    datastore: common.Datastore,
    node: common.NodeName = None,
    kernel: Annotated[
        bool,
        typer.Option("--kernel/--no-kernel", envvar="ROUTED_KERNEL", help="Program and learn kernel routes."),
    ] = True,
    takeover: Annotated[
        str,
        typer.Option(
            "--takeover",
            metavar="WHAT",
            envvar="ROUTED_TAKEOVER",
            help="bird: replace, without a gap, the kernel routes (proto bird) that a BIRD has left on this "
            "node, and remove the stale ones after convergence. For a node whose BIRD is stopped.",
        ),
    ] = "none",
    port: Annotated[
        int | None,
        typer.Option(
            "--port",
            metavar="PORT",
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
            metavar="one|both",
            envvar="ROUTED_FAMILIES_PER_SESSION",
            help="one: as Calico, IPv4 over the IPv4 session and IPv6 over the IPv6 session. "
            "both: offer both on each; a peer that offers one gets one.",
        ),
    ] = "one",
    on_stop: Annotated[
        str,
        typer.Option(
            "--on-stop",
            metavar="HOW",
            envvar="ROUTED_ON_STOP",
            help="graceful-restart: peers keep our routes for the restart time, as for an upgrade. "
            "shutdown: they drop them at once.",
        ),
    ] = "graceful-restart",
    status_file: common.StatusFile = None,
    api: common.Api = "auto",
    http: common.Http = None,
    looking_glass: common.LookingGlass = False,
    metrics: common.Metrics = None,
    metrics_per_peer: common.MetricsPerPeer = False,
    bird_sockets: common.BirdSockets = None,
    events: common.Events = None,
    secrets: common.Secrets = None,
    log_level: common.LogLevel = None,
    log_format: common.LogFormat = "auto",
) -> None:
    """Speak BGP for one node: watch its records, keep its sessions, announcements and kernel routes as they
    say.

    Nothing needs a reload: a changed record is in force at once. SIGTERM stops it within a second; kernel
    routes stay."""
    options = locals()  # every option, by the name of its parameter
    common.use_secrets(options.pop("secrets"))
    daemon.start("run", options)
