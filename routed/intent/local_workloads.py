"""Workloads on this node that BGPPeers peer with: the node agent's endpoint-status files.

The agent writes one JSON file a workload to `<prefix>/endpoint-status/`. To the compiler a file is a record
like any other: its kind is EndpointStatus, its name the file's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from ipaddress import ip_interface
from pathlib import Path
from typing import ClassVar

from routed.resources import Address, Key, Problem, Record

FOLDER = "endpoint-status"
MAX_FILE_SIZE = 1 << 20


class EndpointStatus(Record, frozen=True, kw_only=True, gc=False):
    """One workload endpoint of this node. `bgp_peer_name` names the BGPPeer that it belongs to."""

    kind: ClassVar[str] = "EndpointStatus"

    bgp_peer_name: str | None = None
    interface_name: str | None = None
    ipv4_addresses: tuple[Address, ...] = ()
    ipv6_addresses: tuple[Address, ...] = ()


def parse_endpoint_status(name: str, content: bytes) -> tuple[EndpointStatus | None, tuple[Problem, ...]]:
    """The record in one file, or None and what is wrong with it (a file half written is not JSON yet)."""
    key = Key(EndpointStatus.kind, name)

    def wrong(field: str, reason: str) -> tuple[None, tuple[Problem, ...]]:
        return None, (Problem(key, field, reason),)

    if len(content) > MAX_FILE_SIZE:
        return wrong("", f"is over {MAX_FILE_SIZE} bytes: it is no endpoint status")
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return wrong("", "is not JSON (half written?): the workload is left as it was")
    if not isinstance(document, Mapping):
        return wrong("", "must be a JSON object")
    texts: dict[str, str | None] = {}
    for field in ("bgpPeerName", "ifaceName"):
        value = document.get(field)
        if value is not None and not isinstance(value, str):
            return wrong(field, "must be a text")
        texts[field] = value or None
    addresses: dict[str, tuple[Address, ...]] = {}
    for field, version in (("ipv4Nets", 4), ("ipv6Nets", 6)):
        nets = document.get(field)
        nets = [] if nets is None else nets
        if not isinstance(nets, list):
            return wrong(field, "must be a list of prefixes")
        found: list[Address] = []
        for index, net in enumerate(nets):
            try:
                interface = ip_interface(net if isinstance(net, str) else "")
            except ValueError:
                return wrong(f"{field}[{index}]", "must be a prefix such as 10.0.0.1/32 or fd00::1/128")
            if interface.version != version:
                return wrong(f"{field}[{index}]", f"must be an IPv{version} prefix")
            found.append(interface.ip)
        addresses[field] = tuple(found)
    return EndpointStatus(
        name=name,
        bgp_peer_name=texts["bgpPeerName"],
        interface_name=texts["ifaceName"],
        ipv4_addresses=addresses["ipv4Nets"],
        ipv6_addresses=addresses["ipv6Nets"],
    ), ()


def read_endpoint_statuses(prefix: Path) -> tuple[list[EndpointStatus], list[Problem]]:
    """All workloads in `<prefix>/endpoint-status/`, and what is wrong with the other files.

    A folder that is not there holds none."""
    records: list[EndpointStatus] = []
    problems: list[Problem] = []
    try:
        paths = sorted((prefix / FOLDER).iterdir())
    except FileNotFoundError:
        return [], []
    except OSError as error:
        return [], [Problem(None, "", f"cannot be read: {error.strerror}", source=str(prefix / FOLDER))]
    for path in paths:
        if path.name.startswith("."):
            continue
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            continue
        except OSError as error:
            key = Key(EndpointStatus.kind, path.name)
            problems.append(Problem(key, "", f"cannot be read: {error.strerror}", source=str(path)))
            continue
        record, found = parse_endpoint_status(path.name, content)
        problems += found
        if record is not None:
            records.append(record)
    return records, problems
