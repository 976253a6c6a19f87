"""Where Calico keeps its records in etcd, and how a key and its value become a document.

Calico's v3 layout: whole resources below `/calico/resources/v3`, IPAM's own forms below `/calico/ipam/v2`,
and pools as they were written before v3 below `/calico/v1/ipam`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from ipaddress import ip_network
from typing import NamedTuple

import msgspec

from routed.datastore.store import Found
from routed.resources import Key, Parsed, Problem, parse_record
from routed.text import escaped

_API_VERSION = "projectcalico.org/v3"
_RESOURCES = "/calico/resources/v3/projectcalico.org/"
_HOSTS = "/calico/ipam/v2/host/"
_BLOCKS = "/calico/ipam/v2/assignment/"
_OLD_POOLS = "/calico/v1/ipam/"

_RESOURCE_KINDS = {
    "bgpconfigurations": "BGPConfiguration",
    "bgpfilters": "BGPFilter",
    "bgppeers": "BGPPeer",
    "caliconodestatuses": "CalicoNodeStatus",
    "ippools": "IPPool",
    "nodes": "Node",
}

PREFIXES: tuple[str, ...] = (
    *(f"{_RESOURCES}{plural}/" for plural in _RESOURCE_KINDS),
    _HOSTS,
    _BLOCKS,
    _OLD_POOLS,
)
"""What is read and watched: every key below one of these."""


class NotADocumentError(ValueError):
    """A value that is not what its key promises."""


class Place(NamedTuple):
    """What a key is for: the record, and how its value becomes a document of it."""

    record: Key
    to_document: Callable[[str, Mapping[str, object]], object]
    empty_is_all_default: bool = False


def prefix_end(prefix: bytes) -> bytes:
    """The end of the range of all keys that begin with `prefix`, which ends in a '/'."""
    return prefix[:-1] + bytes([prefix[-1] + 1])


def place_of(key: str) -> Place | None:
    """What a key is for, None where it is of no interest for BGP."""
    if key.startswith(_RESOURCES):
        plural, _, name = key.removeprefix(_RESOURCES).partition("/")
        kind = _RESOURCE_KINDS.get(plural)
        return Place(Key(kind, name), _resource) if kind and name else None
    if key.startswith(_HOSTS):
        node, *rest = key.removeprefix(_HOSTS).split("/")
        if len(rest) != 3 or rest[0] not in _FAMILIES or rest[1] != "block":
            return None
        return Place(Key("BlockAffinity", _name(f"{node}-{rest[2]}")), _affinity, empty_is_all_default=True)
    if key.startswith(_BLOCKS):
        family, *rest = key.removeprefix(_BLOCKS).split("/")
        if len(rest) != 2 or family not in _FAMILIES or rest[0] != "block":
            return None
        return Place(Key("IPAMBlock", _name(rest[1])), _block)
    if key.startswith(_OLD_POOLS):
        family, *rest = key.removeprefix(_OLD_POOLS).split("/")
        if len(rest) != 2 or family not in _OLD_FAMILIES or rest[0] != "pool":
            return None
        return Place(Key("IPPool", _name(rest[1])), _old_pool)
    return None


_FAMILIES = ("ipv4", "ipv6")
_OLD_FAMILIES = ("v4", "v6")


def is_old_pool(key: str) -> bool:
    """Whether a pool is kept here as it was before v3. The same pool among the resources then counts."""
    return key.startswith(_OLD_POOLS)


def _name(text: str) -> str:
    """As Calico names the same record in Kubernetes' API."""
    return text.replace(".", "-").replace(":", "-").replace("/", "-")


def _cidr(text: str) -> str:
    """`10.0.0.0-26` as `10.0.0.0/26`."""
    address, _, length = text.rpartition("-")
    return f"{address}/{length}"


def read_value(key: str, value: bytes) -> Found | None:
    """The outcome of a key with its value, None where the key is of no interest. Nothing is raised: a value
    that is malformed is a Problem of the record that the key names."""
    place = place_of(key)
    if place is None:
        return None
    source = escaped(key)
    try:
        document = place.to_document(key, _decode(value, place.empty_is_all_default))
    except NotADocumentError as error:
        return Found(
            Parsed(place.record, None, (Problem(place.record, "", str(error), source=source),)), source
        )
    parsed = parse_record(document)
    # A record that could not even be told still is the one that its key names.
    return Found(parsed if parsed.key is not None else parsed._replace(key=place.record), source)


def _decode(value: bytes, empty_is_all_default: bool) -> Mapping[str, object]:
    if not value.strip() and empty_is_all_default:
        return {}
    try:
        decoded = msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise NotADocumentError(f"is not JSON: {error}") from None
    except RecursionError:
        raise NotADocumentError("is not JSON that can be read: it nests too deep") from None
    if not isinstance(decoded, dict):
        raise NotADocumentError("is JSON, but no object")
    return decoded


def _document(kind: str, name: str, spec: Mapping[str, object]) -> object:
    return {"apiVersion": _API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec}


def _resource(key: str, value: Mapping[str, object]) -> object:
    """A resource is a whole document; which one it is, its key says."""
    plural, _, name = key.removeprefix(_RESOURCES).partition("/")
    metadata = value.get("metadata")
    told = {**metadata, "name": name} if isinstance(metadata, Mapping) else {"name": name}
    return {**value, "apiVersion": _API_VERSION, "kind": _RESOURCE_KINDS[plural], "metadata": told}


def _affinity(key: str, value: Mapping[str, object]) -> object:
    node, _, _, block = key.removeprefix(_HOSTS).split("/")
    spec = {"node": node, "cidr": _cidr(block), "state": value.get("state"), "deleted": value.get("deleted")}
    return _document("BlockAffinity", _name(f"{node}-{block}"), spec)


def _block(key: str, value: Mapping[str, object]) -> object:
    *_, block = key.split("/")
    return _document("IPAMBlock", _name(block), {**value, "cidr": value.get("cidr") or _cidr(block)})


_OLD_MODES = {"": "Always", "always": "Always", "cross-subnet": "CrossSubnet", "never": "Never"}


def _old_pool(key: str, value: Mapping[str, object]) -> object:
    """Before v3 a pool that used IPIP named its interface, and perhaps a mode, in lower case."""
    *_, pool = key.split("/")
    spec = {
        "cidr": value.get("cidr") or _cidr(pool),
        "ipipMode": _old_mode(value.get("ipip_mode")) if value.get("ipip") else "Never",
        "vxlanMode": _old_mode(value.get("vxlan_mode")) if value.get("vxlan_mode") else "Never",
        "natOutgoing": value.get("masquerade"),
        "disabled": value.get("disabled"),
        "disableBGPExport": value.get("disableBGPExport"),
    }
    return _document("IPPool", _name(pool), spec)


def _old_mode(mode: object) -> object:
    """The mode as v3 writes it; what is unknown is left for the parser to report."""
    return _OLD_MODES.get(mode, mode) if isinstance(mode, str | None) and mode is not None else "Always"


def key_of(document: Mapping[str, object]) -> tuple[str, object]:
    """The other way: where a document as `calicoctl get -o yaml` or `kubectl get -o yaml` prints it is kept,
    and the value, to be written as JSON. Raises NotADocumentError where etcd has no place for it."""
    kind = document.get("kind")
    metadata, spec = document.get("metadata"), document.get("spec")
    if not isinstance(metadata, Mapping) or not isinstance(metadata.get("name"), str):
        raise NotADocumentError("has no metadata.name")
    for plural, resource in _RESOURCE_KINDS.items():
        if kind == resource:
            return f"{_RESOURCES}{plural}/{metadata['name']}", {**document, "apiVersion": _API_VERSION}
    if kind not in ("BlockAffinity", "IPAMBlock") or not isinstance(spec, Mapping):
        raise NotADocumentError(f"{kind!r} has no place in etcd")
    try:
        network = ip_network(str(spec.get("cidr")))
    except ValueError as error:
        raise NotADocumentError(f"spec.cidr: {error}") from None
    block = f"ipv{network.version}/block/{str(network).replace('/', '-')}"
    if kind == "IPAMBlock":
        return f"{_BLOCKS}{block}", spec
    # In etcd `deleted` is a boolean, in Kubernetes' API a text.
    return f"{_HOSTS}{spec.get('node')}/{block}", {
        "state": spec.get("state", "confirmed"),
        "deleted": spec.get("deleted") in (True, "true"),
    }


def key_of_resource(key: Key) -> bytes:
    """Where a record is that etcd has as a resource. Raises KeyError for one of another kind."""
    plurals = {kind: plural for plural, kind in _RESOURCE_KINDS.items()}
    return f"{_RESOURCES}{plurals[key.kind]}/{key.name}".encode()


def with_status(value: bytes, status: Mapping[str, object]) -> bytes:
    """A resource's value with another status. Raises NotADocumentError."""
    return msgspec.json.encode({**_decode(value, False), "status": status})
