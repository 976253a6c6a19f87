"""`routed exabgp`: an API process of ExaBGP."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from routed.cli import common

if TYPE_CHECKING:
    import asyncio

    from routed.render.bird import Rendered


def exabgp(
    datastore: common.Datastore,
    node: common.NodeName = None,
    log_level: common.LogLevel = None,
    log_format: common.LogFormat = "auto",
) -> None:
    """Have ExaBGP announce a node's routes: run by ExaBGP, from the `process` section that `routed render
    --format exabgp --with-process` writes.

    Commands go to standard output, answers come from standard input, logs go to standard error. Where the
    datastore is lost nothing is withdrawn."""
    # Standard output is ExaBGP's alone: whatever else is printed goes where the logs go.
    commands = os.dup(1)
    sys.stdout.flush()
    os.dup2(2, 1)
    common.configure_logging(log_level, log_format)
    from routed.datastore import open_datastore
    from routed.intent.options import Options
    from routed.render.exabgp_process import ExabgpProcess

    try:
        store = open_datastore(datastore)
    except ValueError as error:
        common.fail(f"--datastore {error}")
    try:
        options = Options.from_environ(os.environ, common.node_name(node))
    except ValueError as error:
        common.fail(str(error))

    async def start(stop: asyncio.Event) -> None:
        await ExabgpProcess(options, store, 0, commands).run(stop)

    common.run_until_stopped(start)


def process_command(datastore: str, node: str) -> list[str]:
    """The command for ExaBGP's `process` section: this program by its absolute path, for a node's records."""
    program = Path(sys.argv[0])
    known = program.name == "routed" and os.access(program, os.X_OK)
    routed = [str(program.absolute())] if known else [sys.executable, "-m", "routed"]
    scheme, _, rest = datastore.partition(":")
    if scheme.lower() == "file" and not rest.startswith("/"):
        # ExaBGP runs it from another folder.
        datastore = f"file:{Path(rest).expanduser().absolute()}"
    return [*routed, "exabgp", "--node", node, "--datastore", datastore]


def check(rendered: Rendered) -> None:
    """Exits with 1 where ExaBGP refuses the file, with 2 where there is no ExaBGP to ask."""
    from routed.render.exabgp_check import NoExabgpError, check_exabgp, find_exabgp

    try:
        command = find_exabgp()
    except NoExabgpError as error:
        common.fail(f"--check: {error}")
    for outcome in check_exabgp(rendered.files, command):
        typer.echo(f"{outcome.file}: {outcome.error or f'{outcome.program} takes it'}", err=True)
        if outcome.error:
            raise typer.Exit(1)
