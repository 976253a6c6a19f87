"""The command line: one thin module a command.

Each command imports the rooms it needs inside its function, so that `routed --help`
and the quick commands do not pay for the others. `routed run` and `routed rr` only
read their options here: see `routed.daemon`.
"""

from __future__ import annotations

import typer

from routed import __version__
from routed.cli import (
    act,
    blocks,
    events,
    exabgp,
    explain,
    healthcheck,
    peers,
    relay,
    render,
    routes,
    rr,
    run,
    show,
    status,
)
from routed.cli.options import Watchable

app = typer.Typer(
    name="routed",
    help="Calico's BGP in one process: records in, sessions, announcements and kernel routes out.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("run")(run.run)
app.command("rr")(rr.rr)
app.command("relay")(relay.relay)
app.command("render")(render.render)
app.command("exabgp")(exabgp.exabgp)
app.command("status", cls=Watchable)(status.status)
app.command("peers", cls=Watchable)(peers.peers)
app.command("routes", cls=Watchable)(routes.routes)
app.command("blocks", cls=Watchable)(blocks.blocks)
app.command("events")(events.events)
app.command("explain", cls=Watchable)(explain.explain)
app.command("healthcheck")(healthcheck.healthcheck)
app.add_typer(act.app, name="peer")
app.command("drain")(act.drain)
app.command("undrain")(act.undrain)
app.add_typer(show.app, name="show")


def _print_version(value: bool) -> None:
    if value:
        typer.echo(f"routed {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(
        False, "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
    ),
) -> None:
    pass
