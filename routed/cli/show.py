"""`routed show intent`: what a node is going to do, from the records alone."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from routed.cli import common
from routed.cli.failure import ends_well
from routed.cli.text import safe_lines
from routed.text import escape

app = typer.Typer(help="Show what follows from the records.", no_args_is_help=True)


@app.callback()
def _show() -> None:
    pass


@app.command("intent")
@ends_well
def intent(
    datastore: common.Datastore,
    node: common.NodeName = None,
    output: Annotated[
        str, typer.Option("-o", "--output", metavar="FORMAT", help="text, json or yaml.")
    ] = "text",
) -> None:
    """Each session with the record it comes from, each route with its reason, each policy, and what is wrong:
    rejected records, references to what is not there."""
    import asyncio

    from routed.cli.render import first_batch
    from routed.datastore import open_datastore
    from routed.intent.compiler import compile_intent
    from routed.intent.describe import as_data, as_text
    from routed.intent.local_workloads import read_endpoint_statuses
    from routed.intent.options import Options

    if output not in ("text", "json", "yaml"):
        common.fail(f"-o {output!r}: use text, json or yaml")
    try:
        options = Options.from_environ(os.environ, common.node_name(node))
        store = open_datastore(datastore)
    except ValueError as error:
        common.fail(str(error))
    batch = asyncio.run(first_batch(store, datastore))
    workloads, unread = read_endpoint_statuses(Path(options.endpoint_status_prefix))
    compiled = compile_intent((*batch.upserts, *workloads), options)
    problems = (*batch.problems, *unread)
    if output == "text":
        typer.echo(safe_lines(as_text(compiled, problems), escape))
    elif output == "json":
        import json

        typer.echo(json.dumps(as_data(compiled, problems), indent=2))
    else:
        import yaml

        typer.echo(yaml.safe_dump(as_data(compiled, problems), sort_keys=False), nl=False)
