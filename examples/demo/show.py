"""What the demonstration prints: progress, and tables that a person can read."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from ipaddress import ip_network
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from examples.demo.cluster import Cluster
from examples.demo.machines import Machines
from examples.demo.probes import COUNT, Probe
from tests.netns import wait_for

#: The protocol number of routes that the kernel makes itself for the interfaces' addresses (rtnetlink.h).
KERNEL_PROTOCOL = "2"
#: The node that is shown in detail, and whose kernel is watched for the new block.
WATCHER = "worker01"

#: The tables need eighty columns; a narrower terminal wraps them, which is better than losing their ends.
console = Console(highlight=False, soft_wrap=True, width=max(80, Console().width))


class Step:
    """One step in progress; `say` replaces the text beside it."""

    def __init__(self, title: str, update: Callable[[str], None]) -> None:
        self.title = title
        self.detail = ""
        self._update = update

    def say(self, detail: str) -> None:
        """What is known so far."""
        self.detail = detail
        self._update(f"{self.title}: {detail}" if detail else self.title)

    def until(self, condition: Callable[[], tuple[bool, str]], timeout: float) -> None:
        """Waits for `condition`, which returns whether it is met and the state to show; DeadlineError after
        `timeout` s."""

        def met() -> bool:
            done, detail = condition()
            self.say(detail)
            assert done, detail
            return done

        wait_for(met, self.title, timeout=timeout, interval=0.1)


@contextlib.contextmanager
def step(title: str) -> Iterator[Step]:
    """Shows a step while it runs, and one line with its time when it is done."""
    started = time.monotonic()
    with console.status(title) as status:
        current = Step(title, lambda text: status.update(text))
        yield current
    seconds = time.monotonic() - started
    detail = f": {current.detail}" if current.detail else ""
    console.print(Text.assemble(("  done  ", "green"), f"{title}{detail} ", (f"({seconds:.1f} s)", "dim")))


def heading(text: str) -> None:
    """A heading above a table or a few lines."""
    console.print()
    console.print(Text(text, style="bold"))


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
    for column in columns:
        table.add_column(column, no_wrap=True)
    return table


def sessions(names: dict[str, str], statuses: dict[str, dict[str, Any]]) -> None:
    """Every session of every node; `names` has the peers' names by address."""
    table = _table("node", "peer", "session", "state", "received", "sent")
    for node, status in statuses.items():
        for session in status["sessions"]:
            state = str(session["state"])
            table.add_row(
                node,
                names.get(str(session["peer"]), "?"),
                str(session["name"]),
                Text(state, style="green" if state == "established" else "red"),
                str(sum(session["received"].values())),
                str(sum(session["advertised"].values())),
            )
        table.add_section()
    heading("BGP sessions")
    console.print(table)


def announcements(statuses: dict[str, dict[str, Any]], at_router: dict[str, list[Any]]) -> None:
    """What each node originates and why, and what the router outside made of it."""
    table = _table("node", "announces", "outside has")
    table.add_column("because", overflow="fold")
    for node, status in statuses.items():
        for route in status["originated"]:
            prefix = str(route["prefix"])
            paths = at_router.get(prefix, [])
            table.add_row(node, prefix, f"{len(paths)} paths" if paths else "-", str(route["reason"]))
        table.add_section()
    heading("What each node announces")
    console.print(table)


def kernel_routes(machines: Machines) -> None:
    """Each node's kernel routes, without those of its interfaces: a row a destination, a column a node."""
    names = names_by_address(machines.cluster)
    names |= {link_local: names[address] for link_local, address in machines.link_locals().items()}
    by_destination: dict[str, dict[str, dict[str, Any]]] = {}
    for node, speaker in machines.speakers.items():
        for version in (4, 6):
            for destination, route in speaker.machine.routes(version).items():
                if str(route.get("protocol")) != KERNEL_PROTOCOL:
                    by_destination.setdefault(destination, {})[node] = route
    table = _table("destination", *machines.speakers)
    for destination in sorted(by_destination, key=_address_order):
        routes = by_destination[destination]
        table.add_row(destination, *(_route(routes.get(node), names) for node in machines.speakers))
    heading("Kernel routes of each node: the machine that packets go to next")
    console.print(table)
    watched = machines.speakers[WATCHER].machine
    console.print(Text(f"on {WATCHER}, `ip route`:", style="dim"))
    for option in ("-4", "-6"):
        for line in watched.ip(option, "route").splitlines():
            console.print(Text(f"  {line.strip()}", style="dim"))


def _address_order(destination: str) -> tuple[int, int, int]:
    network = ip_network(destination)
    return network.version, int(network.network_address), network.prefixlen


def _route(route: dict[str, Any] | None, names: dict[str, str]) -> Text:
    if route is None:
        return Text("")
    if route["type"] == "blackhole":
        return Text("blackhole", style="magenta")
    gateways = [str(hop["gateway"]) for hop in route.get("nexthops", [route]) if hop.get("gateway")]
    if gateways:
        return Text(", ".join(names.get(gateway, gateway) for gateway in gateways))
    return Text("pod here", style="cyan")


def borrowed(cluster: Cluster) -> None:
    """Says where the pods with borrowed addresses are."""
    for pod in cluster.pods:
        if owner := pod.borrowed_from:
            addresses = ", ".join(pod.addresses)
            console.print(f"{pod.name} runs on {pod.node} with addresses of {owner}'s blocks: {addresses}.")
            console.print(
                f"{pod.node} announces them alone; every other node, {owner} too, sends packets there."
            )


def probes(answered: dict[Probe, int], cluster: Cluster) -> bool:
    """A matrix of pods and targets; True where every packet was answered."""
    columns = [*(pod.name for pod in cluster.pods), "outside"]
    table = _table("from", *columns)
    for pod in cluster.pods:
        row: dict[str, list[int]] = {probe.target: [] for probe in answered if probe.source == pod.name}
        for probe, count in answered.items():
            if probe.source == pod.name:
                row[probe.target].append(count)
        table.add_row(pod.name, *(_cell(row.get(name, [])) for name in columns))
    heading(f"Pings between pods: answers of {COUNT} packets, IPv4 + IPv6")
    for node in cluster.nodes:
        here = ", ".join(pod.name for pod in cluster.pods if pod.node == node.name)
        console.print(f"  on {node.name}: {here}")
    console.print(table)
    arrived, sent = sum(answered.values()), COUNT * len(answered)
    style = "green" if arrived == sent else "bold red"
    console.print(Text(f"{arrived} of {sent} arrived", style=style))
    for probe, count in answered.items():
        if count < COUNT:
            console.print(
                Text(
                    f"  lost: {probe.source} to {probe.target} ({probe.address}): {count} of {COUNT}",
                    style="red",
                )
            )
    return arrived == sent


def _cell(counts: list[int]) -> Text:
    if not counts:
        return Text("-", style="dim")
    return Text(
        " + ".join(map(str, counts)), style="green" if all(count == COUNT for count in counts) else "bold red"
    )


def names_by_address(cluster: Cluster) -> dict[str, str]:
    """Machines by each of their addresses."""
    names = dict.fromkeys(cluster.outside.addresses, "outside")
    for node in cluster.nodes:
        for version in (4, 6):
            if address := node.address(version):
                names[address] = node.name
    return names
