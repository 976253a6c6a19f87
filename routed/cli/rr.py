"""`routed rr`: a standalone route reflector."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from routed import daemon
from routed.cli import common


def rr(
    listen: Annotated[
        list[str] | None,
        typer.Option(
            "--listen",
            metavar="ADDR:PORT",
            help="Listen here; [ADDR]:PORT for IPv6. May be given twice, once a family. With --node the "
            "default is what the records say.",
        ),
    ] = None,
    local_as: Annotated[
        int | None, typer.Option("--as", metavar="N", envvar="ROUTED_AS", help="Our AS, 1 to 4294967295.")
    ] = None,
    router_id: Annotated[
        str | None,
        typer.Option(
            "--router-id",
            metavar="A.B.C.D",
            envvar=["ROUTED_ROUTER_ID", "CALICO_ROUTER_ID"],
            help="Our BGP identifier.",
        ),
    ] = None,
    cluster_id: Annotated[
        str | None,
        typer.Option(
            "--cluster-id",
            metavar="A.B.C.D",
            envvar="ROUTED_CLUSTER_ID",
            help="Our cluster ID (RFC 4456); default: the router ID.",
        ),
    ] = None,
    clients: Annotated[
        list[str] | None,
        typer.Option(
            "--clients",
            metavar="CIDR",
            help="Accept a session of any client in this range. May be given more than once.",
        ),
    ] = None,
    password_file: Annotated[
        Path | None,
        typer.Option(
            "--password-file",
            metavar="PATH",
            envvar="ROUTED_PASSWORD_FILE",
            help="The TCP-MD5 password of all clients of the --clients ranges: what is in this file, without "
            "the end of its last line.",
        ),
    ] = None,
    max_prefixes: Annotated[
        int | None,
        typer.Option(
            "--max-prefixes",
            envvar="ROUTED_MAX_PREFIXES",
            metavar="N",
            min=1,
            help="End the session of a client of the --clients ranges that sends more prefixes of a family.",
        ),
    ] = None,
    max_prefixes_time: Annotated[
        float,
        typer.Option(
            "--max-prefixes-time",
            envvar="ROUTED_MAX_PREFIXES_TIME",
            metavar="SECONDS",
            min=1,
            help="For so long; then it may try again.",
        ),
    ] = 300.0,
    peers: Annotated[
        list[str] | None,
        typer.Option(
            "--peer",
            metavar="ADDR:PORT",
            help="Another reflector, above us or beside us, to dial: no client of ours. May be given more "
            "than once.",
        ),
    ] = None,
    datastore: Annotated[
        str | None,
        typer.Option(
            "--datastore",
            envvar="ROUTED_DATASTORE",
            metavar="URL",
            help="Take the clients from these records: each node with a BGPPeer whose peerIP is a "
            "--listen address.",
        ),
    ] = None,
    node: Annotated[
        str | None,
        typer.Option(
            "--node",
            metavar="NAME",
            envvar="ROUTED_NODE",
            help="With --datastore: be the reflector that has the Node record of this name, with its "
            "routeReflectorClusterID; who its clients are is as the records say.",
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            "--name",
            metavar="NAME",
            envvar="ROUTED_NAME",
            help="Our name in logs and status; default: the router ID.",
        ),
    ] = None,
    on_stop: Annotated[
        str,
        typer.Option(
            "--on-stop",
            metavar="HOW",
            envvar="ROUTED_ON_STOP",
            help="shutdown: clients go to their other reflector at once. graceful-restart: they "
            "keep our routes for the restart time.",
        ),
    ] = "shutdown",
    drain_time: Annotated[
        float,
        typer.Option(
            "--drain-time",
            envvar="ROUTED_DRAIN_TIME",
            metavar="SECONDS",
            help="On SIGTERM first announce every route with LOCAL_PREF 0 and the community "
            "GRACEFUL_SHUTDOWN (RFC 8326), and go on for so long; a second SIGTERM ends at once.",
        ),
    ] = 0.0,
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
    """Reflect routes among clients (RFC 4456): no kernel routes, no privileges needed on a port above
    1023."""
    options = locals()  # every option, by the name of its parameter
    common.use_secrets(options.pop("secrets"))
    daemon.start("rr", options)
