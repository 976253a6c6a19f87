"""`routed run`, the speaker of one node: from its options to the agent."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any, Final

from routed import daemon, log
from routed.agent import Agent
from routed.agent_options import AgentOptions
from routed.datastore import AbsentError, Wanted, as_environ_says, open_datastore
from routed.intent.options import Options
from routed.rr.standalone import raise_descriptor_limit

#: Protocol numbers of the kernel routes that a program leaves behind (/etc/iproute2/rt_protos), by what
#: --takeover calls it.
_TAKEOVER: Final = {"none": frozenset[int](), "bird": frozenset({12})}


def main(
    *,
    datastore: str,
    node: str | None,
    kernel: bool,
    takeover: str,
    port: int | None,
    families_per_session: str,
    on_stop: str,
    status_file: str | None,
    log_level: str | None,
    log_format: str,
    **observe: Any,
) -> None:
    """Run until SIGTERM. The options are `cli.run`'s; exits with 2 where one of them is wrong."""
    daemon.configure_logging(log_level, log_format)
    for name, value, choices in (
        ("--families-per-session", families_per_session, ("one", "both")),
        ("--on-stop", on_stop, ("graceful-restart", "shutdown")),
        ("--takeover", takeover, tuple(_TAKEOVER)),
    ):
        if value not in choices:
            daemon.fail(f"{name} {value!r}: use {' or '.join(choices)}")
    try:
        compiler = Options.from_environ(os.environ, daemon.node_name(node))
    except ValueError as error:
        daemon.fail(str(error))
    try:
        store = as_environ_says(open_datastore(datastore, wanted=Wanted(node=compiler.node)), os.environ)
    except ValueError as error:
        daemon.fail(f"--datastore {error}")
    options = AgentOptions(
        compiler=compiler,
        use_kernel=kernel,
        takeover=_TAKEOVER[takeover],
        port=port,
        both_families=families_per_session == "both",
        graceful_stop=on_stop == "graceful-restart",
        status_file=Path(status_file) if status_file else None,
        log_level=log_level,
        observe=daemon.observe_options(compiler.node, observe),
    )

    if missing := raise_descriptor_limit():
        log.get("agent").warning("descriptor limit", problem=missing)

    async def run(stop: asyncio.Event) -> None:
        try:
            await Agent(options, store).run(stop)
        except AbsentError as error:
            daemon.fail(f"--datastore {datastore}: {error}")

    daemon.run_until_stopped(run)
