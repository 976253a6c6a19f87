"""The node's blocks and borrowed addresses, kept up to date by what changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from routed.intent.types import OriginatedRoute, OriginKind
from routed.ipam_blocks import (
    BorrowedAddress,
    NetworkIndex,
    OwnedBlock,
    Verdict,
    judge,
    nested_problem,
    pod_cidr_block,
)
from routed.resources import BlockAffinity, IPAMBlock, Key, Network, Problem

NOTHING = Verdict()


class BlockTable:
    """All affinities and IPAM blocks of the cluster, and what this node makes of each network.

    A change costs a verdict on one network; only the first IPAM block of the datastore, and the last, change
    what the node's other affinities are worth."""

    def __init__(self, node: str) -> None:
        self._node = node
        self._affinities: dict[Network, dict[Key, BlockAffinity]] = {}
        self._blocks: dict[Network, dict[Key, IPAMBlock]] = {}
        self._ours: set[Network] = set()
        """Networks of which this node has an affinity of whatever state."""
        self._pod_cidrs: tuple[Network, ...] = ()
        self._index = NetworkIndex()
        self._verdicts: dict[Network, Verdict] = {}
        self._stale: set[Network] = set()
        self._known_before = False

    def set_affinity(self, before: BlockAffinity | None, after: BlockAffinity | None) -> None:
        """Replaces an affinity."""
        if before is not None:
            _remove(self._affinities, before.cidr, before.key)
            self._touch(before.cidr)
        if after is not None:
            self._affinities.setdefault(after.cidr, {})[after.key] = after
            self._touch(after.cidr)

    def set_block(self, before: IPAMBlock | None, after: IPAMBlock | None) -> None:
        """Replaces an IPAM block; one that is marked deleted counts as absent."""
        if before is not None and not before.deleted:
            _remove(self._blocks, before.cidr, before.key)
            self._touch(before.cidr)
        if after is not None and not after.deleted:
            self._blocks.setdefault(after.cidr, {})[after.key] = after
            self._touch(after.cidr)

    def set_pod_cidrs(self, pod_cidrs: Iterable[Network]) -> None:
        """Replaces the node's own pod CIDRs (host-local IPAM)."""
        after = tuple(dict.fromkeys(pod_cidrs))
        if after != self._pod_cidrs:
            self._stale.update(self._pod_cidrs, after)
            self._pod_cidrs = after

    def _touch(self, network: Network) -> None:
        self._stale.add(network)
        claims = self._affinities.get(network, {}).values()
        if any(claim.node == self._node for claim in claims):
            self._ours.add(network)
        else:
            self._ours.discard(network)
        if network in self._blocks or any(not claim.deleted for claim in claims):
            self._index.add(network)
        else:
            self._index.discard(network)

    # What there is to see

    @property
    def known(self) -> bool:
        """Whether there is any IPAM block at all: without, affinities stand by themselves."""
        return bool(self._blocks)

    @property
    def pod_cidrs(self) -> tuple[Network, ...]:
        """The node's own (host-local IPAM)."""
        return self._pod_cidrs

    def networks(self) -> set[Network]:
        """All that an affinity, in whatever state, an IPAM block or a pod CIDR names."""
        return {*self._affinities, *self._blocks, *self._pod_cidrs}

    def __contains__(self, network: object) -> bool:
        return network in self._affinities or network in self._blocks or network in self._pod_cidrs

    def around(self, network: Network) -> list[Network]:
        """The blocks that hold `network`, itself among them, the smallest first."""
        lengths = range(network.prefixlen, -1, -1)
        supernets = (network.supernet(new_prefix=length) for length in lengths)
        return [supernet for supernet in supernets if supernet in self]

    def inside(self, network: Network) -> list[Network]:
        """The blocks within `network` that are not deleted, in the order of their addresses."""
        return self._index.inside(network)

    def affinities(self, network: Network) -> Sequence[BlockAffinity]:
        """All nodes' claims on a block, in the order of their names."""
        claims = self._affinities.get(network)
        return () if not claims else sorted(claims.values(), key=lambda claim: claim.name)

    def ipam_block(self, network: Network) -> IPAMBlock | None:
        """The IPAM block that counts, the first by name; None: there is none that is not deleted."""
        blocks = self._blocks.get(network)
        return None if not blocks else min(blocks.values(), key=lambda block: block.name)

    @property
    def verdicts(self) -> Mapping[Network, Verdict]:
        """What this node makes of blocks, where there is anything to say, as of the last `take`."""
        return self._verdicts

    def verdict(self, network: Network) -> Verdict:
        """What this node makes of a block, as of the last `take`."""
        return self._verdicts.get(network, NOTHING)

    # What follows

    def take(self) -> dict[Network, Verdict]:
        """The verdict on each network that changed; an empty one where there is nothing to say any more."""
        known = bool(self._blocks)
        if known != self._known_before:
            self._known_before = known
            self._stale |= self._ours
        # A network that comes or goes may overlap blocks of ours: what is said of those changes.
        stale = set(self._stale)
        for network in self._stale:
            stale.update(n for n in self._index.overlapping(network) if n in self._verdicts)
        stale.update(
            pod_cidr
            for pod_cidr in self._pod_cidrs
            if any(pod_cidr.overlaps(n) for n in self._stale if n.version == pod_cidr.version)
        )
        self._stale.clear()
        changed: dict[Network, Verdict] = {}
        for network in stale:
            verdict = self._judge(network, known)
            if verdict != self._verdicts.get(network, NOTHING):
                changed[network] = verdict
                if verdict == NOTHING:
                    del self._verdicts[network]
                else:
                    self._verdicts[network] = verdict
        return changed

    def _judge(self, network: Network, known: bool) -> Verdict:
        verdict = judge(
            self._node,
            network,
            self._affinities.get(network, {}).values(),
            self._blocks.get(network, {}).values(),
            known,
        )
        owned = verdict.owned
        if network in self._pod_cidrs:
            owned = pod_cidr_block(self._node, network)
        if owned is None:
            return verdict
        nested: list[Problem] = [nested_problem(owned, n) for n in self._index.overlapping(network)]
        return Verdict(owned, verdict.borrowed, (*verdict.problems, *nested))


def block_route(owned: OwnedBlock) -> OriginatedRoute:
    """The route that a block is."""
    return OriginatedRoute(
        owned.network, OriginKind.BLOCK, owned.record, owned.reason, owned.advertise, owned.blackhole
    )


def borrowed_route(borrowed: BorrowedAddress) -> OriginatedRoute:
    """The route that a borrowed address is. Its blackhole is the worst route to it: the workload's own one,
    where there is one, wins, and where there is none the packet does not come back to the block's owner."""
    return OriginatedRoute(
        borrowed.network,
        OriginKind.BORROWED,
        borrowed.record,
        borrowed.reason,
        advertise=True,
        blackhole=True,
    )


def _remove(
    table: dict[Network, dict[Key, BlockAffinity]] | dict[Network, dict[Key, IPAMBlock]],
    network: Network,
    key: Key,
) -> None:
    records = table[network]
    records.pop(key, None)
    if not records:
        del table[network]
