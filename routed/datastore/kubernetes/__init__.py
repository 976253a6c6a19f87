"""`kubernetes:`: the records in a Kubernetes API server, as Calico keeps them there.

Which resources are read and what of them is kept is in `kinds`; one resource is followed by a `reflector`;
`session` has all of them and judges failures; `status` is the one thing that is written; `api` and `http`
speak with the server; `access`, `kubeconfig` and `credentials` say where it is and who we are."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qsl, unquote

from routed.datastore.kubernetes.access import Source
from routed.datastore.kubernetes.kinds import CALICO_GROUPS, Scope
from routed.datastore.kubernetes.session import KubernetesFollower
from routed.datastore.kubernetes.status import KubernetesStatusWriter
from routed.datastore.remote import Feed, RemoteDatastore
from routed.resources import Key

__all__ = ["KubernetesDatastore", "Scope", "Source", "open_kubernetes", "scope_from_environ"]


class KubernetesDatastore(RemoteDatastore):
    """See `base.Datastore`. Whatever the server answers, or is not there, raises nothing."""

    def __init__(self, source: Source, scope: Scope = Scope()) -> None:  # noqa: B008  # immutable
        super().__init__()
        self._source = source
        self._scope = scope
        self._writer: KubernetesStatusWriter | None = None

    def follower(self, feed: Feed) -> KubernetesFollower:
        """See RemoteDatastore."""
        return KubernetesFollower(feed, self._source, self._scope)

    async def write_status(self, key: Key, status: Mapping[str, object]) -> bool:
        """See `base.StatusWriter`. For records of the kind CalicoNodeStatus."""
        if self._writer is None:
            self._writer = KubernetesStatusWriter(self._source, self._scope)
        return await self._writer.write(key.name, status)

    async def close(self) -> None:
        """See `base.Datastore`."""
        if self._writer is not None:
            await self._writer.close()
        await super().close()


def open_kubernetes(
    rest: str, environ: Mapping[str, str], node: str | None = None, kinds: frozenset[str] | None = None
) -> KubernetesDatastore:
    """From what follows `kubernetes:` in a URL: nothing, or `PATH?context=NAME`, a kubeconfig.

    `node`: keep only what the speaker of this node needs; None: what any node needs. `kinds`: read these
    alone; None: all. Nothing is read yet. Raises ValueError."""
    path, _, query = rest.partition("?")
    context = None
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name != "context" or not value:
            raise ValueError(f"'kubernetes:{rest}': only ?context=NAME may follow the path of a kubeconfig")
        context = value
    return KubernetesDatastore(
        Source(unquote(path), context, dict(environ)), scope_from_environ(environ, node, kinds)
    )


def scope_from_environ(
    environ: Mapping[str, str], node: str | None = None, kinds: frozenset[str] | None = None
) -> Scope:
    """What calico-node's environment says about what is needed. Raises ValueError that names the variable."""
    given = {name: value for name, value in environ.items() if value}
    group = given.get("CALICO_API_GROUP")
    if group is not None and group not in CALICO_GROUPS:
        raise ValueError(f"CALICO_API_GROUP={group!r}: write {' or '.join(CALICO_GROUPS)}")
    return Scope(
        node=node,
        kubernetes_node=(given.get("CALICO_K8S_NODE_REF") or node) if node else None,
        secret_namespace=given.get("NAMESPACE", "kube-system"),
        pod_cidrs=given.get("USE_POD_CIDR", "").lower() in ("true", "1", "yes"),
        services="CALICO_ADVERTISE_CLUSTER_IPS" in given,
        api_group=group,
        kinds=kinds,
    )
