"""`routed run` and `routed rr` as processes in a laboratory, and folders of records for them."""

from __future__ import annotations

import ipaddress
import json
import sys
import tempfile
import weakref
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from tests.netns import Machine, Process, wait_for

_REPOSITORY = Path(__file__).resolve().parent.parent
Record = dict[str, Any]


def record(kind: str, name: str, **spec: Any) -> Record:
    """A Calico record; `labels` and `spec` fields as keywords."""
    labels = spec.pop("labels", {})
    return {
        "apiVersion": "projectcalico.org/v3",
        "kind": kind,
        "metadata": {"name": name, "labels": labels},
        "spec": spec,
    }


def configuration(asn: int = 64512, mesh: bool = False, **spec: Any) -> Record:
    """The cluster's BGPConfiguration."""
    return record("BGPConfiguration", "default", asNumber=asn, nodeToNodeMeshEnabled=mesh, **spec)


def node(
    machine: Machine, name: str | None = None, labels: dict[str, str] | None = None, **bgp: Any
) -> Record:
    """The Node record of a machine, with its addresses."""
    for address in machine.addresses:
        version = ipaddress.ip_interface(address).version
        bgp.setdefault(f"ipv{version}Address", address)
    return record("Node", name or machine.name, labels=labels or {}, bgp=bgp)


def pool(cidr: str, **spec: Any) -> Record:
    """An IPPool without encapsulation, whose learned routes BGP programs."""
    name = "pool-" + _slug(cidr)
    length = 26 if ipaddress.ip_network(cidr).version == 4 else 122
    return record("IPPool", name, cidr=cidr, ipipMode="Never", vxlanMode="Never", blockSize=length, **spec)


def affinity(owner: str, cidr: str) -> Record:
    """A confirmed BlockAffinity."""
    return record(
        "BlockAffinity", f"{owner}-{_slug(cidr)}", cidr=cidr, node=owner, state="confirmed", deleted="false"
    )


def ipam_block(owner: str, cidr: str, used: dict[str, tuple[str, str]] | None = None) -> Record:
    """The IPAMBlock of a block; `used`: pod and node by address."""
    network = ipaddress.ip_network(cidr)
    allocations: list[int | None] = [None] * network.num_addresses
    attributes: list[Record] = []
    for address, (pod, host) in (used or {}).items():
        allocations[int(ipaddress.ip_address(address)) - int(network.network_address)] = len(attributes)
        secondary = {"namespace": "default", "node": host, "pod": pod}
        attributes.append({"handle_id": f"k8s-pod-network.{pod}", "secondary": secondary})
    return record(
        "IPAMBlock",
        _slug(cidr),
        cidr=cidr,
        affinity=f"host:{owner}",
        allocations=allocations,
        attributes=attributes,
        unallocated=[index for index, entry in enumerate(allocations) if entry is None],
        strictAffinity=False,
        deleted=False,
    )


def block(owner: str, cidr: str, used: dict[str, tuple[str, str]] | None = None) -> list[Record]:
    """A block that a node owns: its affinity and its IPAMBlock."""
    return [affinity(owner, cidr), ipam_block(owner, cidr, used)]


def peer(name: str, address: str, asn: int, **spec: Any) -> Record:
    """A BGPPeer by address; global unless `node` or `nodeSelector` is given."""
    return record("BGPPeer", name, peerIP=address, asNumber=asn, **spec)


def _slug(cidr: str) -> str:
    return cidr.replace(".", "-").replace(":", "-").replace("/", "-")


class Records:
    """A folder of records, a file each group; writes are renames, so that no reader sees half a file."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)

    @property
    def url(self) -> str:
        """For --datastore."""
        return f"file:{self.directory}"

    def put(self, name: str, records: Iterable[Record]) -> None:
        """Writes the file NAME.yaml, in place of what it had."""
        unfinished = self.directory / f".{name}.unfinished"
        unfinished.write_text(yaml.safe_dump_all(list(records), sort_keys=False))
        unfinished.rename(self.directory / f"{name}.yaml")

    def remove(self, name: str) -> None:
        """Deletes the file NAME.yaml."""
        (self.directory / f"{name}.yaml").unlink()


class RoutedProcess:
    """A routed on a machine, with its status file, and its API on a Unix socket, `api`."""

    def __init__(self, machine: Machine, command: list[str]) -> None:
        self.machine = machine
        self.status_file = machine.directory / "status.json"
        # A machine's folder may have a longer path than a socket can (107 octets).
        self._folder = tempfile.TemporaryDirectory(prefix="routed-", ignore_cleanup_errors=True)
        self._remove = weakref.finalize(self, self._folder.cleanup)
        self.api = Path(self._folder.name) / "api.sock"
        self.command = [sys.executable, "-m", "routed", *command]
        self.command += ["--status-file", str(self.status_file), "--api", str(self.api)]
        self.process: Process | None = None

    def start(self) -> None:
        """Starts it, and returns when its first status is there."""
        self.status_file.unlink(missing_ok=True)
        self.process = self.machine.start("routed", self.command, cwd=_REPOSITORY)
        wait_for(self.status, f"{self.machine.name}: routed writes its status")

    def status(self) -> dict[str, Any]:
        """Its status document; RuntimeError where it is not running."""
        assert self.process is not None, "not started"
        self.process.check()
        document: dict[str, Any] = json.loads(self.status_file.read_text())
        return document

    def stop(self) -> int:
        """SIGTERM; returns the exit status."""
        assert self.process is not None, "not started"
        return self.process.stop()

    def kill(self) -> None:
        """SIGKILL."""
        assert self.process is not None, "not started"
        self.process.kill()

    def output(self) -> str:
        """Its log."""
        assert self.process is not None, "not started"
        return self.process.output()

    def sessions(self) -> dict[str, str]:
        """State by peer address, in lower case."""
        return {session["peer"]: session["state"] for session in self.status()["sessions"]}

    def wait_established(self, *addresses: str, timeout: float = 60.0) -> None:
        """Until the sessions with these peers are established."""

        def established() -> bool:
            states = self.sessions()
            down = {
                address: states.get(address) for address in addresses if states.get(address) != "established"
            }
            assert not down, down
            return True

        wait_for(established, f"{self.machine.name}: routed sessions established", timeout)

    def kernel_gateways(self, prefix: str) -> set[str] | None:
        """Gateways of the kernel's route to a prefix: empty for a blackhole, None where there is no route. A
        link-local one is told as the machine's own address that has it."""
        route = self.machine.routes(ipaddress.ip_network(prefix).version).get(prefix)
        if route is None:
            return None
        hops = route.get("nexthops", [route])
        return {self._global(hop["gateway"]) for hop in hops if "gateway" in hop}

    def _global(self, gateway: str) -> str:
        """A peer on the same link may give its link-local address as next hop too (RFC 2545 section 3), which
        is then the gateway."""
        if gateway.startswith("fe80:"):
            for machine in self.machine.lab.machines.values():
                links = machine.ip_json("-6", "address", "show", "scope", "link")
                if any(one.get("local") == gateway for link in links for one in link["addr_info"]):
                    return machine.address(6)
        return gateway

    def wait_kernel(self, prefix: str, gateways: set[str] | None, timeout: float = 60.0) -> None:
        """Until the kernel's route to a prefix is as `kernel_gateways` would say it."""

        def as_wanted() -> bool:
            seen = self.kernel_gateways(prefix)
            assert seen == gateways, f"{prefix} via {seen}, not {gateways}"
            return True

        wait_for(as_wanted, f"{self.machine.name}: kernel route to {prefix}", timeout)


def routed_run(machine: Machine, records: Records, *options: str) -> RoutedProcess:
    """`routed run` as the node of the machine's name."""
    return RoutedProcess(machine, ["run", "--node", machine.name, "--datastore", records.url, *options])


def routed_rr(machine: Machine, asn: int, clients: Iterable[str], *options: str) -> RoutedProcess:
    """`routed rr` on both of the machine's addresses, for clients in these ranges."""
    command = ["rr", "--as", str(asn), "--router-id", machine.address(4), "--cluster-id", machine.address(4)]
    for version in (4, 6):
        address = machine.address(version)
        command += ["--listen", f"{address}:179" if version == 4 else f"[{address}]:179"]
    for clients_range in clients:
        command += ["--clients", clients_range]
    return RoutedProcess(machine, [*command, *options])
