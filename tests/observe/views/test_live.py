"""A reflector, a BIRD and an FRR: what routed says it sent and received is what they say."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from routed.cli.client import Client, Server
from routed.kernel.base import PROTOCOL
from tests.daemons import BgpPath, Bird2, Config, Daemon, Frr, Neighbor, Table
from tests.netns import INTERFACE, Lab, Machine, wait_for
from tests.routed_process import (
    Records,
    block,
    configuration,
    node,
    peer,
    pool,
    record,
    routed_rr,
    routed_run,
)

AS = 64512
KINDS: tuple[type[Bird2] | type[Frr], ...] = (Bird2, Frr)
SHARED = ("10.9.0.0/24", "fd00:9::/64")

Told = Counter[tuple[object, ...]]
"""Prefix, next hop, AS path, origin, LOCAL_PREF, originator, cluster list."""


def of_daemon(table: Table) -> Told:
    """The paths that a daemon has of its peer."""
    return Counter(
        _of_path(prefix, path) for prefix, paths in table.items() for path in paths if not path.local
    )


def _of_path(prefix: str, path: BgpPath) -> tuple[object, ...]:
    return (
        prefix,
        path.next_hop,
        path.as_path,
        path.origin,
        path.local_pref,
        path.originator_id,
        path.cluster_list,
    )


def of_view(routes: list[dict[str, Any]]) -> Told:
    """The same of routed's routes."""
    return Counter(
        (
            route["prefix"],
            route["next_hop"].split()[0],
            tuple(map(int, route["as_path"].split())),
            route["origin"].lower(),
            route["local_pref"],
            route["originator_id"],
            tuple(route["cluster_list"]),
        )
        for route in routes
    )


def daemon(kind: type[Bird2] | type[Frr], machine: Machine, reflector: Machine, number: int) -> Daemon:
    """A client of the reflector, with ADD-PATH: a session a family."""
    neighbors = tuple(Neighbor(reflector.address(version), AS, add_path=True) for version in (4, 6))
    own = (f"10.{number}.0.0/24", f"10.{number}.1.0/26", f"fd00:{number}::/64")
    return kind(machine, Config(AS, machine.address(4), neighbors, (*own, *SHARED)))


@pytest.mark.netns
@pytest.mark.daemon("bird2", "frr")
def test_both_ends_of_real_sessions_say_the_same(lab: Lab) -> None:
    reflector, *clients = (
        lab.machine(name, f"192.0.2.{number}/24", f"2001:db8::{number}/64")
        for number, name in enumerate(("rr", "bird", "frr"), 1)
    )
    process = routed_rr(reflector, AS, ["192.0.2.0/24", "2001:db8::/64"])
    process.start()
    others = [
        daemon(kind, machine, reflector, number)
        for number, (kind, machine) in enumerate(zip(KINDS, clients, strict=True), 2)
    ]
    for other in others:
        other.start()
    for other in others:
        other.wait_established()
    client = Client(Server(process.api))

    def ask(path: str, **query: str) -> Any:
        return json.loads(client.get(path, query))

    def names(machine: Machine) -> dict[int, str]:
        found = {peer["address"]: peer["name"] for peer in ask("/peers")["peers"]}
        return {version: found[machine.address(version)] for version in (4, 6)}

    def agree() -> bool:
        for other in others:
            for version, name in names(other.machine).items():
                told = of_view(ask("/routes", advertised_to=name)["routes"])
                heard = of_daemon(other.routes(version))
                assert told == heard
                assert len(told) == (3 if version == 4 else 2), "what the other one announces"
                received = ask("/routes", received_from=name)["routes"]
                assert sorted(route["prefix"] for route in received) == sorted(
                    other.config.announced(version)
                )
                assert {route["next_hop"].split()[0] for route in received} == {
                    other.machine.address(version)
                }
                line = ask(f"/peers/{name}")
                family = f"ipv{version}"
                assert line["advertised"] == {family: sum(told.values())}
                assert line["received"] == {family: len(received)}
                assert line["rejected"] == {family: 0}
        return True

    wait_for(agree, "both ends say the same")
    shared = ask("/routes", prefix=SHARED[0])["routes"]
    assert [route["best"] for route in shared] == [True, False]
    assert "but" in shared[1]["not_best"]

    first = others[0]
    first.withdraw(*first.config.announce[:1])
    first.announce("10.2.7.0/24")

    def changed() -> bool:
        name = names(others[1].machine)[4]
        told = ask("/routes", advertised_to=name)["routes"]
        assert {"10.2.7.0/24", "10.2.1.0/26", SHARED[0]} == {route["prefix"] for route in told}
        assert of_view(told) == of_daemon(others[1].routes(4))
        return True

    wait_for(changed, "both ends say the same of what changed")
    for other in others:
        other.stop()
    assert process.stop() == 0


@pytest.mark.netns
@pytest.mark.daemon("bird2")
def test_what_is_said_of_the_kernel_is_what_the_kernel_says(lab: Lab) -> None:
    """Blackholes of blocks, learned routes, one that the agent programs, a next hop that goes away."""
    here = lab.machine("node", "192.0.2.1/24")
    there = lab.machine("peer", "192.0.2.9/24")
    records = Records(lab.directory / "records")
    records.put(
        "all",
        [
            configuration(AS, mesh=False),
            node(here),
            pool("10.244.0.0/16"),
            record("IPPool", "overlay", cidr="10.245.0.0/16", ipipMode="Never", vxlanMode="Always"),
            *block("node", "10.244.0.0/26"),
            peer("peer", there.address(4), AS),
        ],
    )
    neighbors = (Neighbor(here.address(4), AS),)
    announced = ("10.244.1.0/26", "10.245.1.0/26", "203.0.113.0/24")
    bird = Bird2(there, Config(AS, there.address(4), neighbors, announced))
    process = routed_run(here, records)
    process.start()
    bird.start()
    client = Client(Server(process.api))

    def ask(**query: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(client.get("/routes", query))["routes"]
        return found

    def agrees() -> bool:
        found = {route["prefix"]: route for route in ask(scope="kernel")}
        installed = {prefix for prefix, route in found.items() if route["kernel"] == "installed"}
        ours = {
            p for p, route in here.routes(4).items() if route.get("protocol") in (PROTOCOL, str(PROTOCOL))
        }
        assert installed == ours == {"10.244.0.0/26", "10.244.1.0/26", "203.0.113.0/24"}
        assert "vxlan" in found["10.245.1.0/26"]["kernel"].lower(), found["10.245.1.0/26"]
        return True

    wait_for(agrees, "the kernel has what is said of it")
    (own,) = ask(prefix="10.244.0.0/26")
    assert own["origin_record"].startswith("BlockAffinity ")
    (learned,) = ask(prefix="203.0.113.0/24")
    assert (learned["interface"], learned["igp_cost"], learned["reachable"]) == (INTERFACE, 0, True)
    assert [route["prefix"] for route in ask(scope="rejected")] == ["10.245.1.0/26"]
    assert [route["prefix"] for route in ask(prefix="203.0.113.77")] == ["203.0.113.0/24"]
    whole = json.loads(client.get("/status", {}))
    assert whole["kernel"]["installed"] == {"ipv4": 3, "ipv6": 0}
    assert whole["kernel"]["kept_out"] == {"ipv4": 1, "ipv6": 0}
    assert (whole["blocks"], whole["originated"]) == (1, 1)

    here.ip("link", "set", INTERFACE, "down")

    def gone() -> bool:
        (route,) = ask(prefix="203.0.113.0/24")
        assert not route["reachable"]
        assert "there is no route to it" in route["unreachable_reason"]
        assert route["kernel"] == route["unreachable_reason"]
        assert route["interface"] is None
        return True

    wait_for(gone, "the next hop leads nowhere")
    bird.stop()
    assert process.stop() == 0
