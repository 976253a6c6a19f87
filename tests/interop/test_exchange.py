"""A node that runs routed, and a peer that runs another daemon: establish, exchange, withdraw, restart
either end."""

from __future__ import annotations

import signal
from dataclasses import dataclass

import pytest

from tests.daemons import DAEMONS, Config, Daemon, Neighbor
from tests.netns import Lab
from tests.routed_process import (
    Records,
    RoutedProcess,
    block,
    configuration,
    node,
    peer,
    pool,
    routed_run,
)

CLUSTER_AS = 64512
BLOCKS = ("10.244.0.0/26", "fd00:10:244::/122")
LEARNED = ("203.0.113.0/24", "2001:db8:f::/48")
MORE = ("198.51.100.0/25", "2001:db8:e::/48")


@dataclass
class Pair:
    """routed on `node`, another daemon on `peer`."""

    routed: RoutedProcess
    daemon: Daemon
    records: Records

    def wait_exchanged(self) -> None:
        """Until each end has what the other announces, in both families."""
        versions = {neighbor.version for neighbor in self.daemon.config.neighbors}
        self.routed.wait_established(*(self.daemon.machine.address(version) for version in versions))
        self.daemon.wait_established()
        self.daemon.wait_routes(have=BLOCKS)
        for prefix, version in zip(LEARNED, (4, 6), strict=True):
            self.routed.wait_kernel(prefix, {self.daemon.machine.address(version)})


def make_pair(lab: Lab, name: str, peer_as: int, one_session: bool = False) -> Pair:
    """Both ends, not started: a session a family, or both families over one IPv4 session."""
    here = lab.machine("node", "192.0.2.1/24", "2001:db8::1/64")
    there = lab.machine("peer", "192.0.2.9/24", "2001:db8::9/64")
    records = Records(lab.directory / "records")
    records.put(
        "base", [configuration(CLUSTER_AS), node(here), pool("10.244.0.0/16"), pool("fd00:10:244::/64")]
    )
    records.put("blocks", [one for cidr in BLOCKS for one in block("node", cidr)])
    transports = (4,) if one_session else (4, 6)
    records.put("peers", [peer(f"peer-{version}", there.address(version), peer_as) for version in transports])
    families = (4, 6) if one_session else ()
    neighbors = tuple(
        Neighbor(here.address(version), CLUSTER_AS, families=families) for version in transports
    )
    options = ("--families-per-session", "both") if one_session else ()
    daemon = DAEMONS[name](there, Config(peer_as, there.address(4), neighbors, LEARNED))
    return Pair(routed_run(here, records, *options), daemon, records)


@pytest.mark.netns
@pytest.mark.parametrize("peer_as", [CLUSTER_AS, 4200000001], ids=["ibgp", "ebgp"])
@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.daemon(name)) for name in DAEMONS])
def test_exchange_withdraw_restart(lab: Lab, name: str, peer_as: int) -> None:
    """Sessions and routes of both families with each daemon, by iBGP, and by eBGP with a 4-octet AS."""
    pair = make_pair(lab, name, peer_as)
    routed, daemon = pair.routed, pair.daemon
    daemon.start()
    routed.start()
    pair.wait_exchanged()
    for prefix, version in zip(BLOCKS, (4, 6), strict=True):
        path = daemon.path(prefix)
        assert path.next_hop == routed.machine.address(version)
        assert path.as_path == (() if peer_as == CLUSTER_AS else (CLUSTER_AS,))
        assert path.origin == "igp"
        if peer_as == CLUSTER_AS:
            # Calico's route priority: LOCAL_PREF and the kernel metric of a normal route add up to 2^31 - 1.
            assert path.local_pref == 2147483647 - 1024
        assert routed.kernel_gateways(prefix) == set(), "a node blackholes its own block"

    # Withdraw, from either end, and announce again.
    daemon.announce(*MORE)
    for prefix in MORE:
        routed.wait_kernel(prefix, {daemon.machine.address(6 if ":" in prefix else 4)})
    daemon.withdraw(*MORE)
    for prefix in MORE:
        routed.wait_kernel(prefix, None)
    pair.records.put("blocks", block("node", BLOCKS[0]))
    daemon.wait_routes(have=BLOCKS[:1], lack=BLOCKS[1:])
    routed.wait_kernel(BLOCKS[1], None)
    pair.records.put("blocks", [one for cidr in BLOCKS for one in block("node", cidr)])
    daemon.wait_routes(have=BLOCKS)

    # Restart of the peer: a crash, and back.
    daemon.kill()
    daemon.start()
    pair.wait_exchanged()

    # Restart of routed: an upgrade. Its kernel routes stay, and it ends at once.
    assert routed.stop() in (0, -signal.SIGTERM)
    for prefix in (*BLOCKS, *LEARNED):
        assert routed.kernel_gateways(prefix) is not None, "routes stay when routed stops"
    routed.start()
    pair.wait_exchanged()

    # A crash of routed.
    routed.kill()
    routed.start()
    pair.wait_exchanged()
    assert "Traceback" not in routed.output()


@pytest.mark.netns
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.daemon(name)) for name in ("bird2", "frr", "gobgp")]
)
def test_both_families_over_one_session(lab: Lab, name: str) -> None:
    """An option of ours: IPv6 routes over the IPv4 session, with each end's IPv6 address as next hop."""
    pair = make_pair(lab, name, CLUSTER_AS, one_session=True)
    pair.daemon.start()
    pair.routed.start()
    pair.wait_exchanged()
    assert len(pair.routed.sessions()) == 1
    assert pair.daemon.path(BLOCKS[1]).next_hop == pair.routed.machine.address(6)
