"""Secrets from mounted files: `DIR/<name of the Secret>/<key>`, as Kubernetes mounts each into a folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType

from routed.datastore.store import Found
from routed.resources import Key, Parsed, Problem, Secret, SecretValue

MOST_OCTETS = 1 << 20
"""As much as a Secret may hold in Kubernetes."""


def read_secrets(folder: Path, namespace: str) -> tuple[dict[str, Found], list[Problem]]:
    """The Secrets in a folder, each by its own folder's path, and what could not be read. Names that begin
    with a dot are Kubernetes' own (`..data`)."""
    found: dict[str, Found] = {}
    problems: list[Problem] = []
    try:
        folders = sorted(path for path in folder.iterdir() if not path.name.startswith(".") and path.is_dir())
    except OSError as error:
        return {}, [Problem(None, "", f"cannot be read: {error.strerror}", str(folder))]
    for path in folders:
        key = Key("Secret", f"{namespace}/{path.name}")
        try:
            data = MappingProxyType(dict(_values(path)))
        except OSError as error:
            problem = Problem(key, "", f"cannot be read: {error.strerror}", str(path))
            found[str(path)] = Found(Parsed(key, None, (problem,)), str(path))
            continue
        found[str(path)] = Found(
            Parsed(key, Secret(name=path.name, namespace=namespace, data=data)), str(path)
        )
    return found, problems


def _values(folder: Path) -> Iterator[tuple[str, SecretValue]]:
    for path in folder.iterdir():
        if not path.name.startswith(".") and path.is_file():
            with path.open("rb") as file:
                yield path.name, SecretValue(file.read(MOST_OCTETS))
