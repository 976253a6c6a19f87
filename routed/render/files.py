"""Writing rendered files: whole or not at all, and only where they differ."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path


def write_files(folder: Path, files: Mapping[str, str]) -> list[str]:
    """Writes each file that is not there with this content already; the names of those written.

    Each is written beside its place and moved over it, so that a reader sees the old or the new one whole,
    and after a crash one of the two is there. A file keeps its mode; a new one is for its owner and group
    alone, since passwords are in it. Raises OSError that names the file."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, text in files.items():
        path = folder / name
        content = text.encode()
        try:
            if path.read_bytes() == content:
                continue
            mode = path.stat().st_mode & 0o777
        except FileNotFoundError:
            mode = 0o640
        _replace(path, content, mode)
        written.append(name)
    if written:
        _sync_folder(folder)
    return written


def _replace(path: Path, content: bytes, mode: int) -> None:
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _sync_folder(folder: Path) -> None:
    """The moves are on disk once the folder is."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
