"""What is counted, against what happened."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from typing import Any

import pytest

from routed.bgp.config import ClientRange
from routed.event_loop import EventLoop
from routed.observe.metrics.values import MOST_GROUPS, OTHER_GROUPS, group_label
from tests.bgp.test_speaker import V4, Router, join
from tests.observe.metrics.scrape import alone, text, total, value, values, whole
from tests.routed_process import affinity, configuration, ipam_block, pool, record
from tests.virtual import Wire, until, virtual


async def site(wire: Wire, clients: int = 3) -> tuple[Router, list[Router]]:
    """A reflector and its clients, each with a route of its own."""
    reflector = Router(wire, 1, cluster_id="10.0.0.100")
    reflector.speaker.set_client_ranges([ClientRange(ip_network("10.0.0.0/24"))])
    reflector.set_peers()
    made = [Router(wire, 10 + number) for number in range(clients)]
    for client in made:
        client.originate(f"10.{client.address.rpartition('.')[2]}.0.0/16")
        client.set_peers(client.peer(reflector))
    await until(lambda: all(len(one.table()) == clients for one in made))
    return reflector, made


@virtual
async def test_sessions_by_state(wire: Wire) -> None:
    a, b, c, d = (Router(wire, number) for number in (1, 2, 3, 4))
    a.set_peers(a.peer(b), a.peer(c), a.peer(d, held="no password"))
    b.set_peers(b.peer(a))
    watched = whole(a)
    await until(lambda: a.established() == 1)
    read = values(watched)
    assert value(read, "routed_bgp_peers", state="established", wanted="true") == 1
    assert value(read, "routed_bgp_peers", state="idle", wanted="false") == 1
    assert total(read, "routed_bgp_peers", wanted="true") == 2
    assert value(read, "routed_ready") == 0
    a.speaker.shut_down_peer(f"to_{c.address}", "maintenance")
    read = values(watched)
    assert value(read, "routed_bgp_peers_shut_down") == 1
    assert total(read, "routed_bgp_peers", wanted="true") == 1
    await until(lambda: a.speaker.converged)
    read = values(watched)
    assert value(read, "routed_ready") == value(read, "routed_converged") == 1
    assert value(read, "routed_start_convergence_seconds_count") == 1
    b.kill()
    await until(lambda: a.established() == 0)
    read = values(watched)
    assert total(read, "routed_bgp_sessions_ended_total") == 1
    assert total(read, "routed_bgp_peers", state="established") == 0


@virtual
async def test_routes_by_stage(wire: Wire) -> None:
    reflector, clients = await site(wire)
    read = values(alone(reflector))
    assert value(read, "routed_bgp_received_routes", family="ipv4") == 3
    assert value(read, "routed_bgp_loc_rib_prefixes", family="ipv4") == 3
    assert value(read, "routed_bgp_advertised_routes", family="ipv4") == 9
    assert total(read, "routed_bgp_local_routes") == 0
    assert total(read, "routed_bgp_received_routes", family="ipv6") == 0
    assert total(read, "routed_bgp_export_groups") == 1
    assert total(read, "routed_bgp_export_group_members") == 3
    assert total(read, "routed_bgp_export_group_routes") == 3
    of_client = values(alone(clients[0]))
    assert value(of_client, "routed_bgp_local_routes", family="ipv4", source="static") == 1
    assert value(of_client, "routed_bgp_received_routes", family="ipv4") == 2
    assert value(read, "routed_build_info", **_build(read))


def _build(read: Any) -> dict[str, str]:
    (labels,) = [dict(labels) for series, labels in read if series == "routed_build_info"]
    assert labels["role"] == "reflector"
    return labels


@virtual
async def test_counters_never_go_down(wire: Wire) -> None:
    reflector, clients = await site(wire)
    watched = alone(reflector)

    def counters() -> dict[Any, float]:
        return {
            key: one
            for key, one in values(watched).items()
            if key[0].endswith(("_total", "_count", "_bucket"))
        }

    before = counters()
    clients[0].speaker.remove_peer(f"to_{reflector.address}")
    await until(lambda: len(reflector.speaker.peers) == 2)
    clients[1].originate("10.99.0.0/16")
    await until(lambda: len(reflector.table()) == 3)
    after = counters()
    ours = {key for key in before if key[0].startswith("routed_")}
    assert ours
    assert all(after[key] >= before[key] for key in ours)
    octets = "routed_bgp_received_bytes_total", ()
    assert after[octets] > before[octets] > 0
    received = "routed_bgp_messages_received_total", (("type", "update"),)
    assert after[received] > before[received]
    assert "routed_bgp_peer_up" not in text(watched), "a series for each peer only where that is asked for"


@virtual
async def test_octets_are_those_that_the_other_end_has(wire: Wire) -> None:
    a, b = Router(wire, 1), Router(wire, 2)
    a.originate("10.1.0.0/26")
    a.set_peers(a.peer(b))
    b.set_peers(b.peer(a, passive=True))  # no second connection, of which one end reads less
    await until(lambda: len(b.table()) == 1 and a.speaker.converged and b.speaker.converged)
    await asyncio.sleep(10)

    def octets(router: Router) -> tuple[float, float]:
        read = values(alone(router))
        return (
            value(read, "routed_bgp_sent_bytes_total"),
            value(read, "routed_bgp_received_bytes_total"),
        )

    assert octets(a) == octets(b)[::-1]
    b.speaker.remove_peer(f"to_{a.address}")
    await until(lambda: a.established() == 0)
    assert octets(a)[1] == octets(b)[0], "those of a connection that is over stay, its NOTIFICATION too"


@virtual
async def test_each_peer_where_that_is_asked_for(wire: Wire) -> None:
    reflector, clients = await site(wire)
    read = values(alone(reflector), per_peer=True)
    peers = sorted(reflector.speaker.peers)
    assert [dict(labels)["peer"] for series, labels in read if series == "routed_bgp_peer_up"] == peers
    for name in peers:
        assert value(read, "routed_bgp_peer_up", peer=name) == 1
        assert value(read, "routed_bgp_peer_wanted", peer=name) == 0, "it came by itself"
        assert value(read, "routed_bgp_peer_state", peer=name) == 5
        assert value(read, "routed_bgp_peer_received_routes", peer=name, family="ipv4") == 1
        assert value(read, "routed_bgp_peer_received_routes", peer=name, family="ipv6") == 0
        assert value(read, "routed_bgp_peer_unsent_bytes", peer=name) == 0
        assert value(read, "routed_bgp_peer_uptime_seconds", peer=name) >= 0
    sent = total(read, "routed_bgp_peer_updates_sent_total")
    assert sent == value(read, "routed_bgp_messages_sent_total", type="update") > 0
    (info,) = [
        dict(labels)
        for series, labels in read
        if series == "routed_bgp_peer_info" and ("address", clients[0].address) in labels
    ]
    assert info == {"peer": peers[0], "address": clients[0].address, "remote_as": "64512", "peer_node": ""}


@virtual
async def test_changes_are_timed_until_they_are_handed_to_the_connections(wire: Wire) -> None:
    a, b = Router(wire, 1), Router(wire, 2)
    join(a, b)
    watched = whole(a)
    await until(lambda: a.established() == 1 and a.speaker.converged)
    loop = asyncio.get_running_loop()

    def counts() -> tuple[float, float]:
        read = values(watched)
        return (
            value(read, "routed_bgp_change_to_wire_seconds_count"),
            value(read, "routed_datastore_to_wire_seconds_count"),
        )

    before = counts()
    arrived = loop.time()
    a.originate("10.1.0.0/26")
    a.speaker.turns.began(arrived - 3)
    assert counts() == before, "not there before it is sent"
    assert value(values(watched), "routed_bgp_pending_changes") == 1
    await until(lambda: len(b.table()) == 1)
    assert counts() == (before[0] + 1, before[1] + 1)
    assert value(values(watched), "routed_datastore_to_wire_seconds_sum") == pytest.approx(3, abs=0.1)
    assert value(values(watched), "routed_bgp_pending_changes") == 0
    a.speaker.turns.began(arrived)  # records that changed no route
    a.speaker.turns.schedule()
    await asyncio.sleep(1)
    assert counts() == (before[0] + 1, before[1] + 1)


@virtual
async def test_nobody_to_tell_is_not_timed(wire: Wire) -> None:
    a = Router(wire, 1)
    a.set_peers()
    a.originate("10.1.0.0/26")
    a.speaker.turns.began(asyncio.get_running_loop().time())
    await asyncio.sleep(1)
    assert value(values(whole(a)), "routed_datastore_to_wire_seconds_count") == 0


@virtual
async def test_records_and_kernel(wire: Wire) -> None:
    router = Router(wire, 1)
    records = [
        configuration(),
        record("Node", "node-1", bgp={"ipv4Address": "10.0.0.1/24"}),
        pool("10.65.0.0/16"),
        affinity("node-1", "10.65.1.0/26"),
        ipam_block("node-1", "10.65.1.0/26"),
    ]
    watched = whole(router, records)
    assert watched.datastore is not None
    assert watched.writer is not None
    watched.datastore.losses = 2
    watched.datastore.lost_since = datetime.now(UTC) - timedelta(seconds=100)
    counters = watched.writer.fib.counters
    counters.installs, counters.installs_refused, counters.installs_unknown = 10, 2, 1
    counters.errors_by_name["EEXIST"] = 2
    watched.problems = lambda: ["a", "b"]
    watched.kernel_error = lambda: "no CAP_NET_ADMIN"
    read = values(watched)
    assert value(read, "routed_owned_blocks") == 1
    assert value(read, "routed_originated_routes") == 1
    assert value(read, "routed_datastore_synced") == value(read, "routed_datastore_lost") == 1
    assert value(read, "routed_datastore_losses_total") == 2
    assert value(read, "routed_datastore_lost_seconds") == pytest.approx(100, abs=5)
    assert value(read, "routed_record_problems") == 2
    assert value(read, "routed_kernel_error") == 1
    operations = "routed_kernel_operations_total"
    assert value(read, operations, operation="install", result="done") == 7
    assert value(read, operations, operation="install", result="refused") == 2
    assert value(read, operations, operation="install", result="unknown") == 1
    assert value(read, "routed_kernel_errors_total", error="EEXIST") == 2


@virtual
async def test_a_member_that_does_not_read_shows(wire: Wire) -> None:
    reflector, clients = await site(wire)
    (group,) = reflector.speaker.groups[V4].groups.values()
    label = group_label(group.key)
    slow = next(iter(group.members.values()))
    behind = {"routed_bgp_export_group_behind_bytes", "routed_bgp_export_group_most_behind_bytes"}
    assert all(value(values(alone(reflector)), name, group=label) == 0 for name in behind)
    slow.wake = None
    connection = next(
        peer.connection
        for peer in reflector.speaker.peers.values()
        if peer.connection is not None and slow in peer.connection.outlets
    )
    connection.outlets = []
    for number in range(50):
        clients[-1].originate(f"10.200.{number}.0/24")
    await until(lambda: len(reflector.table()) == 53)
    read = values(alone(reflector))
    assert value(read, "routed_bgp_export_group_most_behind_bytes", group=label) > 0
    slow._leave_log()
    assert value(values(alone(reflector)), "routed_bgp_export_group_lagging_members", group=label) == 1


@virtual
async def test_many_export_groups_are_few_series(wire: Wire) -> None:
    a = Router(wire, 1)
    others = [Router(wire, 10 + number) for number in range(MOST_GROUPS + 6)]
    a.set_peers(*(a.peer(other, add_path_limit=1 + place) for place, other in enumerate(others)))
    for other in others:
        other.set_peers(other.peer(a))
    await until(lambda: a.established() == len(others))
    read = values(alone(a))
    members = {dict(labels)["group"]: one for (series, labels), one in read.items() if _is_members(series)}
    assert len(members) == MOST_GROUPS + 1
    assert members[OTHER_GROUPS] == 6
    assert sum(members.values()) == len(others)
    assert total(read, "routed_bgp_export_groups") == len(others)


def _is_members(series: str) -> bool:
    return series == "routed_bgp_export_group_members"


@virtual
async def test_a_group_has_the_same_label_on_each_node(wire: Wire) -> None:
    labels = []
    for number in (1, 3, 5):
        reflector = Router(wire, number, cluster_id="10.0.0.100")
        client = Router(wire, number + 1)
        reflector.set_peers(reflector.peer(client, route_reflector_client=True, keepalive_time=number))
        client.set_peers(client.peer(reflector))
        await until(lambda: reflector.established() == 1)  # noqa: B023 (called at once)
        (group,) = reflector.speaker.groups[V4].groups.values()
        labels.append(group_label(group.key))
    assert labels[0].startswith("ipv4-ibgp-client-add-path-")
    assert len(set(labels)) == 1
    key = group.key
    others = [replace(key, filters=("x",)), replace(key, four_octet_as=False), replace(key, add_path=2)]
    assert len({group_label(one) for one in (key, *others)}) == 4


class Untouchable(dict[Any, Any]):
    """A table that must not be walked while a scrape goes on."""

    guarded = False

    def __iter__(self) -> Iterator[Any]:
        assert not self.guarded, "a scrape walks a table of routes"
        return super().__iter__()

    def items(self) -> Any:
        assert not self.guarded, "a scrape walks a table of routes"
        return super().items()

    def keys(self) -> Any:
        assert not self.guarded, "a scrape walks a table of routes"
        return super().keys()

    def values(self) -> Any:
        assert not self.guarded, "a scrape walks a table of routes"
        return super().values()


@virtual
async def test_no_table_of_routes_is_walked(wire: Wire) -> None:
    wire.at_end.insert(0, lambda: setattr(Untouchable, "guarded", False))
    a, b = Router(wire, 1), Router(wire, 2)
    a.originate("10.1.0.0/26", "10.2.0.0/26")
    join(a, b)
    await until(lambda: len(b.table()) == 2)
    watched = whole(b)
    before = values(watched, per_peer=True)
    for rib in b.speaker.ribs.values():
        rib.routes = Untouchable(rib.routes)
        for table in rib.sources.values():
            table.routes = Untouchable(table.routes)
    for groups in b.speaker.groups.values():
        for group in groups.groups.values():
            group.adj_out = Untouchable(group.adj_out)
    Untouchable.guarded = True
    after = values(watched, per_peer=True)
    routes = [key for key in before if "routes" in key[0] or "prefixes" in key[0]]
    assert {key: after[key] for key in routes} == {key: before[key] for key in routes}
    assert value(after, "routed_bgp_loc_rib_prefixes", family="ipv4") == 2


def test_turns_of_the_daemons_loop_are_there() -> None:
    async def main() -> str:
        with closing(Wire()) as wire:
            router = Router(wire, 1)
            await asyncio.sleep(0)
            return text(alone(router))

    with asyncio.Runner(loop_factory=EventLoop) as runner:
        scraped = runner.run(main())
    assert 'routed_event_loop_turn_seconds_bucket{le="+Inf"}' in scraped
