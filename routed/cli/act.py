"""The commands that change something: `routed peer refresh|shutdown|up NAME`, `routed drain`, `undrain`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import typer

from routed.cli import options, servers
from routed.cli.answer import as_json, as_yaml, decode
from routed.cli.client import peer_path
from routed.cli.failure import CommandError, ends_well
from routed.cli.screen import write
from routed.cli.text import safe

app = typer.Typer(help="Act on one peer of a running routed.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="The peer's name, as routed peers has it.", **options.PEER)]


@app.command("refresh")
@ends_well
def refresh(
    name: Name,
    direction: Annotated[
        str, typer.Option("--direction", metavar="WAY", help="in: its routes; out: ours; or both.")
    ] = "in",
    socket: options.Socket = None,
    node: options.Node = None,
    http: options.Http = None,
    output: options.Output = "table",
) -> None:
    """Have routes sent again (RFC 2918)."""
    if direction not in ("in", "out", "both"):
        raise CommandError(f"--direction {direction!r}: use in, out or both")
    _act(servers.Asked(socket, node, http), peer_path(name, "refresh"), {"direction": direction}, output)


@app.command("shutdown")
@ends_well
def shutdown(
    name: Name,
    message: Annotated[
        str,
        typer.Option(
            "-m",
            "--message",
            metavar="TEXT",
            help="What the peer's operator is told (RFC 9003): up to 255 octets.",
        ),
    ] = "",
    socket: options.Socket = None,
    node: options.Node = None,
    http: options.Http = None,
    output: options.Output = "table",
) -> None:
    """End the session, and have none until `routed peer up`, or a start of routed."""
    body = {"message": message}
    _act(servers.Asked(socket, node, http), peer_path(name, "shutdown"), body, output)


@app.command("up")
@ends_well
def up(
    name: Name,
    socket: options.Socket = None,
    node: options.Node = None,
    http: options.Http = None,
    output: options.Output = "table",
) -> None:
    """Let there be a session again, after a shutdown."""
    _act(servers.Asked(socket, node, http), peer_path(name, "up"), {}, output)


@ends_well
def drain(
    socket: options.Socket = None,
    node: options.Node = None,
    http: options.Http = None,
    output: options.Output = "table",
) -> None:
    """Become the last choice of all peers.

    Graceful shutdown (RFC 8326), before maintenance: peers choose other ways while ours still work."""
    _act(servers.Asked(socket, node, http), "/drain", {}, output)


@ends_well
def undrain(
    socket: options.Socket = None,
    node: options.Node = None,
    http: options.Http = None,
    output: options.Output = "table",
) -> None:
    """End the drain: be chosen as before."""
    _act(servers.Asked(socket, node, http), "/undrain", {}, output)


def _act(asked: servers.Asked, path: str, body: Mapping[str, object], output: str) -> None:
    from routed.observe.documents import Done

    how = options.shown(output, None, False)
    answer = servers.client(asked).post(path, body)
    match how.output:
        case "json":
            write([as_json(answer)])
        case "yaml":
            write([as_yaml(answer)])
        case _:
            write([safe(decode(answer, Done).done)])
