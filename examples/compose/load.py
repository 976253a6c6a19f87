"""Puts a folder of records into etcd, where Calico keeps them: for trying things out. In a cluster calicoctl
and Calico's IPAM do that.

    python examples/compose/load.py examples/cluster etcd://127.0.0.1:2379

Certificates, user and password come from the environment as for routed (ETCD_CA_CERT_FILE, ...). It waits for
etcd, replaces what is there under the same keys, and deletes nothing.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from routed.datastore import etcd_wire as wire
from routed.datastore.documents import DocumentError, read_yaml, split_list
from routed.datastore.etcd_client import EtcdOptions, connected
from routed.datastore.etcd_layout import NotADocumentError, key_of
from routed.datastore.etcd_options import read_url
from routed.datastore.retry import UnavailableError, keep_trying


def records(folder: Path) -> dict[str, bytes]:
    """Key and value in etcd of all records in a folder's YAML files. Exits where one has no place there."""
    found: dict[str, bytes] = {}
    for path in sorted(folder.glob("**/*.yaml")):
        for document in read_yaml(path.read_text()):
            if isinstance(document, DocumentError):
                sys.exit(f"{path}:{document.line}: {document.reason}")
            for item in split_list(document):
                if not isinstance(item.value, Mapping):
                    sys.exit(f"{path}:{item.line}: is no record")
                try:
                    key, value = key_of(item.value)
                except NotADocumentError as error:
                    sys.exit(f"{path}:{item.line}: {error}")
                found[key] = json.dumps(value).encode()
    return found


async def put(options: EtcdOptions, pairs: Mapping[str, bytes]) -> None:
    """Puts them all, on the first member that answers. Raises UnavailableError."""
    reasons: list[str] = []
    for endpoint in options.endpoints:
        try:
            async with connected(endpoint, options) as connection:
                for key, value in pairs.items():
                    await connection.call(wire.PUT, wire.put_request(key.encode(), value))
            return
        except UnavailableError as error:
            reasons.append(error.reason)
    raise UnavailableError("; ".join(reasons))


def main() -> None:
    """The command."""
    if len(sys.argv) != 3:
        sys.exit("usage: load.py FOLDER etcd://HOST:PORT[,HOST:PORT...]")
    folder, url = Path(sys.argv[1]), sys.argv[2]
    scheme, _, rest = url.partition(":")
    if scheme not in ("etcd", "etcds"):
        sys.exit(f"{url!r}: write etcd://HOST:PORT, or etcds:// with TLS")
    try:
        options = read_url(scheme, rest, os.environ)
    except ValueError as error:
        sys.exit(str(error))
    pairs = records(folder)

    def say(reason: str) -> None:
        print(f"waiting for etcd: {reason}", flush=True)

    async def work() -> None:
        await keep_trying(lambda: put(options, pairs), say)

    asyncio.run(work())
    print(f"{len(pairs)} records are in etcd")


if __name__ == "__main__":
    main()
