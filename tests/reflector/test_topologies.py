"""More than one reflector: beside each other, above each other, and who their clients are."""

from __future__ import annotations

import contextlib

import pytest

from tests.netns import Lab, Machine, wait_for
from tests.raw_peer import RawPeer
from tests.reflector.topology import AS, LAN, attributes, client, cluster_list, originator, reflector
from tests.routed_process import Records, RoutedProcess, configuration, node, peer, pool, record

CLUSTER = "244.0.0.1"


def machines(lab: Lab, **numbers: int) -> list[Machine]:
    """Machines on the LAN by name and last number of their address."""
    return [lab.machine(name, f"192.0.2.{number}/24") for name, number in numbers.items()]


def clients(
    stack: contextlib.ExitStack, pairs: list[tuple[Machine, Machine]], port: int = 179
) -> list[RawPeer]:
    """Clients at work, all of them Established: (machine, reflector) each."""
    peers = [stack.enter_context(client(machine, remote, port=port)) for machine, remote in pairs]
    for one in peers:
        one.wait_established()
    return peers


@pytest.mark.netns
def test_two_reflectors_with_one_cluster_id(lab: Lab) -> None:
    """Each ignores what the other reflects (RFC 4456 section 8), and every client has every route twice;
    when one reflector is killed, nobody is told by the other that anything went."""
    rr1, rr2, one, two = machines(lab, rr1=1, rr2=2, one=11, two=12)
    first = reflector(rr1, CLUSTER, "--clients", LAN, "--peer", "192.0.2.2:179")
    second = reflector(rr2, CLUSTER, "--clients", LAN, "--peer", "192.0.2.1:179")
    first.start()
    second.start()
    first.wait_established(rr2.address(4))
    with contextlib.ExitStack() as stack:
        at_first = clients(stack, [(one, rr1), (two, rr1)])
        at_second = clients(stack, [(one, rr2), (two, rr2)])
        for told in (at_first, at_second):
            told[0].announce("10.1.0.0/24", local_pref=100)
            told[1].announce("10.2.0.0/24", local_pref=100)
        for told in (at_first, at_second):
            told[0].wait_prefixes(have=["10.2.0.0/24"])
            told[1].wait_prefixes(have=["10.1.0.0/24"])
            found = attributes(told[1], "10.1.0.0/24")
            assert (originator(found), cluster_list(found)) == ("192.0.2.11", [CLUSTER])

        # A client of one reflector only is not heard of by those of the other: that is what one ID means.
        (only,) = machines(lab, only=13)
        (at_one,) = clients(stack, [(only, rr1)])
        at_one.announce("10.3.0.0/24", local_pref=100)
        at_first[0].wait_prefixes(have=["10.3.0.0/24"])
        # The session is in order: what follows on it comes.
        at_second[0].announce("10.4.0.0/24", local_pref=100)
        at_second[1].wait_prefixes(have=["10.4.0.0/24"], lack=["10.3.0.0/24"])

        heard = [len(peer.updates()) for peer in at_second]
        first.kill()
        for peer in at_first:
            wait_for(lambda peer=peer: not peer.established, "the session is lost")  # type: ignore[misc]
        # Something after it, so that all that came of it is there too.
        at_second[0].announce("10.5.0.0/24", local_pref=100)
        at_second[1].wait_prefixes(have=["10.5.0.0/24"])
        for peer, before in zip(at_second, heard, strict=True):
            assert not [told.withdrawn for told in peer.updates()[before:] if told.withdrawn]


@pytest.mark.netns
def test_two_levels(lab: Lab) -> None:
    """Reflectors that are clients of a reflector: each level is in CLUSTER_LIST once, the way back is cut,
    and what one leaf withdraws goes everywhere."""
    top, mid1, mid2, one, two, three = machines(lab, top=1, mid1=2, mid2=3, one=11, two=12, three=13)
    processes = [
        reflector(top, "244.0.0.1", "--clients", "192.0.2.0/29"),
        reflector(mid1, "244.0.0.2", "--clients", "192.0.2.8/29", "--peer", "192.0.2.1:179"),
        reflector(mid2, "244.0.0.3", "--clients", "192.0.2.8/29", "--peer", "192.0.2.1:179"),
    ]
    for process in processes:
        process.start()
    for process in processes[1:]:
        process.wait_established(top.address(4))
    with contextlib.ExitStack() as stack:
        near, beside, far = clients(stack, [(one, mid1), (two, mid1), (three, mid2)])
        near.announce("10.1.0.0/24", local_pref=150, med=7)
        beside.wait_prefixes(have=["10.1.0.0/24"])
        far.wait_prefixes(have=["10.1.0.0/24"])
        found = attributes(beside, "10.1.0.0/24")
        assert (originator(found), cluster_list(found)) == ("192.0.2.11", ["244.0.0.2"])
        found = attributes(far, "10.1.0.0/24")
        assert originator(found) == "192.0.2.11"
        assert cluster_list(found) == ["244.0.0.3", "244.0.0.1", "244.0.0.2"]
        far.announce("10.3.0.0/24", local_pref=100)
        near.wait_prefixes(have=["10.3.0.0/24"])
        assert cluster_list(attributes(near, "10.3.0.0/24")) == ["244.0.0.2", "244.0.0.1", "244.0.0.3"]
        near.withdraw("10.1.0.0/24")
        far.wait_prefixes(lack=["10.1.0.0/24"])
        # Nobody was ever sent its own route back.
        assert not [told for told in near.updates() if any(r.prefix == "10.1.0.0/24" for r in told.announced)]
        # A level that goes takes its leaves' routes with it, and no others.
        processes[2].stop()
        near.wait_prefixes(lack=["10.3.0.0/24"])
        beside.announce("10.2.0.0/24", local_pref=100)
        near.wait_prefixes(have=["10.2.0.0/24"])


@pytest.mark.netns
def test_clients_are_the_nodes_whose_peering_names_it(lab: Lab) -> None:
    """With a datastore: a node is a client as long as a BGPPeer says so, and nobody else is let in."""
    rr, one, two, stranger = machines(lab, rr=1, one=11, two=12, stranger=13)
    records = Records(lab.directory / "records")

    def put(*nodes: Machine, selector: str) -> None:
        records.put(
            "cluster",
            [
                configuration(AS),
                *(node(machine, labels={"rack": "a"}) for machine in nodes),
                pool("10.0.0.0/8"),
                peer("reflector", rr.address(4), AS, nodeSelector=selector),
            ],
        )

    put(one, two, selector="rack == 'a'")
    process = reflector(rr, CLUSTER, "--datastore", records.url)
    process.start()
    with contextlib.ExitStack() as stack:
        first, second = clients(stack, [(one, rr), (two, rr)])
        outside = stack.enter_context(client(stranger, rr))
        first.announce("10.1.0.0/24", local_pref=100)
        second.wait_prefixes(have=["10.1.0.0/24"])
        wait_for(lambda: outside.lost, "the stranger is refused")
        assert not outside.messages
        sessions = process.status()["sessions"]
        assert {one["peer"]: one["route_reflector_client"] for one in sessions} == {
            "192.0.2.11": True,
            "192.0.2.12": True,
        }
        put(one, stranger, selector="rack == 'a'")  # a node is gone, another has come
        wait_for(lambda: not second.established, "the node that is gone is told")
        outside.wait_prefixes(have=["10.1.0.0/24"])
        wait_for(lambda: set(process.sessions()) == {"192.0.2.11", "192.0.2.13"}, "two clients")
        assert (first.sessions, second.sessions, outside.sessions) == (1, 1, 1)


@pytest.mark.netns
def test_a_reflector_with_a_node_record(lab: Lab) -> None:
    """Selected by label: clients are the nodes without its cluster ID, and it listens where the records
    say."""
    rr, one, two = machines(lab, rr=1, one=11, two=12)
    records = Records(lab.directory / "records")
    records.put(
        "cluster",
        [
            configuration(AS, listenPort=1790),
            pool("10.0.0.0/8"),
            node(one),
            node(two),
            node(rr, labels={"reflector": "true"}, routeReflectorClusterID=CLUSTER),
            record("BGPPeer", "reflectors", nodeSelector="!has(reflector)", peerSelector="has(reflector)"),
        ],
    )
    process = RoutedProcess(rr, ["rr", "--node", "rr", "--datastore", records.url])
    process.start()
    with contextlib.ExitStack() as stack:
        peers = clients(stack, [(one, rr), (two, rr)], port=1790)
        peers[0].announce("172.16.0.0/24", local_pref=100)  # in no pool: a reflector passes on all the same
        peers[1].wait_prefixes(have=["172.16.0.0/24"])
        found = attributes(peers[1], "172.16.0.0/24")
        assert (originator(found), cluster_list(found)) == ("192.0.2.11", [CLUSTER])
        assert process.status()["cluster_id"] == CLUSTER
        assert not [route for route in rr.routes(4).values() if route["protocol"] != "2"], "no kernel routes"
