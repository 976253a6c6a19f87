"""What each command asks, prints and exits with, against a server of known answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from routed.cli.answer import as_json, as_yaml
from routed.observe import documents
from tests.cli import server
from tests.cli.conftest import run
from tests.cli.server import Answer, ApiServer, Asked, event, peer, peer_summary, route, routes
from tests.cli.test_text import harmless

#: Commands that show a document, and where it is.
SHOWING = {
    ("status",): "/api/v1/status",
    ("peers",): "/api/v1/peers",
    ("peers", "Node_192_0_2_10"): "/api/v1/peers/Node_192_0_2_10",
    ("routes",): "/api/v1/routes",
    ("blocks",): "/api/v1/blocks",
    ("explain", "10.250.0.0/26"): "/api/v1/explain",
    ("events",): "/api/v1/events",
}
commands = pytest.mark.parametrize("command", SHOWING, ids=" ".join)


def plain(document: object) -> Any:
    return json.loads(msgspec.json.encode(document))


@commands
def test_json_and_yaml_are_the_document_of_the_api(api: ApiServer, command: tuple[str, ...]) -> None:
    wanted = plain(api.answers[SHOWING[command]])
    assert json.loads(run(*command, "-o", "json").stdout) == wanted
    assert yaml.safe_load(run(*command, "-o", "yaml").stdout) == wanted


@commands
def test_hostile_texts_are_data(api: ApiServer, command: tuple[str, ...]) -> None:
    """Every text of every document is an attack; so are the keys that are not fields."""
    path = SHOWING[command]
    attack = "\x1b[2J\x1b]0;x\x07\r\n\u202eevil\u2066 \u0301\x9b31m\ud7ff"
    answer = poisoned(plain(api.answers[path]), attack, path)
    api.answers[path] = msgspec.json.encode(answer)
    for output in ("table", "json", "yaml"):
        result = run(*command, "-o", output)
        assert result.exit_code in (0, 1)
        assert "evil" in result.stdout
        assert all(harmless(line) for line in result.stdout.split("\n"))
    assert json.loads(run(*command, "-o", "json").stdout) == answer


#: Fields whose texts the schema names one by one, or that are times.
_FIXED = {"family", "families", "kind", "outcome", "source_kind", "role", "since", "time", "started_at"}
_FIXED |= {"add_path_receive", "add_path_send", "lost_since", "changed_at"}


def poisoned(value: Any, attack: str, path: str, name: str = "") -> Any:
    match value:
        case dict():
            changed = {key: poisoned(one, attack, path, key) for key, one in value.items()}
            return changed | ({attack: 3} if name in ("incidents", "peers_by_state", "fields") else {})
        case list():
            return [poisoned(one, attack, path, name) for one in value] or value
        case str() if name not in _FIXED or (name == "kind" and "events" in path):
            return attack
        case None if name in ("last_error", "shut_down", "node", "ineligible", "unreachable_reason"):
            return attack
    return value


# status


def test_status_says_what_is_wrong(api: ApiServer) -> None:
    shown = run("status").stdout
    assert "2 of 2 established" in shown
    assert "BGPPeer(broken)" in shown
    lost = msgspec.structs.replace(
        server.STATUS,
        ready=False,
        converged=False,
        draining=True,
        peers_by_state={"established": 1, "idle": 1},
        datastore=documents.DatastoreStatus(
            synced=True, lost_since="2026-01-31T12:00:00Z", lost_reason="refused", changed_at=None, losses=2
        ),
        kernel=documents.KernelStatus(error="no CAP_NET_ADMIN", installed={}, failed=0, kept_out={}),
    )
    api.answers["/api/v1/status"] = lost
    result = run("status")
    assert result.exit_code == 0
    for said in (
        "not ready, not converged yet, draining",
        "1 of 2 established, 1 idle",
        "lost since 2026-01-31 12:00:00Z: refused",
        "no routes: no CAP_NET_ADMIN",
    ):
        assert said in result.stdout


def test_many_problems_leave_the_rest_in_sight(api: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    problems = [f"problem {number}" for number in range(50)]
    api.answers["/api/v1/status"] = msgspec.structs.replace(server.STATUS, problems=problems)
    assert run("status").stdout.count("problem ") == 50
    monkeypatch.setenv("COLUMNS", "80")
    shown = run("status").stdout
    assert shown.count("problem ") == 20
    assert "and 30 more" in shown


def test_a_reflector_has_neither_datastore_nor_kernel(api: ApiServer) -> None:
    api.answers["/api/v1/status"] = msgspec.structs.replace(
        server.STATUS, role="reflector", cluster_id="192.0.2.1", datastore=None, kernel=None
    )
    shown = run("status").stdout
    assert "cluster ID 192.0.2.1" in shown
    assert "kernel" not in shown
    assert "datastore" not in shown


# peers


def test_peers_says_why_a_session_is_down(api: ApiServer) -> None:
    api.answers["/api/v1/peers"] = documents.Peers(
        peers=[
            peer_summary(),
            peer_summary("away", state="active", established_for=None, last_error="Hold Timer Expired"),
            peer_summary(
                "off", state="idle", established_for=None, shut_down="maintenance", last_error="Cease"
            ),
        ]
    )
    lines = run("peers").stdout.splitlines()
    assert lines[0].split() == ["NAME", "NODE", "ADDRESS", "AS", "STATE", "UP", "RECEIVED", "REJECTED",
                                "SENT", "NOTE"]  # fmt: skip
    assert "Hold Timer Expired" in lines[2]
    assert "shut down: maintenance" in lines[3]
    without = run("peers", "--no-headers").stdout.splitlines()
    assert [line.split() for line in without] == [line.split() for line in lines[1:]]


@pytest.mark.parametrize(
    ("state", "shut_down", "status"),
    [("established", None, 0), ("active", None, 1), ("idle", "for a while", 0), ("idle", "", 0)],
)
def test_peers_check_is_for_scripts(api: ApiServer, state: str, shut_down: str | None, status: int) -> None:
    """A peer that an operator shut down is not wanted."""
    down = {"state": state, "shut_down": shut_down}
    api.answers["/api/v1/peers"] = documents.Peers(peers=[peer_summary(), peer_summary("other", **down)])
    api.answers["/api/v1/peers/other"] = peer("other", **down)
    for name in ((), ("other",)):
        assert run("peers", *name).exit_code == 0
        result = run("peers", *name, "--check")
        assert result.exit_code == status
        assert ("not Established" in result.stderr) is bool(status)


def test_no_peers(api: ApiServer) -> None:
    api.answers["/api/v1/peers"] = documents.Peers(peers=[])
    result = run("peers", "--check")
    assert (result.stdout, result.exit_code) == ("no peers\n", 0)


def test_a_peer_that_there_is_not(api: ApiServer) -> None:
    api.answers["/api/v1/peers/a/b ?#"] = documents.Error(error="'a/b ?#': no such peer", hint="there is x")
    result = run("peers", "a/b ?#")
    assert result.exit_code == 1
    assert result.stderr == "routed: 'a/b ?#': no such peer: there is x\n"
    assert api.asked[-1].path == "/api/v1/peers/a/b ?#"


# routes


@pytest.mark.parametrize(
    ("arguments", "query"),
    [
        ([], {"scope": "all", "limit": "1000000"}),
        (["--best", "-4"], {"scope": "best", "family": "ipv4", "limit": "1000000"}),
        (["--kernel", "--ipv6"], {"scope": "kernel", "family": "ipv6", "limit": "1000000"}),
        (["--rejected", "--limit", "5"], {"scope": "rejected", "limit": "5"}),
        (["--received-from", "a b"], {"scope": "all", "received_from": "a b", "limit": "1000000"}),
        (["--advertised-to", "x"], {"scope": "all", "advertised_to": "x", "limit": "1000000"}),
        (["10.0.0.7"], {"scope": "all", "prefix": "10.0.0.7", "limit": "1000000"}),
        (["::/0", "--longer"], {"scope": "all", "prefix": "::/0", "match": "subnets", "limit": "1000000"}),
    ],
)
def test_what_routes_asks_for(api: ApiServer, arguments: list[str], query: dict[str, str]) -> None:
    assert run("routes", *arguments).exit_code == 0
    assert (api.asked[-1].path, api.asked[-1].query) == ("/api/v1/routes", query)


def test_routes_are_marked_and_say_why_not(api: ApiServer) -> None:
    api.answers["/api/v1/routes"] = routes(
        route(),
        route(best=False, multipath=True, source="b", not_best="higher router ID than Node_192_0_2_10"),
        route(best=False, source="c", not_best="lower local preference than Node_192_0_2_10"),
        route(best=False, source="d", ineligible="next hop unreachable", next_hop=None),
    )
    lines = run("routes").stdout.splitlines()
    assert [line[:1] for line in lines[1:]] == [">", "=", " ", "x"]
    assert lines[3].endswith("lower local preference than Node_192_0_2_10")
    assert lines[4].endswith("next hop unreachable")


def test_one_prefix_is_shown_whole(api: ApiServer) -> None:
    api.answers["/api/v1/routes"] = routes(
        route(communities=["64512:7"], cluster_list=["192.0.2.1", "192.0.2.2"], originator_id="192.0.2.9"),
        route(best=False, reachable=False, ineligible="next hop unreachable", unreachable_reason="no way"),
    )
    shown = run("routes", "10.244.0.0/26").stdout
    assert shown.startswith("10.244.0.0/26  best path\n")
    assert "64512:7" in shown
    assert "192.0.2.1 192.0.2.2" in shown
    assert "\n10.244.0.0/26  cannot be used\n" in shown
    assert "192.0.2.10, unreachable: no way" in shown


def test_nothing_found_is_a_no_where_a_prefix_was_asked_for(api: ApiServer) -> None:
    api.answers["/api/v1/routes"] = routes()
    for more in ((), ("--longer",), ("-o", "json"), ("--count",)):
        result = run("routes", "10.9.0.0/16", *more)
        assert result.exit_code == 1
        assert result.stderr == "routed: no route to 10.9.0.0/16\n"
    everything = run("routes")
    assert (everything.exit_code, everything.stdout) == (0, "")
    assert run("routes", "--count").stdout == "0\n"


@pytest.mark.parametrize("number", [1, 2, 3, 5000])
def test_routes_that_come_in_pieces_are_all_shown(api: ApiServer, number: int) -> None:
    found = [route(f"10.{at >> 8}.{at & 255}.0/24", source='},{"prefix":"') for at in range(number)]
    api.answers["/api/v1/routes"] = server.routes_of(found)
    lines = run("routes", "--no-headers").stdout.splitlines()
    assert [line.split()[1] for line in lines] == [one.prefix for one in found]
    assert run("routes", "--count").stdout == f"{number}\n"


@pytest.mark.parametrize("number", [1, 2, 200])
def test_streamed_documents_are_written_like_others(api: ApiServer, number: int) -> None:
    """Line by line what the whole document would look like."""
    found = [route(f"10.0.{at}.0/24", communities=["64512:1"][: at % 2]) for at in range(number)]
    api.answers["/api/v1/routes"] = server.routes_of(found)
    whole = msgspec.json.encode(routes(*found))
    assert run("routes", "-o", "json").stdout == as_json(whole) + "\n"
    assert run("routes", "-o", "yaml").stdout == as_yaml(whole) + "\n"


@pytest.mark.parametrize(
    "hostile", ['a: "b"\n\x1b\u202e\U000e0001\x7f {x} # - \\', "\x7f", '}, {"prefix": "']
)
def test_many_routes_are_yaml_of_a_line_each(
    api: ApiServer, monkeypatch: pytest.MonkeyPatch, hostile: str
) -> None:
    monkeypatch.setattr("routed.cli.route_stream.ROUTES_BY_FIELD", 0)
    found = [route(f"10.0.{at}.0/24", source=hostile, communities=["64512:1"]) for at in range(300)]
    api.answers["/api/v1/routes"] = server.routes_of(found)
    done = run("routes", "-o", "yaml").stdout
    assert done.replace("\n", "").isprintable()
    assert len(done.splitlines()) == 1 + 300 + 2
    assert yaml.safe_load(done) == msgspec.json.decode(msgspec.json.encode(routes(*found)))


def test_no_routes_are_a_document_too(api: ApiServer) -> None:
    api.answers["/api/v1/routes"] = routes()
    wanted = {"routes": [], "total": 0, "next": None}
    assert json.loads(run("routes", "-o", "json").stdout) == wanted
    assert yaml.safe_load(run("routes", "-o", "yaml").stdout) == wanted


@pytest.mark.parametrize(
    ("total", "limit", "questions"), [(700, (), 1), (-1, (), 2), (700, ("--limit", "9"), 2)]
)
def test_routes_are_counted_by_the_server_where_it_can(
    api: ApiServer, total: int, limit: tuple[str, ...], questions: int
) -> None:
    def answer(request: Asked) -> documents.Routes:
        if request.query["limit"] == "1":
            return documents.Routes(routes=[route()], total=total, next="10.244.0.0/26")
        return routes(*[route()] * min(700, int(request.query["limit"])))

    api.answers["/api/v1/routes"] = answer
    assert run("routes", "--count", *limit).stdout == ("9\n" if limit else "700\n")
    assert len(api.asked) == questions


def test_routes_of_a_server_that_writes_json_otherwise(api: ApiServer) -> None:
    api.answers["/api/v1/routes"] = msgspec.json.format(
        msgspec.json.encode(routes(route(), route())), indent=1
    )
    assert len(run("routes", "--no-headers").stdout.splitlines()) == 2


def test_more_routes_than_the_limit_is_said(api: ApiServer) -> None:
    api.answers["/api/v1/routes"] = routes(route(), following="10.244.0.0/26")
    result = run("routes", "--limit", "1")
    assert result.exit_code == 0
    assert result.stderr == "routed: there are more routes than --limit shows\n"


# blocks, explain


def test_blocks_are_this_nodes_unless_all_are_asked_for(api: ApiServer) -> None:
    shown = run("blocks").stdout
    assert "10.244.0.64/26" in shown
    assert "10.244.0.128/26" not in shown
    assert "demo/borrower" in shown
    assert "10.244.0.128/26" in run("blocks", "--all").stdout
    assert run("blocks", "--pools").stdout.splitlines()[1].split()[:3] == [
        "default-ipv4",
        "10.244.0.0/16",
        "4",
    ]
    assert run("blocks", "--borrowed").stdout.splitlines()[1].split()[0] == "10.244.0.70"
    assert run("blocks", "--pools", "--borrowed").exit_code == 2


def test_sizes_of_pools_are_told_so_that_people_can_read_them(api: ApiServer) -> None:
    """Where JSON has no number for them the document has the largest it has."""
    small = server.BLOCKS.pools[0]
    large = msgspec.structs.replace(small, cidr="fd00::/64", size=1 << 53)
    api.answers["/api/v1/blocks"] = msgspec.structs.replace(server.BLOCKS, pools=[small, large])
    lines = run("blocks", "--pools", "--no-headers").stdout.splitlines()
    assert [line.split()[3] for line in lines] == ["65536", "2^64"]


def test_explain_exits_with_1_where_it_is_not_ok(api: ApiServer) -> None:
    result = run("explain", "10.250.0.0/26")
    assert result.exit_code == 1
    assert result.stdout.splitlines()[0] == "10.250.0.0/26: known by BGP, but not in the kernel"
    assert "> stop  kernel" in result.stdout
    assert "IPPool(vxlan) spec.vxlanMode" in result.stdout
    assert api.asked[-1].query == {"target": "10.250.0.0/26"}
    api.answers["/api/v1/explain"] = msgspec.structs.replace(server.EXPLANATION, ok=True, stopped_by=None)
    assert run("explain", "10.250.0.0/26", "-o", "json").exit_code == 0


# healthcheck


@pytest.mark.parametrize(
    ("option", "path"), [((), "/readiness"), (("--ready",), "/readiness"), (("--live",), "/liveness")]
)
@pytest.mark.parametrize(("http", "status"), [(200, 0), (503, 1), (500, 1)])
def test_healthcheck(api: ApiServer, option: tuple[str, ...], path: str, http: int, status: int) -> None:
    api.answers[path] = lambda _: (http, b'{"ok":false,"reason":"1 of 2 peers:\\u001b[2J a"}')
    result = run("healthcheck", *option)
    assert (result.exit_code, result.stdout) == (status, "1 of 2 peers:\\x1b[2J a\n")


def test_a_healthcheck_without_an_answer_is_a_no() -> None:
    """Exit statuses of probes are 0 and 1: Docker keeps the others for itself."""
    assert run("healthcheck").exit_code == 1
    assert run("healthcheck", "--socket", "/nonexistent/a.sock").exit_code == 1
    assert run("healthcheck", "--ready", "--live").exit_code == 2


# actions


@pytest.mark.parametrize(
    ("arguments", "path", "body"),
    [
        (["peer", "refresh", "a/b"], "/api/v1/peers/a/b/refresh", {"direction": "in"}),
        (["peer", "refresh", "x", "--direction", "both"], "/api/v1/peers/x/refresh", {"direction": "both"}),
        (
            ["peer", "shutdown", "x", "-m", "mäintenance"],
            "/api/v1/peers/x/shutdown",
            {"message": "mäintenance"},
        ),
        (["peer", "shutdown", "x"], "/api/v1/peers/x/shutdown", {"message": ""}),
        (["peer", "up", "x"], "/api/v1/peers/x/up", {}),
        (["drain"], "/api/v1/drain", {}),
        (["undrain"], "/api/v1/undrain", {}),
    ],
)
def test_actions(api: ApiServer, arguments: list[str], path: str, body: dict[str, str]) -> None:
    api.answers[path] = documents.Done(done="x: \x1bdone")
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (0, "x: \\x1bdone\n")
    asked = api.asked[-1]
    assert (asked.method, asked.path, json.loads(asked.body)) == ("POST", path, body)
    assert asked.headers["Content-Type"] == "application/json"
    assert json.loads(run(*arguments, "-o", "json").stdout) == {"done": "x: \x1bdone"}


def test_an_action_that_cannot_be_done_now_is_a_no(api: ApiServer) -> None:
    error = msgspec.json.encode(documents.Error(error="x: not Established"))
    api.answers["/api/v1/peers/x/refresh"] = lambda _: (409, error)
    result = run("peer", "refresh", "x")
    assert (result.exit_code, result.stderr) == (1, "routed: x: not Established\n")


# events


def test_events_are_selected(api: ApiServer) -> None:
    assert [line.split()[2] for line in run("events", "--no-headers").stdout.splitlines()] == [
        "started",
        "session-up",
        "session-down",
    ]
    assert len(run("events", "-n", "1", "--no-headers").stdout.splitlines()) == 1
    late = run("events", "--since", "2026-01-31T12:00:02Z", "-o", "json").stdout
    assert [one["number"] for one in json.loads(late)["events"]] == [2, 3]
    assert run("events", "--since", "1d", "--no-headers").stdout == ""
    run("events", "--kind", "session-up", "--kind", "problem", "--peer", "x")
    assert api.asked[-1].query["peer"] == "x"
    assert run("events", "--kind", "weather").exit_code == 2
    assert run("events", "--since", "yesterday").exit_code == 2


# what goes wrong


@pytest.mark.parametrize(
    ("http", "status"), [(400, 2), (404, 1), (409, 1), (422, 2), (500, 3), (503, 3), (302, 3)]
)
def test_what_errors_of_the_api_mean(api: ApiServer, http: int, status: int) -> None:
    api.answers["/api/v1/status"] = lambda _: (http, b'{"error":"no \\u001b[2J","hint":null}')
    result = run("status")
    assert (result.exit_code, result.stderr) == (status, "routed: no \\x1b[2J\n")
    api.answers["/api/v1/status"] = lambda _: (http, b"<html>")
    result = run("status")
    assert (result.exit_code, result.stdout) == (status, "")
    assert f"HTTP status {http}" in result.stderr


@pytest.mark.parametrize("body", [b"", b"\x1b[2J", b"[]", b"{", b"\xff\xfe", b'{"node":1}', b"null"])
@commands
def test_answers_that_are_none(api: ApiServer, command: tuple[str, ...], body: bytes) -> None:
    api.answers[SHOWING[command]] = body
    for output in ("table", "json"):
        result = run(*command, "-o", output)
        assert result.exit_code == 3
        assert len(result.stderr.splitlines()) == 1
        assert harmless(result.stderr.rstrip("\n"))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["status", "-o", "xml"], "table, json or yaml"),
        (["status", "--watch", "0"], "--watch 0"),
        (["status", "--watch", "nan"], "--watch nan"),
        (["routes", "--best", "--kernel"], "--best and --kernel"),
        (["routes", "-4", "-6"], "--ipv4 and --ipv6"),
        (["routes", "--longer"], "--longer"),
        (["routes", "--limit", "0"], "--limit"),
        (["drain", "-o", "xml"], "table, json or yaml"),
        (["peer", "refresh", "x", "--direction", "up"], "in, out or both"),
        (["explain"], "PREFIX|ADDRESS|PEER"),
    ],
)
def test_wrong_options_are_named(api: ApiServer, arguments: list[str], says: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert says in result.stderr
    assert not api.asked


def test_a_history_is_shown_with_its_peer(api: ApiServer) -> None:
    history = [
        event(1, "session-down", "session down: \x1b[2J"),
        event(2, "session-up", "session established"),
    ]
    api.answers["/api/v1/peers/x"] = peer("x", history=history)
    shown = run("peers", "x").stdout
    assert "session down: \\x1b[2J" in shown


def test_each_request_says_what_it_takes(api: ApiServer) -> None:
    run("status")
    request: Asked = api.asked[0]
    assert request.headers["Host"] == "localhost"


@pytest.mark.parametrize("output", ["table", "json", "yaml"])
def test_nothing_is_written_where_there_is_no_answer(output: str, tmp_path: Path) -> None:
    result = run("routes", "-o", output, "--socket", str(tmp_path / "none.sock"))
    assert (result.exit_code, result.stdout) == (3, "")


@pytest.mark.parametrize("command", [("status",), ("routes",), ("routes", "-o", "json")])
def test_an_answer_that_breaks_off_is_said(api: ApiServer, command: tuple[str, ...]) -> None:
    def broken(_request: Asked) -> Answer:
        def pieces() -> Iterator[bytes]:
            yield b'{"routes":['
            raise BrokenPipeError

        return 200, pieces()

    api.answers[f"/api/v1/{command[0]}"] = broken
    result = run(*command)
    assert result.exit_code == 3
    assert "before its answer was whole" in result.stderr
