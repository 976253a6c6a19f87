"""What a process keeps of a cluster's records in a Kubernetes API server, and what comes over the wire.

    python -m benchmarks.kubernetes_memory [--nodes 5000]

An API server of the tests holds a Node, a BlockAffinity and an IPAMBlock of a /26 with 40 pods for each node.
Each line is a process of its own that reads its first snapshot; its memory is the private part of its
resident set that the records added. `as JSON` keeps every object as json.loads gives it: what a client does
that keeps objects whole.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from routed.datastore import Snapshot
from routed.datastore.kubernetes import open_kubernetes
from routed.datastore.kubernetes.access import Source
from routed.datastore.kubernetes.api import Caller
from tests.datastore.apiserver import CRD_V1, APIServer, write_kubeconfig

PODS = 40
"""Allocated addresses of each block."""

WAYS = {
    "as JSON, objects whole": ("json", True),
    "for any node, Nodes whole": ("all", False),
    "for any node": ("all", True),
    "for one node": ("node", True),
}
"""How the records are read, and whether the server can leave out spec and status of Nodes."""


def cluster(nodes: int) -> list[dict[str, Any]]:
    """The objects of a cluster."""
    objects: list[dict[str, Any]] = []
    for number in range(nodes):
        name = f"worker-{number:05}.region-1.example.net"
        address = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
        first = number << 6
        block = f"100.{64 + (first >> 16)}.{first >> 8 & 255}.{first & 255}/26"
        labels = {f"topology.example.net/label-{n}": f"value-{n}" for n in range(12)}
        annotations = {"projectcalico.org/IPv4Address": f"{address}/16", "csi.volume/nodeid": "x" * 200}
        metadata = {"name": name, "labels": labels, "annotations": annotations}
        objects.append({"kind": "Node", "metadata": metadata, "spec": {"podCIDR": block}})
        slug = block.replace(".", "-").replace("/", "-")
        objects.append(
            {
                "apiVersion": CRD_V1,
                "kind": "BlockAffinity",
                "metadata": {"name": f"{name}-{slug}"},
                "spec": {"node": name, "cidr": block, "state": "confirmed", "deleted": "false"},
            }
        )
        attributes = [
            {
                "handle_id": f"k8s-pod-network.{number:032x}{pod:032x}",
                "secondary": {
                    "namespace": "team-a",
                    "node": name,
                    "pod": f"deployment-{number}-{pod}-7d4b9c6f5-x2x4z",
                    "timestamp": "2026-11-20 00:00:00.000000000 +0000 UTC",
                },
            }
            for pod in range(PODS)
        ]
        spec = {
            "cidr": block,
            "affinity": f"host:{name}",
            "allocations": [*range(PODS), *[None] * (64 - PODS)],
            "attributes": attributes,
            "unallocated": list(range(PODS, 64)),
            "sequenceNumber": 1700000000000000000,
            "sequenceNumberForAllocation": {str(pod): 1700000000000000000 + pod for pod in range(PODS)},
            "strictAffinity": False,
            "deleted": False,
        }
        objects.append({"apiVersion": CRD_V1, "kind": "IPAMBlock", "metadata": {"name": slug}, "spec": spec})
    return objects


def private_bytes() -> int:
    """Of this process (proc(5))."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("Private_"))


async def read(kubeconfig: str, way: str, node: str) -> None:
    """Reads all as the way is, and prints what that took."""
    gc.collect()
    before, begun, used = private_bytes(), time.perf_counter(), time.process_time()
    kept: object
    if way == "json":
        caller = Caller(Source(kubeconfig).load())
        paths = ["/api/v1/nodes", *(f"/apis/{CRD_V1}/{p}" for p in ("blockaffinities", "ipamblocks"))]
        kept = [json.loads(await caller.get(path)) for path in paths]
        await caller.close()
        await report(before, begun, used)
    else:
        events = open_kubernetes(kubeconfig, {}, node if way == "node" else None).watch()
        async with contextlib.aclosing(events):
            async for kept in events:
                if isinstance(kept, Snapshot):
                    # As the agent: what is in force is in the store and in the compiler's tables, once.
                    del kept
                    await report(before, begun, used)
                    return


async def report(before: int, begun: float, used: float) -> None:
    """One line of JSON."""
    took, cpu = time.perf_counter() - begun, time.process_time() - used
    gc.collect()
    print(json.dumps({"bytes": private_bytes() - before, "seconds": took, "cpu": cpu}))


async def measure(nodes: int) -> None:
    """A line for each way."""
    objects = cluster(nodes)
    print(f"{nodes:,} nodes, {len(objects):,} objects")
    async with APIServer() as server:
        server.put(*objects)
        with tempfile.TemporaryDirectory() as folder:
            kubeconfig = str(write_kubeconfig(Path(folder) / "config", server.url))
            for name, (way, metadata_only) in WAYS.items():
                server.metadata_only = metadata_only
                server.sent = 0
                process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", __spec__.name, "--read", kubeconfig, way),
                    *("--node", objects[0]["metadata"]["name"]),
                    stdout=asyncio.subprocess.PIPE,
                )
                output, _ = await process.communicate()
                got = json.loads(output)
                kept = (
                    f"{got['bytes'] / 1e6:7.1f} MB kept, {got['bytes'] / len(objects):6,.0f} bytes an object"
                )
                print(f"{name:28} {kept}, {server.sent / 1e6:6.1f} MB received, {got['cpu']:5.2f} s of CPU")


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nodes", type=int, default=5000)
    parser.add_argument("--read", nargs=2, metavar=("KUBECONFIG", "WAY"), help=argparse.SUPPRESS)
    parser.add_argument("--node", default="", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.read:
        kubeconfig, way = options.read
        asyncio.run(read(kubeconfig, way, options.node))
    else:
        asyncio.run(measure(options.nodes))


if __name__ == "__main__":
    main()
