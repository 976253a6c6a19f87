"""`routed show intent`: the intent for people and for scripts."""

from __future__ import annotations

import json
from pathlib import Path

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from routed.cli.show import app
from routed.intent.compiler import compile_intent
from routed.intent.describe import as_data, as_text
from routed.intent.options import Options
from routed.resources import Record
from tests.render.cases import CASES

from .clusters import EVERYTHING, records

WORKER = next(case for case in CASES if case.name == "worker")


def show(*arguments: str) -> str:
    environment = {"CALICO_ENDPOINT_STATUS_PATH_PREFIX": str(WORKER.folder)}
    common = ["intent", "--datastore", f"file:{WORKER.folder / 'records.yaml'}", "--node", "worker01"]
    result = CliRunner().invoke(app, [*common, *arguments], env=environment)
    assert result.exit_code == 0
    return result.stdout


def rows(text: str) -> list[list[str]]:
    """The words of each line, columns being two spaces apart."""
    return [[word.strip() for word in line.split("  ") if word.strip()] for line in text.splitlines()]


def test_for_people() -> None:
    found = rows(show())
    assert ["router ID", "192.0.2.11"] in found
    assert [
        "Global_198_51_100_1_port_1179",
        "198.51.100.1:1179",
        "65001",
        "eBGP as 64999, next hop self, GTSM 2, password, filters to-the-world+gone",
        "BGPPeer outside",
    ] in found
    assert ["10.244.1.64/26", "blackhole", "affinity being deleted", "BlockAffinity b"] in found
    assert ["export", "add", "10.244.0.0/16", "64600:1 64600:99 64600:1:2"] in found
    assert [
        "warning",
        "BGPPeer outside",
        "spec.filters[1]",
        "there is no BGPFilter gone: the peering does without",
    ] in found
    assert [
        "error",
        "BGPPeer without-family",
        "spec.reachableBy",
        "needs a peerIP of the same address family",
    ] in found


def test_for_scripts() -> None:
    data = json.loads(show("-o", "json"))
    assert data == yaml.safe_load(show("-o", "yaml"))
    sessions = {session["name"]: session for session in data["sessions"]}
    outside = sessions["Global_198_51_100_1_port_1179"]
    assert (outside["record"], outside["family"], outside["port"]) == ("BGPPeer outside", "ipv4", 1179)
    assert outside["password"] == "********"
    assert data["originated"][0]["reason"] == "confirmed affinity"
    assert data["filters"]["to-the-world"]["import_ipv6"][0]["prefix"]["network"] == "::/0"
    assert data["families"]["ipv4"]["kernel_policy"]["rejected_next_hops"] == ["192.0.2.9"]


def test_no_secret_is_shown() -> None:
    for output in ("text", "json", "yaml"):
        assert "secret" not in show("-o", output)


def test_an_unknown_output_is_refused(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["intent", "--datastore", "file:x", "--node", "a", "-o", "xml"])
    assert result.exit_code == 2
    assert "text, json or yaml" in result.stderr


@settings(max_examples=60, deadline=None)
@given(st.lists(records, max_size=10))
def test_every_intent_can_be_shown(changed: list[Record]) -> None:
    together = {record.key: record for record in (*EVERYTHING, *changed)}
    intent = compile_intent(together.values(), Options("a"))
    assert json.loads(json.dumps(as_data(intent))) == as_data(intent)
    assert as_text(intent).startswith("  node")


def test_every_session_and_route_is_in_the_text() -> None:
    intent = compile_intent(WORKER.records()[0], Options("worker01"))
    text = as_text(intent)
    for name in (*intent.sessions, *map(str, intent.originated)):
        assert f"  {name} " in text
