"""HTTP against servers that are odd, broken or hostile: an answer or a reason in words, never a hang."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from routed.datastore.kubernetes import http
from routed.datastore.kubernetes.access import Access, Server
from routed.datastore.kubernetes.api import Caller, RefusedError, Status, read_status
from routed.datastore.kubernetes.credentials import Static
from routed.datastore.kubernetes.http import Connection, DisconnectedError, Endpoint

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


@pytest.fixture(autouse=True)
def short_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "ANSWER_TIMEOUT", 0.2)
    monkeypatch.setattr(http, "CONNECT_TIMEOUT", 1.0)


class Canned:
    """Gives the n-th of some answers to the n-th request, and closes after the last."""

    def __init__(self, *answers: bytes, keep_open: bool = False) -> None:
        self.answers = list(answers)
        self.keep_open = keep_open
        self.requests: list[bytes] = []
        self.connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            while self.answers:
                self.requests.append(await reader.readuntil(b"\r\n\r\n"))
                answer = self.answers.pop(0)
                writer.write(answer)
                await writer.drain()
                if b"CLOSE" in answer:
                    break
            if self.keep_open:
                await reader.read()
        writer.close()


@asynccontextmanager
async def calling(canned: Canned, path: str = "", token: str | None = None) -> AsyncIterator[Caller]:
    """A caller of a server that answers so."""
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(canned.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    header = None if token is None else f"Bearer {token}"
    access = Access(Server.of(f"http://127.0.0.1:{port}{path}", "x"), credential=Static(header))
    caller = Caller(access)
    try:
        async with asyncio.timeout(10):
            yield caller
    finally:
        await caller.close()
        server.close()
        await asyncio.gather(*tasks)


async def body(answer: bytes, keep_open: bool = False) -> bytes:
    async with calling(Canned(answer, keep_open=keep_open)) as caller:
        return await caller.get("/x")


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (OK, b"{}"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n2\r\nbc\r\n0\r\n\r\n", b"abc"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b""),
        (b"HTTP/1.0 200 OK\r\n\r\nuntil the end", b"until the end"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, b"{}"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", b""),
        (b'HTTP/1.1 200 OK\r\nWarning: 299 - "deprecated"\r\nContent-Length: 1\r\n\r\nx', b"x"),
    ],
)
def test_answers(answer: bytes, expected: bytes) -> None:
    assert asyncio.run(body(answer)) == expected


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"", "closed the connection"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "does not speak HTTP"),
        (b"\x15\x03\x01\x00\x02\x02\x46", "does not speak HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort", "closed the connection"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nA\r\nshort", "closed the connection"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n", "does not speak HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx", "does not speak HTTP"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000, "does not speak HTTP"),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", ""),
    ],
)
def test_broken_answers(answer: bytes, reason: str) -> None:
    with pytest.raises(DisconnectedError) as caught:
        asyncio.run(body(answer))
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    "answer",
    [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort"],
)
def test_silent_answers(answer: bytes) -> None:
    with pytest.raises(DisconnectedError, match=r"silent for 0\.2 s"):
        asyncio.run(body(answer, keep_open=True))


def test_an_answer_that_is_cut_anywhere_is_no_answer() -> None:
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"

    async def scenario() -> None:
        for length in range(len(answer)):
            with pytest.raises(DisconnectedError):
                await body(answer[:length])
        assert await body(answer) == b"{}"

    asyncio.run(scenario())


def test_answers_with_random_faults_raise_what_is_announced() -> None:
    chance = random.Random(6)
    whole = b"HTTP/1.1 200 OK\r\nContent-Type: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"

    async def scenario() -> None:
        for _ in range(300):
            answer = bytearray(whole)
            for _ in range(chance.randrange(1, 4)):
                answer[chance.randrange(len(answer))] = chance.randrange(256)
            with contextlib.suppress(DisconnectedError, RefusedError):
                await body(bytes(answer))

    asyncio.run(scenario())


def test_requests() -> None:
    async def scenario() -> None:
        canned = Canned(OK, OK)
        async with calling(canned, "/k8s/clusters/c-1", token="t") as caller:
            await caller.get("/apis/x", {"fieldSelector": "a!=b,c=d"})
            await caller.get("/api")
            first, second = canned.requests
            assert first.startswith(
                b"GET /k8s/clusters/c-1/apis/x?fieldSelector=a%21%3Db%2Cc%3Dd HTTP/1.1\r\n"
            )
            assert b"\r\nAuthorization: Bearer t\r\n" in first
            assert b"\r\nAccept: application/json\r\n" in first
            # Compression costs the server more than the network.
            assert b"\r\nAccept-Encoding: identity\r\n" in first
            assert b"\r\nUser-Agent: routed/" in first
            assert second.startswith(b"GET /k8s/clusters/c-1/api HTTP/1.1\r\n")
            assert canned.connections == 1

    asyncio.run(scenario())


def test_a_connection_that_the_server_closed_meanwhile_is_replaced() -> None:
    closing = OK.replace(b"\r\n\r\n", b"\r\nX-Test: CLOSE\r\n\r\n")

    async def scenario() -> None:
        canned = Canned(closing, OK, closing, OK)
        async with calling(canned) as caller:
            for _ in range(4):
                assert await caller.get("/x") == b"{}"
            assert canned.connections == 3

    asyncio.run(scenario())


def refusal(answer: bytes) -> RefusedError:
    with pytest.raises(RefusedError) as caught:
        asyncio.run(body(answer))
    return caught.value


def refusing(head: str, text: str = "") -> bytes:
    return f"HTTP/1.1 {head}\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode()


def test_refusals() -> None:
    status = '{"kind": "Status", "message": "no\\nway", "reason": "Forbidden", "code": 403}'
    error = refusal(refusing("403 Forbidden", status))
    assert str(error) == "GET /x: 403 Forbidden: no\\nway"
    error = refusal(refusing("404 Not Found", "404 page not found\n"))
    assert str(error) == "GET /x: 404: 404 page not found\\n"
    error = refusal(refusing("301 Moved\r\nLocation: https://elsewhere"))
    assert str(error) == "GET /x: 301: no reason given"
    error = refusal(refusing("500 Oops", '{"message": 5, "code": "x"}'))
    assert error.status.code == 500
    error = refusal(refusing("502 Bad Gateway", "<html>" + "x" * 5000))
    assert len(str(error)) < 400
    # The body of a refusal may be as broken as it likes.
    error = refusal(b"HTTP/1.1 503 Busy\r\nContent-Length: 99\r\n\r\nshort")
    assert error.status.code == 503


@pytest.mark.parametrize(
    ("header", "body_", "seconds"),
    [
        ("Retry-After: 7", "", 7.0),
        ("Retry-After: 99999999999", "", 300.0),
        ("Retry-After: -5", "", None),
        ("Retry-After: soon", "", None),
        ("Retry-After: Thu, 01 Jan 1970 00:00:00 GMT", "", 0.0),
        ("X: y", '{"details": {"retryAfterSeconds": 3}}', 3.0),
        ("Retry-After: 7", '{"details": {"retryAfterSeconds": 3}}', 7.0),
        ("X: y", '{"details": {"retryAfterSeconds": 1e9}}', 300.0),
        ("X: y", "", None),
    ],
)
def test_how_long_to_leave_the_server_alone(header: str, body_: str, seconds: float | None) -> None:
    assert refusal(refusing(f"429 Too Many Requests\r\n{header}", body_)).retry_after == seconds


def test_how_long_by_a_date() -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    asked = refusal(refusing(f"503 Busy\r\nRetry-After: {date}")).retry_after
    assert asked is not None
    assert 50 < asked <= 60


@pytest.mark.parametrize("text", [b"", b"null", b"[]", b"{", b'{"message": []}', b"\xff", b'{"details": 5}'])
def test_whatever_is_in_a_status(text: bytes) -> None:
    status = read_status(text, 418)
    assert isinstance(status, Status)
    assert status.code == 418


def test_lines_of_a_watch_however_they_are_cut() -> None:
    lines = [b'{"n": %d, "text": "%s"}' % (n, b"x" * n) for n in range(40)]
    text = b"\n".join([*lines, b""])

    async def read(pieces: list[bytes]) -> tuple[list[list[bytes]], list[bytes]]:
        chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
        answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"
        async with calling(Canned(answer)) as caller:
            batches = [batch async for batch in caller.lines("/x", {}, "application/json", 1.0)]
            return batches, [line for batch in batches for line in batch]

    async def scenario() -> None:
        for size in (1, 2, 7, 100, len(text)):
            batches, read_lines = await read([text[at : at + size] for at in range(0, len(text), size)])
            assert batches[0] == []
            assert read_lines == lines

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        ("no-such-host.invalid", "name lookup: "),
        ("127.0.0.1", "Connection refused"),
        ("x" * 70, ""),
        ("a..b", ""),
    ],
)
def test_no_connection(host: str, reason: str) -> None:
    with pytest.raises(DisconnectedError) as caught:
        asyncio.run(Connection.open(Endpoint(host, 1), None))
    assert reason in str(caught.value)
    assert str(caught.value).startswith(f"{host}:1: ")
