"""The configuration for ExaBGP: golden files, and ExaBGP's own parser and encoder as oracles.

`python -m tests.render.test_exabgp` writes the golden files anew. Read the difference before it is committed.
"""

from __future__ import annotations

import re
import subprocess
from ipaddress import IPv4Address, ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routed.bgp.attributes import AttributeSet
from routed.bgp.message import HEADER_OCTETS
from routed.bgp.nlri import Family, to_network
from routed.bgp.update import parse_update
from routed.datastore.documents import Document, read_yaml
from routed.intent.compiler import compile_intent
from routed.intent.options import Options
from routed.intent.types import NextHopMode, NodeIntent, OriginatedRoute, OriginKind
from routed.render.bird import Rendered
from routed.render.exabgp import (
    FILE,
    PROCESS_NAME,
    comment,
    peer_groups,
    render_exabgp,
    without_exabgp_passwords,
    word,
)
from routed.render.exabgp_export import ExportGroup, export_group, exported_routes, local_address
from routed.resources import BGPPeer, Key, Network, Node, PeerAddress, Record, parse_record
from routed.wiring import source_kind
from tests.intent.clusters import EVERYTHING, records

GOLDEN = Path(__file__).parent / "test_exabgp_golden"
EXAMPLE = Path(__file__).resolve().parent.parent.parent / "examples" / "cluster"
#: A program that is everywhere: ExaBGP looks whether it is there.
COMMAND = ("/bin/sh", "-c", "cat > /dev/null; exit 0", "--node", "node-b")

pytest.importorskip("exabgp")


def read_records(*paths: Path) -> list[Record]:
    found = []
    for path in paths:
        for document in read_yaml(path.read_text()):
            assert isinstance(document, Document), document
            parsed = parse_record(document.value)
            assert not parsed.problems
            if parsed.record is not None:
                found.append(parsed.record)
    return found


def golden_intent() -> NodeIntent:
    return compile_intent(read_records(GOLDEN / "records.yaml"), Options(node="node-b"))


def golden_files() -> dict[str, str]:
    intent = golden_intent()
    with_routes, with_process = render_exabgp(intent), render_exabgp(intent, COMMAND)
    assert with_routes.problems == with_process.problems
    return {
        "file.conf": with_routes.files[FILE],
        "process.conf": with_process.files[FILE],
        "problems.txt": "".join(f"{problem.severity}: {problem}\n" for problem in with_routes.problems),
    }


@pytest.mark.parametrize("name", ["file.conf", "process.conf", "problems.txt"])
def test_golden(name: str) -> None:
    """A cluster with something of everything: what is written, and what ExaBGP is said to lack."""
    assert golden_files()[name] == (GOLDEN / name).read_text()


def test_the_same_intent_gives_the_same_bytes() -> None:
    assert golden_files() == golden_files()


# --- ExaBGP reads it ----------------------------------------------------------------------------------------


class Parsed:
    """A configuration as ExaBGP 5 reads it: its neighbors by address, and the UPDATEs they would be sent."""

    def __init__(self, text: str) -> None:
        from exabgp.configuration.configuration import Configuration
        from exabgp.environment import getenv
        from exabgp.logger import log

        getenv()
        log.disable()
        configuration = Configuration([text], text=True)
        assert configuration.reload(), f"{configuration.error}\n{text}"
        self.processes: dict[str, Any] = configuration.processes
        self.neighbors = {
            ip_address(str(neighbor["peer-address"])): neighbor
            for neighbor in configuration.neighbors.values()
        }

    def routes(self, peer: Any, *, ibgp: bool) -> dict[Network, AttributeSet]:
        """What one neighbor would be sent: encoded by ExaBGP, decoded by us."""
        from exabgp.bgp.message import Action, Update
        from exabgp.configuration.check import _negotiated

        neighbor = self.neighbors[peer]
        agreed = _negotiated(neighbor)
        routes: dict[Network, AttributeSet] = {}
        for change in neighbor.changes:
            resolved = neighbor.remove_self(change)
            resolved.nlri.action = Action.ANNOUNCE
            for message in Update([resolved.nlri], resolved.attributes).messages(agreed):
                update = parse_update(
                    message[HEADER_OCTETS:], four_octet_as=True, families=frozenset(Family), ibgp=ibgp
                )
                assert not update.errors
                assert not update.withdrawn
                for family, attributes, prefixes in update.announced:
                    routes |= {to_network(nlri, family): attributes for nlri in prefixes}
        return routes


def assert_exabgp_announces(intent: NodeIntent) -> None:
    """ExaBGP takes both forms of the configuration, and would announce what the speaker does."""
    rendered = render_exabgp(intent)
    groups = peer_groups(intent)
    if not groups:
        assert "neighbor " not in rendered.files[FILE]
        return
    parsed = Parsed(rendered.files[FILE])
    assert parsed.neighbors.keys() == groups.keys()
    for peer, group in groups.items():
        neighbor = parsed.neighbors[peer]
        assert int(neighbor["local-as"]) == group.local_as
        assert (int(neighbor["peer-as"]) == group.local_as) is group.ibgp
        assert ip_address(str(neighbor["local-address"])) == group.local_address
        assert ip_address(str(neighbor["router-id"])) == intent.router_id
        assert parsed.routes(peer, ibgp=group.ibgp) == exported_routes(intent, group)
    with_process = Parsed(render_exabgp(intent, COMMAND).files[FILE])
    assert with_process.neighbors.keys() == groups.keys()
    assert with_process.processes[PROCESS_NAME]["run"] == list(COMMAND)
    for neighbor in with_process.neighbors.values():
        assert not neighbor.changes
        assert neighbor["manual-eor"]
        assert neighbor.api["processes"] == neighbor.api["neighbor-changes"] == [PROCESS_NAME]


def test_exabgp_announces_the_golden_cluster() -> None:
    assert_exabgp_announces(golden_intent())


@pytest.mark.parametrize("node", ["control01", "worker01", "worker02", "worker03"])
def test_exabgp_announces_the_example_cluster(node: str) -> None:
    intent = compile_intent(read_records(*sorted(EXAMPLE.glob("*.yaml"))), Options(node=node))
    assert intent.sessions
    assert_exabgp_announces(intent)


@settings(deadline=None, max_examples=60)
@given(st.lists(records, max_size=12), st.booleans())
def test_exabgp_announces_any_cluster(some: list[Record], full: bool) -> None:
    """Whatever the records: no exception, a file that ExaBGP takes, the routes of the export policy."""
    chosen = {record.key: record for record in (*(EVERYTHING if full else ()), *some)}
    assert_exabgp_announces(compile_intent(chosen.values(), Options(node="a")))


def test_values_of_a_session_reach_exabgp() -> None:
    neighbors = Parsed(golden_files()["file.conf"]).neighbors
    edge = neighbors[IPv4Address("10.0.0.254")]
    assert (edge["connect"], edge["listen"], edge["passive"]) == (1790, 0, False)
    assert (edge["outgoing-ttl"], edge["incoming-ttl"]) == (255, 254)
    assert edge["capability"]["graceful-restart"] == 4095
    assert int(edge["hold-time"]) == 90
    passive = neighbors[IPv4Address("10.0.0.3")]
    assert (passive["listen"], passive["passive"]) == (1179, True)
    assert passive["md5-base64"] is True
    assert passive["md5-password"] == "bWVzaC1zZWNyZXQ="
    assert neighbors[IPv4Address("10.0.0.1")]["capability"]["graceful-restart"] == 120
    assert [str(family[0]) for family in neighbors[ip_address("fd00::3")].families()] == ["ipv6"]


def test_debian_exabgp_takes_the_golden_files() -> None:
    """The other version that is supported, as a program."""
    program = Path("/usr/sbin/exabgp")
    if not program.exists():
        pytest.skip("no ExaBGP 4 (Debian's package exabgp; scripts/bootstrap test installs it)")
    for name in ("file.conf", "process.conf"):
        done = subprocess.run(
            [program, "--validate", GOLDEN / name], capture_output=True, text=True, timeout=30
        )
        assert done.returncode == 0, done.stdout + done.stderr


# --- what is chosen -----------------------------------------------------------------------------------------


def test_without_a_router_id_there_are_no_neighbors() -> None:
    intent = compile_intent([Node(name="a")], Options(node="a"))
    rendered = render_exabgp(intent)
    assert "neighbor " not in rendered.files[FILE]
    assert [str(problem) for problem in rendered.problems] == [
        "Node a: it has no sessions, and ExaBGP refuses a file without neighbors"
    ]
    assert peer_groups(intent) == {}
    group = ExportGroup(Family.IPV4, True, 1, IPv4Address("10.0.0.1"), (), NextHopMode.AUTO, False)
    assert exported_routes(intent, group) == {}


def test_of_two_sessions_to_an_address_it_is_the_speakers() -> None:
    """A BGPPeer that names a node of the mesh: the mesh session is left out."""
    peer = BGPPeer(name="p", node="a", peer_ip=PeerAddress(IPv4Address("10.0.0.2")), as_number=65001)
    intent = compile_intent([*EVERYTHING, peer], Options(node="a"))
    rendered = render_exabgp(intent)
    assert "# Node_10_0_0_2: BGPPeer p, node b\nneighbor 10.0.0.2 {" in rendered.files[FILE]
    assert rendered.files[FILE].count("neighbor 10.0.0.2 {") == 1
    left_out = [problem.reason for problem in rendered.problems if problem.field == "spec.peerIP"]
    assert "Mesh_10_0_0_2: left out: ExaBGP has one session to an address, Node_10_0_0_2" in left_out
    assert_exabgp_announces(intent)


def test_a_reflector_is_told_that_exabgp_reflects_nothing() -> None:
    intent = compile_intent(read_records(*sorted(EXAMPLE.glob("*.yaml"))), Options(node="control01"))
    (problem,) = render_exabgp(intent).problems
    assert problem.key == Key("Node", "control01")
    assert problem.field == "spec.bgp.routeReflectorClusterID"
    assert problem.severity == "warning"


def test_a_local_workload_is_peered_with_from_the_address_it_is_told() -> None:
    intent = compile_intent(EVERYTHING, Options(node="a"))
    (session,) = (session for session in intent.sessions.values() if session.name.startswith("Local"))
    own = intent.families[Family.IPV4].node_address
    assert own is not None
    assert local_address(intent, session) == own.ip
    group = export_group(session, IPv4Address("169.254.1.1"))
    routes = exported_routes(intent, group)
    assert routes
    # Its next hop is the node all the same, and ExaBGP must be told so.
    assert {route.next_hop for route in routes.values()} == {own.ip.packed}


def test_a_gateway_and_what_is_not_for_bgp_are_not_announced() -> None:
    def route(kind: OriginKind, *, advertise: bool, gateway: Any = None) -> OriginatedRoute:
        network = ip_network("10.0.0.0/24")
        return OriginatedRoute(network, kind, Key("K", "k"), "", advertise, False, gateway)

    assert source_kind(route(OriginKind.BLOCK, advertise=False)) is None
    gateway = IPv4Address("10.0.0.1")
    assert source_kind(route(OriginKind.REACHABLE_BY, advertise=True, gateway=gateway)) is None
    assert source_kind(route(OriginKind.BLOCK, advertise=True)) is not None


# --- texts --------------------------------------------------------------------------------------------------


@given(st.text(st.characters(codec="ascii", exclude_categories=["Cc"], exclude_characters="\"'")))
def test_any_word_that_can_be_written_is_read_back(text: str) -> None:
    from exabgp.configuration.core.format import tokens

    (line,) = tokens(iter([f"    run {word(text)};"]))
    assert [token for _, _, token in line] == ["run", text, ";"]


@pytest.mark.parametrize("text", ['a"b', "it's", "two\nlines", "tab\t", "caf\xe9"])
def test_a_word_that_cannot_be_written_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="cannot be written"):
        word(text)


@given(st.text())
def test_a_comment_never_ends_early_and_hides_no_escape(text: str) -> None:
    shown = comment(text)
    assert shown.isascii()
    assert shown.isprintable()
    assert "\\" not in shown


def test_a_name_cannot_break_out_of_its_comment() -> None:
    text = render_exabgp(compile_intent([], Options(node="x\nprocess evil { run /bin/sh; }"))).files[FILE]
    assert all(not line or line.startswith("#") for line in text.splitlines())


def test_passwords_are_left_out_for_people() -> None:
    shown = without_exabgp_passwords(Rendered(golden_files()))
    assert "bWVz" not in "".join(shown.values())
    assert re.findall(r"md5-password (\S+);", shown["file.conf"]) == ["********"] * 3


def main() -> None:
    """Writes the golden files anew."""
    for name, text in golden_files().items():
        (GOLDEN / name).write_text(text)


if __name__ == "__main__":
    main()
