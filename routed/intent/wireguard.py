"""Which nodes run WireGuard, by family: the agent of one that does routes to the others itself."""

from __future__ import annotations

from routed.bgp.nlri import Family
from routed.resources import Address, Node


class WireGuardNodes:
    """The BGP addresses of the nodes with a WireGuard address: they are the next hops that are routed to."""

    def __init__(self) -> None:
        self._running: dict[Family, dict[str, Address]] = {family: {} for family in Family}

    def set_node(self, name: str, node: Node | None) -> set[Family]:
        """Puts in the record of a node, or takes it out; returns the families that this changed."""
        facts: tuple[tuple[Family, Address | None, bool], ...] = ()
        if node is not None:
            v4, v6 = node.ipv4_address, node.ipv6_address
            facts = (
                (Family.IPV4, v4 and v4.ip, node.wireguard_interface_ipv4_address is not None),
                (Family.IPV6, v6 and v6.ip, node.wireguard_interface_ipv6_address is not None),
            )
        changed = set()
        for family, running in self._running.items():
            address = next((a for f, a, runs in facts if f is family and runs), None)
            if running.get(name) != address:
                changed.add(family)
                if address is None:
                    running.pop(name, None)
                else:
                    running[name] = address
        return changed

    def others(self, family: Family, node: str) -> frozenset[Address]:
        """The next hops that the agent of `node` routes to; none where it runs no WireGuard itself."""
        running = self._running[family]
        if node not in running:
            return frozenset()
        return frozenset(address for name, address in running.items() if name != node)
