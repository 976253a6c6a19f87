"""Half of the nodes run BIRD, half run routed: all routes are everywhere, in a mesh and with reflectors,
whichever of them is restarted."""

from __future__ import annotations

import pytest

from tests.mixed.nodes import NODES, Nodes, cluster, make_nodes
from tests.netns import Lab

BIRDS = ("node1", "node3")


@pytest.mark.netns
@pytest.mark.daemon("bird1")
def test_mixed_cluster(lab: Lab) -> None:
    """A mesh; each node crashes and comes back; then the mesh becomes two reflectors, a BIRD and a routed,
    while all is running; and each of those crashes too."""
    nodes = make_nodes(lab)
    for name in NODES:
        if name in BIRDS:
            nodes.run_bird(name)
        else:
            nodes.run_routed(name)
    nodes.wait_routes()
    nodes.wait_established()
    for name in NODES:
        restart(nodes, name)

    reflectors = ("node3", "node4")
    nodes.records.put("cluster", cluster(nodes.machines, reflectors))
    nodes.configure_birds()
    nodes.wait_established()
    nodes.wait_routes()
    for name, speaker in nodes.speakers.items():
        expected = 2 * (len(NODES) - 1 if name in reflectors else len(reflectors))
        assert len(speaker.sessions()) == expected, name
    for name in reflectors:
        restart(nodes, name)
    nodes.check()


def restart(nodes: Nodes, name: str) -> None:
    """A crash, and a new process: while it is gone the others keep its routes, and it keeps theirs."""
    speaker = nodes.speakers[name]
    speaker.kill()
    nodes.wait_routes()
    speaker.start()
    nodes.wait_established()
    nodes.wait_routes()
