"""The looking glass: the files of a page that shows one node to people.

The page is static; all that it shows it reads from the status API, of the same origin. It needs neither
inline script, inline style nor eval, so it can be served with `Content-Security-Policy: default-src 'self'`.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from importlib.resources import files as resources
from importlib.resources.abc import Traversable
from types import MappingProxyType
from typing import Final

#: By the end of the file's name. Files of other kinds are not served.
CONTENT_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
#: Where the page itself is; everything else is below `/page/`.
INDEX: Final = "/"


@functools.cache
def files() -> Mapping[str, tuple[bytes, str]]:
    """What to serve: path of the URL -> content and content type. Read from the package when first asked."""
    served = {
        f"/page/{name}": (file.read_bytes(), CONTENT_TYPES[suffix])
        for name, file in _walk(resources(__name__))
        if (suffix := name[name.rfind(".") :]) in CONTENT_TYPES
    }
    served[INDEX] = served.pop("/page/index.html")
    return MappingProxyType(served)


def _walk(folder: Traversable, prefix: str = "") -> Iterator[tuple[str, Traversable]]:
    for entry in sorted(folder.iterdir(), key=lambda one: one.name):
        if entry.is_dir():
            yield from _walk(entry, f"{prefix}{entry.name}/")
        else:
            yield prefix + entry.name, entry
