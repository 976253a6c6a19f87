"""What several commands share: options with their environment names; and, from `routed.daemon`, how a
command runs and fails."""

from __future__ import annotations

from typing import Annotated

import typer

from routed.daemon import configure_logging, fail, node_name, run_until_stopped

__all__ = [
    "Datastore",
    "LogFormat",
    "LogLevel",
    "configure_logging",
    "fail",
    "node_name",
    "run_until_stopped",
]

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
