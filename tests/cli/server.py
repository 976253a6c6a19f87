"""A small server of the status API: documents of `routed.observe.documents`, over real HTTP on a Unix socket.

For what a real routed does not say on demand: errors, hostile texts, silence. The commands against a real one
are in `test_live.py`.
"""

from __future__ import annotations

import http.server
import json
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec

from routed.observe import documents


@dataclass(frozen=True)
class Asked:
    """A request."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes


Answer = tuple[int, bytes | Iterator[bytes]]


@dataclass
class ApiServer:
    """Answers with what `answers` has for a path: a document, octets, or a function of the request."""

    path: Path
    answers: dict[str, object] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)

    def answer(self, request: Asked) -> Answer:
        self.asked.append(request)
        found = self.answers.get(request.path)
        if callable(found):
            found = found(request)
        match found:
            case None:
                return 404, msgspec.json.encode(documents.Error(error=f"{request.path}: nothing here"))
            case documents.Error():
                return 404, msgspec.json.encode(found)
            case bytes():
                return 200, found
            case (int(), _):
                return found  # type: ignore[return-value]
            case msgspec.Struct():
                return 200, msgspec.json.encode(found) + b"\n"
        return 200, found  # type: ignore[return-value]


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def address_string(self) -> str:
        return "unix"

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        request = Asked(
            self.command, unquote(parts.path), dict(parse_qsl(parts.query)), dict(self.headers.items()), body
        )
        status, content = self.server.api.answer(request)
        self.send_response(status)
        if isinstance(content, bytes):
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
            return
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for piece in content:
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")
        self.close_connection = True

    do_POST = do_GET  # noqa: N815 - the name that http.server calls


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, api: ApiServer) -> None:
        self.api = api
        super().__init__(str(api.path), _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that has gone away is none."""


@contextmanager
def serving(path: Path, answers: dict[str, object] | None = None) -> Iterator[ApiServer]:
    """A server at work; the socket's file is gone at the end."""
    api = ApiServer(path, DOCUMENTS | (answers or {}))
    server = _Server(api)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield api
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        path.unlink(missing_ok=True)


def peer_summary(name: str = "Node_192_0_2_10", **changes: object) -> documents.PeerSummary:
    """A session that is up."""
    values: dict[str, object] = {
        "name": name,
        "address": "192.0.2.10",
        "port": 179,
        "state": "established",
        "local_as": 64512,
        "remote_as": 64512,
        "router_id": "192.0.2.10",
        "kind": "ibgp",
        "node": "control01",
        "families": ["ipv4"],
        "route_reflector_client": False,
        "dynamic": False,
        "passive": False,
        "established_for": 93784.0,
        "since": "2026-01-31T12:00:00Z",
        "flaps": 0,
        "received": {"ipv4": 5},
        "advertised": {"ipv4": 2},
        "rejected": {"ipv4": 0},
        "stale": False,
        "shut_down": None,
        "last_error": None,
    }
    return documents.PeerSummary(**values | changes)  # type: ignore[arg-type]


def peer(name: str = "Node_192_0_2_10", **changes: object) -> documents.Peer:
    """The same, whole."""
    messages = documents.Messages(open=1, update=4, notification=0, keepalive=9, route_refresh=0)
    values: dict[str, object] = {
        **msgspec.structs.asdict(peer_summary(name)),
        "record": "BGPPeer(workers-to-reflectors)",
        "local_address": "192.0.2.11",
        "configured_hold_time": 90,
        "configured_keepalive": None,
        "restart_time": 120,
        "next_hop_mode": "auto",
        "filters": [],
        "max_prefixes": None,
        "hold_timer": 71.5,
        "keepalive_timer": 12.25,
        "agreed": documents.Agreed(
            hold_time=90,
            keepalive=30.0,
            families=["ipv4"],
            add_path_receive=["ipv4"],
            add_path_send=[],
            extended_messages=True,
            route_refresh=True,
            enhanced_route_refresh=True,
            four_octet_as=True,
            graceful_restart=True,
            restart_time=120,
            long_lived_graceful_restart=False,
        ),
        "capabilities": ["multiprotocol IPv4 unicast", "route refresh"],
        "protection": documents.Protection(
            tcp_md5=True, old_password_in_use=False, ttl_security_hops=None, segments_dropped=0
        ),
        "messages_received": messages,
        "messages_sent": messages,
        "unsent_octets": 0,
        "ignored": 0,
        "ignored_reason": None,
        "bad_updates": 0,
        "export_groups": {"ipv4": 3},
        "history": [event(7, "session-up", "session established", name)],
    }
    return documents.Peer(**values | changes)  # type: ignore[arg-type]


def event(number: int, kind: str, text: str, about: str | None = None) -> documents.Event:
    """One event, at second `number`."""
    return documents.Event(
        number=number,
        time=f"2026-01-31T12:{number // 60 % 60:02}:{number % 60:02}.125Z",
        kind=kind,
        text=text,
        peer=about,
        fields={},
    )


def route(prefix: str = "10.244.0.0/26", **changes: object) -> documents.Route:
    """A path that is the best, and in the kernel."""
    values: dict[str, object] = {
        "prefix": prefix,
        "family": "ipv6" if ":" in prefix else "ipv4",
        "source": "Node_192_0_2_10",
        "source_kind": "ibgp",
        "peer_address": "192.0.2.10",
        "best": True,
        "multipath": False,
        "ineligible": None,
        "not_best": None,
        "next_hop": "192.0.2.10",
        "reachable": True,
        "unreachable_reason": None,
        "igp_cost": 0,
        "interface": "eth0",
        "as_path": "",
        "origin": "IGP",
        "local_pref": 100,
        "med": None,
        "preference": 100,
        "communities": [],
        "large_communities": [],
        "originator_id": None,
        "cluster_list": [],
        "path_id": None,
        "kernel": "installed",
        "origin_record": None,
        "origin_reason": None,
    }
    return documents.Route(**values | changes)  # type: ignore[arg-type]


def routes(*found: documents.Route, following: str | None = None) -> documents.Routes:
    """A page."""
    return documents.Routes(routes=list(found), total=len(found), next=following)


def routes_of(found: list[documents.Route]) -> Callable[[Asked], Iterator[bytes]]:
    """As the real server streams them, in pieces of odd sizes."""

    def answer(_: Asked) -> Iterator[bytes]:
        text = msgspec.json.encode(routes(*found))
        for at in range(0, len(text), 1_237):
            yield text[at : at + 1_237]

    return answer


STATUS = documents.Status(
    node="worker01",
    version="0.1.0",
    role="node",
    started_at="2026-01-31T12:00:00Z",
    uptime=93784.0,
    router_id="192.0.2.11",
    local_as=64512,
    cluster_id=None,
    listening=["0.0.0.0:179", "[::]:179"],
    converged=True,
    draining=False,
    ready=True,
    peers=2,
    peers_by_state={"established": 2},
    routes={"ipv4": 8, "ipv6": 6},
    paths={"ipv4": 12, "ipv6": 9},
    originated=3,
    blocks=2,
    updates_received=31,
    updates_sent=17,
    datastore=documents.DatastoreStatus(
        synced=True, lost_since=None, lost_reason=None, changed_at="2026-01-31T12:10:00Z", losses=1
    ),
    kernel=documents.KernelStatus(
        error=None, installed={"ipv4": 8, "ipv6": 6}, failed=0, kept_out={"ipv4": 1, "ipv6": 0}
    ),
    problems=["BGPPeer(broken): spec.peerIP: 'x' is no address"],
    incidents={"bad_updates": 0, "resets": 2},
)
BLOCKS = documents.Blocks(
    node="worker01",
    pools=[
        documents.Pool(
            name="default-ipv4",
            cidr="10.244.0.0/16",
            family="ipv4",
            disabled=False,
            bgp_export=True,
            encapsulation="none",
            size=65536,
            blocks=4,
            allocated=9,
            borrowed=1,
        )
    ],
    blocks=[
        documents.Block(
            cidr="10.244.0.64/26",
            family="ipv4",
            pool="default-ipv4",
            owner="worker01",
            state="confirmed",
            ours=True,
            advertised=True,
            blackholed=True,
            size=64,
            allocated=2,
            lent=[documents.Lent(node="worker02", addresses=1)],
            problem=None,
            record="BlockAffinity(worker01-10-244-0-64-26)",
        ),
        documents.Block(
            cidr="10.244.0.128/26",
            family="ipv4",
            pool="default-ipv4",
            owner="worker02",
            state="pending",
            ours=False,
            advertised=False,
            blackholed=False,
            size=64,
            allocated=None,
            lent=[],
            problem="no IPAMBlock",
            record="BlockAffinity(worker02-10-244-0-128-26)",
        ),
    ],
    borrowed_in=[],
    borrowed_out=[
        documents.Borrowed(
            address="10.244.0.70",
            block="10.244.0.64/26",
            owner="worker01",
            node="worker02",
            pod="demo/borrower",
        )
    ],
)
_STOP = documents.Step(
    gate="kernel",
    outcome="stop",
    text="not installed: the pool is encapsulated, so Felix programs its routes",
    record="IPPool(vxlan)",
    field="spec.vxlanMode",
)
EXPLANATION = documents.Explanation(
    target="10.250.0.0/26",
    kind="prefix",
    verdict="known by BGP, but not in the kernel",
    ok=False,
    stopped_by=_STOP,
    steps=[
        documents.Step(gate="received", outcome="pass", text="from Node_192_0_2_10", peer="Node_192_0_2_10"),
        documents.Step(gate="best-path", outcome="info", text="the only path"),
        _STOP,
    ],
)
#: What is answered where a test does not say otherwise.
DOCUMENTS: dict[str, object] = {
    "/api/v1/status": STATUS,
    "/api/v1/peers": documents.Peers(peers=[peer_summary(), peer_summary("Global_192_0_2_1")]),
    "/api/v1/peers/Node_192_0_2_10": peer(),
    "/api/v1/routes": routes(route(), route("fd00:10:244::/122", next_hop="2001:db8::10")),
    "/api/v1/blocks": BLOCKS,
    "/api/v1/explain": EXPLANATION,
    "/api/v1/events": documents.Events(
        events=[
            event(1, "started", "speaking BGP"),
            event(2, "session-up", "session established", "Node_192_0_2_10"),
            event(3, "session-down", "session down: Hold Timer Expired", "Node_192_0_2_10"),
        ],
        last=3,
    ),
    "/readiness": json.dumps({"ok": True, "reason": "2 of 2 peers established"}).encode(),
    "/liveness": b"alive\n",
}
