"""Calico's places in etcd, both ways."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routed.datastore.etcd_layout import (
    PREFIXES,
    NotADocumentError,
    key_of,
    place_of,
    prefix_end,
    read_value,
)
from routed.resources import (
    AffinityState,
    BGPPeer,
    BlockAffinity,
    EncapsulationMode,
    IPAMBlock,
    IPPool,
    Key,
    Node,
    Record,
)

RESOURCES = "/calico/resources/v3/projectcalico.org"


def record(key: str, value: object) -> Record:
    found = read_value(key, json.dumps(value).encode())
    assert found is not None
    assert found.parsed.problems == ()
    assert found.parsed.record is not None
    return found.parsed.record


def test_a_resource() -> None:
    peer = record(
        f"{RESOURCES}/bgppeers/rack-1",
        {
            "kind": "BGPPeer",
            "apiVersion": "projectcalico.org/v3",
            "metadata": {"name": "rack-1", "uid": "x", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"peerIP": "192.0.2.1", "asNumber": 64512},
        },
    )
    assert isinstance(peer, BGPPeer)
    assert peer.key == Key("BGPPeer", "rack-1")


def test_a_node_keeps_its_labels() -> None:
    node = record(
        f"{RESOURCES}/nodes/node-1",
        {
            "kind": "Node",
            "apiVersion": "projectcalico.org/v3",
            "metadata": {"name": "node-1", "labels": {"rack": "a"}},
            "spec": {"bgp": {"ipv4Address": "10.0.0.1/24"}},
        },
    )
    assert isinstance(node, Node)
    assert dict(node.labels) == {"rack": "a"}


def test_the_key_says_which_record_it_is() -> None:
    value = {"kind": "IPPool", "metadata": {"name": "other"}, "spec": {"peerIP": "192.0.2.1", "asNumber": 1}}
    assert record(f"{RESOURCES}/bgppeers/a", value).key == Key("BGPPeer", "a")
    assert record(f"{RESOURCES}/bgppeers/a", {"spec": value["spec"]}).key == Key("BGPPeer", "a")


@pytest.mark.parametrize(
    ("value", "state", "deleted"),
    [
        (b'{"state":"confirmed","deleted":false}', AffinityState.CONFIRMED, False),
        (b'{"state":"pending","deleted":false}', AffinityState.PENDING, False),
        (b'{"state":"pendingDeletion","deleted":true}', AffinityState.PENDING_DELETION, True),
        (b"{}", AffinityState.CONFIRMED, False),
        (b"", AffinityState.CONFIRMED, False),
    ],
)
def test_an_affinity(value: bytes, state: AffinityState, deleted: bool) -> None:
    found = read_value("/calico/ipam/v2/host/node-1.example.com/ipv4/block/10.65.0.64-26", value)
    assert found is not None
    affinity = found.parsed.record
    assert isinstance(affinity, BlockAffinity)
    assert affinity.key == Key("BlockAffinity", "node-1-example-com-10-65-0-64-26")
    assert (affinity.node, str(affinity.cidr)) == ("node-1.example.com", "10.65.0.64/26")
    assert (affinity.state, affinity.deleted) == (state, deleted)


def test_an_affinity_of_ipv6() -> None:
    affinity = record("/calico/ipam/v2/host/node-1/ipv6/block/fd00:10:244::40-122", {"state": "confirmed"})
    assert isinstance(affinity, BlockAffinity)
    assert str(affinity.cidr) == "fd00:10:244::40/122"
    assert affinity.name == "node-1-fd00-10-244--40-122"


def test_a_block() -> None:
    block = record(
        "/calico/ipam/v2/assignment/ipv4/block/10.65.0.64-26",
        {
            "cidr": "10.65.0.64/26",
            "affinity": "host:node-1",
            "strictAffinity": False,
            "allocations": [0, None],
            "unallocated": [1],
            "attributes": [{"handle_id": "h", "secondary": {"node": "node-2", "pod": "p"}}],
            "deleted": False,
            "sequenceNumber": 17,
        },
    )
    assert isinstance(block, IPAMBlock)
    assert (block.name, block.host) == ("10-65-0-64-26", "node-1")
    ((address, attribute),) = block.allocated()
    assert (str(address), attribute.node) == ("10.65.0.64", "node-2")


@pytest.mark.parametrize(
    ("value", "ipip", "vxlan"),
    [
        ({"ipip": "tunl0", "ipip_mode": ""}, EncapsulationMode.ALWAYS, EncapsulationMode.NEVER),
        ({"ipip": "tunl0"}, EncapsulationMode.ALWAYS, EncapsulationMode.NEVER),
        (
            {"ipip": "tunl0", "ipip_mode": "cross-subnet"},
            EncapsulationMode.CROSS_SUBNET,
            EncapsulationMode.NEVER,
        ),
        ({"ipip": "", "ipip_mode": "always"}, EncapsulationMode.NEVER, EncapsulationMode.NEVER),
        ({"vxlan_mode": "always"}, EncapsulationMode.NEVER, EncapsulationMode.ALWAYS),
        ({}, EncapsulationMode.NEVER, EncapsulationMode.NEVER),
    ],
)
def test_a_pool_from_before_v3(
    value: dict[str, object], ipip: EncapsulationMode, vxlan: EncapsulationMode
) -> None:
    pool = record("/calico/v1/ipam/v4/pool/10.65.0.0-16", {"masquerade": True, "disabled": True, **value})
    assert isinstance(pool, IPPool)
    assert (pool.name, str(pool.cidr)) == ("10-65-0-0-16", "10.65.0.0/16")
    assert (pool.ipip_mode, pool.vxlan_mode, pool.nat_outgoing, pool.disabled) == (ipip, vxlan, True, True)


@pytest.mark.parametrize(
    "key",
    [
        f"{RESOURCES}/networkpolicies/a/b",
        f"{RESOURCES}/bgppeers/",
        "/calico/ipam/v2/host/node-1/ipv4/block",
        "/calico/ipam/v2/host/node-1/ipv4/handle/10.65.0.64-26",
        "/calico/ipam/v2/host/node-1",
        "/calico/ipam/v2/handle/h",
        "/calico/ipam/v2/assignment/ipv5/block/x",
        "/calico/v1/ipam/v4/other/x",
        "/registry/pods/x",
        "",
    ],
)
def test_keys_of_no_interest(key: str) -> None:
    assert place_of(key) is None
    assert read_value(key, b"{}") is None


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"{", "is not JSON"),
        (b"", "is not JSON"),
        (b"\xff\xfe", "is not JSON"),
        (b'"text"', "no object"),
        (b"[" * 100_000, "nests too deep"),
        (b"null", "no object"),
        (b"{}", "is missing"),
        (b'{"spec": 3}', "must be a mapping"),
        (b'{"spec": {"peerIP": 1e999}}', ""),
    ],
)
def test_a_bad_value_is_a_problem_of_the_record_that_its_key_names(value: bytes, reason: str) -> None:
    place = f"{RESOURCES}/bgppeers/a"
    found = read_value(place, value)
    assert found is not None
    assert found.parsed.record is None
    assert found.parsed.key == Key("BGPPeer", "a")
    assert found.source == place
    assert any(reason in problem.reason for problem in found.parsed.problems), found.parsed.problems


def test_a_name_that_is_none_is_a_problem() -> None:
    found = read_value(f"{RESOURCES}/bgppeers/a b\n/c", b"{}")
    assert found is not None
    assert found.parsed.record is None
    assert found.parsed.problems
    assert found.source.isprintable()


@given(st.text(max_size=60), st.binary(max_size=60))
def test_any_key_and_value(tail: str, value: bytes) -> None:
    for prefix in PREFIXES:
        found = read_value(prefix + tail, value)
        assert found is None or found.source.isprintable()


def test_a_range_is_what_is_below_its_prefix() -> None:
    for prefix in map(str.encode, PREFIXES):
        end = prefix_end(prefix)
        assert prefix <= prefix + b"\xff" * 9 < end
        assert not prefix <= prefix[:-1] + b"0" < end


@pytest.mark.parametrize(
    "key",
    [
        f"{RESOURCES}/bgppeers/a",
        "/calico/ipam/v2/host/node-1/ipv6/block/fd00:10:244::40-122",
        "/calico/ipam/v2/assignment/ipv4/block/10.65.0.64-26",
    ],
)
def test_there_and_back(key: str) -> None:
    values: dict[str, object] = {
        "a": {"spec": {"peerIP": "192.0.2.1", "asNumber": 64512}},
        "fd00:10:244::40-122": {"state": "pending", "deleted": True},
        "10.65.0.64-26": {"cidr": "10.65.0.64/26", "affinity": "host:node-1", "allocations": [None]},
    }
    place = place_of(key)
    assert place is not None
    value = values[key.rpartition("/")[2]]
    assert isinstance(value, dict)
    document = place.to_document(key, value)
    assert isinstance(document, dict)
    again, written = key_of(document)
    assert again == key
    assert record(again, written) == record(key, value)


@pytest.mark.parametrize(
    "document",
    [
        {"kind": "BGPPeer"},
        {"kind": "Service", "metadata": {"name": "a"}},
        {"kind": "BlockAffinity", "metadata": {"name": "a"}},
        {"kind": "IPAMBlock", "metadata": {"name": "a"}, "spec": {"cidr": "x"}},
    ],
)
def test_what_has_no_place(document: dict[str, object]) -> None:
    with pytest.raises(NotADocumentError):
        key_of(document)
