"""Documents of the status API as the page may get them: ordinary ones, large ones, and hostile ones."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from typing import Any, Final, Literal

from routed.observe import documents
from routed.observe.documents import FamilyName

NOW: Final = datetime(2026, 3, 4, 9, 30, tzinfo=UTC)
ERRORS: Final = (
    "connection refused by 10.0.0.9:179; is BGP running there?",
    "hold timer expired",
    "NOTIFICATION received: Cease / Administrative Shutdown: maintenance, back at 6",
)
#: What a peer or a record may say to those who look at it in a browser.
HOSTILE: Final = (
    "<script>window.ran = true</script>",
    '"><img src=x onerror="window.ran = true">',
    "javascript:window.ran=true",
    "'; window.ran = true; //",
    "${window.ran = true}{{window.ran = true}}",
    "</title></style></svg><svg onload=window.ran=true>",
    "\u202egnp.exe\u202c\u2066\u200f",
    "\x1b[31m\x00\x07\r\nSet-Cookie: a=b",
    "\u0645\u0631\u062d\u0628\u0627 10.0.0.1",
    "a" * 10_240,
    "\u65e5" * 400 + " " + "\U0001f9ea" * 50,
    "../../../etc/passwd?x=1&y=2#z%00%2f",
)


def stamp(seconds_ago: float = 0, now: datetime | None = None) -> str:
    """A time as the documents have it."""
    return ((now or datetime.now(UTC)) - timedelta(seconds=seconds_ago)).isoformat().replace("+00:00", "Z")


def status(peers: list[documents.PeerSummary], **changes: Any) -> documents.Status:
    """A node's status that fits its peers."""
    states = ["idle", "connect", "active", "opensent", "openconfirm", "established"]
    fields: dict[str, Any] = {
        "node": "worker-17.fra1",
        "version": "0.1.0",
        "role": "node",
        "started_at": stamp(273_845),
        "uptime": 273_845.2,
        "router_id": "10.240.0.17",
        "local_as": 64512,
        "cluster_id": None,
        "listening": ["0.0.0.0:179", "[::]:179"],
        "converged": True,
        "draining": False,
        "ready": True,
        "peers": len(peers),
        "peers_by_state": {state: sum(peer.state == state for peer in peers) for state in states},
        "routes": {"ipv4": 1_284, "ipv6": 310},
        "paths": {"ipv4": 2_571, "ipv6": 622},
        "originated": 14,
        "blocks": 6,
        "updates_received": 18_442,
        "updates_sent": 3_310,
        "datastore": documents.DatastoreStatus(
            synced=True, lost_since=None, lost_reason=None, changed_at=stamp(48), losses=1
        ),
        "kernel": documents.KernelStatus(
            error=None, installed={"ipv4": 1_270, "ipv6": 306}, failed=0, kept_out={"ipv4": 3, "ipv6": 0}
        ),
        "problems": ["BGPPeer rack-b: spec.peerIP '10.0.0.300' is no address; the last good version is used"],
        "incidents": {},
    }
    return documents.Status(**{**fields, **changes})


def summary(number: int, **changes: Any) -> dict[str, Any]:
    """The fields of a PeerSummary."""
    up = changes.get("state", "established") == "established"
    address = str(IPv4Address("10.240.0.0") + number + 1)
    fields: dict[str, Any] = {
        "name": f"Mesh_{address.replace('.', '_')}",
        "address": address,
        "port": 179,
        "state": "established",
        "local_as": 64512,
        "remote_as": 64512,
        "router_id": address if up else None,
        "kind": "ibgp",
        "node": f"worker-{number + 1}.fra1",
        "families": ["ipv4", "ipv6"],
        "route_reflector_client": False,
        "dynamic": False,
        "passive": False,
        "established_for": 5_000.0 + 311 * number if up else None,
        "since": stamp(5_000 + 311 * number) if up else None,
        "flaps": number % 3,
        "received": {"ipv4": 60 + number % 50, "ipv6": number % 20} if up else {"ipv4": 0, "ipv6": 0},
        "advertised": {"ipv4": 14, "ipv6": 2} if up else {"ipv4": 0, "ipv6": 0},
        "rejected": {"ipv4": 0, "ipv6": 0},
        "stale": False,
        "shut_down": None,
        "last_error": None if up else ERRORS[number % len(ERRORS)],
    }
    return {**fields, **changes}


def peers(mesh: int = 10, down: Iterable[int] = (3,), tors: int = 2) -> list[documents.PeerSummary]:
    """A mesh of nodes, of which some are down, and some routers at the top of the rack."""
    failed = set(down)
    states = ("idle", "active", "connect", "opensent")
    found = [
        documents.PeerSummary(
            **summary(number, state=states[number % 4] if number in failed else "established")
        )
        for number in range(mesh)
    ]
    for number in range(tors):
        address = f"172.16.{number}.1"
        changes: dict[str, Any] = {
            "name": f"Global_172_16_{number}_1",
            "address": address,
            "remote_as": 65_000 + number,
            "kind": "ebgp",
            "node": None,
            "received": {"ipv4": 812, "ipv6": 240},
        }
        if number == 1:
            changes |= {"state": "idle", "shut_down": "line card swap", "received": {"ipv4": 0, "ipv6": 0}}
        found.append(documents.PeerSummary(**summary(500 + number, **changes)))
    return found


def clients(count: int, down: Iterable[int] = ()) -> list[documents.PeerSummary]:
    """The clients of a reflector."""
    failed = set(down)
    return [
        documents.PeerSummary(
            **summary(
                number,
                name=f"client-{number:04}",
                node=None,
                dynamic=True,
                route_reflector_client=True,
                state="active" if number in failed else "established",
            )
        )
        for number in range(count)
    ]


def peer(one: documents.PeerSummary, **changes: Any) -> documents.Peer:
    """A peering whole, with a history."""
    up = one.state == "established"
    messages = documents.Messages(open=3, update=412, notification=1, keepalive=9_120, route_refresh=2)
    whole: dict[str, Any] = {name: getattr(one, name) for name in one.__struct_fields__}
    whole |= {
        "record": "BGPPeer rack-a",
        "local_address": "10.240.0.17" if up else None,
        "configured_hold_time": 90,
        "configured_keepalive": None,
        "restart_time": 120,
        "next_hop_mode": "self",
        "filters": ["BGPFilter drop-infra"],
        "max_prefixes": None,
        "hold_timer": 71.4 if up else None,
        "keepalive_timer": 12.8 if up else None,
        "agreed": documents.Agreed(
            hold_time=90,
            keepalive=30.0,
            families=["ipv4", "ipv6"],
            add_path_receive=["ipv4"],
            add_path_send=["ipv4"],
            extended_messages=True,
            route_refresh=True,
            enhanced_route_refresh=True,
            four_octet_as=True,
            graceful_restart=True,
            restart_time=120,
            long_lived_graceful_restart=False,
        )
        if up
        else None,
        "capabilities": [
            "multiprotocol ipv4",
            "multiprotocol ipv6",
            "route refresh",
            "graceful restart 120 s",
            "4-octet AS 64512",
            "ADD-PATH ipv4 both",
        ],
        "protection": documents.Protection(
            tcp_md5=True, old_password_in_use=False, ttl_security_hops=None, segments_dropped=0
        ),
        "messages_received": messages,
        "messages_sent": messages,
        "unsent_octets": 0,
        "ignored": 0,
        "ignored_reason": None,
        "bad_updates": 0,
        "export_groups": {"ipv4": 10, "ipv6": 10},
        "history": [
            event(1, "peer-added", "peer added", one.name, 273_800),
            event(2, "session-up", "session established", one.name, 273_700),
            event(9, "session-down", "session down: hold timer expired", one.name, 90_000),
            event(10, "session-up", "session established", one.name, 80_000),
        ],
    }
    return documents.Peer(**{**whole, **changes})


def event(
    number: int, kind: str, text: str, peer: str | None = None, ago: float = 0, **fields: Any
) -> documents.Event:
    """One event."""
    return documents.Event(number=number, time=stamp(ago), kind=kind, text=text, peer=peer, fields=fields)


def route(number: int, **changes: Any) -> documents.Route:
    """The best path of the prefix of this number."""
    family: FamilyName = "ipv6" if number % 5 == 4 else "ipv4"
    network = (
        IPv4Network((int(IPv4Address("10.64.0.0")) + 64 * number, 26))
        if family == "ipv4"
        else IPv6Network((0xFD00_0000_0000_0000_0000_0000_0000_0000 + (number << 6), 122))
    )
    neighbour = number % 10
    fields: dict[str, Any] = {
        "prefix": str(network),
        "family": family,
        "source": f"Mesh_10_240_0_{neighbour + 1}",
        "source_kind": "ibgp",
        "peer_address": f"10.240.0.{neighbour + 1}",
        "best": True,
        "multipath": False,
        "ineligible": None,
        "not_best": None,
        "next_hop": f"10.240.0.{neighbour + 1}",
        "reachable": True,
        "unreachable_reason": None,
        "igp_cost": 0,
        "interface": "eth0",
        "as_path": "" if number % 3 else "65000 4200000123",
        "origin": "igp",
        "local_pref": 100,
        "med": None,
        "preference": 100,
        "communities": ["64512:100", "no-export"] if number % 4 == 0 else [],
        "large_communities": [],
        "originator_id": None,
        "cluster_list": [],
        "path_id": None,
        "kernel": "installed",
        "origin_record": None,
        "origin_reason": None,
    }
    return documents.Route(**{**fields, **changes})


def blocks(count: int = 400, node: str = "worker-17.fra1") -> documents.Blocks:
    """Two pools, their blocks held by many nodes, and what is borrowed."""
    found: list[documents.Block] = []
    for number in range(count):
        owner = None if number % 97 == 96 else f"worker-{number * 7 % 60 + 1}.fra1"
        used = (number * 37) % 65
        found.append(
            documents.Block(
                cidr=str(IPv4Network((int(IPv4Address("10.64.0.0")) + 64 * number, 26))),
                family="ipv4",
                pool="default-ipv4" if number % 5 else "database",
                owner=owner,
                state=None if owner is None else "pending" if number % 61 == 9 else "confirmed",
                ours=owner == node,
                advertised=owner == node,
                blackholed=owner == node,
                size=64,
                allocated=None if number % 83 == 80 else used,
                lent=[documents.Lent(node="worker-3.fra1", addresses=2)] if number % 23 == 5 else [],
                problem="IPAMBlock: spec.affinity names another node" if number % 131 == 70 else None,
                record=f"BlockAffinity block-{number}",
            )
        )
    mine = [block for block in found if block.ours]
    return documents.Blocks(
        node=node,
        pools=[_pool("default-ipv4", "10.64.0.0/10", found), _pool("database", "10.192.0.0/18", found)],
        blocks=found,
        borrowed_in=[
            documents.Borrowed(
                address="10.64.1.77",
                block="10.64.1.64/26",
                owner="worker-36.fra1",
                node=node,
                pod="shop/cart-7d9f",
            )
        ],
        borrowed_out=[
            documents.Borrowed(
                address=str(IPv4Network(block.cidr)[9]),
                block=block.cidr,
                owner=node,
                node="worker-3.fra1",
                pod="shop/web-0",
            )
            for block in mine[:2]
        ],
    )


def _pool(name: str, cidr: str, blocks: list[documents.Block]) -> documents.Pool:
    own = [block for block in blocks if block.pool == name]
    return documents.Pool(
        name=name,
        cidr=cidr,
        family="ipv4",
        disabled=False,
        bgp_export=True,
        encapsulation="vxlan-cross-subnet",
        size=IPv4Network(cidr).num_addresses,
        blocks=len(own),
        allocated=sum(block.allocated or 0 for block in own),
        borrowed=sum(lent.addresses for block in own for lent in block.lent),
    )


def explanation(target: str) -> documents.Explanation:
    """A prefix that is stopped at the import filter."""
    kind: Literal["prefix", "address", "peer"] = (
        "prefix" if "/" in target else "peer" if "_" in target else "address"
    )
    step = documents.Step
    stopped = step(
        gate="import",
        outcome="stop",
        text="the filter drop-infra rejects it: rule 2, matchOperator In, cidr 10.66.0.0/16",
        record="BGPFilter drop-infra",
        field="spec.importV4[1]",
        peer="Global_172_16_0_1",
        prefix="10.66.4.0/24",
    )
    return documents.Explanation(
        target=target,
        kind=kind,
        verdict=f"{target} was received, and is kept out by a filter",
        ok=False,
        stopped_by=stopped,
        steps=[
            step(gate="session", outcome="pass", text="the session with Global_172_16_0_1 is Established"),
            step(
                gate="received",
                outcome="pass",
                text="announced 3 h ago, AS path 65000, next hop 172.16.0.1",
                peer="Global_172_16_0_1",
                prefix="10.66.4.0/24",
            ),
            step(gate="pool", outcome="info", text="no pool holds it", field="spec.cidr"),
            stopped,
            step(gate="best-path", outcome="stop", text="there is no path to choose from"),
            step(gate="kernel", outcome="stop", text="no route, since there is no best path"),
        ],
    )


def rates(count: int = 180, interval: float = 5.0) -> documents.Rates:
    """Counters that rise unevenly."""
    samples = []
    received = sent = changes = 0
    for number in range(count):
        burst = 40 if number % 60 in (20, 21, 22) else 0
        received += 6 + number % 7 + 3 * burst
        sent += 2 + number % 3 + burst
        changes += 5 + number % 5 + 4 * burst
        samples.append(
            documents.Sample(
                time=stamp(interval * (count - 1 - number)),
                established=11 if number < 100 or number > 112 else 9,
                routes=1_590 + number // 30 - (200 if 100 <= number <= 112 else 0),
                updates_received=received,
                updates_sent=sent,
                route_changes=changes,
            )
        )
    return documents.Rates(interval=interval, samples=samples)


def events(found: list[documents.PeerSummary], count: int = 60) -> list[documents.Event]:
    """What happened lately."""
    kinds = (
        ("routes", "ipv4: 18 changes"),
        ("session-down", "session down: hold timer expired"),
        ("session-up", "session established"),
        ("routes", "10.64.3.0/26 announced"),
        ("records-read", "records read"),
    )
    made = []
    for number in range(1, count + 1):
        kind, text = kinds[number % len(kinds)]
        about = found[number % len(found)].name if found and kind.startswith("session") else None
        made.append(event(number, kind, text, about, 40.0 * (count - number)))
    return made
