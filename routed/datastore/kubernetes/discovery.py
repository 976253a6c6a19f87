"""Which groups the API server serves, and so which form of Calico's kinds is there."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from routed.datastore.kubernetes.api import Caller, RefusedError
from routed.datastore.kubernetes.http import DisconnectedError
from routed.datastore.kubernetes.kinds import Resource


class _APIResource(msgspec.Struct):
    name: str
    verbs: list[str] = []


class _APIResourceList(msgspec.Struct):
    resources: list[_APIResource] = []


def core(resources: Iterable[Resource]) -> dict[Resource, str]:
    """Those of the group that every API server has."""
    return {resource: "v1" for resource in resources if "v1" in resource.groups}


async def discover(caller: Caller, resources: Iterable[Resource]) -> dict[Resource, str]:
    """The group to read each of these from: the first of its groups that serves it. One that no group serves
    is left out.

    A group is only asked for where one before it does not serve all. Raises what `Caller.get` does."""
    missing = list(resources)
    found = core(missing)
    asked = {"v1"}
    while missing := [resource for resource in missing if resource not in found]:
        group = next((g for resource in missing for g in resource.groups if g not in asked), None)
        if group is None:
            break
        asked.add(group)
        try:
            served = await _served(caller, group)
        except RefusedError:
            # An aggregated API server that is away: only what is needed must wait for it.
            if any(resource.required and group in resource.groups for resource in missing):
                raise
            served = frozenset()
        found |= {r: group for r in missing if group in r.groups and r.plural in served}
    return found


async def serves_status(caller: Caller, group: str, resource: Resource) -> bool:
    """Whether the status of this resource's objects is written to a place of its own. Raises what
    `Caller.get` does."""
    return f"{resource.plural}/status" in await _served(caller, group, frozenset({"update"}))


async def _served(
    caller: Caller, group: str, verbs: frozenset[str] = frozenset({"list", "watch"})
) -> frozenset[str]:
    """The plural names of what these verbs are for in a group; nothing where there is no such group."""
    path = f"/apis/{group}"
    try:
        body = await caller.get(path)
        listed = msgspec.json.decode(body, type=_APIResourceList)
    except RefusedError as refusal:
        if refusal.status.code == 404:
            return frozenset()
        raise
    except msgspec.DecodeError:
        raise DisconnectedError(
            f"GET {path}: the answer is no APIResourceList: is this an API server?"
        ) from None
    return frozenset(r.name for r in listed.resources if verbs <= set(r.verbs))
