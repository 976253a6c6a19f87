"""The contract, for files: the server is a folder, and it is away while the folder has another name."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

from routed.datastore import Datastore, open_datastore
from routed.resources import Key
from tests.datastore.contract import Adapter, AdapterFactory, Contract, Document, key_of


class FileAdapter(Adapter):
    """One record a file, but for many at once: those come in one file, as a tool would write them."""

    def __init__(self, root: Path) -> None:
        self.root = root / "records"
        self.hidden = root / "hidden"
        self.folder = self.root
        self.files: dict[Key, Path] = {}
        self.together: dict[Path, dict[Key, Document]] = {}

    async def __aenter__(self) -> FileAdapter:
        self.root.mkdir()
        return self

    async def __aexit__(self, *_: object) -> None:
        shutil.rmtree(self.folder)

    def open(self) -> Datastore:
        return open_datastore(f"file:{self.root}")

    async def put(self, documents: Sequence[Document]) -> None:
        if len(documents) > 100:
            name = "many.json"
            content = self.together.setdefault(Path(name), {})
            content |= {key_of(document): document for document in documents}
            self._write(name, {"kind": "List", "items": list(content.values())})
            return
        for document in documents:
            key = key_of(document)
            self._write(f"{key.kind}-{key.name}.json", document)

    async def delete(self, keys: Iterable[Key]) -> None:
        gone = set(keys)
        for path, content in self.together.items():
            left = {key: document for key, document in content.items() if key not in gone}
            if len(left) < len(content):
                self.together[path] = left
                self._write(path.name, {"kind": "List", "items": list(left.values())})
        for key in gone:
            (self.folder / f"{key.kind}-{key.name}.json").unlink(missing_ok=True)

    async def put_garbage(self, key: Key) -> None:
        (self.folder / f"{key.kind}-{key.name}.json").write_text('{"kind": "BGPPeer", "metadata": {"na')

    async def cut(self) -> None:
        self.folder.rename(self.hidden)
        self.hidden.rename(self.root)

    async def block(self) -> None:
        self.folder = self.root.rename(self.hidden)

    async def unblock(self) -> None:
        self.folder = self.hidden.rename(self.root)

    async def stop(self) -> None:
        await self.block()

    async def start(self) -> None:
        await self.unblock()

    def _write(self, name: str, value: object) -> None:
        """As an editor that renames the new file over the old one."""
        new = self.folder / f".{name}.new"
        new.write_text(json.dumps(value))
        new.rename(self.folder / name)


class TestFile(Contract):
    @pytest.fixture
    def adapter(self, tmp_path: Path) -> AdapterFactory:
        return lambda: FileAdapter(tmp_path)
