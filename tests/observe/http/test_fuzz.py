"""Whatever octets come: the server answers with HTTP or hangs up, stays there for others, and says nothing of
its insides."""

from __future__ import annotations

import asyncio
import contextlib
import re
from urllib.parse import quote

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routed.observe import documents
from routed.observe.http.endpoints import TABLES
from tests.bgp.test_speaker import Router
from tests.observe.http.client import JSON_HEADERS, Here, api_of
from tests.observe.views.scene import observed
from tests.virtual import Wire, virtual

_WORDS = st.sampled_from(
    [
        *(b"GET ", b"POST ", b"HEAD ", b"CONNECT x:1", b"OPTIONS *", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        *(b"/api/v1/status", b"/api/v1/events/stream", b"/api/v1/routes?limit=1", b"%00%ff", b"?a=b"),
        *(b" HTTP/1.1\r\n", b" HTTP/1.0\r\n", b" HTTP/2\r\n", b"\r\n\r\n", b"\r\n", b"\n", b"\x16\x03"),
        *(b"Host: localhost\r\n", b"Host: ", b"Connection: close\r\n", b"Expect: 100-continue\r\n"),
        *(b"Content-Length: 5\r\n", b"Content-Length: -1\r\n", b"Transfer-Encoding: chunked\r\n"),
        *(b"5\r\nhello\r\n", b"0\r\n\r\n", b"Connection: upgrade\r\nUpgrade: h2c\r\n"),
        *(b"GET /api/v1/status HTTP/1.1\r\nHost: localhost\r\n\r\n", b"Content-Type: application/json\r\n"),
        b"POST /api/v1/undrain HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n",
    ]
)
_OCTETS = st.lists(_WORDS | st.binary(max_size=30), max_size=20).map(b"".join) | st.binary(max_size=400)


async def _still_there(here: Here) -> None:
    assert (await here.get("/api/v1/peers")).status == 200


@settings(max_examples=80, deadline=None)
@given(pieces=st.lists(_OCTETS, min_size=1, max_size=4), rude=st.booleans())
def test_any_octets(pieces: list[bytes], rude: bool) -> None:
    async def body(wire: Wire) -> None:
        one = observed(Router(wire, 1))
        async with api_of(one) as here:
            beside = await here.connect()
            client = await here.connect()
            for piece in pieces:
                client.writer.write(piece)
                await asyncio.sleep(0.01)
                assert (await beside.ask("GET", "/api/v1/peers")).status == 200
            if rude:
                client.writer.transport.abort()
            else:
                with contextlib.suppress(OSError):
                    client.writer.write_eof()
                said = b""
                with contextlib.suppress(OSError, TimeoutError):
                    async with asyncio.timeout(200):
                        said = await client.reader.read()
                assert not said or said.startswith(b"HTTP/1.1 ")
                assert b"Traceback" not in said
                assert b" 500 " not in said
            await _still_there(here)
        assert one.events._listeners == []

    virtual(body)()


_TEXTS = st.text(max_size=20) | st.sampled_from(
    [
        "10.0.0.0/8",
        "::/0",
        "10.1.2.3",
        "10.1.2.3/99",
        "fe80::1%eth0",
        "ipv4",
        "best",
        "to_10.0.0.2",
        "0",
        "-1",
    ]
)
_GETS = [one for one in TABLES["api"] if one.method == "GET" and one.parameters]


@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_any_values_of_parameters(data: st.DataObject) -> None:
    """Each is answered, or refused with the parameter's name."""
    endpoint = data.draw(st.sampled_from(_GETS))
    known = [one.name for one in endpoint.parameters]
    names = data.draw(st.lists(st.sampled_from(known), max_size=4, unique=True))
    query = "&".join(f"{name}={quote(data.draw(_TEXTS), errors='replace')}" for name in names)

    async def body(wire: Wire) -> None:
        router = Router(wire, 1)
        router.originate("10.1.0.0/26")
        router.speaker.flush()
        async with api_of(observed(router)) as here:
            client = await here.connect()
            client.begin("GET", f"{endpoint.path}?{query}")
            head = await client.head()
            assert head.status_code in (200, 400, 404), query
            if head.status_code == 400:
                event = await client.event()
                error = msgspec.json.decode(event.data, type=documents.Error)  # type: ignore[union-attr]
                assert re.match(rf"({'|'.join(one.name for one in endpoint.parameters)})\b", error.error), (
                    error
                )
            client.close()
            await _still_there(here)

    virtual(body)()


@settings(max_examples=40, deadline=None)
@given(
    name=st.text(max_size=30),
    content=st.binary(max_size=60)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner) | st.dictionaries(st.sampled_from(["message", "direction", "x"]), inner)
        ),
        max_leaves=5,
    ).map(lambda value: msgspec.json.encode(value) if not isinstance(value, bytes) else value),
)
def test_any_body_of_an_action(name: str, content: bytes) -> None:
    async def body(wire: Wire) -> None:
        router = Router(wire, 1)
        router.set_peers(router.peer(Router(wire, 2)))
        async with api_of(observed(router)) as here:
            for target in (quote(name, safe="", errors="replace"), "to_10.0.0.2"):
                for action in ("shutdown", "refresh", "up"):
                    answered = await here.ask(
                        "POST", f"/api/v1/peers/{target}/{action}", content, JSON_HEADERS
                    )
                    assert answered.status in (200, 400, 404, 409), answered

    virtual(body)()


@pytest.mark.parametrize("kind", ["api", "metrics"])
def test_many_clients_that_do_nothing_do_not_keep_others_out(kind: str) -> None:
    """A probe is answered, whoever holds connections."""

    async def body(wire: Wire) -> None:
        async with api_of(observed(Router(wire, 1)), kind) as here:
            beginnings = (b"", b"GET", b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n")
            for number in range(300):
                client = await here.connect()
                client.writer.write(beginnings[number % 3])
                if number % 50 == 0:
                    assert (await here.get("/liveness")).status == 200
            assert (await here.get("/liveness")).status == 200

    virtual(body)()
