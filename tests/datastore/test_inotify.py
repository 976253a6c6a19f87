"""The kernel's events, as they come."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from routed.datastore.inotify import CONTENTS, ENTRIES, Inotify, Mask


@pytest.fixture
def inotify() -> Iterator[Inotify]:
    instance = Inotify()
    yield instance
    instance.close()
    instance.close()


def names(inotify: Inotify, mask: Mask) -> list[str]:
    return [event.name for event in inotify.read() if event.mask & mask]


def test_nothing_to_read_is_nothing(inotify: Inotify) -> None:
    assert inotify.read() == []


def test_a_write_and_its_end(inotify: Inotify, tmp_path: Path) -> None:
    inotify.watch(str(tmp_path), CONTENTS)
    (tmp_path / "a").write_text("x")
    events = inotify.read()
    assert {event.directory for event in events} == {str(tmp_path)}
    assert [event.mask for event in events] == [Mask.CREATE, Mask.MODIFY, Mask.CLOSE_WRITE]


def test_a_narrow_watch_is_quiet_about_writes_until_it_is_widened(inotify: Inotify, tmp_path: Path) -> None:
    inotify.watch(str(tmp_path), ENTRIES)
    (tmp_path / "a").write_text("x")
    assert [event.mask for event in inotify.read()] == [Mask.CREATE]
    inotify.watch(str(tmp_path), CONTENTS)
    inotify.watch(str(tmp_path), ENTRIES)
    (tmp_path / "a").write_text("y")
    assert "a" in names(inotify, Mask.CLOSE_WRITE)


def test_the_two_ends_of_a_move_have_one_cookie(inotify: Inotify, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "a").write_text("x")
    inotify.watch(str(tmp_path), CONTENTS)
    inotify.watch(str(tmp_path / "sub"), CONTENTS)
    (tmp_path / "a").rename(tmp_path / "sub" / "b")
    away, here = inotify.read()
    assert (away.name, away.mask, here.name, here.mask) == ("a", Mask.MOVED_FROM, "b", Mask.MOVED_TO)
    assert away.cookie == here.cookie != 0
    assert here.directory == str(tmp_path / "sub")


def test_a_directory_that_takes_the_place_of_another_is_watched(inotify: Inotify, tmp_path: Path) -> None:
    folder, old = tmp_path / "folder", tmp_path / "old"
    folder.mkdir()
    inotify.watch(str(folder), CONTENTS)
    folder.rename(old)
    folder.mkdir()
    inotify.watch(str(folder), CONTENTS)
    inotify.read()
    (old / "a").write_text("x")
    (folder / "b").write_text("x")
    assert set(names(inotify, CONTENTS)) == {"b"}


def test_a_directory_that_is_gone_can_be_watched_anew(inotify: Inotify, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    for _ in range(3):
        folder.mkdir()
        inotify.watch(str(folder), CONTENTS)
        (folder / "a").write_text("x")
        assert "a" in names(inotify, Mask.CLOSE_WRITE)
        (folder / "a").unlink()
        folder.rmdir()
        assert "" in names(inotify, Mask.DELETE_SELF)


def test_watch_only(inotify: Inotify, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        inotify.watch(str(tmp_path / name), CONTENTS)
    inotify.watch_only({str(tmp_path / "b"), "/never/watched"})
    (tmp_path / "a" / "x").write_text("")
    (tmp_path / "b" / "y").write_text("")
    assert set(names(inotify, CONTENTS)) == {"y"}


def test_names_that_are_no_text(inotify: Inotify, tmp_path: Path) -> None:
    inotify.watch(str(tmp_path), CONTENTS)
    name = b"\xff" * 200
    with open(os.path.join(os.fsencode(tmp_path), name), "wb"):
        pass
    assert os.fsdecode(name) in names(inotify, Mask.CLOSE_WRITE)


def test_more_events_than_one_read_takes(inotify: Inotify, tmp_path: Path) -> None:
    inotify.watch(str(tmp_path), CONTENTS)
    for number in range(5000):
        (tmp_path / f"{number:0100}").touch()
    events = inotify.read()
    assert len({event.name for event in events if event.mask & Mask.CREATE}) == 5000 or any(
        event.mask & Mask.OVERFLOW for event in events
    )


@pytest.mark.parametrize(("path", "error"), [("missing", FileNotFoundError), ("file", NotADirectoryError)])
def test_what_cannot_be_watched(inotify: Inotify, tmp_path: Path, path: str, error: type[OSError]) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(error):
        inotify.watch(str(tmp_path / path), CONTENTS)
