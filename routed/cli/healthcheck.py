"""`routed healthcheck`: for exec probes of Kubernetes and Docker."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from routed.cli import options, servers
from routed.cli.failure import CommandError, Status, ends_well
from routed.cli.text import safe

#: Longer reasons are cut.
_MOST: Final = 1000


@ends_well
def healthcheck(
    ready: Annotated[
        bool, typer.Option("--ready", help="Ready to take traffic? As without options.")
    ] = False,
    live: Annotated[bool, typer.Option("--live", help="Alive, or better started anew?")] = False,
    timeout: Annotated[
        float,
        typer.Option(
            "--timeout",
            min=0.1,
            max=3600,
            metavar="SECONDS",
            help="How long to wait for the answer; then it is no.",
        ),
    ] = 5.0,
    socket: options.Socket = None,
    node: options.Node = None,
    http: options.Http = None,
) -> None:
    """Exit with 0 where routed is ready, else 1.

    With --live: where it is alive. No answer is a no. Says why in a line."""
    if ready and live:
        raise CommandError("--ready and --live: give one of them")
    path = "/liveness" if live else "/readiness"
    try:
        status, body = servers.client(servers.Asked(socket, node, http), timeout).probe(path)
    except CommandError as failure:
        raise CommandError(
            str(failure), Status.USAGE if failure.status is Status.USAGE else Status.NO
        ) from None
    print(_reason(body) or f"HTTP status {status}")
    if status != 200:
        raise SystemExit(Status.NO)


def _reason(body: bytes) -> str:
    """The answer's text, or what it says as a document."""
    text = body.decode(errors="replace").strip()
    if text.startswith("{"):
        import json

        try:
            document = json.loads(text)
            text = str(document.get("reason") or document.get("error") or text)
        except (ValueError, AttributeError):
            pass
    return safe(text[:_MOST])
