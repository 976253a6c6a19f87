"""WAIT_FOR_DATASTORE, and the datastore that calico-node would take, with the real command."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from benchmarks.reflector.processes import free_port
from routed.datastore import AbsentError, Lost, as_environ_says, open_datastore
from tests.datastore.records import affinity
from tests.datastore.watching import following


def routed(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        (sys.executable, "-m", "routed", *arguments),
        env={"PATH": os.environ["PATH"], **environ},
        capture_output=True,
        text=True,
        timeout=30,
    )


@pytest.mark.parametrize("environ", [{}, {"WAIT_FOR_DATASTORE": "true"}])
def test_a_start_waits(environ: Mapping[str, str], tmp_path: Path) -> None:
    async def scenario() -> None:
        datastore = as_environ_says(open_datastore(f"file:{tmp_path / 'later.yaml'}"), environ)
        async with following(datastore) as watch:
            await watch.expect(Lost)
            (tmp_path / "later.yaml").write_text(affinity("a"))
            await watch.until(lambda: watch.names == {"a"})

    asyncio.run(scenario())


def test_a_start_does_not_wait_where_it_is_not_to(tmp_path: Path) -> None:
    async def scenario() -> None:
        path = tmp_path / "records.yaml"
        environ = {"WAIT_FOR_DATASTORE": "False"}
        with pytest.raises(AbsentError, match=r"No such file.*WAIT_FOR_DATASTORE is false"):
            await anext(aiter(as_environ_says(open_datastore(f"file:{path}"), environ).watch()))
        # A loss later on is like any other.
        path.write_text(affinity("a"))
        async with following(as_environ_says(open_datastore(f"file:{path}"), environ)) as watch:
            await watch.until(lambda: watch.names == {"a"})
            path.unlink()
            await watch.expect(Lost)

    asyncio.run(scenario())


def test_it_is_true_or_false(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="write true or false"):
        as_environ_says(open_datastore(f"file:{tmp_path}"), {"WAIT_FOR_DATASTORE": "maybe"})


def test_routed_run_ends_without_its_datastore_and_says_why() -> None:
    endpoint = f"127.0.0.1:{free_port()}"
    ended = routed(
        *("run", "--node", "a", "--no-kernel"),
        ETCD_ENDPOINTS=f"http://{endpoint}",
        WAIT_FOR_DATASTORE="false",
        ROUTED_LOG_FORMAT="json",
    )
    assert ended.returncode == 2
    assert f"etcd://{endpoint}: {endpoint}: Connection refused" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({}, "give --datastore URL"),
        ({"DATASTORE_TYPE": "etcdv3"}, "ETCD_ENDPOINTS is not set"),
        ({"ETCD_ENDPOINTS": "http://127.0.0.1:1", "ETCD_USERNAME": "me"}, "belong together"),
        ({"ETCD_ENDPOINTS": "http://127.0.0.1:1"}, "etcd://127.0.0.1:1: 127.0.0.1:1: Connection refused"),
    ],
)
def test_without_an_option_it_looks_where_calico_node_does(environ: Mapping[str, str], said: str) -> None:
    ended = routed("show", "intent", "--node", "a", **environ)
    assert ended.returncode == 2
    assert said in ended.stderr
