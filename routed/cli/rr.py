"""`routed rr`: a standalone route reflector."""

from __future__ import annotations

import asyncio
import resource
from ipaddress import AddressValueError, IPv4Address, IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated

import typer

from routed.cli import common


def rr(
    listen: Annotated[
        list[str],
        typer.Option(
            "--listen",
            metavar="ADDR:PORT",
            help="Listen here; [ADDR]:PORT for IPv6. May be given twice, once a family.",
        ),
    ],
    local_as: Annotated[
        int, typer.Option("--as", metavar="N", envvar="ROUTED_AS", help="Our AS, 1 to 4294967295.")
    ],
    router_id: Annotated[
        str,
        typer.Option(
            "--router-id",
            metavar="A.B.C.D",
            envvar=["ROUTED_ROUTER_ID", "CALICO_ROUTER_ID"],
            help="Our BGP identifier.",
        ),
    ],
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
    from routed.agent import Agent, AgentOptions
    from routed.bgp.config import ClientRange, SpeakerConfig
    from routed.datastore import open_datastore
    from routed.intent.options import Options

    if on_stop not in ("graceful-restart", "shutdown"):
        common.fail(f"--on-stop {on_stop!r}: use graceful-restart or shutdown")
    if not 1 <= local_as <= 0xFFFFFFFF:
        common.fail(f"--as {local_as}: an AS number is 1 to 4294967295")
    if not clients and datastore is None:
        common.fail(
            "no clients: give --clients CIDR, or --datastore URL to take them from a cluster's records"
        )
    try:
        store = open_datastore(datastore) if datastore is not None else None
    except ValueError as error:
        common.fail(f"--datastore {error}")
    identifier = _identifier("--router-id", router_id)
    cluster = _identifier("--cluster-id", cluster_id or router_id)
    endpoints = tuple(common.endpoint("--listen", text) for text in listen)
    own_address = next((one.address for one in endpoints if not one.address.is_unspecified), None)
    if store is not None and own_address is None:
        common.fail(
            "--listen: with --datastore name the address that the BGPPeers' peerIP has, not the wildcard"
        )
    ranges = tuple(ClientRange(_network("--clients", text)) for text in clients or ())
    _raise_descriptor_limit()
    options = AgentOptions(
        compiler=Options(
            node=name or str(identifier),
            router_id=identifier,
            reflector_address=own_address,
            reflector_as=local_as,
            reflector_cluster_id=cluster,
        ),
        use_kernel=False,
        identity=SpeakerConfig(identifier.packed, local_as, cluster.packed, endpoints),
        client_ranges=ranges,
        graceful_stop=on_stop == "graceful-restart",
        status_file=status_file,
        log_level=log_level,
    )

    async def start(stop: asyncio.Event) -> None:
        await Agent(options, store).run(stop)

    common.run_until_stopped(start)


def _raise_descriptor_limit() -> None:
    """As many descriptors as we may have: every client is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


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
