"""docker-compose.yml, Dockerfile and .dockerignore: well formed, and of one piece with the rest."""

from __future__ import annotations

import fnmatch
import re
import shlex
import shutil
import subprocess
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from routed.cli import application

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    loaded = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    assert isinstance(loaded, dict)
    return loaded


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's (instruction, arguments), continued lines joined."""
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n", " ", "\n".join(lines))
    found = [line.partition(" ") for line in joined.splitlines() if line.strip()]
    return [(name, rest.strip()) for name, _, rest in found]


def test_the_composition_is_what_it_says(compose: dict[str, Any]) -> None:
    assert set(compose["services"]) == {"etcd", "load", "mosquitto", "reflector", "node1", "node2", "node3"}
    assert set(compose) == {"services", "networks", "volumes", "x-routed", "x-node"}
    for name, service in compose["services"].items():
        assert "image" in service, name
        assert "privileged" not in service, name
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            assert source in compose["volumes"] or (ROOT / source).exists(), (name, volume)


def test_addresses_are_those_of_the_node_records(compose: dict[str, Any]) -> None:
    records = yaml.safe_load_all((ROOT / "examples/cluster/nodes.yaml").read_text())
    nodes = {record["metadata"]["name"]: record["spec"]["bgp"] for record in records}
    subnets = [ip_network(entry["subnet"]) for entry in compose["networks"]["cluster"]["ipam"]["config"]]
    dynamic = ip_network(compose["networks"]["cluster"]["ipam"]["config"][0]["ip_range"])
    placed = set()
    for service in compose["services"].values():
        addresses = service["networks"]
        if isinstance(addresses, list):
            continue
        command = service["command"]
        name = (
            command[command.index("--node") + 1]
            if "--node" in command
            else service["environment"]["NODENAME"]
        )
        for option, field in (("ipv4_address", "ipv4Address"), ("ipv6_address", "ipv6Address")):
            address = ip_address(addresses["cluster"][option])
            assert address == ip_interface(nodes[name][field]).ip
            assert any(address in subnet for subnet in subnets)
            assert address not in dynamic
        placed.add(name)
    assert placed == set(nodes)


def test_only_node_speakers_have_capabilities_and_root(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        if service["image"] != "routed":
            continue
        assert service["cap_drop"] == ["ALL"]
        assert service["read_only"] is True
        assert service.get("cap_add", []) == (
            ["NET_ADMIN", "NET_BIND_SERVICE"] if name.startswith("node") else []
        )
        assert service.get("user", "") == ("0:0" if name.startswith("node") else "")


def test_every_command_is_one_of_ours(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        if service["image"] != "routed" or "entrypoint" in service:
            continue
        command, *options = service["command"]
        shown = CliRunner().invoke(application(), [command, "--help"]).output
        for option in options:
            assert not option.startswith("--") or option in shown


@pytest.mark.parametrize("program", [("docker-compose",), ("docker", "compose")], ids=" ".join)
def test_compose_takes_it(program: tuple[str, ...]) -> None:
    if shutil.which(program[0]) is None:
        pytest.skip(f"{program[0]} is not installed")
    asked = subprocess.run((*program, "version"), capture_output=True, timeout=30)
    if asked.returncode:
        pytest.skip(f"this docker has no {program[-1]}")
    checked = subprocess.run(
        (*program, "-f", str(ROOT / "docker-compose.yml"), "config", "-q"), capture_output=True, timeout=30
    )
    assert checked.returncode == 0, checked.stderr.decode()


def test_the_dockerfile_is_well_formed() -> None:
    parsed = instructions()
    assert {name for name, _ in parsed} <= {
        *("FROM", "RUN", "WORKDIR", "COPY", "ENV", "USER", "ENTRYPOINT", "CMD"),
    }
    assert [rest for name, rest in parsed if name == "FROM"] == ["debian:bookworm-slim AS build", "scratch"]
    last = dict(parsed)
    assert last["USER"] == "10001:10001"
    assert yaml.safe_load(last["ENTRYPOINT"]) == ["routed"]
    assert yaml.safe_load(last["CMD"]) == ["--help"]
    for name, rest in parsed:
        if name == "RUN":
            # A shell that has no more than dash has takes it.
            checked = subprocess.run(("sh", "-n"), input=rest.encode(), capture_output=True, timeout=30)
            assert checked.returncode == 0, checked.stderr.decode()


def test_the_context_is_what_is_copied_and_no_more() -> None:
    patterns = [
        line
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    assert patterns[0] == "*"
    kept = {pattern[1:] for pattern in patterns if pattern.startswith("!")}
    copied = set()
    for name, rest in instructions():
        if name == "COPY" and not rest.startswith("--from"):
            *sources, _ = shlex.split(rest)
            copied.update(sources)
    assert kept == copied
    assert all((ROOT / name).exists() for name in kept)
    assert any(
        fnmatch.fnmatch("routed/x/__pycache__", pattern.replace("**", "*")) for pattern in patterns[1:]
    )
