"""What several commands share: options with their environment names; and, from `routed.daemon`, how a
command runs and fails."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from routed.daemon import configure_logging, fail, node_name, run_until_stopped

__all__ = [
    "Api",
    "BirdSockets",
    "Datastore",
    "Events",
    "Http",
    "LogFormat",
    "LogLevel",
    "LookingGlass",
    "Metrics",
    "MetricsPerPeer",
    "NodeName",
    "Secrets",
    "StatusFile",
    "configure_logging",
    "fail",
    "node_name",
    "run_until_stopped",
    "use_secrets",
]


def _datastore_of_calico_node() -> str:
    """Where calico-node would look; one of the options is missing where that says nothing."""
    from routed.datastore.url import url_from_environ

    try:
        url = url_from_environ(os.environ)
    except ValueError as error:
        fail(str(error))
    if not url:
        fail("give --datastore URL (or ROUTED_DATASTORE), or calico-node's DATASTORE_TYPE and ETCD_ENDPOINTS")
    return url


Datastore = Annotated[
    str,
    typer.Option(
        "--datastore",
        envvar="ROUTED_DATASTORE",
        metavar="URL",
        default_factory=_datastore_of_calico_node,
        show_default="as calico-node: DATASTORE_TYPE, ETCD_ENDPOINTS",
        help="Where the records are: file:PATH, a YAML file or a folder of them; etcd://HOST:PORT,...; "
        "mqtt://HOST:PORT/PREFIX; kubernetes:.",
    ),
]
NodeName = Annotated[
    str | None,
    typer.Option(
        "--node",
        metavar="NAME",
        envvar=["ROUTED_NODE", "NODENAME"],
        help="Name of the node's record; without it as calico-node finds it: its nodename file, HOSTNAME, "
        "the host's name.",
    ),
]
Secrets = Annotated[
    Path | None,
    typer.Option(
        "--secrets",
        envvar="ROUTED_SECRETS",
        metavar="DIR",
        help="With --datastore mqtt:..., over which no secret goes: mounted Secrets, as files "
        "DIR/NAME/KEY. They are of the namespace NAMESPACE, or kube-system.",
    ),
]
StatusFile = Annotated[
    Path | None,
    typer.Option(
        "--status-file",
        metavar="PATH",
        envvar="ROUTED_STATUS_FILE",
        help="Write the state as JSON here, on each change.",
    ),
]
Api = Annotated[
    str,
    typer.Option(
        "--api",
        envvar="ROUTED_API",
        metavar="SOCKET",
        help="The Unix socket of the status API, for its owner alone; auto: NODE.sock in /run/routed, or in "
        "the user's runtime folder. none: no socket.",
    ),
]
Http = Annotated[
    str | None,
    typer.Option(
        "--http",
        envvar="ROUTED_HTTP",
        metavar="ADDR:PORT",
        help="Serve the status API over HTTP too, on a loopback address, such as 127.0.0.1:9180.",
    ),
]
LookingGlass = Annotated[
    bool,
    typer.Option(
        "--looking-glass/--no-looking-glass",
        envvar="ROUTED_LOOKING_GLASS",
        help="Serve the looking glass, a web page, at --http.",
    ),
]
Metrics = Annotated[
    str | None,
    typer.Option(
        "--metrics",
        envvar="ROUTED_METRICS",
        metavar="ADDR:PORT",
        help="Serve /metrics for Prometheus, /liveness and /readiness, and nothing else, here: 0.0.0.0:9179 "
        "for all addresses.",
    ),
]
MetricsPerPeer = Annotated[
    bool,
    typer.Option(
        "--metrics-per-peer/--metrics-aggregated",
        envvar="ROUTED_METRICS_PER_PEER",
        help="Metrics of each peer, too. In a full mesh that is one series a pair of nodes.",
    ),
]
BirdSockets = Annotated[
    str | None,
    typer.Option(
        "--bird-sockets",
        envvar="ROUTED_BIRD_SOCKETS",
        metavar="DIR",
        help="Answer birdcl, calicoctl node status and calico-node's health on bird.ctl and bird6.ctl in "
        "this folder; calico-node looks in /var/run/calico.",
    ),
]
Events = Annotated[
    str | None,
    typer.Option(
        "--events",
        envvar="ROUTED_EVENTS",
        metavar="URL",
        help="Publish events to a broker: mqtt://[USER:PASSWORD@]HOST:PORT/PREFIX, or mqtts://. Give a "
        "password in the environment.",
    ),
]
LogLevel = Annotated[
    str | None,
    typer.Option(
        "--log-level",
        metavar="LEVEL",
        envvar=["ROUTED_LOG_LEVEL", "BGP_LOGSEVERITYSCREEN"],
        help="debug, info, warning, error or fatal. Wins over the records' logSeverityScreen.",
    ),
]
LogFormat = Annotated[
    str,
    typer.Option(
        "--log-format",
        metavar="FORMAT",
        envvar="ROUTED_LOG_FORMAT",
        help="console, json, or auto: console on a terminal, else json.",
    ),
]


def use_secrets(folder: Path | None) -> None:
    """Lets the datastore that this process opens find the mounted Secrets."""
    if folder is not None:
        os.environ["ROUTED_SECRETS"] = str(folder)
