"""Options and arguments that the commands share which ask a running routed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final

import typer
from typer.core import TyperCommand

from routed.cli import servers
from routed.cli.answer import Shown

#: `--watch` without a number, seconds.
WATCH: Final = 2.0
#: Completion must not keep the shell waiting, seconds.
_COMPLETION_TIMEOUT: Final = 0.5

Socket = Annotated[
    Path | None,
    typer.Option(
        "--socket",
        metavar="PATH",
        help="The socket of the routed that is asked (or ROUTED_SOCKET). Without it, the only one that "
        "runs here.",
    ),
]
Node = Annotated[
    str | None,
    typer.Option(
        "--node",
        metavar="NAME",
        autocompletion=lambda incomplete: servers.names(incomplete),
        help="The node, or reflector, that is asked, where several run.",
    ),
]
Http = Annotated[
    str | None,
    typer.Option(
        "--http", metavar="URL", help="Ask over HTTP: http://127.0.0.1:9180, where routed has --http."
    ),
]
Output = Annotated[
    str,
    typer.Option("-o", "--output", metavar="FORMAT", help="table, json or yaml."),
]
Watch = Annotated[
    float | None,
    typer.Option(
        "-w",
        "--watch",
        metavar="[SECONDS]",
        help=f"Again and again, each {WATCH:g} seconds or so many, until Ctrl-C.",
    ),
]
NoHeaders = Annotated[bool, typer.Option("--no-headers", help="Tables without the line of titles.")]


class Watchable(TyperCommand):
    """A command whose `--watch` may stand alone."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """See click."""
        return super().parse_args(ctx, with_interval(args))


def with_interval(arguments: list[str]) -> list[str]:
    """`--watch`, where no number follows, with its number."""
    found: list[str] = []
    for at, argument in enumerate(arguments):
        if argument == "--":
            return found + arguments[at:]
        following = arguments[at + 1] if at + 1 < len(arguments) else ""
        alone = argument in ("-w", "--watch") and not _is_number(following)
        found.append(f"--watch={WATCH:g}" if alone else argument)
    return found


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def shown(output: str, watch: float | None, no_headers: bool) -> Shown:
    """How an answer is shown. Raises `CommandError` where an option is wrong."""
    return Shown(output, watch, not no_headers)


def peer_names(ctx: typer.Context, incomplete: str) -> list[str]:
    """For the shell's completion: the running routed's peers; none where it does not answer at once."""
    import json

    try:
        given = {name: ctx.params.get(name) for name in ("socket", "node", "http")}
        asked = servers.Asked(**given)
        document = json.loads(servers.client(asked, _COMPLETION_TIMEOUT).get("/peers"))
        names = [str(peer["name"]) for peer in document["peers"]]
    except Exception:  # a shell that completes shows what is printed in the midst of a line
        return []
    return [name for name in names if name.startswith(incomplete) and name.isprintable()]


PEER: Final[dict[str, Any]] = {"metavar": "NAME", "autocompletion": peer_names}
