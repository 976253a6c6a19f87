"""A reflector, a BIRD and an FRR: what routed says it sent and received is what they say."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from routed.cli.client import Client, Server
from tests.daemons import BgpPath, Bird2, Config, Daemon, Frr, Neighbor, Table
from tests.netns import Lab, Machine, wait_for
from tests.routed_process import routed_rr

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
