"""A server that answers as a node's status API does, with documents that a test makes."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

import msgspec

from routed.observe import documents
from routed.observe.http.guard import API_HEADERS, PAGE_HEADERS
from routed.observe.page import files
from tests.observe.page import samples

_END: Final = None


class FakeNode:
    """Change its fields to change the answers. Close it at the end."""

    def __init__(self) -> None:
        self._streams: list[queue.SimpleQueue[bytes | None]] = []
        self._lock = threading.Lock()
        self._server: ThreadingHTTPServer | None = None
        self.port = 0
        self.held = threading.Event()
        """While it is not set, documents are not answered."""
        self.reset()

    def reset(self) -> None:
        """Be an ordinary node, for another test; listening."""
        self.peers = samples.peers()
        self.status_changes: dict[str, Any] = {}
        self.routes: Sequence[documents.Route] = [samples.route(number) for number in range(300)]
        self.blocks = samples.blocks()
        self.rates = samples.rates()
        self.events = samples.events(self.peers)
        self.peer_changes: dict[str, Any] = {}
        self.explain: Callable[[str], documents.Explanation] = samples.explanation
        self.failing: dict[str, int] = {}
        """HTTP status by path below /api/v1/, for those that fail."""
        self.held.set()
        self.asked: list[str] = []
        """Paths with queries that were asked for."""
        with self._lock:
            left, self._streams = self._streams, []
        for stream in left:
            stream.put(_END)
        if self._server is None:
            self.start()

    @property
    def url(self) -> str:
        """Of the page."""
        return f"http://127.0.0.1:{self.port}/"

    def start(self) -> None:
        """Listen, on the same port as before."""
        node = self

        class Handler(_Handler):
            server_node = node

        self._server = _Server(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        ).start()

    def stop(self) -> None:
        """Be gone: nothing listens, the streams end."""
        assert self._server is not None
        self.held.set()
        self._server.shutdown()
        self._server.server_close()
        self._server = None
        with self._lock:
            for stream in self._streams:
                stream.put(_END)

    def restart(self) -> None:
        """Become another process: events count anew."""
        self.stop()
        self.events = []
        self.status_changes["started_at"] = samples.stamp()
        self.start()

    def publish(self, kind: str, text: str, peer: str | None = None, **fields: Any) -> documents.Event:
        """Have an event happen."""
        with self._lock:
            number = self.events[-1].number + 1 if self.events else 1
            made = samples.event(number, kind, text, peer, **fields)
            self.events.append(made)
            body = msgspec.json.encode(made)
            for stream in self._streams:
                stream.put(b"id: %d\nevent: %s\ndata: %s\n\n" % (number, kind.encode(), body))
        return made

    def subscribe(self) -> queue.SimpleQueue[bytes | None]:
        """A new stream."""
        stream: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        with self._lock:
            self._streams.append(stream)
        return stream

    def unsubscribe(self, stream: queue.SimpleQueue[bytes | None]) -> None:
        """It is no longer read."""
        with self._lock:
            if stream in self._streams:
                self._streams.remove(stream)

    @property
    def listeners(self) -> int:
        """How many streams are open."""
        return len(self._streams)

    def answer(self, path: str, query: dict[str, str]) -> documents.Document | None:
        """The document of a path below /api/v1/; None where there is none."""
        if path == "status":
            return samples.status(self.peers, **self.status_changes)
        if path == "peers":
            return documents.Peers(peers=self.peers)
        if path.startswith("peers/"):
            return next(
                (
                    samples.peer(one, **self.peer_changes)
                    for one in self.peers
                    if one.name == unquote(path[6:])
                ),
                None,
            )
        if path == "events":
            after = int(query.get("after", 0))
            last = self.events[-1].number if self.events else 0
            return documents.Events(events=[one for one in self.events if one.number > after], last=last)
        if path == "explain":
            return self.explain(query["target"])
        if path == "routes":
            return self._routes(query)
        return {"blocks": self.blocks, "rates": self.rates}.get(path)

    def _routes(self, query: dict[str, str]) -> documents.Routes:
        found = [
            one
            for one in self.routes
            if query.get("family", one.family) == one.family
            and query.get("prefix", one.prefix) == one.prefix
            and query.get("received_from", one.source) == one.source
            and (query.get("scope") != "rejected" or one.kernel != "installed")
        ]
        first = 0
        if "after" in query:
            first = next(at for at, one in enumerate(found) if one.prefix == query["after"]) + 1
        page = found[first : first + int(query["limit"])]
        more = first + len(page) < len(found)
        return documents.Routes(routes=page, total=len(found), next=page[-1].prefix if more else None)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_node: FakeNode

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        """Answer."""
        url = urlsplit(self.path)
        try:
            if url.path.startswith("/api/v1/"):
                self.server_node.asked.append(self.path)
                self._api(
                    url.path.removeprefix("/api/v1/"), {k: v[0] for k, v in parse_qs(url.query).items()}
                )
            elif (found := files().get(url.path)) is not None:
                # Unlike a node's: many tests load the same page.
                headers = {**dict(PAGE_HEADERS), "Cache-Control": "max-age=600"}
                self._send(200, found[0], found[1], tuple(headers.items()))
            else:
                self._send(404, b"", "text/plain", PAGE_HEADERS)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def _api(self, path: str, query: dict[str, str]) -> None:
        node = self.server_node
        if path == "events/stream":
            self._stream()
            return
        node.held.wait(30)
        if path in node.failing:
            error = documents.Error(error="the view failed", hint="see the log of routed")
            self._send(node.failing[path], msgspec.json.encode(error), "application/json", API_HEADERS)
            return
        found = node.answer(path, query)
        if found is None:
            error = documents.Error(error=f"{unquote(path)}: there is no such peer", hint="see peers")
            self._send(404, msgspec.json.encode(error), "application/json", API_HEADERS)
            return
        self._send(200, msgspec.json.encode(found), "application/json", API_HEADERS)

    def _send(
        self, status: int, body: bytes, content_type: str, headers: tuple[tuple[str, str], ...]
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        for name, value in API_HEADERS:
            self.send_header(name, value)
        self.end_headers()
        self.close_connection = True
        stream = self.server_node.subscribe()
        try:
            self.wfile.write(b": hello\n\n")
            while (message := stream.get()) is not _END:
                self.wfile.write(message)
        finally:
            self.server_node.unsubscribe(stream)
