"""What must be read because records say so: Secrets that are named as passwords, services where a range is
configured."""

from __future__ import annotations

from routed.datastore.kubernetes.kinds import SERVICES, Resource, Scope, secret_resource
from routed.resources import BGPConfiguration, BGPPeer, Record, SecretKeyRef

_GLOBAL = "default"


class Needs:
    """Follows BGPConfiguration and BGPPeers; `resources` is what is needed for them."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._secrets: dict[str, str] = {}  # by the origin of the record that names it
        self._services = scope.services
        self._resources: dict[str, Resource] | None = None

    @property
    def resources(self) -> dict[str, Resource]:
        """By a name of their own."""
        if self._resources is None:
            needed = {r.kind: r for r in SERVICES} if self._services else {}
            for name in sorted(set(self._secrets.values())):
                needed[f"Secret {name}"] = secret_resource(self._scope.secret_namespace, name)
            self._resources = {name: r for name, r in needed.items() if self._scope.wants(r)}
        return self._resources

    def note(self, origin: str, record: Record | None, gone: bool) -> bool:
        """A record came, changed, was rejected (None) or is gone: whether something else is needed now. A
        rejected one needs what its last good version did."""
        if record is None and not gone:
            return False
        before = self._secrets.get(origin), self._services
        match record:
            case BGPConfiguration(name=name):
                self._name_secret(origin, record.node_mesh_password)
                if name == _GLOBAL:
                    self._services = self._scope.services or bool(
                        record.service_cluster_ips
                        or record.service_external_ips
                        or record.service_load_balancer_ips
                    )
            case BGPPeer():
                self._name_secret(origin, record.password)
            case None:
                self._secrets.pop(origin, None)
                if origin.startswith("bgpconfigurations.") and origin.endswith(f"/{_GLOBAL}"):
                    self._services = self._scope.services
        if before == (self._secrets.get(origin), self._services):
            return False
        self._resources = None
        return True

    def _name_secret(self, origin: str, reference: SecretKeyRef | None) -> None:
        if reference is None:
            self._secrets.pop(origin, None)
        else:
            self._secrets[origin] = reference.name
