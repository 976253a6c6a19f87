"""The command line: one thin module a command.

Each command imports the rooms it needs inside its function, so that `routed --help`
and the quick commands do not pay for the others; and of the commands only the one
that is asked for is imported. `routed run` and `routed rr` only read their options
here: see `routed.daemon`.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Final

import typer

from routed import __version__

#: Each command: the module here, and the function in it, or the Typer where it has commands of its own.
COMMANDS: Final = {
    "run": ("run", "run"),
    "rr": ("rr", "rr"),
    "relay": ("relay", "relay"),
    "render": ("render", "render"),
    "exabgp": ("exabgp", "exabgp"),
    "status": ("status", "status"),
    "peers": ("peers", "peers"),
    "routes": ("routes", "routes"),
    "blocks": ("blocks", "blocks"),
    "events": ("events", "events"),
    "explain": ("explain", "explain"),
    "healthcheck": ("healthcheck", "healthcheck"),
    "drain": ("act", "drain"),
    "undrain": ("act", "undrain"),
    "peer": ("act", "app"),
    "show": ("show", "app"),
}
#: Those whose `--watch` may stand alone.
_WATCHABLE: Final = frozenset({"status", "peers", "routes", "blocks", "explain"})


def main(arguments: Sequence[str]) -> None:
    """Do what the command line says, and exit."""
    first = arguments[0] if arguments else ""
    # To import all commands, and to look at their options, takes longer than most of them run.
    application((first,) if first in COMMANDS else tuple(COMMANDS))()


def application(commands: Sequence[str] = tuple(COMMANDS)) -> typer.Typer:
    """The command line with these commands."""
    app = typer.Typer(
        name="routed",
        help="Calico's BGP in one process: records in, sessions, announcements and kernel routes out.",
        no_args_is_help=True,
        add_completion=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    app.callback()(_options)
    for name in commands:
        module, attribute = COMMANDS[name]
        command = getattr(import_module(f"{__name__}.{module}"), attribute)
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name)
        elif name in _WATCHABLE:
            from routed.cli.options import Watchable

            app.command(name, cls=Watchable)(command)
        else:
            app.command(name)(command)
    return app


def _print_version(value: bool) -> None:
    if value:
        typer.echo(f"routed {__version__}")
        raise typer.Exit


def _options(
    version: bool = typer.Option(
        False, "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
    ),
) -> None:
    pass
