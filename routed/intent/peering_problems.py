"""What is wrong with peerings, or missing for them: findings that name the record and its field."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from routed.bgp.nlri import Family
from routed.intent.cluster import Cluster
from routed.intent.peering_ends import Role, reachable
from routed.intent.types import PeeringKind, SessionIntent
from routed.resources import BGPPeer, Key, Problem, SecretKeyRef, Severity


def peer_problems(cluster: Cluster, peer: BGPPeer, role: Role) -> Iterator[Problem]:
    """What is missing for a BGPPeer that concerns this node."""
    yield from password_problems(cluster, peer.key, "password", peer.password)
    for index, name in enumerate(peer.filters):
        if name not in cluster.filters:
            yield _problem(
                peer.key,
                f"spec.filters[{index}]",
                f"there is no BGPFilter {name}: the peering does without",
            )
    if role.rank is None:
        return
    if peer.peer_selector is None and peer.local_workload_selector is not None and peer.as_number is None:
        yield _problem(
            peer.key, "spec.asNumber", "must be given for local workloads: no peering is made", "error"
        )
    if peer.peer_selector is None and peer.peer_ip is not None:
        address = peer.peer_ip.address
        local = cluster.local()
        if local is not None and local.address(Family.of(address)) is None:
            yield _problem(
                peer.key,
                "spec.peerIP",
                f"node {local.name} has no IPv{address.version} address: no peering with {address}",
            )
        if not reachable(peer, address):
            yield _problem(
                peer.key,
                "spec.reachableBy",
                f"{peer.reachable_by} is not of the family of {address}: no peering is made",
                "error",
            )


def password_problems(
    cluster: Cluster, key: Key, field: str, reference: SecretKeyRef | None
) -> Iterator[Problem]:
    """What is missing for the password that `spec.field` of a record refers to."""
    if reference is None or cluster.password(reference) is not None:
        return
    namespace = cluster.options.secret_namespace
    secret = cluster.secrets.get(reference.name)
    if secret is None:
        reason = f"there is no Secret {namespace}/{reference.name}"
    elif reference.key not in secret.data:
        reason = f"Secret {namespace}/{reference.name} has no key {reference.key!r}"
    else:
        reason = f"the key {reference.key!r} of Secret {namespace}/{reference.name} is empty"
    yield _problem(key, f"spec.{field}.secretKeyRef", f"{reason}: the peering goes without a password")


def shared_slot_problem(sessions: Sequence[SessionIntent]) -> Problem:
    """Several peerings with one address and port. Calico makes a mesh peering and an explicit one to the same
    node; the two then get in each other's way."""
    explicit = next(session for session in sessions if session.kind is not PeeringKind.MESH)
    reason = (
        f"{' and '.join(session.name for session in sessions)} are two peerings with one address and port: "
        "turn off the mesh, or take out the BGPPeer"
    )
    return _problem(explicit.record, "spec", reason)


def _problem(key: Key, field: str, reason: str, severity: Severity = "warning") -> Problem:
    return Problem(key, field, reason, severity=severity)
