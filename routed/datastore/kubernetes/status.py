"""The status of an object, written: read it, put another status in, and write it as of the version that was
read, so that nobody else's change is lost (Kubernetes' API concepts, "resource versions")."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final
from urllib.parse import quote

import msgspec

from routed.datastore.kubernetes.access import AccessError, Source
from routed.datastore.kubernetes.api import Caller, RefusedError
from routed.datastore.kubernetes.credentials import CredentialError
from routed.datastore.kubernetes.discovery import discover, serves_status
from routed.datastore.kubernetes.http import DisconnectedError
from routed.datastore.kubernetes.kinds import NODE_STATUS, Resource, Scope
from routed.datastore.retry import UnavailableError

ATTEMPTS: Final = 4
"""How often an object is read anew because somebody else wrote it in between."""

_CONFLICT: Final = 409
_NOT_FOUND: Final = 404


class KubernetesStatusWriter:
    """Writes one at a time, over one connection where that holds. See `base.StatusWriter`."""

    def __init__(self, source: Source, scope: Scope) -> None:
        self._source = source
        self._resource: Resource = NODE_STATUS
        if scope.api_group:
            self._resource = replace(NODE_STATUS, groups=(scope.api_group,))
        self._caller: Caller | None = None
        self._place: tuple[str, str] | None = None
        """The path of the objects, and what follows an object's own where its status is written."""

    async def write(self, name: str, status: Mapping[str, object]) -> bool:
        """See `base.StatusWriter`, for a CalicoNodeStatus."""
        try:
            return await self._write(name, status)
        except (RefusedError, DisconnectedError, AccessError, CredentialError) as error:
            # The next time all is asked for anew: what is served, the kubeconfig, who we are.
            await self.close()
            raise UnavailableError(str(error), getattr(error, "retry_after", None)) from None
        except BaseException:
            await self.close()  # in the middle of an answer
            raise

    async def close(self) -> None:
        """Gives the connection back."""
        caller, self._caller, self._place = self._caller, None, None
        if caller is not None:
            await caller.close()

    async def _write(self, name: str, status: Mapping[str, object]) -> bool:
        if self._caller is None:
            self._caller = Caller(self._source.load())
        if self._place is None:
            self._place = await self._find(self._caller)
        path, suffix = self._place
        path = f"{path}/{quote(name, safe='')}"
        for attempt in range(1, ATTEMPTS + 1):
            try:
                document = _object(path, await self._caller.get(path))
                document["status"] = status
                await self._caller.put(path + suffix, msgspec.json.encode(document))
            except RefusedError as refusal:
                if refusal.status.code == _NOT_FOUND:
                    # The object is gone, or all that is served is other than before.
                    self._place = None
                    return False
                if refusal.status.code != _CONFLICT or attempt == ATTEMPTS:
                    raise
            else:
                return True
        raise AssertionError  # the last attempt returns or raises

    async def _find(self, caller: Caller) -> tuple[str, str]:
        resource = self._resource
        served = await discover(caller, (resource,))
        if resource not in served:
            raise DisconnectedError(f"{resource.plural} is served in none of {', '.join(resource.groups)}")
        group = served[resource]
        suffix = "/status" if await serves_status(caller, group, resource) else ""
        return resource.path(group), suffix


def _object(path: str, body: bytes) -> dict[str, Any]:
    try:
        document = msgspec.json.decode(body)
    except msgspec.DecodeError:
        document = None
    if not isinstance(document, dict):
        raise DisconnectedError(f"GET {path}: the answer is no object in JSON")
    return document
