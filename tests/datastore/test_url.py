"""Which datastore a URL names."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from routed.datastore import DatastoreURLError, open_datastore
from routed.datastore.file import FileDatastore


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("file:records.yaml", "records.yaml"),
        ("file:./records", "./records"),
        ("file:/etc/routed", "/etc/routed"),
        ("file:///etc/routed", "/etc/routed"),
        ("FILE:/etc/routed", "/etc/routed"),
        ("file:~/records", os.path.expanduser("~/records")),
        ("file:a:b c%20d", "a:b c%20d"),
    ],
)
def test_file(url: str, path: str) -> None:
    datastore = open_datastore(url)
    assert isinstance(datastore, FileDatastore)
    assert datastore.path == path


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("", "not the URL"),
        ("/etc/routed", "not the URL"),
        ("file:", "needs a path"),
        ("file://host/path", "names a host"),
        ("etcd3://localhost:2379", "'etcd3' is not a kind"),
    ],
)
def test_what_names_no_datastore(url: str, reason: str) -> None:
    with pytest.raises(DatastoreURLError, match=reason) as caught:
        open_datastore(url)
    assert "file:PATH" in str(caught.value)


def test_opening_reads_nothing(tmp_path: Path) -> None:
    open_datastore(f"file:{tmp_path / 'missing'}")
