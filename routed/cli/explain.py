"""`routed explain PREFIX|ADDRESS|PEER`: why something is, or is not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Final

import typer

from routed.cli import options, servers
from routed.cli.answer import show
from routed.cli.failure import Status, ends_well
from routed.cli.text import pad, safe, width, wrap

if TYPE_CHECKING:
    from routed.cli.screen import Screen
    from routed.observe.documents import Explanation, Step

_COLOURS: Final = {"pass": "green", "stop": "red", "info": "dim"}
_LEAST: Final = 30


@ends_well
def explain(
    target: Annotated[
        str,
        typer.Argument(
            metavar="PREFIX|ADDRESS|PEER", help="What to explain.", autocompletion=options.peer_names
        ),
    ],
    socket: options.Socket = None,
    node: options.Node = None,
    http: options.Http = None,
    output: options.Output = "table",
    watch: options.Watch = None,
) -> None:
    """Explain why a route or session is, or is not.

    Every gate on its way, with the record and field that decided; and for what is missing, the first gate
    that stopped it.

    Exits with 1 where something is not as one would wish."""
    from routed.observe.documents import Explanation

    client = servers.client(servers.Asked(socket, node, http))
    how = options.shown(output, watch, False)
    query = {"target": target}
    answer = show(lambda: client.get("/explain", query), Explanation, lines, how)
    if not answer.ok:
        raise SystemExit(Status.NO)


def lines(document: Explanation, screen: Screen) -> Iterator[str]:
    """The verdict, and then step by step."""
    verdict = document.verdict
    if not verdict.startswith(document.target):
        verdict = f"{document.target}: {verdict}"
    room = screen.columns or 10_000
    for line in wrap(safe(verdict), room):
        yield screen.paint(line, "green" if document.ok else "red")
    if document.steps:
        yield ""
    gates = max((width(safe(step.gate)) for step in document.steps), default=0)
    for step in document.steps:
        yield from _step(step, gates, screen, room, stopped=step == document.stopped_by)


def _step(step: Step, gates: int, screen: Screen, room: int, *, stopped: bool) -> Iterator[str]:
    arrow = ">" if stopped else " "
    outcome = screen.paint(f"{step.outcome:4}", _COLOURS[step.outcome])
    head = f"{arrow} {outcome}  {pad(safe(step.gate), gates)}  "
    indent = 2 + 4 + 2 + gates + 2
    record = " ".join(part for part in (step.record, step.field) if part)
    for at, line in enumerate(wrap(safe(step.text), max(_LEAST, room - indent))):
        yield ((head if at == 0 else " " * indent) + line).rstrip()
    if record:
        for line in wrap(safe(record), max(_LEAST, room - indent)):
            yield " " * indent + screen.paint(line, "dim")
