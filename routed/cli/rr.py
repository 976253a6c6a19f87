"""`routed rr`: a standalone route reflector."""

from __future__ import annotations

import asyncio
import dataclasses
import os
from ipaddress import AddressValueError, IPv4Address, IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from routed.cli import common

if TYPE_CHECKING:
    from routed.agent import AgentOptions
    from routed.bgp.transport import Endpoint
    from routed.rr.standalone import Running

#: Drains longer than this are no drains any more, seconds.
_MOST_DRAIN_TIME = 3600.0


def rr(
    listen: Annotated[
        list[str] | None,
        typer.Option(
            "--listen",
            metavar="ADDR:PORT",
            help="Listen here; [ADDR]:PORT for IPv6. May be given twice, once a family. With --node the "
            "default is what the records say.",
        ),
    ] = None,
    local_as: Annotated[
        int | None, typer.Option("--as", metavar="N", envvar="ROUTED_AS", help="Our AS, 1 to 4294967295.")
    ] = None,
    router_id: Annotated[
        str | None,
        typer.Option(
            "--router-id",
            metavar="A.B.C.D",
            envvar=["ROUTED_ROUTER_ID", "CALICO_ROUTER_ID"],
            help="Our BGP identifier.",
        ),
    ] = None,
    cluster_id: Annotated[
        str | None,
        typer.Option(
            "--cluster-id",
            metavar="A.B.C.D",
            envvar="ROUTED_CLUSTER_ID",
            help="Our cluster ID (RFC 4456); default: the router ID.",
        ),
    ] = None,
    clients: Annotated[
        list[str] | None,
        typer.Option(
            "--clients",
            metavar="CIDR",
            help="Accept a session of any client in this range. May be given more than once.",
        ),
    ] = None,
    peers: Annotated[
        list[str] | None,
        typer.Option(
            "--peer",
            metavar="ADDR:PORT",
            help="Another reflector, above us or beside us, to dial: no client of ours. May be given more "
            "than once.",
        ),
    ] = None,
    datastore: Annotated[
        str | None,
        typer.Option(
            "--datastore",
            envvar="ROUTED_DATASTORE",
            metavar="URL",
            help="Take the clients from these records: each node with a BGPPeer whose peerIP is a "
            "--listen address.",
        ),
    ] = None,
    node: Annotated[
        str | None,
        typer.Option(
            "--node",
            metavar="NAME",
            envvar="ROUTED_NODE",
            help="With --datastore: be the reflector that has the Node record of this name, with its "
            "routeReflectorClusterID; who its clients are is as the records say.",
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            "--name", envvar="ROUTED_NAME", help="Our name in logs and status; default: the router ID."
        ),
    ] = None,
    on_stop: Annotated[
        str,
        typer.Option(
            "--on-stop",
            envvar="ROUTED_ON_STOP",
            help="shutdown: clients go to their other reflector at once. graceful-restart: they "
            "keep our routes for the restart time.",
        ),
    ] = "shutdown",
    drain_time: Annotated[
        float,
        typer.Option(
            "--drain-time",
            envvar="ROUTED_DRAIN_TIME",
            metavar="SECONDS",
            help="On SIGTERM first announce every route with LOCAL_PREF 0 and the community "
            "GRACEFUL_SHUTDOWN (RFC 8326), and go on for so long; a second SIGTERM ends at once.",
        ),
    ] = 0.0,
    status_file: Annotated[
        Path | None,
        typer.Option(
            "--status-file", envvar="ROUTED_STATUS_FILE", help="Write the state as JSON here, on each change."
        ),
    ] = None,
    log_level: common.LogLevel = None,
    log_format: common.LogFormat = "auto",
) -> None:
    """Reflect routes among clients (RFC 4456): no kernel routes, no privileges needed on a port above
    1023."""
    common.configure_logging(log_level, log_format)
    from routed import log
    from routed.agent import Agent
    from routed.datastore import open_datastore
    from routed.rr.standalone import Running, raise_descriptor_limit

    if on_stop not in ("graceful-restart", "shutdown"):
        common.fail(f"--on-stop {on_stop!r}: use graceful-restart or shutdown")
    if not 0 <= drain_time <= _MOST_DRAIN_TIME:
        common.fail(f"--drain-time {drain_time:g}: 0 to {_MOST_DRAIN_TIME:g} seconds")
    running = Running(on_stop == "graceful-restart", drain_time, status_file, log_level)
    endpoints = tuple(common.endpoint("--listen", text) for text in listen or ())
    ranges = tuple(_network("--clients", text) for text in clients or ())
    try:
        store = open_datastore(datastore) if datastore is not None else None
    except ValueError as error:
        common.fail(f"--datastore {error}")
    if node is not None:
        if datastore is None:
            common.fail("--node: the record is in a datastore: give --datastore URL too")
        refused = {"--as": local_as, "--cluster-id": cluster_id, "--clients": clients, "--peer": peers}
        for option, value in refused.items():
            if value:
                common.fail(f"{option}: with --node this is as the Node record says")
        options = _from_record(node, router_id, endpoints, running)
    else:
        options = _from_options(
            endpoints, local_as, router_id, cluster_id, ranges, peers or [], datastore, name, running
        )
    if missing := raise_descriptor_limit(ranges):
        log.get("rr").warning("descriptor limit", problem=missing)

    async def start(stop: asyncio.Event) -> None:
        await Agent(options, store).run(stop)

    common.run_until_stopped(start)


def _from_record(
    node: str, router_id: str | None, listen: tuple[Endpoint, ...], running: Running
) -> AgentOptions:
    """A reflector that has a Node record."""
    from routed.intent.options import Options
    from routed.rr.standalone import from_node_record

    try:
        compiler = Options.from_environ(os.environ, node)
    except ValueError as error:
        common.fail(str(error))
    if router_id is not None and router_id != "hash":
        compiler = dataclasses.replace(compiler, router_id=_identifier("--router-id", router_id))
    return from_node_record(compiler, listen, running)


def _from_options(
    listen: tuple[Endpoint, ...],
    local_as: int | None,
    router_id: str | None,
    cluster_id: str | None,
    clients: tuple[IPv4Network | IPv6Network, ...],
    peers: list[str],
    datastore: str | None,
    name: str | None,
    running: Running,
) -> AgentOptions:
    """A reflector that is told who it is."""
    from routed.rr.standalone import Reflector

    for option, value in (
        ("--listen ADDR:PORT", listen),
        ("--as N", local_as),
        ("--router-id A.B.C.D", router_id),
    ):
        if value is None or value == ():
            common.fail(
                f"give {option}; or --node NAME and --datastore URL for a reflector with a Node record"
            )
    assert local_as is not None
    assert router_id is not None
    if not 1 <= local_as <= 0xFFFFFFFF:
        common.fail(f"--as {local_as}: an AS number is 1 to 4294967295")
    try:
        reflector = Reflector(
            listen=listen,
            local_as=local_as,
            router_id=_identifier("--router-id", router_id),
            cluster_id=_identifier("--cluster-id", cluster_id or router_id),
            clients=clients,
            peers=tuple(common.endpoint("--peer", text) for text in peers),
            from_records=datastore is not None,
            name=name or "",
        )
    except ValueError as error:
        common.fail(str(error))
    return reflector.options(running)


def _identifier(option: str, text: str) -> IPv4Address:
    """A BGP identifier or cluster ID: four octets, not zero (RFC 6286 section 2.1)."""
    try:
        value = IPv4Address(text)
    except AddressValueError:
        common.fail(f"{option} {text!r}: write four octets, such as 10.0.0.1")
    if not int(value):
        common.fail(f"{option} 0.0.0.0: zero is not an identifier")
    return value


def _network(option: str, text: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network(text)
    except ValueError as error:
        common.fail(f"{option} {text!r}: {error}")
