"""HTTP on one connection: limits, keep-alive, pipelining, clients that do not read, clients that go."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
from collections.abc import AsyncGenerator
from http import HTTPStatus

import h11
import pytest

from routed.observe.http.connection import Answer, Limits
from routed.observe.http.messages import EVENT_STREAM, HttpError, Request, Response
from tests.observe.http.client import Here, echo, on_virtual_time, serving


def status_of(raw: bytes) -> int:
    """Of the last response in some octets."""
    return int(raw.rpartition(b"HTTP/1.1 ")[2][:3])


@on_virtual_time
async def test_one_connection_answers_many_requests() -> None:
    async with serving(echo) as here:
        client = await here.connect()
        for number in range(5):
            answered = await client.ask("POST", f"/{number}", b"body")
            assert (answered.status, answered.body) == (200, f"POST /{number}".encode() + b"body")
        assert (await client.ask("HEAD", "/x")).headers["content-length"] == "7"
        assert (await client.ask("GET", "/y")).body == b"GET /y"


@on_virtual_time
async def test_pipelined_requests_are_answered_in_order() -> None:
    async with serving(echo) as here:
        client = await here.connect()
        many = b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number for number in range(200))
        raw = await client.raw(many + b"GET /end HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        places = [raw.index(b"GET /%d" % number) for number in range(200)]
        assert places == sorted(places)
        assert raw.endswith(b"GET /end")


@on_virtual_time
async def test_an_old_client_gets_the_end_of_the_connection_as_the_end_of_the_body() -> None:
    async with serving(pieces) as here:
        client = await here.connect()
        raw = await client.raw(b"GET / HTTP/1.0\r\n\r\n")
        assert raw.endswith(b"\r\n\r\n012")
        assert b"chunked" not in raw


async def pieces(request: Request) -> Response:
    async def body() -> AsyncGenerator[bytes, None]:
        for number in range(3):
            yield str(number).encode()

    return Response(HTTPStatus.OK, body(), "text/plain")


@on_virtual_time
async def test_pieces_are_chunks_and_head_gets_none() -> None:
    async with serving(pieces) as here:
        client = await here.connect()
        answered = await client.ask("GET", "/")
        assert (answered.body, answered.headers["transfer-encoding"]) == (b"012", "chunked")
        assert (await client.ask("HEAD", "/")).body == b""
        assert (await client.ask("GET", "/")).body == b"012"


BROKEN: dict[str, tuple[bytes, int]] = {
    "no HTTP": (b"hello\r\n\r\n", 400),
    "TLS": (bytes.fromhex("16030100a5010000a10303") + bytes(100) + b"\r\n\r\n", 400),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "two lengths": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
    "smuggling": (b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: x\r\n\r\n", 501),
    "much in a header": (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 20_000 + b"\r\n\r\n", 431),
    "many headers": (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 5000 + b"\r\n", 431),
    "a long path": (b"GET /" + b"a" * 5_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
    "a path without end": (b"GET /" + b"a" * 70_000, 414),
    "a large body": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n", 413),
    "a huge number": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %s\r\n\r\n" % (b"9" * 20), 413),
    "a large chunked body": (
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        + b"8000\r\n%s\r\n" % (b"x" * 0x8000) * 3,
        413,
    ),
    "chunks that are none": (
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        400,
    ),
    "a path that is no URL": (b"GET //[ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "too many parameters": (b"GET /?" + b"a&" * 200 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 400),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_good_request_is_told_so_and_the_connection_ends(name: str) -> None:
    async def body() -> None:
        octets, status = BROKEN[name]
        async with serving(echo) as here:
            client = await here.connect()
            raw = await client.raw(octets)
            assert status_of(raw) == status, raw
            assert b'{"error":' in raw
            assert b"Traceback" not in raw
            assert (await here.get("/fine")).status == 200

    on_virtual_time(body)()


@on_virtual_time
async def test_a_body_is_asked_for_where_the_client_waits_for_that() -> None:
    async with serving(echo) as here:
        client = await here.connect()
        client.writer.write(
            b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
        )
        assert (await client.reader.readline()) == b"HTTP/1.1 100 \r\n"
        assert (await client.reader.readline()) == b"\r\n"
        client.writer.write(b"hi")
        assert b"200" in await client.reader.readline()


@on_virtual_time
async def test_silent_clients_are_hung_up_on() -> None:
    """Before a request without a word; in the middle of one they are told."""
    loop = asyncio.get_running_loop()
    async with serving(echo, Limits(idle_time=60, request_time=10)) as here:
        client = await here.connect()
        begun = loop.time()
        assert await client.raw(b"") == b""
        assert 59 < loop.time() - begun < 62
        client = await here.connect()
        begun = loop.time()
        assert status_of(await client.raw(b"GET / HTTP/1.1\r\nHo")) == 408
        assert 9 < loop.time() - begun < 13


@on_virtual_time
async def test_a_drop_at_a_time_does_not_hold_a_connection_for_ever() -> None:
    loop = asyncio.get_running_loop()
    async with serving(echo, Limits(request_time=10)) as here:
        client = await here.connect()
        begun = loop.time()

        async def drip() -> None:
            while True:
                client.writer.write(b"a")
                await asyncio.sleep(1)

        dripping = asyncio.create_task(drip())
        client.writer.write(b"GET /")
        assert status_of(await client.raw(b"")) == 408
        assert loop.time() - begun < 13
        dripping.cancel()


def endless(made: list[int]) -> Answer:
    """What sends pieces of 64 kB for ever, and counts them."""

    async def answer(request: Request) -> Response:
        async def body() -> AsyncGenerator[bytes, None]:
            try:
                while True:
                    made[0] += 1
                    yield bytes(1 << 16)
            finally:
                made.append(-1)

        return Response(HTTPStatus.OK, body(), "text/plain")

    return answer


@on_virtual_time
async def test_of_a_response_that_nobody_reads_no_more_is_made() -> None:
    made = [0]
    async with serving(endless(made), Limits(stall_time=30)) as here:
        client = await here.connect(buffer=4096)
        client.begin("GET", "/")
        await asyncio.sleep(10)
        stopped_at = made[0]
        assert stopped_at < 20
        await asyncio.sleep(10)
        assert made == [stopped_at]
        await asyncio.sleep(15)
        assert made[1:] == [-1], "it was ended, and cleared up"


@on_virtual_time
async def test_a_client_that_goes_ends_its_response() -> None:
    made = [0]
    async with serving(endless(made)) as here:
        client = await here.connect()
        client.begin("GET", "/")
        assert (await client.head()).status_code == 200
        client.close()
        await asyncio.sleep(1)
        assert made[1:] == [-1]


def waiting(ended: list[str]) -> Answer:
    async def answer(request: Request) -> Response:
        async def body() -> AsyncGenerator[bytes, None]:
            try:
                yield b": hello\n\n"
                await asyncio.Event().wait()
            finally:
                ended.append("ended")

        return Response(HTTPStatus.OK, body(), EVENT_STREAM)

    return answer


@on_virtual_time
async def test_a_stream_in_which_nothing_happens_ends_with_its_client() -> None:
    ended: list[str] = []
    async with serving(waiting(ended)) as here:
        client = await here.connect()
        client.begin("GET", "/")
        await client.head()
        await client.event()
        await asyncio.sleep(5)
        assert ended == []
        client.close()
        await asyncio.sleep(0.1)
        assert ended == ["ended"]


@on_virtual_time
async def test_who_sends_without_end_into_a_stream_is_hung_up_on() -> None:
    ended: list[str] = []
    async with serving(waiting(ended)) as here:
        client = await here.connect()
        client.begin("GET", "/")
        await client.head()
        client.writer.write(bytes(1 << 20))
        await asyncio.sleep(1)
        assert ended == ["ended"]


@on_virtual_time
async def test_a_fault_of_ours_is_a_500_and_a_line_in_the_log(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def broken(request: Request) -> Response:
        if request.path == "/refused":
            raise HttpError(HTTPStatus.CONFLICT, "no", "yes")
        raise KeyError("secret\x1b[31m" + request.path)

    async with serving(broken) as here:
        client = await here.connect()
        for _ in range(10):
            answered = await client.ask("GET", "/x%1b[31m")
            assert (answered.status, answered.json()["error"]) == (500, "internal error")
            assert "secret" not in answered.body.decode()
        assert (await client.ask("GET", "/refused")).json() == {"error": "no", "hint": "yes"}
    lines = capsys.readouterr().out.splitlines()
    said = [line for line in lines if "internal error" in line]
    assert len(said) == 4, "three, and one at the end that says how many more"
    assert all("test_connection.py:" in line and "\x1b[31m/x" not in line for line in said)


@on_virtual_time
async def test_a_fault_in_the_middle_of_a_response_ends_the_connection(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def broken(request: Request) -> Response:
        async def body() -> AsyncGenerator[bytes, None]:
            yield b"some"
            raise RuntimeError("a fault")

        return Response(HTTPStatus.OK, body(), "text/plain")

    async with serving(broken) as here:
        client = await here.connect()
        client.begin("GET", "/")
        await client.head()
        assert isinstance(await client.event(), h11.Data)
        with pytest.raises(h11.RemoteProtocolError):
            await client.event()
    assert "a fault" in capsys.readouterr().out


@on_virtual_time
async def test_a_further_connection_takes_the_place_of_the_one_that_waits_longest() -> None:
    async with serving(echo, connections=3) as here:
        clients = [await here.connect() for _ in range(3)]
        for client in (clients[1], clients[0], clients[2]):
            await client.ask("GET", "/")
            await asyncio.sleep(1)
        assert (await here.get("/")).status == 200
        assert await clients[1].reader.read() == b""
        assert (await clients[0].ask("GET", "/")).status == 200


@on_virtual_time
async def test_where_all_are_at_work_a_further_one_is_told_to_come_later() -> None:
    async def answer(request: Request) -> Response:
        await asyncio.Event().wait()
        raise AssertionError

    async with serving(answer, connections=3) as here:
        for _ in range(3):
            client = await here.connect()
            client.begin("GET", "/")
            await asyncio.sleep(1)
        assert (await here.get("/")).status == 503


@on_virtual_time
async def test_who_takes_nothing_of_a_response_makes_room() -> None:
    made = [0]

    async def answer(request: Request) -> Response:
        make = endless(made) if request.path == "/endless" else echo
        return await make(request)

    async with serving(answer, connections=3) as here:
        clients = []
        for _ in range(3):
            clients.append(await here.connect(buffer=4096))
            clients[-1].begin("GET", "/endless")
            await asyncio.sleep(1)
        assert (await here.get("/")).status == 200
        assert made.count(-1) == 1
        assert (await here.get("/")).status == 200, "which was closed when it was answered"
        assert made.count(-1) == 1


@on_virtual_time
async def test_listeners_to_events_leave_room_for_questions() -> None:
    ended: list[str] = []

    async def answer(request: Request) -> Response:
        if request.path != "/events":
            return await echo(request)
        return await waiting(ended)(request)

    async with serving(answer, connections=4) as here:
        for _ in range(3):
            client = await here.connect()
            client.begin("GET", "/events")
            await client.head()
        assert (await here.get("/events")).status == 503
        assert (await here.get("/")).status == 200
        client.close()
        await asyncio.sleep(1)
        again = await here.connect()
        again.begin("GET", "/events")
        assert (await again.head()).status_code == 200


@on_virtual_time
async def test_a_connection_that_ends_waits_for_what_the_client_has_yet_to_take() -> None:
    """And no longer than for one that does not read."""

    async def answer(request: Request) -> Response:
        return Response(HTTPStatus.OK, bytes(4_000_000), "text/plain")

    async with serving(answer, Limits(idle_time=5, stall_time=10, unsent=8_000_000)) as here:
        client = await here.connect(buffer=4096)
        client.begin("GET", "/")
        await asyncio.sleep(12)
        assert len(here.server._tasks) == 1, "it waits still"
        await asyncio.sleep(10)
        assert not here.server._tasks


@on_virtual_time
async def test_without_file_descriptors_connections_wait_and_it_is_said_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with serving(echo) as here:
        assert (await here.get("/")).status == 200
        await asyncio.sleep(1)  # that connection is closed
        with socket.socket(socket.AF_UNIX) as client:
            client.setblocking(False)
            before = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (client.fileno() + 1, before[1]))
            taken: list[int] = []
            try:
                with contextlib.suppress(OSError):
                    while True:  # every number below the limit
                        taken.append(os.dup(client.fileno()))
                client.connect(str(here.path))
                await asyncio.sleep(30)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, before)
                for number in taken:
                    os.close(number)
            await asyncio.sleep(2)
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(client, b"GET /late HTTP/1.0\r\n\r\n")
            await asyncio.sleep(0.1)
            assert (await loop.sock_recv(client, 1 << 16)).endswith(b"GET /late")
    said = [line for line in capsys.readouterr().out.splitlines() if "connections to the API wait" in line]
    assert len(said) == 2, "at once, and at the end how often"


async def _begun(here: Here) -> None:
    client = await here.connect()
    client.begin("GET", "/")
    await client.head()


@on_virtual_time
async def test_the_end_waits_a_moment_for_responses_and_no_longer() -> None:
    loop = asyncio.get_running_loop()
    ended: list[str] = []
    async with serving(waiting(ended)) as here:
        await _begun(here)
        await here.connect()
        await asyncio.sleep(1)
        begun = loop.time()
        await here.server.close()
        assert loop.time() - begun < 1.5
        assert ended == ["ended"]
