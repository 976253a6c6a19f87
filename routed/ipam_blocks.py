"""Affinities and IPAM blocks to what one node owns, blackholes and borrows. Pure: records in, verdicts out.

Two kinds of record speak about a block. A `BlockAffinity` is a node's claim, made before the block
exists and removed after it; the `IPAMBlock` holds the allocations and says, in `affinity`, who the
owner is. Where they disagree the claim is stale or was never completed, and a blackhole for the block
would swallow another node's traffic (calico#4471, #6001). So a confirmed affinity counts only where the
IPAM block names the same node.

A datastore that holds no IPAM block at all cannot confirm or deny anything: the agent may read affinities
alone (Calico's confd does), or the cluster's IPAM keeps its allocations elsewhere. There the affinities
stand by themselves, and only another node's confirmed claim on the same block puts one in doubt.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_network

from routed.resources import (
    Address,
    AffinityState,
    BlockAffinity,
    BlockAttribute,
    IPAMBlock,
    Key,
    Network,
    Problem,
    Severity,
)

# Which of several claims of one node on one block counts: the furthest one.
_STATE_ORDER = {AffinityState.CONFIRMED: 0, AffinityState.PENDING_DELETION: 1, AffinityState.PENDING: 2}


@dataclass(frozen=True, slots=True)
class OwnedBlock:
    """A block that this node holds. Where it does not `advertise` the block, its single addresses go out."""

    network: Network
    state: AffinityState
    advertise: bool
    blackhole: bool
    """True where packets to addresses of the block that no workload has are to be dropped here."""
    record: Key
    reason: str


@dataclass(frozen=True, slots=True)
class BorrowedAddress:
    """An address of a workload on this node, from a block that another node, or none, owns."""

    address: Address
    owner: str | None
    block: Network
    record: Key
    pod: str | None = None
    """`namespace/name`, where the allocation says it."""

    @property
    def network(self) -> Network:
        """The address as a prefix of full length."""
        return ip_network(self.address)

    @property
    def reason(self) -> str:
        """For people."""
        whose = f"a block of {self.owner}" if self.owner else "a block without owner"
        return f"allocated here{f' to {self.pod}' if self.pod else ''} from {self.block}, {whose}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one node makes of one block."""

    owned: OwnedBlock | None = None
    borrowed: tuple[BorrowedAddress, ...] = ()
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class NodeBlocks:
    """What one node makes of all blocks."""

    owned: Mapping[Network, OwnedBlock] = field(default_factory=dict)
    borrowed: Mapping[Address, BorrowedAddress] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()


def judge(
    node: str,
    network: Network,
    affinities: Iterable[BlockAffinity],
    blocks: Iterable[IPAMBlock],
    blocks_known: bool,
) -> Verdict:
    """What `node` makes of the block `network`.

    `affinities` and `blocks` are all records for that network, of any node. `blocks_known` is False where the
    datastore holds no IPAM block at all, of any network: then affinities stand by themselves."""
    claims = sorted(affinities, key=lambda claim: claim.name)
    block = min((b for b in blocks if not b.deleted), key=lambda b: b.name, default=None)
    problems: list[Problem] = []
    owned = None
    ours = [claim for claim in claims if claim.node == node]
    if ours:
        claim = min(ours, key=lambda c: (c.deleted, _STATE_ORDER[c.state], c.name))
        others = [c for c in claims if c.node != node and not c.deleted]
        owned, problem = _judge_claim(claim, block, others, blocks_known)
        problems += [problem] if problem else []
    elif block is not None and block.host == node:
        problems.append(
            _problem(block.key, "spec.affinity", "names this node, but no BlockAffinity does: not advertised")
        )
    borrowed: tuple[BorrowedAddress, ...] = ()
    if block is not None and owned is None and block.host != node:
        borrowed = tuple(_borrowed(node, block))
    return Verdict(owned, borrowed, tuple(problems))


def _judge_claim(
    claim: BlockAffinity, block: IPAMBlock | None, others: list[BlockAffinity], blocks_known: bool
) -> tuple[OwnedBlock | None, Problem | None]:
    """What our own claim on a block is worth, and what is to say about it."""
    network = claim.cidr
    if claim.deleted:
        return None, _problem(claim.key, "spec.deleted", f"{network} is deleted: it counts as absent")
    if claim.state is AffinityState.PENDING:
        return None, _problem(
            claim.key,
            "spec.state",
            f"{network} is pending: not blackholed, not advertised before it is confirmed",
        )
    if block is not None and block.affinity is not None and block.host != claim.node:
        return None, _problem(
            claim.key,
            "spec.node",
            f"{network} belongs to {block.affinity} by {block.key}: it is not ours, neither blackholed nor "
            "advertised; remove the affinity of the wrong node",
            "error",
        )
    if claim.state is AffinityState.PENDING_DELETION:
        # The IPAM block loses its owner, or goes, before the affinity does: neither is a fault here.
        owned = _owned(claim, advertise=False, reason="affinity being deleted")
        reason = f"{network} is being deleted: blackholed, no longer advertised"
        return owned, _problem(claim.key, "spec.state", reason)
    rivals = [other for other in others if other.state is AffinityState.CONFIRMED]
    return _judge_confirmed(claim, block, rivals, blocks_known)


def _judge_confirmed(
    claim: BlockAffinity, block: IPAMBlock | None, rivals: list[BlockAffinity], blocks_known: bool
) -> tuple[OwnedBlock | None, Problem | None]:
    """A confirmed claim of ours; `rivals` are others' that are confirmed too."""
    network = claim.cidr
    if block is not None and block.affinity is None:
        return None, _problem(
            claim.key,
            "spec.cidr",
            f"{network} has no owner by {block.key}: it is not ours, neither blackholed nor advertised",
            "error",
        )
    if block is None and blocks_known:
        return None, _problem(
            claim.key,
            "spec.cidr",
            f"{network} has no IPAMBlock: it is not ours, neither blackholed nor advertised; "
            "remove the affinity, or restore the block",
            "error",
        )
    owned = _owned(claim, advertise=True, reason="confirmed affinity")
    if not rivals:
        return owned, None
    names = ", ".join(f"{rival.node} ({rival.key})" for rival in rivals)
    if block is None:
        # The workloads' own routes, which no aggregate of ours hides then, still reach every pod.
        return None, _problem(
            claim.key,
            "spec.cidr",
            f"{network} is claimed by {names} too, and no IPAMBlock says whose it is: "
            "neither blackholed nor advertised; remove the wrong affinity",
            "error",
        )
    reason = f"{network} is ours by {block.key}, but claimed by {names} too"
    return owned, _problem(claim.key, "spec.cidr", reason)


def _owned(claim: BlockAffinity, *, advertise: bool, reason: str) -> OwnedBlock:
    """The block of a claim. One of a single address is never a blackhole."""
    network = claim.cidr
    single = network.prefixlen == network.max_prefixlen
    return OwnedBlock(
        network, claim.state, advertise=advertise, blackhole=not single, record=claim.key, reason=reason
    )


def _borrowed(node: str, block: IPAMBlock) -> Iterator[BorrowedAddress]:
    """Addresses of workloads on `node` in a block that is not its own."""
    for address, attribute in block.allocated():
        if attribute.node == node and not is_tunnel(attribute):
            yield BorrowedAddress(address, block.host, block.cidr, block.key, pod_of(attribute))


def is_tunnel(attribute: BlockAttribute) -> bool:
    """True for the address of a node's own tunnel device, which the node agent routes, not BGP."""
    return attribute.secondary.get("type", "").endswith("TunnelAddress")


def pod_of(attribute: BlockAttribute) -> str | None:
    """`namespace/name` of the pod that has the address, where the allocation says it."""
    pod = attribute.secondary.get("pod")
    return f"{attribute.secondary.get('namespace', 'default')}/{pod}" if pod else None


def pod_cidr_block(node: str, network: Network) -> OwnedBlock:
    """A Kubernetes pod CIDR as a block of its node (host-local IPAM, `USE_POD_CIDR`)."""
    return OwnedBlock(
        network,
        AffinityState.CONFIRMED,
        advertise=True,
        blackhole=network.prefixlen < network.max_prefixlen,
        record=Key("Node", node),
        reason="pod CIDR of the node",
    )


def nested_problem(owned: OwnedBlock, other: Network) -> Problem:
    """What to say where a block of this node and another block overlap."""
    inside = owned.network.prefixlen > other.prefixlen
    relation = "lies within" if inside else "contains"
    return _problem(
        owned.record,
        "spec.cidr",
        f"{owned.network} {relation} {other}, another block: blocks must not overlap; "
        "routes to the shorter one's addresses depend on both",
    )


def node_blocks(
    node: str,
    affinities: Iterable[BlockAffinity],
    blocks: Iterable[IPAMBlock],
    pod_cidrs: Iterable[Network] = (),
) -> NodeBlocks:
    """What `node` makes of all affinities and IPAM blocks of the cluster, of all nodes and both families.

    `pod_cidrs` are the node's own, where the cluster uses host-local IPAM."""
    claims: dict[Network, list[BlockAffinity]] = {}
    for claim in affinities:
        claims.setdefault(claim.cidr, []).append(claim)
    known: dict[Network, list[IPAMBlock]] = {}
    for block in blocks:
        if not block.deleted:
            known.setdefault(block.cidr, []).append(block)
    owned: dict[Network, OwnedBlock] = {network: pod_cidr_block(node, network) for network in pod_cidrs}
    borrowed: dict[Address, BorrowedAddress] = {}
    problems: list[Problem] = []
    index = NetworkIndex()
    for network in sorted({*claims, *known}, key=str):
        held = [claim for claim in claims.get(network, ()) if not claim.deleted]
        if held or network in known:
            index.add(network)
        verdict = judge(node, network, claims.get(network, ()), known.get(network, ()), bool(known))
        if verdict.owned:
            owned[network] = verdict.owned
        borrowed.update((b.address, b) for b in verdict.borrowed)
        problems += verdict.problems
    for block_ in owned.values():
        problems += [nested_problem(block_, other) for other in index.overlapping(block_.network)]
    return NodeBlocks(owned, borrowed, tuple(problems))


class NetworkIndex:
    """A set of networks of both families that finds what overlaps another one.

    Networks overlap only where one contains the other. Those around one are found by masking it to each
    prefix length in use, of which there are few; those inside by a scan of the sorted ones."""

    def __init__(self) -> None:
        self._members: set[Network] = set()
        self._lengths: Counter[tuple[int, int]] = Counter()
        self._sorted: dict[int, list[tuple[int, Network]]] = {4: [], 6: []}
        self._stale: set[int] = set()

    def add(self, network: Network) -> None:
        """Adds a network; nothing happens where it is there."""
        if network not in self._members:
            self._members.add(network)
            self._lengths[network.version, network.prefixlen] += 1
            self._stale.add(network.version)

    def discard(self, network: Network) -> None:
        """Takes a network out, if it is there."""
        if network in self._members:
            self._members.remove(network)
            self._lengths[network.version, network.prefixlen] -= 1
            self._stale.add(network.version)

    def __contains__(self, network: object) -> bool:
        return network in self._members

    def around(self, network: Network) -> list[Network]:
        """Members that contain `network` and are larger, the largest first."""
        lengths = sorted(
            length
            for (version, length), count in self._lengths.items()
            if count > 0 and version == network.version and length < network.prefixlen
        )
        supernets = (network.supernet(new_prefix=length) for length in lengths)
        return [supernet for supernet in supernets if supernet in self._members]

    def overlapping(self, network: Network) -> list[Network]:
        """Members other than `network` itself that share addresses with it, in no particular family order."""
        return [*self.around(network), *self.inside(network)]

    def inside(self, network: Network) -> list[Network]:
        """Members that are within `network` and smaller, in the order of their addresses."""
        if not any(
            count > 0 and version == network.version and length > network.prefixlen
            for (version, length), count in self._lengths.items()
        ):
            return []
        version = network.version
        if version in self._stale:
            # Sorted only when asked: a bulk load sorts once.
            self._stale.discard(version)
            self._sorted[version] = sorted(
                (int(member.network_address), member) for member in self._members if member.version == version
            )
        first, last = int(network.network_address), int(network.broadcast_address)
        members = self._sorted[version]
        position = _first_at_least(members, first)
        inside = []
        while position < len(members) and members[position][0] <= last:
            member = members[position][1]
            if member.prefixlen > network.prefixlen:
                inside.append(member)
            position += 1
        return inside


def _first_at_least(members: list[tuple[int, Network]], value: int) -> int:
    """Binary search on the first item of sorted pairs."""
    low, high = 0, len(members)
    while low < high:
        middle = (low + high) // 2
        if members[middle][0] < value:
            low = middle + 1
        else:
            high = middle
    return low


@dataclass(frozen=True, slots=True)
class BlockUsage:
    """How full one IPAM block is. `lent` counts its addresses by the other nodes that use them."""

    network: Network
    owner: str | None
    size: int
    allocated: int
    lent: Mapping[str, int]

    @property
    def free(self) -> int:
        """Addresses that nobody has."""
        return self.size - self.allocated

    @property
    def borrowed(self) -> int:
        """Addresses that nodes other than the owner use."""
        return sum(self.lent.values())


def block_usage(block: IPAMBlock) -> BlockUsage:
    """How full a block is, and who borrows from it."""
    # Asked for tens of thousands of blocks: no object is made for an address.
    lent: Counter[str] = Counter()
    counts = Counter(block.allocations)
    allocated = len(block.allocations) - counts.pop(None, 0)
    attributes, host = block.attributes, block.host
    for index, count in counts.items():
        if index is None or not 0 <= index < len(attributes):
            continue
        node = attributes[index].secondary.get("node")
        if node is not None and node != host:
            lent[node] += count
    return BlockUsage(block.cidr, block.host, block.cidr.num_addresses, allocated, dict(sorted(lent.items())))


def _problem(key: Key, field_: str, reason: str, severity: Severity = "warning") -> Problem:
    return Problem(key, field_, reason, severity=severity)
