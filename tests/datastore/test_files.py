"""Which files there are, where links lead, and what is in a file."""

from __future__ import annotations

import errno
import json
import os
import socket
from pathlib import Path

import pytest

from routed.datastore import files
from routed.datastore.files import MissingError, load, lookups, scan
from routed.resources import Key
from tests.datastore.records import affinity


def names(root: Path) -> list[str]:
    return sorted(os.path.relpath(path, root) for path in scan(str(root), lambda directory: None).files)


def test_which_files_of_a_folder_are_read(tmp_path: Path) -> None:
    (tmp_path / "sub" / "deeper").mkdir(parents=True)
    (tmp_path / ".git").mkdir()
    (tmp_path / "folder.yaml").mkdir()
    wanted = ["a.yaml", "b.yml", "c.json", "sub/d.yaml", "sub/deeper/e.yaml", "folder.yaml/f.yaml"]
    ignored = [
        ".a.yaml.swp",
        ".#a.yaml",
        ".hidden.yaml",
        "a.yaml~",
        "#a.yaml#",
        "4913",
        "a.yaml.tmp",
        "README.md",
        ".git/x.yaml",
    ]
    for name in wanted + ignored:
        (tmp_path / name).write_text("")
    os.mkfifo(tmp_path / "fifo.yaml")
    (tmp_path / "dangling.yaml").symlink_to("nowhere")
    (tmp_path / "circle.yaml").symlink_to("circle.yaml")
    assert names(tmp_path) == sorted(wanted)


def test_linked_files_and_folders_are_read_once(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.yaml").write_text("")
    (tmp_path / "root" / "link").symlink_to("../other")
    (tmp_path / "root" / "again").symlink_to("../other")
    (tmp_path / "root" / "circle").symlink_to(".")
    (tmp_path / "root" / "file.yaml").symlink_to("../other/a.yaml")
    found = names(tmp_path / "root")
    assert "file.yaml" in found
    assert len(found) == 2


def test_a_file_is_a_datastore_whatever_its_name(tmp_path: Path) -> None:
    (tmp_path / "records").write_text("")
    tree = scan(str(tmp_path / "records"), lambda directory: None)
    assert list(tree.files) == [str(tmp_path / "records")]


def test_every_directory_is_entered_before_it_is_listed(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    entered: list[str] = []

    def enter(directory: str) -> None:
        entered.append(directory)
        # Whoever adds a file now is seen by the watch or by the listing.
        Path(directory, "late.yaml").write_text("")

    tree = scan(str(tmp_path), enter)
    assert sorted(entered) == sorted(tree.directories) == sorted([str(tmp_path), str(tmp_path / "sub")])
    assert len(tree.files) == 2


@pytest.mark.parametrize("path", ["missing", "file/below", "fifo", "circle"])
def test_a_path_that_is_no_datastore(tmp_path: Path, path: str) -> None:
    (tmp_path / "file").write_text("")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "circle").symlink_to("circle")
    with pytest.raises(MissingError, match=str(tmp_path / path)):
        scan(str(tmp_path / path), lambda directory: None)


def test_lookups_follow_links(tmp_path: Path) -> None:
    base = os.path.realpath(tmp_path)
    (tmp_path / "..2026").mkdir()
    (tmp_path / "..2026" / "a.yaml").write_text("")
    (tmp_path / "..data").symlink_to("..2026")
    (tmp_path / "a.yaml").symlink_to("..data/a.yaml")
    assert list(lookups(f"{base}/a.yaml")) == [
        (base, "a.yaml"),
        (base, "..data"),
        (f"{base}/..2026", "a.yaml"),
    ]
    (tmp_path / "absolute").symlink_to(f"{base}/..2026")
    assert next(lookups(f"{base}/absolute/./x/../a.yaml")) == (base, "absolute")
    assert list(lookups(f"{base}/..2026/a.yaml")) == [(f"{base}/..2026", "a.yaml")]


def test_lookups_end_where_the_path_breaks_off(tmp_path: Path) -> None:
    base = os.path.realpath(tmp_path)
    assert list(lookups(f"{base}/a/b/c")) == [(base, "a")]
    (tmp_path / "a").mkdir()
    assert list(lookups(f"{base}/a/b/c")) == [(f"{base}/a", "b")]
    (tmp_path / "link").symlink_to("nowhere/else")
    assert list(lookups(f"{base}/link")) == [(base, "link"), (base, "nowhere")]
    (tmp_path / "circle").symlink_to("circle")
    assert set(lookups(f"{base}/circle")) == {(base, "circle")}


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def test_load_places_records_and_problems(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.yaml",
        affinity("x") + "---\n" + affinity("y", cidr="10.0.0.0/99") + "---\na: [\n---\n" + affinity("z"),
    )
    loaded = load(path)
    assert [item.source for item in loaded.found] == [f"{path}:1", f"{path}:11", f"{path}:23"]
    assert [item.parsed.key for item in loaded.found] == [Key("BlockAffinity", name) for name in "xyz"]
    (problem,) = loaded.found[1].parsed.problems
    assert (problem.source, problem.field) == (f"{path}:17", "spec.cidr")
    assert [problem.source for problem in loaded.problems] == [f"{path}:21"]
    assert not loaded.complete


def test_load_json(tmp_path: Path) -> None:
    document = {
        "apiVersion": "v1",
        "kind": "List",
        "items": [
            {
                "apiVersion": "projectcalico.org/v3",
                "kind": "BlockAffinity",
                "metadata": {"name": name},
                "spec": {"node": "n", "cidr": cidr},
            }
            for name, cidr in (("x", "10.0.0.0/26"), ("y", "nonsense"))
        ],
    }
    path = write(tmp_path / "a.json", json.dumps(document, indent=2))
    loaded = load(path)
    assert loaded.complete
    assert [item.parsed.record is not None for item in loaded.found] == [True, False]
    (problem,) = loaded.found[1].parsed.problems
    line = int(problem.source.rpartition(":")[2])
    assert "nonsense" in Path(path).read_text().splitlines()[line - 1]


def test_load_what_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "latin.yaml"
    path.write_bytes(b"a: 1\nb: \xe4\n")
    loaded = load(str(path))
    assert not loaded.complete
    assert [str(problem) for problem in loaded.problems] == [f"{path}:2: is not UTF-8 text"]


def test_load_where_there_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.yaml")
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "circle.yaml").symlink_to("circle.yaml")
    (tmp_path / "dangling.yaml").symlink_to("missing.yaml")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket.yaml"))
    for name in ("missing", "fifo", "folder", "circle", "dangling", "socket"):
        loaded = load(str(tmp_path / f"{name}.yaml"))
        assert loaded.gone, name
        assert loaded.problems == ()


def test_a_file_that_is_far_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_FILE_SIZE", 1 << 20)
    loaded = load(write(tmp_path / "a.yaml", affinity("x") + "#" * (1 << 20)))
    assert "larger than 1 MiB" in loaded.problems[0].reason


def test_a_record_of_a_megabyte(tmp_path: Path) -> None:
    loaded = load(write(tmp_path / "a.yaml", affinity("x") + "  note: " + "x" * (1 << 20) + "\n"))
    assert [item.parsed.key for item in loaded.found if item.parsed.record] == [Key("BlockAffinity", "x")]


def test_hostile_file_names_are_escaped(tmp_path: Path) -> None:
    for name in (b"a\n\x1b[2J.yaml", b"\xff\xfe.yaml"):
        path = os.fsdecode(os.path.join(os.fsencode(tmp_path), name))
        Path(path).write_text(affinity("x", state="bogus") + "---\na: [")
        loaded = load(path)
        for problem in (*loaded.problems, *loaded.found[0].parsed.problems):
            assert str(problem).isprintable()
            assert str(problem).isascii()


def test_a_folder_that_cannot_be_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "closed").mkdir()
    (tmp_path / "a.yaml").write_text("")
    real_scandir = os.scandir

    def refusing(path: str) -> object:
        if path == str(tmp_path / "closed"):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return real_scandir(path)

    monkeypatch.setattr("routed.datastore.files.os.scandir", refusing)
    tree = scan(str(tmp_path), lambda directory: None)
    assert list(tree.files) == [str(tmp_path / "a.yaml")]
    assert tree.unreadable == [str(tmp_path / "closed")]
    assert [str(problem) for problem in tree.problems] == [
        f"{tmp_path / 'closed'}: cannot be listed: Permission denied"
    ]
    with pytest.raises(MissingError, match="Permission denied"):
        scan(str(tmp_path / "closed"), lambda directory: None)


def test_a_byte_order_mark_is_no_character(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"\xef\xbb\xbf" + affinity("x").encode())
    assert load(str(tmp_path / "a.yaml")).found[0].parsed.record is not None
