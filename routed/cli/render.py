"""`routed render`: the configuration of another BGP daemon, as this node."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from routed.cli import common

if TYPE_CHECKING:
    import asyncio

    from routed.datastore import Batch, Datastore
    from routed.intent.options import Options
    from routed.intent.types import NodeIntent
    from routed.render.bird import Rendered

    _Format = tuple[
        Callable[[NodeIntent], Rendered], Callable[[Rendered], Mapping[str, str]], Callable[[Rendered], None]
    ]
    """Renders; leaves out passwords; exits where the daemon does not take the files."""


def render(
    datastore: common.Datastore,
    node: common.NodeName = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", envvar="ROUTED_OUT", help="Write the files to this folder."),
    ] = None,
    stdout: Annotated[
        bool, typer.Option("--stdout", help="Print the files instead, passwords left out.")
    ] = False,
    check: Annotated[
        bool,
        typer.Option("--check", help="Let a local BIRD 1.6 (bird -p), or ExaBGP, parse the files first."),
    ] = False,
    format_: Annotated[
        str,
        typer.Option(
            "--format", metavar="DAEMON", envvar="ROUTED_FORMAT", help="For which daemon: bird or exabgp."
        ),
    ] = "bird",
    with_process: Annotated[
        bool,
        typer.Option(
            "--with-process",
            help="For ExaBGP: no routes in the file; ExaBGP runs `routed exabgp`, which announces them.",
        ),
    ] = False,
    watch: Annotated[
        bool,
        typer.Option(
            "--watch",
            help="For BIRD: follow the records, as confd does; write what changes and have BIRD read it, "
            "keep the last good files where BIRD refuses the new ones.",
        ),
    ] = False,
    control: Annotated[
        Path,
        typer.Option(
            "--control",
            metavar="DIR",
            envvar="ROUTED_BIRD_CONTROL",
            help="With --watch: the folder of BIRD's control sockets, bird.ctl and bird6.ctl.",
        ),
    ] = Path("/var/run/calico"),
) -> None:
    """Write the BIRD 1.6 configuration that Calico's confd writes for a node from the same records, or one
    that makes an ExaBGP announce what the node does.

    Files that are right already are left alone; each other one is replaced as a whole. With --check nothing
    is written that the daemon does not take."""
    import asyncio

    from routed.datastore import open_datastore
    from routed.intent.options import Options

    if format_ not in ("bird", "exabgp"):
        common.fail(f"--format {format_!r}: use bird or exabgp")
    if with_process and format_ != "exabgp":
        common.fail("--with-process goes with --format exabgp")
    if watch and (out is None or stdout or format_ != "bird"):
        common.fail("--watch is for BIRD's files: give --out DIR, without --stdout or another --format")
    if out is None and not stdout and not check:
        common.fail("nothing to do: give --out DIR, --stdout or --check")
    try:
        options = Options.from_environ(os.environ, common.node_name(node))
        store = open_datastore(datastore)
    except ValueError as error:
        common.fail(str(error))
    if watch and out is not None:
        _watch(store, options, out, control, check)
        return
    batch = asyncio.run(first_batch(store, datastore))
    renderer, for_people, checker = (
        _exabgp(datastore, options, with_process) if format_ == "exabgp" else _bird()
    )
    rendered = _render(batch, options, renderer)
    if check:
        checker(rendered)
    if stdout:
        for name, text in for_people(rendered).items():
            typer.echo(f"#### {name}\n{text}")
    if out is not None:
        _write(out, rendered)


def _watch(store: Datastore, options: Options, out: Path, control: Path, check: bool) -> None:
    """Follows the records until SIGTERM or SIGINT; each thing done is a line on standard error."""
    from routed.render.check import NoBirdError, find_programs
    from routed.render.watch import Installer, follow

    def say(level: str, text: str) -> None:
        typer.echo(f"routed: {level}: {text}", err=True)

    try:
        programs = find_programs() if check else {}
    except NoBirdError as error:
        common.fail(f"--check: {error}")
    installer = Installer(out, control, say, programs)

    async def start(stop: asyncio.Event) -> None:
        await follow(store, options, installer, stop)

    common.run_until_stopped(start)


async def first_batch(store: Datastore, url: str) -> Batch:
    """All records, as the datastore has them now."""
    from routed.datastore import Lost, Snapshot

    reason = "it ended before it said anything"
    try:
        async for event in store.watch():
            if isinstance(event, Snapshot):
                return event
            if isinstance(event, Lost):
                reason = event.reason
                break
    finally:
        await store.close()
    return common.fail(f"--datastore {url}: {reason}")


def _bird() -> _Format:
    from routed.render.bird import render, without_passwords

    return render, without_passwords, _check


def _exabgp(datastore: str, options: Options, with_process: bool) -> _Format:
    from routed.cli.exabgp import check, process_command
    from routed.render.exabgp import render_exabgp, without_exabgp_passwords

    process = process_command(datastore, options.node) if with_process else None

    def render(intent: NodeIntent) -> Rendered:
        try:
            return render_exabgp(intent, process)
        except ValueError as error:
            common.fail(str(error))

    return render, without_exabgp_passwords, check


def _render(batch: Batch, options: Options, render: Callable[[NodeIntent], Rendered]) -> Rendered:
    """Compiles and renders; what is wrong goes to standard error, and the rest is rendered all the same."""
    from routed.intent.compiler import compile_intent
    from routed.intent.local_workloads import read_endpoint_statuses

    workloads, unread = read_endpoint_statuses(options.endpoint_status_prefix)
    intent = compile_intent((*batch.upserts, *workloads), options)
    rendered = render(intent)
    for problem in (*batch.problems, *unread, *intent.problems, *rendered.problems):
        typer.echo(f"routed: {problem.severity}: {problem}", err=True)
    return rendered


def _check(rendered: Rendered) -> None:
    """Exits with 1 where BIRD refuses a file, with 2 where there is no BIRD to ask."""
    from routed.render.check import NoBirdError, check, find_programs

    try:
        outcomes = list(check(rendered.files, find_programs()))
    except NoBirdError as error:
        common.fail(f"--check: {error}")
    for outcome in outcomes:
        typer.echo(f"{outcome.file}: {outcome.error or f'{outcome.program} takes it'}", err=True)
    if any(outcome.error for outcome in outcomes):
        raise typer.Exit(1)


def _write(out: Path, rendered: Rendered) -> None:
    from routed.render.files import write_files

    try:
        written = write_files(out, rendered.files)
    except OSError as error:
        common.fail(f"--out {out}: {error.strerror}: {error.filename}")
    what = f"wrote {', '.join(written)}" if written else "nothing changed"
    typer.echo(f"{out}: {what}", err=True)
