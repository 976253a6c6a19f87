"""From a datastore's URL to the datastore."""

from __future__ import annotations

import os
import re
from collections.abc import Callable

from routed.datastore.base import Datastore
from routed.datastore.file import FileDatastore


class DatastoreURLError(ValueError):
    """A URL that names no datastore. The text says what is wrong and what there is."""


def _open_file(rest: str) -> Datastore:
    """`file:PATH` as in a shell, or the `file:///PATH` of RFC 8089."""
    path = rest[2:] if rest.startswith("///") else rest
    if path.startswith("//"):
        raise DatastoreURLError(f"'file:{rest}' names a host: write file:PATH, such as file:/etc/routed")
    if not path:
        raise DatastoreURLError("'file:' needs a path: write file:PATH, such as file:/etc/routed")
    return FileDatastore(os.path.expanduser(path))


_SCHEMES: dict[str, Callable[[str], Datastore]] = {"file": _open_file}

_SUPPORTED = "file:PATH (a YAML or JSON file, or a folder of them)"


def open_datastore(url: str) -> Datastore:
    """The datastore that a URL names. Nothing is read yet: what is not there is waited for by the watch.

    Raises DatastoreURLError."""
    match = re.match(r"([A-Za-z][A-Za-z0-9+.-]*):", url)
    if match is None:
        raise DatastoreURLError(f"{url!r} is not the URL of a datastore: write {_SUPPORTED}")
    scheme = match[1].lower()
    if scheme not in _SCHEMES:
        raise DatastoreURLError(
            f"{scheme!r} is not a kind of datastore that is supported: write {_SUPPORTED}"
        )
    return _SCHEMES[scheme](url[match.end() :])
