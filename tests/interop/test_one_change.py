"""A change of one affinity is one UPDATE on the wire, and nothing else: counted at recording peers."""

from __future__ import annotations

import contextlib

import pytest

from tests.netns import Lab
from tests.recorder import Kind, RecordingPeer
from tests.routed_process import Records, block, configuration, node, peer, pool, routed_run

AS = 64512
FIRST = [f"10.244.{number}.0/26" for number in range(20)]
CHANGE = "10.244.100.0/26"
FENCE = "10.244.101.0/26"


@pytest.mark.netns
def test_one_affinity_is_one_update(lab: Lab) -> None:
    """Twenty blocks are known to two iBGP peers, an eBGP peer and an IPv6 peer. One affinity comes, and goes.

    A last change serves as a fence: once it has arrived, all that was caused before it has arrived too."""
    here = lab.machine("node", "192.0.2.1/24", "2001:db8::1/64")
    others = [lab.machine(f"peer{n}", f"192.0.2.{n}/24", f"2001:db8::{n}/64") for n in (11, 12, 13)]
    with contextlib.ExitStack() as stack:
        recorders = [
            stack.enter_context(RecordingPeer(machine, asn, machine.address(4)))
            for machine, asn in zip(others, (AS, AS, 65001), strict=True)
        ]
        ipv6 = stack.enter_context(RecordingPeer(others[0], AS, others[0].address(4), version=6))
        records = Records(lab.directory / "records")
        records.put("base", [configuration(AS), node(here), pool("10.244.0.0/16"), pool("fd00:10:244::/48")])
        records.put(
            "blocks",
            [one for cidr in FIRST for one in block("node", cidr)] + block("node", "fd00:10:244::/122"),
        )
        peers = [(recorder, recorder.asn) for recorder in (*recorders, ipv6)]
        records.put("peers", [peer(f"peer{n}", one.address, asn) for n, (one, asn) in enumerate(peers)])
        routed = routed_run(here, records)
        routed.start()
        for recorder in recorders:
            recorder.wait_routes(have=FIRST)
        ipv6.wait_routes(have=["fd00:10:244::/122"])
        # A route from a peer, so that routes learned and passed on are there to be disturbed.
        recorders[2].announce("203.0.113.0/24", as_path=(65001,))
        routed.wait_kernel("203.0.113.0/24", {recorders[2].address})
        for recorder in (*recorders, ipv6):  # routed holds it back until it has heard its peers
            recorder.wait_end_of_rib()
        before = {one: (len(one.messages), len(one.updates())) for one in (*recorders, ipv6)}

        records.put("change", block("node", CHANGE))
        for recorder in recorders:
            recorder.wait_routes(have=[CHANGE])
        records.remove("change")
        for recorder in recorders:
            recorder.wait_routes(lack=[CHANGE])
        records.put("fence", [*block("node", FENCE), *block("node", "fd00:10:244:f::/122")])
        for recorder in recorders:
            recorder.wait_routes(have=[FENCE])
        ipv6.wait_routes(have=["fd00:10:244:f::/122"])

        for recorder in (*recorders, ipv6):
            assert recorder.connections == 1, "no session was touched"
            new = recorder.messages[before[recorder][0] :]
            kinds = {message.kind for message in new if message.kind is not Kind.KEEPALIVE}
            assert kinds == {Kind.UPDATE}, f"{recorder.address}: {kinds}"
        for recorder in recorders:
            updates = recorder.updates()[before[recorder][1] :]
            assert [(update.announced, update.withdrawn) for update in updates] == [
                ((CHANGE,), ()),
                ((), (CHANGE,)),
                ((FENCE,), ()),
            ], recorder.address
        updates = ipv6.updates()[before[ipv6][1] :]
        assert [(update.announced, update.withdrawn) for update in updates] == [
            (("fd00:10:244:f::/122",), ())
        ]
        assert routed.kernel_gateways("203.0.113.0/24") == {recorders[2].address}
