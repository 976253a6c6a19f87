"""Outlets: from options to listening sockets and back."""

from __future__ import annotations

import asyncio
import contextlib
import io
import socket
import tempfile
from pathlib import Path
from typing import Any

import pytest

from benchmarks.reflector.processes import free_port
from routed.bgp.transport import Endpoint
from routed.observe.http import outlet as outlet_module
from routed.observe.http.outlet import api_outlet, http_outlet, metrics_outlet
from routed.observe.options import ObserveOptions, observe_options
from routed.observe.outlets import Outlets
from tests.bgp.test_speaker import Router
from tests.observe.views.scene import observed
from tests.virtual import Wire, virtual


def descriptors() -> int:
    """Open file descriptors of this process."""
    return len(list(Path("/proc/self/fd").iterdir()))


async def get(where: Endpoint | Path, path: str, host: str = "localhost") -> bytes:
    if isinstance(where, Path):
        reader, writer = await asyncio.open_unix_connection(str(where))
    else:
        reader, writer = await asyncio.open_connection(str(where.address), where.port)
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        return await reader.read()
    finally:
        writer.close()


@virtual
async def test_nothing_is_opened_that_nobody_asked_for(wire: Wire) -> None:
    one = observed(Router(wire, 1))
    for factory in (api_outlet, http_outlet, metrics_outlet):
        assert factory(ObserveOptions(), one) is None


@virtual
async def test_all_three_at_once_by_the_options(wire: Wire) -> None:
    with tempfile.TemporaryDirectory(prefix="routed-") as folder:
        path = Path(folder) / "a.sock"
        http, metrics = (Endpoint.parse(f"127.0.0.1:{free_port()}") for _ in range(2))
        options = ObserveOptions(api=path, http=http, metrics=metrics, node_status=False)
        outlets = Outlets(options, observed(Router(wire, 1)))
        await outlets.start()
        try:
            assert b" 200 " in await get(path, "/api/v1/status")
            assert b" 200 " in await get(http, "/api/v1/status")
            assert b" 421 " in await get(http, "/api/v1/status", "evil.example")
            assert b" 404 " in await get(metrics, "/api/v1/status")
            assert b" 200 " in await get(metrics, "/metrics", "node7:9179")
        finally:
            await outlets.close()
        assert not path.exists()
        for one in (http, metrics):
            with pytest.raises(ConnectionRefusedError):
                await get(one, "/")


@virtual
async def test_a_port_that_is_taken_costs_that_outlet_alone(wire: Wire) -> None:
    with tempfile.TemporaryDirectory(prefix="routed-") as folder, socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        taken = Endpoint.parse(f"127.0.0.1:{sock.getsockname()[1]}")
        path = Path(folder) / "a.sock"
        outlets = Outlets(ObserveOptions(api=path, http=taken, node_status=False), observed(Router(wire, 1)))
        with contextlib.redirect_stdout(io.StringIO()) as said:
            await outlets.start()
        assert f"{taken}: another process listens there" in said.getvalue()
        assert "Errno" not in said.getvalue()
        assert b" 200 " in await get(path, "/api/v1/status")
        await outlets.close()


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"http": "127.0.0.1:9", "metrics": "127.0.0.1:9"}, "--metrics"),
        ({"http": "0.0.0.0:9"}, "--http"),
        ({"http": "localhost:9"}, "--http"),
        ({"looking_glass": True}, "--looking-glass"),
        ({"events": "http://127.0.0.1/"}, "--events"),
    ],
)
def test_wrong_options_are_named(changed: dict[str, Any], named: str) -> None:
    options: dict[str, Any] = {"api": "none", "http": None, "looking_glass": False, "metrics": None}
    options |= {"metrics_per_peer": False, "bird_sockets": None, "events": None, **changed}
    with pytest.raises(ValueError, match=f"^{named}"):
        observe_options("a", **options)


@virtual
async def test_it_is_closed_at_any_time(wire: Wire) -> None:
    """Before anybody came, while the first is let in, and later: nothing is left."""
    one = observed(Router(wire, 1))
    before = descriptors()
    with tempfile.TemporaryDirectory(prefix="routed-") as folder:
        for turns in range(16):
            path = Path(folder) / f"{turns}.sock"
            outlet = api_outlet(ObserveOptions(api=path), one)
            assert outlet is not None
            await outlet.start()
            client = asyncio.create_task(get(path, "/api/v1/status"))
            for _ in range(turns):
                await asyncio.sleep(0)
            await outlet.close()
            assert not path.exists()
            (said,) = await asyncio.gather(client, return_exceptions=True)
            whole = isinstance(said, bytes) and (not said or b" 200 " in said)
            assert whole or isinstance(said, OSError), said
            await outlet.close()
    await asyncio.sleep(1)
    assert descriptors() == before


@virtual
async def test_where_the_page_is_served_rates_are_sampled_from_the_start(wire: Wire) -> None:
    endpoint = Endpoint.parse(f"127.0.0.1:{free_port()}")
    outlet = http_outlet(ObserveOptions(http=endpoint, looking_glass=True), observed(Router(wire, 1)))
    assert outlet is not None
    await outlet.start()
    await asyncio.sleep(25)
    assert (await get(endpoint, "/api/v1/rates")).count(b'"established"') == 4
    await outlet.close()


@virtual
async def test_a_module_that_is_missing_costs_the_api_alone(wire: Wire) -> None:
    with tempfile.TemporaryDirectory(prefix="routed-") as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(outlet_module, "_MODULES", ("no_such_module",))
        path = Path(folder) / "a.sock"
        outlet = api_outlet(ObserveOptions(api=path), observed(Router(wire, 1)))
        assert outlet is not None
        await outlet.start()
        client = asyncio.create_task(get(path, "/"))
        await asyncio.sleep(1)
        await outlet.close()
        (said,) = await asyncio.gather(client, return_exceptions=True)
        assert isinstance(said, OSError) or said == b""
