"""`routed rr`, a route reflector: from its options to what runs.

One that takes nothing from records needs neither the compiler nor the records' types: a process of half the
size. So the agent, which brings them, is imported by the other kinds alone.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from ipaddress import AddressValueError, IPv4Address, IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from routed import daemon

if TYPE_CHECKING:
    import asyncio

    from routed.agent_options import AgentOptions
    from routed.bgp.transport import Endpoint
    from routed.rr.standalone import Reflector, Running
    from routed.secret import SecretValue

#: Drains longer than this are no drains any more, seconds.
_MOST_DRAIN_TIME: Final = 3600.0


def main(
    *,
    listen: list[str] | None,
    local_as: int | None,
    router_id: str | None,
    cluster_id: str | None,
    clients: list[str] | None,
    password_file: str | None,
    max_prefixes: int | None,
    max_prefixes_time: float,
    peers: list[str] | None,
    datastore: str | None,
    node: str | None,
    name: str | None,
    on_stop: str,
    drain_time: float,
    status_file: str | None,
    log_level: str | None,
    log_format: str,
    **observe: Any,
) -> None:
    """Run until SIGTERM. The options are `cli.rr`'s; exits with 2 where one of them is wrong."""
    if datastore is None and not observe.get("events"):
        _without_tls()
    daemon.configure_logging(log_level, log_format)
    from routed.rr.standalone import Running, raise_descriptor_limit

    if on_stop not in ("graceful-restart", "shutdown"):
        daemon.fail(f"--on-stop {on_stop!r}: use graceful-restart or shutdown")
    if not 0 <= drain_time <= _MOST_DRAIN_TIME:
        daemon.fail(f"--drain-time {drain_time:g}: 0 to {_MOST_DRAIN_TIME:g} seconds")
    running = Running(
        graceful_stop=on_stop == "graceful-restart",
        drain_time=drain_time,
        status_file=Path(status_file) if status_file else None,
        log_level=log_level,
        observe=daemon.observe_options(node or name or router_id or "reflector", observe),
    )
    endpoints = tuple(_endpoint("--listen", text) for text in listen or ())
    ranges = tuple(_network("--clients", text) for text in clients or ())
    job: daemon.Job
    if node is not None:
        if datastore is None:
            daemon.fail("--node: the record is in a datastore: give --datastore URL too")
        refused = {
            "--as": local_as,
            "--cluster-id": cluster_id,
            "--clients": clients,
            "--password-file": password_file,
            "--max-prefixes": max_prefixes,
            "--peer": peers,
        }
        for option, value in refused.items():
            if value:
                daemon.fail(f"{option}: with --node this is as the Node record says")
        job = _with_record(datastore, node, router_id, endpoints, running)
    else:
        from_records = datastore is not None
        reflector = _reflector(
            endpoints, local_as, router_id, cluster_id, ranges, peers or [], from_records, name
        )
        reflector = dataclasses.replace(
            reflector,
            password=password_from_file(password_file),
            max_prefixes=max_prefixes,
            max_prefixes_time=max_prefixes_time,
        )
        job = _alone(reflector, running) if datastore is None else _among(datastore, reflector, running)
    if missing := raise_descriptor_limit(ranges):
        from routed import log

        log.get("rr").warning("descriptor limit", problem=missing)
    daemon.run_until_stopped(job)


def _without_tls() -> None:
    """Have no ssl module for the rest of this process: its libraries are 4.5 MB, asyncio would load them,
    and nothing of BGP uses them. None in `sys.modules` makes an import fail, and asyncio then does as in a
    Python that was built without ssl."""
    sys.modules["ssl"] = None  # type: ignore[assignment]


def _alone(reflector: Reflector, running: Running) -> daemon.Job:
    """A reflector without records."""
    from routed.rr.process import ReflectorProcess

    async def run(stop: asyncio.Event) -> None:
        await ReflectorProcess(reflector, running).run(stop)

    return run


def _among(datastore: str, reflector: Reflector, running: Running) -> daemon.Job:
    """A reflector whose clients the records name."""
    from routed.rr.from_records import agent_options

    return _agent(datastore, agent_options(reflector, running))


def _with_record(
    datastore: str, node: str, router_id: str | None, listen: tuple[Endpoint, ...], running: Running
) -> daemon.Job:
    """A reflector that has a Node record."""
    from routed.intent.options import Options
    from routed.rr.from_records import from_node_record

    try:
        compiler = Options.from_environ(os.environ, node)
    except ValueError as error:
        daemon.fail(str(error))
    if router_id is not None and router_id != "hash":
        compiler = dataclasses.replace(compiler, router_id=_identifier("--router-id", router_id))
    return _agent(datastore, from_node_record(compiler, listen, running))


#: The records that say who a reflector's clients are; not the pods of the whole cluster.
_KINDS: Final = frozenset({"BGPConfiguration", "BGPFilter", "BGPPeer", "IPPool", "Node", "Secret"})


def _agent(datastore: str, options: AgentOptions) -> daemon.Job:
    from routed.agent import Agent
    from routed.datastore import AbsentError, Wanted, as_environ_says, open_datastore

    try:
        store = as_environ_says(open_datastore(datastore, wanted=Wanted(kinds=_KINDS)), os.environ)
    except ValueError as error:
        daemon.fail(f"--datastore {error}")

    async def run(stop: asyncio.Event) -> None:
        try:
            await Agent(options, store).run(stop)
        except AbsentError as error:
            daemon.fail(f"--datastore {datastore}: {error}")

    return run


def _reflector(
    listen: tuple[Endpoint, ...],
    local_as: int | None,
    router_id: str | None,
    cluster_id: str | None,
    clients: tuple[IPv4Network | IPv6Network, ...],
    peers: list[str],
    from_records: bool,
    name: str | None,
) -> Reflector:
    """A reflector that is told who it is."""
    from routed.rr.standalone import Reflector

    for option, value in (
        ("--listen ADDR:PORT", listen),
        ("--as N", local_as),
        ("--router-id A.B.C.D", router_id),
    ):
        if value is None or value == ():
            daemon.fail(
                f"give {option}; or --node NAME and --datastore URL for a reflector with a Node record"
            )
    assert local_as is not None
    assert router_id is not None
    if not 1 <= local_as <= 0xFFFFFFFF:
        daemon.fail(f"--as {local_as}: an AS number is 1 to 4294967295")
    try:
        return Reflector(
            listen=listen,
            local_as=local_as,
            router_id=_identifier("--router-id", router_id),
            cluster_id=_identifier("--cluster-id", cluster_id or router_id),
            clients=clients,
            peers=tuple(_endpoint("--peer", text) for text in peers),
            from_records=from_records,
            name=name or "",
        )
    except ValueError as error:
        daemon.fail(str(error))


def _endpoint(option: str, text: str) -> Endpoint:
    """`ADDR:PORT` or `[IPV6]:PORT`; exits with 2 where it is neither."""
    from routed.bgp.transport import Endpoint

    try:
        return Endpoint.parse(text)
    except ValueError as error:
        daemon.fail(f"{option} {text!r}: {error}")


def _identifier(option: str, text: str) -> IPv4Address:
    """A BGP identifier or cluster ID: four octets, not zero (RFC 6286 section 2.1)."""
    try:
        value = IPv4Address(text)
    except AddressValueError:
        daemon.fail(f"{option} {text!r}: write four octets, such as 10.0.0.1")
    if not int(value):
        daemon.fail(f"{option} 0.0.0.0: zero is not an identifier")
    return value


def password_from_file(path: str | None) -> SecretValue | None:
    """What is in the file but for its last line's end; exits with 2 where that cannot be a password."""
    if path is None:
        return None
    from routed.bgp.tcp_options import key_problem
    from routed.secret import SecretValue

    try:
        text = Path(path).read_bytes()
    except OSError as error:
        daemon.fail(f"--password-file {path}: {error.strerror}")
    password = SecretValue(text.removesuffix(b"\n").removesuffix(b"\r"))
    if not password.reveal():
        daemon.fail(f"--password-file {path}: the file is empty")
    if problem := key_problem(password):
        daemon.fail(f"--password-file {path}: {problem}")
    return password


def _network(option: str, text: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network(text)
    except ValueError as error:
        daemon.fail(f"{option} {text!r}: {error}")
