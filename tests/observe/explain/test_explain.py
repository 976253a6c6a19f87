"""What explanations tell beyond the gate that stops: whole chains, what a target is, and hostile names."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routed.bgp.communities import NO_ADVERTISE
from routed.bgp.nlri import Family, from_network
from routed.intent.local_workloads import EndpointStatus
from routed.observe.documents import Explanation, Step
from routed.observe.explain import explain
from routed.resources import (
    Action,
    BGPFilter,
    FilterRule,
    IPAMBlock,
    MatchOperator,
    Record,
    ReversePeering,
    SecretValue,
)
from tests.bgp.test_speaker import Router, join
from tests.intent.test_peerings import CLUSTER_ID, NO_MESH, node, peer
from tests.observe.explain.scene import Scene, affinity, block, ipam, on, pool, vxlan
from tests.observe.explain.test_gates import (
    BASE,
    BGP_SECRET,
    CLUSTER_IPS,
    DIALS_B,
    LENT,
    LOCAL,
    OURS,
    SECRET,
    THEIRS,
    A,
    B,
    C,
    consistent,
    endpoints,
)
from tests.observe.views.scene import observed
from tests.virtual import Wire, until, virtual


def texts(said: Explanation, gate: str) -> list[str]:
    return [step.text for step in said.steps if step.gate == gate]


def step(said: Explanation, gate: str, words: str) -> Step:
    found = [one for one in said.steps if one.gate == gate and words in one.text]
    assert found, (gate, words, [(one.gate, one.text) for one in said.steps])
    return found[0]


# Chains


def test_a_block_of_this_node() -> None:
    async def test(scene: Scene) -> None:
        await scene.peer(2)
        said = scene.explain(OURS)
        assert (said.target, said.kind, said.ok, said.stopped_by) == (OURS, "prefix", True, None)
        assert said.verdict.startswith(f"{OURS} by this node: told to Mesh_10_0_0_2")
        assert step(said, "pool", "no encapsulation, blocks of /26").record == "IPPool pool"
        assert step(said, "block", "0 of 64 addresses in use").prefix == OURS
        assert step(said, "affinity", "this node holds it").record == f"BlockAffinity a-{OURS}"
        assert step(said, "origin", "block: confirmed affinity").record == f"BlockAffinity a-{OURS}"
        told = step(said, "export", "next hop 10.0.0.1, LOCAL_PREF 2147482623")
        assert (told.record, told.field) == (f"BlockAffinity a-{OURS}", "spec.cidr")
        assert texts(said, "kernel-route") == ["installed: blackhole, metric 1024"]

    on(BASE, test)


def test_a_block_of_another_node_goes_into_the_kernel_and_not_on_to_others() -> None:
    async def test(scene: Scene) -> None:
        b = await scene.peer(2)
        await scene.peer(3)
        await scene.announced(b, THEIRS)
        said = scene.explain(THEIRS)
        assert said.ok
        assert "installed: via 10.0.0.2 dev eth0" in said.verdict
        refused = step(said, "export", "not told to Mesh_10_0_0_3")
        assert refused.outcome == "info"
        assert "neither that peer nor this one is a route reflector client" in refused.text

    on((*BASE, C), test)


def test_a_group_that_only_the_sender_is_in() -> None:
    async def test(scene: Scene) -> None:
        await scene.announced(await scene.peer(2), THEIRS)
        assert step(scene.explain(THEIRS), "export", "split horizon").outcome == "info"

    on(BASE, test)


def test_groups_are_said_not_peers() -> None:
    nodes = [node(f"n{number}", number) for number in range(2, 8)]

    async def test(scene: Scene) -> None:
        for number in range(2, 8):
            await scene.peer(number)
        told = texts(scene.explain(OURS), "export")
        assert len(told) == 1
        assert told[0].startswith("told to Mesh_10_0_0_2, Mesh_10_0_0_3, Mesh_10_0_0_4 and 3 more peers")

    on((A, *nodes, pool(), *block("a", OURS)), test)


def test_one_group_is_told_and_another_is_not() -> None:
    rule = FilterRule(action=Action.REJECT, cidr=ip_network("10.1.0.0/16"), match_operator=MatchOperator.IN)

    async def test(scene: Scene) -> None:
        await scene.peer(2)
        await scene.peer(3, asn=65001)
        said = scene.explain(OURS)
        assert said.ok
        assert step(said, "export", "told to Mesh_10_0_0_2").outcome == "pass"
        kept = step(said, "export", "not told to Global_10_0_0_3")
        assert (kept.outcome, kept.record, kept.field) == ("info", "BGPFilter out", "spec.exportV4[0]")

    on(
        (
            *BASE,
            peer("tor", "10.0.0.3", as_number=65001, filters=("out",)),
            BGPFilter(name="out", export_v4=(rule,)),
        ),
        test,
    )


def test_best_path_says_step_and_winner() -> None:
    async def test(scene: Scene) -> None:
        for number in (2, 3, 4):
            await scene.peer(number)
        scene.receive("Mesh_10_0_0_2", THEIRS, local_pref=200)
        scene.receive("Mesh_10_0_0_3", THEIRS, local_pref=100)
        scene.receive("Mesh_10_0_0_4", THEIRS, local_pref=200)
        said = scene.explain(THEIRS)
        assert step(said, "best-path", "the best of 3 paths: by Mesh_10_0_0_2").outcome == "pass"
        lost = step(said, "best-path", "Mesh_10_0_0_3 (10.0.0.3, AS 64512) loses to Mesh_10_0_0_2")
        assert "at step 2, LOCAL_PREF" in lost.text
        shares = step(said, "best-path", "Mesh_10_0_0_4 (10.0.0.4, AS 64512) loses to Mesh_10_0_0_2")
        assert "at step 9, router ID; shares the load" in shares.text
        assert "via 10.0.0.2 dev eth0 and via 10.0.0.4 dev eth0" in said.verdict

    on((A, *(node(f"n{number}", number) for number in (2, 3, 4)), pool()), test)


def test_with_add_path_another_path_than_the_best_may_be_told() -> None:
    async def test(scene: Scene) -> None:
        for number in (2, 3, 4):
            await scene.peer(number)
        scene.receive("Node_10_0_0_2", THEIRS, local_pref=200, communities=(NO_ADVERTISE,))
        scene.receive("Node_10_0_0_3", THEIRS, local_pref=100)
        said = scene.explain(THEIRS)
        assert step(said, "best-path", "the best of 2 paths: by Node_10_0_0_2")
        told = step(said, "export", "told to Node_10_0_0_2, Node_10_0_0_4")
        assert (told.outcome, "next hop 10.0.0.3" in told.text) == ("pass", True)

    reflector = node("a", 1, route_reflector_cluster_id=CLUSTER_ID)
    others = (node(f"n{number}", number) for number in (2, 3, 4))
    on((reflector, *others, NO_MESH, peer("clients", node="a", peer_selector="all()"), pool()), test)


def test_a_speaker_that_drains_says_so() -> None:
    async def test(scene: Scene) -> None:
        await scene.peer(2)
        scene.speaker.drain()
        said = scene.explain(OURS)
        assert step(said, "export", "a last choice (RFC 8326)").outcome == "info"
        assert "communities graceful-shutdown" in step(said, "export", "told to").text

    on(BASE, test)


@pytest.mark.parametrize(
    ("record", "rule", "field"),
    [
        (peer("p", "10.0.0.2", as_number=64512), "a BGPPeer for all nodes", "spec.peerIP"),
        (peer("p", peer_selector="all()"), "a BGPPeer for all nodes", "spec.peerSelector"),
        (peer("p", "10.0.0.2", node="a", as_number=64512), "a BGPPeer for node a", "spec.node"),
        (
            peer("p", "10.0.0.2", node_selector="!has(x)"),
            "a BGPPeer for nodes with !has(x)",
            "spec.nodeSelector",
        ),
        (peer("p", "10.0.0.1", node="b"), "the way back of a BGPPeer of node b", "spec.peerIP"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_which_rule_makes_a_peering(record: Record, rule: str, field: str) -> None:
    async def test(scene: Scene) -> None:
        found = step(scene.explain("b"), "peering", "made by")
        assert found.text.endswith(f"made by {rule}")
        assert (found.record, found.field) == ("BGPPeer p", field)

    on((A, B, NO_MESH, record), test)


def test_a_peering_with_a_local_workload() -> None:
    async def test(scene: Scene) -> None:
        said = scene.explain("10.65.0.9")
        found = step(said, "peering", "made by a BGPPeer for local workloads")
        assert (found.record, found.field) == ("BGPPeer vms", "spec.localWorkloadSelector")
        assert step(said, "dial", "the peer dials, this end waits: so it is configured")

    status = EndpointStatus(name="cali1", bgp_peer_name="vms", ipv4_addresses=(ip_address("10.65.0.9"),))
    on((A, peer("vms", local_workload_selector="all()", as_number=65001), status), test)


def test_an_import_filter_that_changes_the_route_is_named() -> None:
    from routed.resources import SetPriority

    accept = FilterRule(action=Action.ACCEPT, operations=(SetPriority(512),))

    async def test(scene: Scene) -> None:
        await scene.announced(await scene.peer(2), THEIRS)
        found = step(scene.explain(THEIRS), "import", "rule 1 of importV4 of BGPFilter better accepts")
        assert (found.outcome, found.record, found.field) == ("pass", "BGPFilter better", "spec.importV4[0]")
        assert "LOCAL_PREF 2147483135" in found.text

    records = (
        *BASE,
        NO_MESH,
        peer("to-b", "10.0.0.2", node="a", filters=("better",)),
        BGPFilter(name="better", import_v4=(accept,)),
    )
    on(records, test)


def test_a_reflector_passes_a_clients_route_on() -> None:
    reflector = node("a", 1, route_reflector_cluster_id=CLUSTER_ID)

    async def test(scene: Scene) -> None:
        b = await scene.peer(2)
        await scene.peer(3)
        await scene.announced(b, THEIRS)
        said = scene.explain(THEIRS)
        told = step(said, "export", "told to Node_10_0_0_3")
        assert told.outcome == "pass"
        assert "reflected 1 times" in told.text

    on(
        (
            reflector,
            B,
            C,
            NO_MESH,
            peer("clients", node="a", peer_selector="all()"),
            pool(),
            *block("b", THEIRS),
        ),
        test,
    )


def test_a_route_of_the_node_agent_in_place_of_ours() -> None:
    async def test(scene: Scene) -> None:
        await scene.announced(await scene.peer(2), THEIRS)
        scene.alien(THEIRS, "vxlan.calico")
        said = scene.explain(THEIRS)
        assert said.ok
        found = step(said, "kernel-policy", "whose route is there, dev vxlan.calico")
        assert (found.outcome, found.record, found.field) == ("pass", "IPPool pool", "spec.vxlanMode")

    on((A, B, vxlan(), *block("b", THEIRS)), test)


def test_a_route_of_somebody_else_beside_ours() -> None:
    async def test(scene: Scene) -> None:
        await scene.announced(await scene.peer(2), THEIRS)
        scene.alien(THEIRS, "eth9")
        said = scene.explain(THEIRS)
        assert step(said, "kernel-route", "installed: via 10.0.0.2 dev eth0")
        assert step(said, "kernel-route", "is there too, dev eth9, and the kernel takes it").outcome == "info"
        assert step(said, "best-path", "a kernel route of somebody else loses to Mesh_10_0_0_2 at step 0")
        carried = scene.explain("10.1.2.5")
        assert step(carried, "lookup", f"the kernel takes {THEIRS}: somebody else's, dev eth9")

    on((A, B, pool()), test)


def test_services_that_are_announced() -> None:
    async def test(scene: Scene) -> None:
        await scene.peer(2)
        whole = scene.explain("10.96.0.0/16")
        assert whole.ok
        assert step(whole, "origin", "service-range: one of serviceClusterIPs")
        assert step(whole, "export", "told to Mesh_10_0_0_2").record == "BGPConfiguration default"
        single = scene.explain("10.96.0.5/32")
        assert single.ok
        assert step(single, "service", "the cluster IP of a service").record == "Service shop/web"
        assert step(single, "origin", "service: cluster IP, ready endpoint on this node")
        assert step(single, "export", "told to Mesh_10_0_0_2").record == "Service shop/web"
        assert step(single, "kernel-route", "nothing of ours is to be there").outcome == "info"
        other = scene.explain("10.96.0.77")
        assert step(other, "longest-match", "the longest match is 10.96.0.0/16, by this node")

    on((A, B, CLUSTER_IPS, LOCAL, endpoints(("a", True))), test)


def test_a_prefix_that_was_withdrawn_says_when() -> None:
    async def test(scene: Scene) -> None:
        b = await scene.peer(2)
        await scene.announced(b, THEIRS)
        scene.agent._route_changes.publish()
        b.speaker.withdraw(Family.IPV4, from_network(ip_network(THEIRS)), _static())
        await until(lambda: not scene.speaker.ribs[Family.IPV4].ranked(from_network(ip_network(THEIRS))))
        scene.settle()
        scene.agent._route_changes.publish()
        said = scene.explain(THEIRS)
        assert said.stopped_by is not None
        assert said.stopped_by.gate == "received"
        assert step(said, "received", "it was withdrawn").outcome == "info"

    on(BASE, test)


def _static() -> Any:
    from routed.bgp.path import SourceKind

    return SourceKind.STATIC


def test_without_the_kernel_it_says_what_would_be_there() -> None:
    async def test(scene: Scene) -> None:
        await scene.announced(await scene.peer(2), THEIRS)
        said = scene.explain(THEIRS)
        assert said.ok
        assert step(said, "kernel", "--no-kernel").text.endswith("it would be via 10.0.0.2, metric 1024")

    on(BASE, test, kernel=False)


def test_a_peer_behind_a_gateway_is_a_static_route() -> None:
    async def test(scene: Scene) -> None:
        said = scene.explain("10.0.0.2/32")
        assert "reachable-by" in step(said, "origin", "this node makes it").text
        assert step(said, "kernel-route", "installed: via 10.0.0.254").outcome == "pass"
        assert said.ok

    tor = peer("tor", "10.0.0.2", as_number=65001, reachable_by=ip_address("10.0.0.254"))
    on((A, NO_MESH, tor), test)


def test_pod_cidrs_of_host_local_ipam() -> None:
    async def test(scene: Scene) -> None:
        b = await scene.peer(2)
        ours = scene.explain("10.65.1.0/24")
        assert ours.ok
        assert step(ours, "affinity", "a pod CIDR of this node").field == "spec.podCIDRs"
        missing = scene.explain("10.65.2.0/24")
        assert step(missing, "affinity", "a pod CIDR of node b").record == "Node b"
        assert step(missing, "session", "the session with node b is Established").outcome == "pass"
        assert missing.stopped_by is not None
        assert missing.stopped_by.gate == "received"
        await scene.announced(b, "10.65.2.0/24")
        assert scene.explain("10.65.2.9").verdict.startswith("10.65.2.9 takes 10.65.2.0/24 by Mesh_10_0_0_2")

    cidrs = {name: (ip_network(f"10.65.{number}.0/24"),) for number, name in enumerate("ab", 1)}
    records = (node("a", 1, pod_cidrs=cidrs["a"]), node("b", 2, pod_cidrs=cidrs["b"]))
    on(records, test, use_pod_cidr=True)


def test_a_datastore_that_is_away_is_told_and_stops_nothing() -> None:
    async def test(scene: Scene) -> None:
        await scene.peer(2)
        state = scene.observed.datastore
        assert state is not None
        state.lost_since, state.lost_reason = datetime(2026, 11, 20, 3, tzinfo=UTC), "no\x1b leader"
        for target in (OURS, "b"):
            said = scene.explain(target)
            assert said.ok
            away = step(said, "datastore", "is away since 2026-11-20T03:00:00+00:00: no\ufffd leader")
            assert away.outcome == "info"

    on(BASE, test)


# Addresses


def test_an_address_of_a_workload_elsewhere() -> None:
    async def test(scene: Scene) -> None:
        await scene.announced(await scene.peer(2), THEIRS)
        said = scene.explain("10.1.2.9")
        assert (said.kind, said.ok) == ("address", True)
        assert said.verdict.startswith(f"10.1.2.9 takes {THEIRS} by Mesh_10_0_0_2")
        assert (
            step(said, "allocation", "allocated to pod default/web on node b").field == "spec.allocations[9]"
        )
        assert step(said, "longest-match", f"the longest match is {THEIRS}").prefix == THEIRS
        assert step(said, "lookup", f"the kernel takes {THEIRS}: via 10.0.0.2 dev eth0")

    on((A, B, pool(), *block("b", THEIRS, {"10.1.2.9": ("web", "b")})), test)


def test_an_address_of_a_workload_here() -> None:
    async def test(scene: Scene) -> None:
        await scene.peer(2)
        scene.alien("10.1.1.5/32", "cali1")
        said = scene.explain("10.1.1.5")
        assert said.ok, said
        assert step(said, "workload", "the workload's own route is in the kernel, dev cali1")
        assert step(said, "lookup", "the kernel takes 10.1.1.5/32: somebody else's, dev cali1")
        inside = step(said, "export", "which is advertised as a whole")
        assert (inside.outcome, inside.record) == ("info", f"BlockAffinity a-{OURS}")

    on((A, B, pool(), *block("a", OURS, LENT)), test)


def test_an_address_that_is_borrowed_here() -> None:
    async def test(scene: Scene) -> None:
        await scene.peer(2)
        scene.alien("10.1.2.9/32", "cali7")
        said = scene.explain("10.1.2.9")
        assert said.ok, said
        assert step(said, "allocation", "borrowed: the block belongs to node b").field == "spec.affinity"
        assert step(said, "origin", "borrowed: allocated here to default/web")

    on((A, B, pool(), *block("b", THEIRS, {"10.1.2.9": ("web", "a")})), test)


def test_a_borrowed_address_of_a_family_that_nothing_else_speaks_of() -> None:
    async def test(scene: Scene) -> None:
        said = scene.explain("fd01::3/128")
        assert step(said, "kernel-route", "installed: blackhole, metric 2147483646").outcome == "pass"

    on((A, ipam(None, "fd01::/126", {"fd01::3": ("web", "a")})), test)


def test_an_address_that_is_lent_and_told_of() -> None:
    async def test(scene: Scene) -> None:
        await scene.announced(await scene.peer(2), "10.1.1.7/32")
        said = scene.explain("10.1.1.7")
        assert said.ok
        assert said.verdict.startswith("10.1.1.7 takes 10.1.1.7/32 by Mesh_10_0_0_2")

    on((A, B, pool(), *block("a", OURS, LENT)), test)


def test_a_tunnel_address_is_no_workload() -> None:
    from routed.resources import BlockAttribute

    tunnel = BlockAttribute("t", {"node": "a", "type": "vxlanTunnelAddress"})
    record = IPAMBlock(
        name=OURS,
        cidr=ip_network(OURS),
        affinity="host:a",
        allocations=(0, *[None] * 63),
        attributes=(tunnel,),
    )

    async def test(scene: Scene) -> None:
        said = scene.explain("10.1.1.0")
        assert step(said, "allocation", "allocated to the tunnel of a node on node a")
        assert not texts(said, "workload")

    on((A, B, pool(), affinity("a", OURS), record), test)


# What a target is


@pytest.mark.parametrize(
    ("target", "kind"),
    [
        ("10.1.2.0/26", "prefix"),
        (" 10.1.2.77/26 ", "prefix"),
        ("10.0.0.2/32", "prefix"),
        ("10.1.2.5", "address"),
        ("fd00::77", "address"),
        ("10.0.0.2", "peer"),
        ("b", "peer"),
        ("a", "peer"),
        ("Mesh_10_0_0_2", "peer"),
        ("", "peer"),
        ("/", "peer"),
        ("10.1.2.0/99", "peer"),
    ],
)
def test_what_a_target_is(target: str, kind: str) -> None:
    async def test(scene: Scene) -> None:
        assert scene.explain(target).kind == kind

    on(BASE, test)


def test_a_node_with_two_sessions_is_explained_by_both() -> None:
    async def test(scene: Scene) -> None:
        await scene.peer(2)
        said = scene.explain("b")
        assert said.verdict.startswith("b, 1 of 2 sessions up: Active")
        assert said.stopped_by is not None
        assert said.stopped_by.peer == "Mesh_fd00__2"
        assert len(texts(said, "peering")) == 2

    on((node("a", 1, v6=True), node("b", 2, v6=True)), test)


def test_a_session_with_a_password_never_shows_it() -> None:
    async def test(scene: Scene) -> None:
        await scene.peer(2, password=SecretValue(b"hush-hush"))
        for target in ("b", "10.0.0.2", "Node_10_0_0_2", OURS):
            said = scene.explain(target)
            assert "hush-hush" not in repr(said)
        assert step(scene.explain("b"), "password", "protected by TCP-MD5").outcome == "pass"

    secret = BGP_SECRET.__class__(
        name="bgp", namespace="kube-system", data={"password": SecretValue(b"hush-hush")}
    )
    record = peer("to-b", "10.0.0.2", node="a", as_number=64512, password=SECRET, ttl_security=2)
    on((*BASE, NO_MESH, secret, record), test)


def test_who_dials() -> None:
    async def dialled(scene: Scene) -> None:
        assert step(
            scene.explain("b"), "dial", "the peer dials, this end waits: its address sorts after 10.0.0.1"
        )

    async def dials(scene: Scene) -> None:
        assert step(scene.explain("b"), "dial", "this end dials 10.0.0.2:179 from 10.0.0.1")

    on(BASE, dialled)
    on(DIALS_B, dials)


def test_two_reasons_why_a_peering_is_none() -> None:
    async def test(scene: Scene) -> None:
        said = scene.explain("b")
        assert [(one.record, one.field) for one in said.steps if one.outcome == "stop"] == [
            ("BGPConfiguration default", "spec.nodeToNodeMeshEnabled"),
            ("BGPPeer racks", "spec.peerSelector"),
        ]

    on((A, B, NO_MESH, peer("racks", node="a", peer_selector="has(rr)")), test)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"reverse_peering": ReversePeering.MANUAL}, "spec.reversePeering"),
        ({"as_number": 65009}, "spec.asNumber"),
    ],
)
def test_the_other_node_peers_with_this_one_alone(fields: dict[str, Any], field: str) -> None:
    async def test(scene: Scene) -> None:
        said = scene.explain("b")
        assert [(one.record, one.field) for one in said.steps if one.outcome == "stop"] == [
            ("BGPConfiguration default", "spec.nodeToNodeMeshEnabled"),
            ("BGPPeer to-a", field),
        ]

    on((A, B, NO_MESH, peer("to-a", "10.0.0.1", node="b", **fields)), test)


def test_a_family_that_nobody_asks_for_is_worth_knowing_and_no_more() -> None:
    async def test(scene: Scene) -> None:
        config = scene.speaker.peers["Mesh_10_0_0_2"].config
        scene.speaker.set_peer(replace(config, families=frozenset(Family)))
        await scene.peer(2)
        said = scene.explain("b")
        assert said.ok
        assert step(said, "families", "the peer's OPEN does not offer IPv6").outcome == "info"

    on(BASE, test)


def test_a_peer_behind_a_gateway_is_dialled_by_way_of_it() -> None:
    async def test(scene: Scene) -> None:
        assert step(scene.explain("10.0.0.2"), "dial", "by way of 10.0.0.254 (reachableBy)")

    tor = peer("tor", "10.0.0.2", as_number=65001, reachable_by=ip_address("10.0.0.254"))
    on((A, NO_MESH, tor), test)


def test_an_error_is_waited_after() -> None:
    async def test(scene: Scene) -> None:
        await scene.peer(2, asn=65002, wait=False)
        (ours,) = scene.speaker.peers.values()
        await until(lambda: ours.idle and ours.session.last_error is not None, within=100)
        assert re.search(r"Idle: waits after an error, \d+ s more", texts(scene.explain("b"), "session")[0])

    on(DIALS_B, test)


def test_stale_routes_and_the_start_are_told() -> None:
    async def test(scene: Scene) -> None:
        b = await scene.peer(2)
        await scene.announced(b, THEIRS)
        assert step(scene.explain("b"), "convergence", "End-of-RIB is held back")
        b.kill()
        await until(lambda: not scene.speaker.peers["Mesh_10_0_0_2"].established)
        said = scene.explain("b")
        assert step(said, "convergence", "1 IPv4 routes of it are stale")
        assert "stale, kept while the session restarts" in texts(scene.explain(THEIRS), "received")[0]

    on(BASE, test)


# Without records


@virtual
async def test_a_reflector_without_records(wire: Wire) -> None:
    a, b, c = Router(wire, 1, cluster_id="10.0.0.1"), Router(wire, 2), Router(wire, 3)
    join(a, b, c)
    await until(lambda: a.established() == 2)
    seen = observed(a, reflector=True)
    b.originate("10.9.0.0/24")
    await until(lambda: "10.9.0.0/24" in a.table())
    a.speaker.flush()
    said = explain(seen, "10.9.0.0/24")
    consistent(said)
    assert said.stopped_by is not None  # neither is a client
    assert (said.stopped_by.gate, said.stopped_by.record) == ("export", None)
    assert not texts(said, "kernel-route")
    assert explain(seen, "to_10.0.0.2").ok
    assert explain(seen, "10.0.0.2").kind == "peer"
    assert explain(seen, "10.0.0.9").kind == "address"
    missing = explain(seen, "10.77.0.0/24")
    assert missing.stopped_by is not None
    assert missing.stopped_by.gate == "received"
    seen.route_changes.close()


@virtual
async def test_a_client_that_has_not_come(wire: Wire) -> None:
    from routed.bgp.config import ClientRange

    a = Router(wire, 1, cluster_id="10.0.0.1")
    a.speaker.set_client_ranges([ClientRange(ip_network("10.0.0.0/24"))])
    said = explain(observed(a, reflector=True), "10.0.0.42")
    assert said.stopped_by is not None
    assert (said.kind, said.stopped_by.gate) == ("peer", "peering")
    assert "no client has come from 10.0.0.42; it may, by the range 10.0.0.0/24" in said.verdict


# Hostile names and targets

NASTY = "b\x1b]0;owned\x07\x1b[31m\r\n<script>alert(1)</script>\ud800"


def printable(said: Explanation) -> None:
    values = [said.target, said.verdict]
    for one in said.steps:
        values += [
            value for value in (one.gate, one.text, one.record, one.field, one.peer) if value is not None
        ]
    assert all(value.isprintable() for value in values)


def test_hostile_names_in_records() -> None:
    async def test(scene: Scene) -> None:
        for target in (THEIRS, "10.1.2.5", NASTY, "10.0.0.2", "Mesh_10_0_0_2", "10.1.2.0/28"):
            said = scene.explain(target)
            consistent(said)
            printable(said)
        scene.speaker.shut_down_peer("Mesh_10_0_0_2", NASTY)
        printable(scene.explain("10.0.0.2"))
        scene.speaker.peers["Mesh_10_0_0_2"].session.last_error = NASTY
        printable(scene.explain("10.0.0.2"))

    records = (
        A,
        node(NASTY, 2),
        pool(NASTY),
        affinity(NASTY, THEIRS),
        ipam(NASTY, THEIRS, {"10.1.2.5": (NASTY, NASTY)}),
    )
    on(records, test)


@settings(max_examples=150, deadline=None)
@given(targets=st.lists(st.text(max_size=40) | st.ip_addresses().map(str), min_size=5, max_size=30))
def test_any_target_is_answered(targets: list[str]) -> None:
    async def test(scene: Scene) -> None:
        for target in (*targets, "x" * 100_000, "10.1.0.0/16/3", "fe80::1%eth0", "::ffff:10.1.1.1", "1"):
            said = scene.explain(target)
            consistent(said)
            printable(said)
            assert len(said.target) <= 512

    on(BASE, test)


def test_a_peering_that_records_no_longer_want() -> None:
    async def test(scene: Scene) -> None:
        b = await scene.peer(2)
        await scene.announced(b, THEIRS)
        scene.change(NO_MESH)
        said = scene.explain("Mesh_10_0_0_2")
        assert "by records that are gone" in texts(said, "peering")[0]

    on(BASE, test)


def test_a_block_that_moves_to_another_node() -> None:
    async def test(scene: Scene) -> None:
        said = scene.explain(OURS)
        assert said.stopped_by is not None
        assert (said.stopped_by.gate, said.stopped_by.record) == ("session", "BGPConfiguration default")
        assert step(said, "affinity", "node b holds it").outcome == "pass"
        assert step(said, "affinity", "is being deleted").outcome == "info"
        assert step(said, "origin", "not advertised, a blackhole").outcome == "pass"

    on((A, B, pool(), affinity("a", OURS, "pendingDeletion"), affinity("b", OURS)), test)
