"""Which peerings a change of sessions touches, and how."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, ip_address
from typing import Any

from routed.bgp.nlri import Family
from routed.bgp.transport import Endpoint
from routed.intent.types import FamilyIntent, NodeIntent, PeeringKind, SessionIntent
from routed.resources import Key
from routed.wiring import PeerTable, peer_config, speaker_config


def session(name: str, address: str, **changes: Any) -> SessionIntent:
    kind = next(kind for kind in PeeringKind if name.startswith(kind.value))
    base = SessionIntent(
        name=name,
        kind=kind,
        family=Family.IPV4,
        peer_address=ip_address(address),
        port=179,
        peer_as=64512,
        local_as=64512,
        source_address=ip_address("10.0.0.1"),
        passive=False,
        record=Key("BGPPeer", "x"),
        peer_node="node2",
    )
    return replace(base, **changes)


def test_a_bgp_peer_counts_before_the_mesh_to_the_same_address_and_port() -> None:
    table = PeerTable()
    mesh, explicit = session("Mesh_10_0_0_2", "10.0.0.2"), session("Node_10_0_0_2", "10.0.0.2")
    changes = table.apply({mesh.name: mesh, explicit.name: explicit})
    assert changes.wanted == (peer_config(explicit),)
    assert table.apply({explicit.name: None}).renamed == ((explicit.name, peer_config(mesh)),)
    other_port = replace(session("Node_10_0_0_2_port_1790", "10.0.0.2"), port=1790)
    assert table.apply({other_port.name: other_port}).wanted == (peer_config(other_port),)


def test_a_session_that_only_changes_its_name_stays() -> None:
    table = PeerTable()
    mesh = session("Mesh_10_0_0_2", "10.0.0.2")
    table.apply({mesh.name: mesh})
    client = session("Node_10_0_0_2", "10.0.0.2", route_reflector_client=True)
    changes = table.apply({mesh.name: None, client.name: client})
    assert changes.renamed == ((mesh.name, peer_config(client)),)
    assert not changes.wanted
    assert not changes.removed
    external = session("Node_10_0_0_2", "10.0.0.2", peer_as=65001)
    table.apply({client.name: None})
    table.apply({mesh.name: mesh})
    changes = table.apply({mesh.name: None, external.name: external})
    assert not changes.renamed
    assert changes.wanted == (peer_config(external),)
    assert changes.removed == (mesh,)


def test_only_what_changed_is_told() -> None:
    table = PeerTable()
    mesh = {f"Mesh_10_0_0_{n}": session(f"Mesh_10_0_0_{n}", f"10.0.0.{n}") for n in range(2, 9)}
    assert table.apply(mesh).mesh_came
    changed = replace(mesh["Mesh_10_0_0_4"], keepalive_time=7)
    changes = table.apply({changed.name: changed, "Mesh_10_0_0_5": mesh["Mesh_10_0_0_5"]})
    assert changes.wanted == (peer_config(changed),)
    assert not changes.mesh_came
    assert table.apply({"Mesh_10_0_0_7": None}).removed == (mesh["Mesh_10_0_0_7"],)
    assert table.apply({"Mesh_10_0_0_7": None}).removed == ()


def test_the_speaker_listens_where_the_records_say() -> None:
    family = FamilyIntent(
        Family.IPV4,
        IPv4Interface("10.0.0.1/24"),
        local_workload_address=IPv4Address("169.254.1.1"),
    )
    intent = NodeIntent("n", IPv4Address("1.2.3.4"), 64512, 179, None, families={Family.IPV4: family})
    config = speaker_config(intent)
    assert config is not None
    assert [str(one) for one in config.listen] == ["0.0.0.0:179", "[::]:179"]
    assert config.local_addresses == ((Family.IPV4, ip_address("10.0.0.1")),)
    config = speaker_config(replace(intent, bind_address=(ip_address("10.0.0.1"),)), port=1790)
    assert config is not None
    assert [str(one) for one in config.listen] == ["10.0.0.1:1790", "169.254.1.1:1790"]
    given = (Endpoint(ip_address("::1"), 5),)
    config = speaker_config(intent, listen=given)
    assert config is not None
    assert config.listen == given
    assert speaker_config(replace(intent, router_id=None)) is None
