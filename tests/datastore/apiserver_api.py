"""What a Kubernetes API server answers: discovery, objects, lists, watches, refusals. No sockets here."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tests.datastore.apiserver_selectors import SelectorError, Selectors
from tests.datastore.apiserver_storage import (
    BUILT_IN,
    Change,
    CompactedError,
    ConflictError,
    Document,
    Name,
    ResourceType,
    Storage,
    calico,
)

CRD_V1 = "crd.projectcalico.org/v1"
CALICO_V3 = "projectcalico.org/v3"

DEFAULT_WATCH_SECONDS = 1800.0
"""For a watch that does not say how long, or 0."""

_EXPIRED_CONTINUE = (
    "The provided continue parameter is too old to display a consistent list result. You can start a new "
    "list without the continue parameter, or use the continue token in this response to retrieve the "
    "remainder of the results. Continuing with the provided token results in an inconsistent list - objects "
    "that were created, modified, or deleted between the time the first chunk was returned and now may show "
    "up in the list."
)


class StatusError(Exception):
    """Ends a request with a Status."""

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        *,
        retry_after: int = 0,
        cause: str = "",
        continue_token: str = "",
        plain: bool = False,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.retry_after = retry_after
        self.plain = plain
        metadata = {"continue": continue_token} if continue_token else {}
        self.status: Document = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": metadata,
            "status": "Failure",
            "message": message,
            "reason": reason,
            "code": code,
        }
        details: Document = {}
        if cause:
            details["causes"] = [{"reason": cause, "message": message}]
        if retry_after:
            details["retryAfterSeconds"] = retry_after
        if details:
            self.status["details"] = details


def expired(version: int, oldest: int) -> StatusError:
    """410, as watches have it."""
    return StatusError(410, "Expired", f"too old resource version: {version} ({oldest})")


def too_large(version: int, current: int) -> StatusError:
    """504, for a version that the server has not come to."""
    message = f"Timeout: Too large resource version: {version}, current: {current}"
    return StatusError(504, "Timeout", message, retry_after=1, cause="ResourceVersionTooLarge")


class Request(NamedTuple):
    """A request, as it came in."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes
    user: str

    @property
    def is_watch(self) -> bool:
        """Whether it asks for changes."""
        return self.query.get("watch", "") in ("1", "true")


class Target(NamedTuple):
    """What a path names. `name` is empty for all objects; `status`: the place of its status alone."""

    type: ResourceType
    namespace: str
    name: str
    status: bool = False

    @property
    def resource(self) -> str:
        """As roles have it."""
        return f"{self.type.plural}/status" if self.status else self.type.plural


Authorizer = Callable[[str, str, Target], bool]
"""User, verb and target: whether it is allowed."""


@dataclass
class API:
    """The API over a storage."""

    groups: Iterable[str] = (CRD_V1,)
    storage: Storage = field(default_factory=Storage)
    bookmark_period: float = 60.0
    """Seconds between bookmarks."""
    gone_as_status: bool = False
    """Whether a watch from a compacted version is refused with status 410, as old servers do, and not told
    so by an event."""
    metadata_only: bool = True
    """Whether PartialObjectMetadata is known."""
    selectable: Mapping[str, tuple[str, ...]] = field(
        default_factory=lambda: {"Service": ("spec.clusterIP", "spec.type")}
    )
    """Fields that can be selected by, beside metadata.name and metadata.namespace."""
    authorize: Authorizer = lambda _user, _verb, _target: True
    status_places: frozenset[str] = frozenset({"Node", "Service"})
    """Kinds whose status has a place of its own. Calico's CustomResourceDefinitions have none."""
    garbage_events: list[bytes] = field(default_factory=list)
    """Sent, once, as lines of the next watch that has something to say."""
    bookmarks: dict[str, int] = field(default_factory=dict)
    """By kind the version of the last bookmark that was sent."""

    def __post_init__(self) -> None:
        self.types = [*BUILT_IN, *(t for group in self.groups for t in calico(group))]

    def type(self, kind: str, group: str | None = None) -> ResourceType:
        """The resource of a kind, of the first group that has it."""
        return next(t for t in self.types if t.kind == kind and group in (None, t.group))

    def serve(self, group: str) -> None:
        """Has Calico's kinds in this group too, as when their CRDs are applied."""
        self.types += calico(group)

    def put(self, *documents: Mapping[str, Any]) -> None:
        """As `kubectl apply` from outside."""
        for document in documents:
            self.storage.put(self.type(str(document["kind"])), document)

    def delete(self, kind: str, name: str, namespace: str = "") -> None:
        """As `kubectl delete`."""
        self.storage.delete(self.type(kind), (namespace, name))

    def answer(self, request: Request) -> tuple[int, Document] | Watch:
        """Code and document, or a watch that is to be streamed. Raises StatusError."""
        discovered = self._discovery(request.path)
        if discovered is not None:
            return 200, discovered
        target = self._target(request.path)
        try:
            return self._act(request, target)
        except SelectorError as error:
            raise StatusError(400, "BadRequest", str(error)) from None
        except ConflictError as error:
            code = {"NotFound": 404, "AlreadyExists": 409, "Conflict": 409}[error.reason]
            message = f'{target.type.full_name} "{target.name}" {error.reason}'
            if error.reason == "NotFound":
                message = f'{target.type.full_name} "{target.name}" not found'
            raise StatusError(code, error.reason, message) from None

    def _check(self, request: Request, verb: str, target: Target) -> None:
        # A list or watch of one name is judged by it, as in Roles with resourceNames.
        name = target.name or Selectors.parse(request.query).only_name
        if self.authorize(request.user, verb, target._replace(name=name)):
            return
        type_ = target.type
        group = type_.group.partition("/")[0] if "/" in type_.group else ""
        where = f'in the namespace "{target.namespace}"' if target.namespace else "at the cluster scope"
        what = f'{type_.full_name} "{target.name}"' if target.name else type_.full_name
        message = (
            f'{what} is forbidden: User "{request.user}" cannot {verb} resource "{target.resource}" '
            f'in API group "{group}" {where}'
        )
        raise StatusError(403, "Forbidden", message)

    def _act(self, request: Request, target: Target) -> tuple[int, Document] | Watch:
        match request.method, bool(target.name):
            case "GET", True:
                self._check(request, "get", target)
                found = self.storage.get(target.type, (target.namespace, target.name))
                if found is None:
                    raise ConflictError("NotFound")
                return 200, found
            case "GET", False if request.is_watch:
                self._check(request, "watch", target)
                return self._watch(request, target)
            case "GET", False:
                self._check(request, "list", target)
                return 200, self._list(request, target)
            case "POST", False:
                self._check(request, "create", target)
                return 201, self.storage.put(target.type, _located(_body(request), target), "create")
            case "PUT", True:
                self._check(request, "update", target)
                return 200, self._update(target, _located(_body(request), target))
            case "PATCH", True:
                self._check(request, "patch", target)
                return self._patch(request, target)
            case "DELETE", True:
                self._check(request, "delete", target)
                self.storage.delete(target.type, (target.namespace, target.name))
                return 200, {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
        raise StatusError(
            405, "MethodNotAllowed", "the server does not allow this method on the requested resource"
        )

    def _update(self, target: Target, document: Document) -> Document:
        """Where the status has a place of its own, it is written there, and nothing else is."""
        if target.type.kind in self.status_places:
            before = self.storage.get(target.type, (target.namespace, target.name))
            if before is None:
                raise ConflictError("NotFound")
            new, old = (before, document) if target.status else (document, before)
            metadata = new["metadata"] | {"resourceVersion": document["metadata"].get("resourceVersion")}
            document = {**new, "metadata": metadata}
            document.pop("status", None)
            if "status" in old:
                document["status"] = old["status"]
        return self.storage.put(target.type, document, "update")

    def _patch(self, request: Request, target: Target) -> tuple[int, Document]:
        if "merge-patch" not in request.headers.get("content-type", ""):
            raise StatusError(415, "UnsupportedMediaType", "only merge patches are supported")
        before = self.storage.get(target.type, (target.namespace, target.name))
        if before is None:
            raise ConflictError("NotFound")
        merged = _merge(before, _body(request))
        merged["metadata"].pop("resourceVersion", None)
        return 200, self.storage.put(target.type, merged, "update")

    def _discovery(self, path: str) -> Document | None:
        groups = sorted({t.group for t in self.types if "/" in t.group})
        match path.strip("/").split("/"):
            case ["version"]:
                return {"major": "1", "minor": "32", "gitVersion": "v1.32.0"}
            case ["api"]:
                return {"kind": "APIVersions", "versions": ["v1"]}
            case ["apis"]:
                return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group(g) for g in groups]}
            case ["api", "v1"]:
                return self._resources("v1")
            case ["apis", group, version] if f"{group}/{version}" in groups:
                return self._resources(f"{group}/{version}")
        return None

    def _resources(self, group: str) -> Document:
        verbs = ["create", "delete", "get", "list", "patch", "update", "watch"]
        resources: list[Document] = []
        for type_ in self.types:
            if type_.group == group:
                item: Document = {
                    "name": type_.plural,
                    "singularName": type_.kind.lower(),
                    "namespaced": type_.namespaced,
                    "kind": type_.kind,
                }
                resources.append({**item, "verbs": verbs})
                if type_.kind in self.status_places:
                    item["name"] += "/status"
                    resources.append({**item, "verbs": ["get", "patch", "update"]})
        return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group, "resources": resources}

    def _target(self, path: str) -> Target:
        match path.strip("/").split("/"):
            case ["api", "v1", *rest]:
                group = "v1"
            case ["apis", name, version, *rest]:
                group = f"{name}/{version}"
            case _:
                rest, group = [], ""
        namespace = ""
        if rest[:1] == ["namespaces"] and len(rest) > 2:
            namespace, rest = rest[1], rest[2:]
        for type_ in self.types:
            status = rest[2:] == ["status"] and type_.kind in self.status_places
            if type_.group == group and rest[:1] == [type_.plural] and (len(rest) <= 2 or status):
                if namespace and not type_.namespaced:
                    break
                return Target(type_, namespace, rest[1] if len(rest) > 1 else "", status)
        raise StatusError(404, "NotFound", "404 page not found", plain=True)

    # List

    def _list(self, request: Request, target: Target) -> Document:
        query = request.query
        selectors = self._selectors(query, target.type)
        limit = int(query.get("limit") or 0)
        version, after = self._list_version(query)
        try:
            objects = self.storage.at(target.type, version)
        except CompactedError:
            raise self._expired_list(query, version, after) from None
        matching = [
            (name, document)
            for name, document in objects.items()
            if selectors.match(document) and (not target.namespace or name[0] == target.namespace)
        ]
        rest = [(name, document) for name, document in matching if after is None or name > after]
        # The watch cache, which answers for "any version", has no pages.
        page = rest[:limit] if limit and query.get("resourceVersion") != "0" else rest
        metadata: Document = {"resourceVersion": str(version)}
        if len(page) < len(rest):
            metadata["continue"] = _token(version, page[-1][0])
            if not selectors:
                metadata["remainingItemCount"] = len(rest) - len(page)
        return self._rendered_list(request, target.type, [document for _, document in page], metadata)

    def _list_version(self, query: Mapping[str, str]) -> tuple[int, Name | None]:
        """The revision to answer for, and the name to go on after."""
        version, match = query.get("resourceVersion", ""), query.get("resourceVersionMatch", "")
        if token := query.get("continue"):
            if version not in ("", "0"):
                raise StatusError(
                    400, "BadRequest", "specifying resource version is not allowed when using continue"
                )
            return _parse_token(token)
        if match and not version:
            message = "resourceVersionMatch is forbidden unless resourceVersion is provided"
            raise _invalid(f"resourceVersionMatch: Forbidden: {message}")
        if version in ("", "0"):
            return self.storage.revision, None
        number = _number(version)
        if number > self.storage.revision:
            raise too_large(number, self.storage.revision)
        exact = match == "Exact" or (not match and int(query.get("limit") or 0) > 0)
        return (number if exact else self.storage.revision), None

    def _expired_list(self, query: Mapping[str, str], version: int, after: Name | None) -> StatusError:
        if after is None:
            return expired(version, self.storage.compacted)
        token = _token(self.storage.revision, after)
        return StatusError(410, "Expired", _EXPIRED_CONTINUE, continue_token=token)

    def _selectors(self, query: Mapping[str, str], type_: ResourceType) -> Selectors:
        selectors = Selectors.parse(query)
        selectable = ("metadata.name", "metadata.namespace", *self.selectable.get(type_.kind, ()))
        for name in selectors.field_names:
            if name not in selectable:
                raise StatusError(400, "BadRequest", f"field label not supported: {name}")
        return selectors

    def _rendered_list(
        self, request: Request, type_: ResourceType, documents: list[Document], metadata: Document
    ) -> Document:
        if self._wants_metadata(request):
            return {
                "kind": "PartialObjectMetadataList",
                "apiVersion": "meta.k8s.io/v1",
                "metadata": metadata,
                "items": [_partial(document) for document in documents],
            }
        if type_.custom:
            items: list[Document] = documents
        else:
            items = [{k: v for k, v in d.items() if k not in ("apiVersion", "kind")} for d in documents]
        return {"kind": f"{type_.kind}List", "apiVersion": type_.group, "metadata": metadata, "items": items}

    def _wants_metadata(self, request: Request) -> bool:
        """What the first media type that is known asks for."""
        for choice in request.headers.get("accept", "*/*").split(","):
            media, *parameters = (part.strip() for part in choice.split(";"))
            given = dict(part.partition("=")[::2] for part in parameters)
            if media not in ("application/json", "*/*", "application/*"):
                continue
            if given.get("as", "").startswith("PartialObjectMetadata"):
                if self.metadata_only:
                    return True
            elif "as" not in given:
                return False
        message = "only the following media types are accepted: application/json"
        raise StatusError(406, "NotAcceptable", message)

    # Watch

    def _watch(self, request: Request, target: Target) -> Watch:
        query = request.query
        if query.get("sendInitialEvents"):
            message = "sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled"
            raise _invalid(f"sendInitialEvents: Forbidden: {message}")
        version = query.get("resourceVersion", "")
        from_now = version in ("", "0")
        number = self.storage.revision if from_now else _number(version)
        if self.gone_as_status and number < self.storage.compacted:
            raise expired(number, self.storage.compacted)
        return Watch(
            target=target,
            version=number,
            initial=from_now,
            selectors=self._selectors(query, target.type),
            bookmarks=query.get("allowWatchBookmarks", "") in ("1", "true"),
            seconds=float(query.get("timeoutSeconds") or 0) or DEFAULT_WATCH_SECONDS,
            metadata_only=self._wants_metadata(request),
        )

    async def events(
        self, watch: Watch, closed: asyncio.Task[bytes]
    ) -> AsyncIterator[list[Document | bytes]]:
        """The events of a watch, several at a time, until its time is over or `closed` is done."""
        loop = asyncio.get_running_loop()
        end = loop.time() + watch.seconds
        # Each period, and shortly before the end.
        bookmark_at = loop.time() + max(0.0, min(self.bookmark_period, watch.seconds - 2))
        if watch.initial:
            objects = self.storage.at(watch.target.type, watch.version)
            yield [watch.event("ADDED", d) for n, d in objects.items() if watch.selects(n, d)]
        while not closed.done():
            changed = self.storage.changed
            try:
                changes = list(self.storage.since(watch.target.type, watch.version))
            except CompactedError:
                error = expired(watch.version, self.storage.compacted)
                yield [{"type": "ERROR", "object": error.status}]
                return
            events: list[Document | bytes] = []
            if changes and self.garbage_events:
                events, self.garbage_events = [*self.garbage_events], []
            events += [event for change in changes if (event := watch.told(change)) is not None]
            # A version of the future stays where it is until the server has come to it.
            watch.version = max(watch.version, self.storage.revision)
            if events:
                yield events
            now = loop.time()
            if watch.bookmarks and now >= bookmark_at:
                if self.storage.revision >= watch.version:
                    watch.version = self.storage.revision
                    yield [watch.bookmark()]
                    self.bookmarks[watch.target.type.kind] = watch.version
                left = end - 2 - now
                bookmark_at = now + (min(self.bookmark_period, left) if left > 0 else self.bookmark_period)
            if now >= end:
                return
            until = min(end, bookmark_at) if watch.bookmarks else end
            waiting = asyncio.create_task(changed.wait())
            try:
                await asyncio.wait(
                    {waiting, closed}, timeout=max(until - now, 0.001), return_when="FIRST_COMPLETED"
                )
            finally:
                waiting.cancel()


@dataclass
class Watch:
    """A watch that is on. `version` is what it has come to."""

    target: Target
    version: int
    initial: bool
    selectors: Selectors
    bookmarks: bool
    seconds: float
    metadata_only: bool

    def selects(self, name: Name, document: Document | None) -> bool:
        """Whether the object is one that is watched."""
        if document is None or (self.target.namespace and name[0] != self.target.namespace):
            return False
        return self.selectors.match(document)

    def told(self, change: Change) -> Document | None:
        """A change as this watch sees it: what leaves the selection is deleted, what enters it is added."""
        before, after = self.selects(change.name, change.before), self.selects(change.name, change.after)
        if after:
            assert change.after is not None
            return self.event("MODIFIED" if before else "ADDED", change.after)
        if before:
            assert change.before is not None
            last = change.before if change.after is None else change.after
            metadata = {**last["metadata"], "resourceVersion": str(change.revision)}
            return self.event("DELETED", {**last, "metadata": metadata})
        return None

    def event(self, type_: str, document: Document) -> Document:
        """An event with an object in the form that was asked for."""
        return {"type": type_, "object": _partial(document) if self.metadata_only else document}

    def bookmark(self) -> Document:
        """Only a version; the object is of the kind that is watched."""
        kind, group = self.target.type.kind, self.target.type.group
        if self.metadata_only:
            kind, group = "PartialObjectMetadata", "meta.k8s.io/v1"
        metadata = {"resourceVersion": str(self.version), "creationTimestamp": None}
        return {"type": "BOOKMARK", "object": {"kind": kind, "apiVersion": group, "metadata": metadata}}


def _partial(document: Document) -> Document:
    return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": document["metadata"]}


def _group(group_version: str) -> Document:
    version = {"groupVersion": group_version, "version": group_version.partition("/")[2]}
    return {"name": group_version.partition("/")[0], "versions": [version], "preferredVersion": version}


def _number(version: str) -> int:
    if not version.isdecimal():
        message = f'resourceVersion: Invalid value: "{version}": strconv.ParseUint: invalid syntax'
        raise StatusError(500, "", message)
    return int(version)


def _invalid(message: str) -> StatusError:
    return StatusError(422, "Invalid", f'ListOptions.meta.k8s.io "" is invalid: {message}')


def _token(version: int, name: Name) -> str:
    data = {"v": "meta.k8s.io/v1", "rv": version, "start": list(name)}
    return base64.urlsafe_b64encode(json.dumps(data).encode()).decode().rstrip("=")


def _parse_token(token: str) -> tuple[int, Name]:
    try:
        data = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        namespace, name = data["start"]
        return data["rv"], (namespace, name)
    except (ValueError, KeyError, TypeError):
        raise StatusError(400, "BadRequest", "invalid continue token: continue key is not valid") from None


def _body(request: Request) -> Document:
    try:
        document = json.loads(request.body)
    except ValueError:
        raise StatusError(400, "BadRequest", "the body is no JSON") from None
    if not isinstance(document, dict):
        raise StatusError(400, "BadRequest", "the body is no object")
    return document


def _located(document: Document, target: Target) -> Document:
    metadata = dict(document.get("metadata") or {})
    if target.namespace:
        metadata["namespace"] = target.namespace
    if target.name and metadata.get("name") != target.name:
        raise StatusError(400, "BadRequest", "the name of the object does not match the name on the URL")
    if not metadata.get("name"):
        raise StatusError(422, "Invalid", f"{target.type.kind} is invalid: metadata.name: Required value")
    return {**document, "metadata": metadata}


def _merge(before: Any, patch: Any) -> Any:
    """RFC 7396."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(before) if isinstance(before, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = _merge(merged.get(key), value)
    return merged
