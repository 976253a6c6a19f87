"""`routed status`: the process as a whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final

from routed.cli import options, servers
from routed.cli.answer import show
from routed.cli.failure import ends_well
from routed.cli.table import Cell, facts
from routed.cli.wording import by_family, count, duration, moment

if TYPE_CHECKING:
    from routed.cli.screen import Screen
    from routed.observe.documents import DatastoreStatus, KernelStatus, Status

#: Problems of records on a terminal.
MOST_PROBLEMS: Final = 20


@ends_well
def status(
    socket: options.Socket = None,
    node: options.Node = None,
    http: options.Http = None,
    output: options.Output = "table",
    watch: options.Watch = None,
) -> None:
    """Show how routed is.

    Ready or not, its sessions, routes, datastore and kernel, and what is wrong."""
    from routed.observe.documents import Status

    client = servers.client(servers.Asked(socket, node, http))
    how = options.shown(output, watch, False)
    show(lambda: client.get("/status"), Status, lines, how)


def lines(document: Status, screen: Screen) -> Iterator[str]:
    """The document, for people."""
    yield from facts(_facts(document, screen), screen)


def _facts(document: Status, where: Screen) -> Iterator[tuple[str, str | Cell]]:
    cluster = f", cluster ID {document.cluster_id}" if document.cluster_id else ""
    yield document.role, f"{document.node}, AS {document.local_as}, router ID {document.router_id}{cluster}"
    yield "routed", f"{document.version}, up {duration(document.uptime)}, since {moment(document.started_at)}"
    yield "state", _state(document)
    yield "listening", ", ".join(document.listening) or Cell("nowhere", "yellow")
    up = document.peers_by_state.get("established", 0)
    down = [
        f"{number} {state}"
        for state, number in document.peers_by_state.items()
        if number and state != "established"
    ]
    sessions = ", ".join((f"{up} of {document.peers} established", *down))
    yield "sessions", Cell(sessions, "green" if up == document.peers else "red")
    yield "routes", f"{by_family(document.routes)}; paths {by_family(document.paths)}"
    yield "originated", f"{count(document.originated, 'route')}, of {count(document.blocks, 'block')}"
    yield "updates", f"{document.updates_received} received, {document.updates_sent} sent"
    if document.kernel is not None:
        yield "kernel", _kernel(document.kernel)
    if document.datastore is not None:
        yield "datastore", _datastore(document.datastore)
    yield "incidents", "; ".join(_incidents(document.incidents))
    # All in a pipe and in documents; on a terminal what else there is to say stays in sight.
    shown = document.problems if where.columns is None else document.problems[:MOST_PROBLEMS]
    for at, problem in enumerate(shown):
        yield ("problems" if at == 0 else "", Cell(problem, "red"))
    if more := len(document.problems) - len(shown):
        yield "", f"and {more} more: routed status -o json, routed show intent"


def _incidents(counted: Mapping[str, object]) -> Iterator[str]:
    """What was counted at least once, by what it was."""
    for name, number in counted.items():
        if isinstance(number, dict):
            kinds = ", ".join(f"{number[kind]} {kind}" for kind in number if number[kind])
            if kinds:
                yield f"{name.replace('_', ' ')}: {kinds}"
        elif number:
            yield f"{number} {name.replace('_', ' ')}"


def _state(document: Status) -> Cell:
    words = [
        "ready" if document.ready else "not ready",
        "converged" if document.converged else "not converged yet",
    ]
    if document.draining:
        words.append("draining")
    well = document.ready and document.converged and not document.draining
    return Cell(", ".join(words), "green" if well else "yellow" if document.ready else "red")


def _kernel(kernel: KernelStatus) -> str | Cell:
    if kernel.error is not None:
        return Cell(f"no routes: {kernel.error}", "red")
    text = f"{by_family(kernel.installed)} installed"
    if kept_out := sum(kernel.kept_out.values()):
        text += f", {kept_out} kept out (routed routes --rejected)"
    return Cell(f"{text}, {kernel.failed} refused", "red") if kernel.failed else text


def _datastore(datastore: DatastoreStatus) -> str | Cell:
    if datastore.lost_since is not None:
        return Cell(f"lost since {moment(datastore.lost_since)}: {datastore.lost_reason}", "red")
    if not datastore.synced:
        return Cell("not read yet", "yellow")
    changed = f", last change {moment(datastore.changed_at)}" if datastore.changed_at else ""
    lost = f", lost {count(datastore.losses, 'time')} since the start" if datastore.losses else ""
    return f"in sync{changed}{lost}"
