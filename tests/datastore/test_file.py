"""The file datastore on real files and the real inotify."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import os
import random
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from routed.datastore import Batch, Changes, Lost, Restored, Snapshot, file, open_datastore
from routed.datastore.file import FileDatastore
from routed.datastore.inotify import FileEvent, Inotify, Mask
from routed.resources import BlockAffinity, Key
from tests.datastore.records import affinity
from tests.datastore.watching import LONG, Watched, run, watched


def key(name: str) -> Key:
    return Key("BlockAffinity", name)


def write(path: Path, *texts: str) -> None:
    """As an editor that writes in place."""
    path.write_text("---\n".join(texts))


def replace(path: Path, *texts: str) -> None:
    """As an editor that writes another file and renames it over the real one."""
    other = path.with_name(f".{path.name}.new")
    write(other, *texts)
    other.rename(path)


def cidr_in_force(watch: Watched, name: str) -> str:
    record = watch.in_force[key(name)]
    assert isinstance(record, BlockAffinity)
    return str(record.cidr)


def test_a_folder_is_followed(tmp_path: Path) -> None:
    async def scenario() -> None:
        write(tmp_path / "b.yaml", affinity("y"), affinity("x"))
        async with watched(tmp_path) as watch:
            snapshot = await watch.expect(Snapshot)
            assert [record.name for record in snapshot.upserts] == ["x", "y"]
            write(tmp_path / "a.yaml", affinity("z"))
            changes = await watch.expect(Changes)
            assert [record.name for record in changes.upserts] == ["z"]
            write(tmp_path / "a.yaml", affinity("z", "10.9.0.0/26"))
            await watch.expect(Changes)
            assert cidr_in_force(watch, "z") == "10.9.0.0/26"
            replace(tmp_path / "b.yaml", affinity("x"))
            assert (await watch.expect(Changes)).deletes == (key("y"),)
            (tmp_path / "a.yaml").unlink()
            assert (await watch.expect(Changes)).deletes == (key("z"),)
            assert watch.names == {"x"}

    run(scenario())


def test_a_single_file_is_followed(tmp_path: Path) -> None:
    async def scenario() -> None:
        path = tmp_path / "records"
        write(path, affinity("x"))
        async with watched(path) as watch:
            await watch.expect(Snapshot)
            write(tmp_path / "other.yaml", affinity("no"))
            write(path, affinity("x"), affinity("y"))
            await watch.expect(Changes)
            replace(path, affinity("y", "10.9.0.0/26"))
            await watch.expect(Changes)
            assert watch.names == {"y"}
            assert cidr_in_force(watch, "y") == "10.9.0.0/26"

    run(scenario())


@pytest.mark.parametrize("start", ["records.yaml", "./records.yaml", "sub/../records.yaml", ".", "./"])
def test_relative_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()

    async def scenario() -> None:
        write(tmp_path / "records.yaml", affinity("x", state="bogus"))
        async with watched(start) as watch:
            snapshot = await watch.expect(Snapshot)
            (problem,) = snapshot.problems
            assert problem.source.endswith("records.yaml:8")
            assert not problem.source.startswith("/")
            write(tmp_path / "records.yaml", affinity("x"))
            changes = await watch.expect(Changes)
            assert (changes.problems, watch.names) == ((), {"x"})
            replace(tmp_path / "records.yaml", affinity("y"))
            await watch.until(lambda: watch.names == {"y"})

    run(scenario())


def test_a_malformed_file_leaves_its_last_good_records(tmp_path: Path) -> None:
    async def scenario() -> None:
        path = tmp_path / "a.yaml"
        write(path, affinity("x"), affinity("y"))
        async with watched(tmp_path) as watch:
            await watch.expect(Snapshot)
            write(path, affinity("x"), "spec: [\n")
            changes = await watch.expect(Changes)
            assert (changes.upserts, changes.deletes) == ((), ())
            assert [problem.source for problem in changes.problems] == [f"{path}:11"]
            write(path, affinity("x", "10.9.0.0/99"), affinity("y", "10.8.0.0/26"))
            changes = await watch.expect(Changes)
            assert [str(problem) for problem in changes.problems] == [
                f"{path}:7: BlockAffinity x: spec.cidr: '10.9.0.0/99' has a prefix length over 32"
            ]
            assert cidr_in_force(watch, "x") == "10.0.0.0/26"
            assert cidr_in_force(watch, "y") == "10.8.0.0/26"
            write(path, "")
            assert (await watch.expect(Changes)).deletes == (key("x"), key("y"))

    run(scenario())


def test_a_half_written_file_withdraws_nothing(tmp_path: Path) -> None:
    """A writer that pauses is read before it is done, but what it has not written yet is not gone."""

    async def scenario() -> None:
        path = tmp_path / "a.yaml"
        write(path, affinity("x"), affinity("y"), affinity("z"))
        async with watched(tmp_path) as watch:
            await watch.expect(Snapshot)
            with path.open("w") as half:
                half.write(affinity("x", "10.9.0.0/26") + "---\n")
                half.flush()
                changes = await watch.expect(Changes)
                assert [record.name for record in changes.upserts] == ["x"]
                assert changes.deletes == ()
                half.write(affinity("z"))
            assert (await watch.expect(Changes)).deletes == (key("y"),)

    run(scenario())


def test_deleted_and_created_again_is_one_change(tmp_path: Path) -> None:
    async def scenario() -> None:
        path = tmp_path / "a.yaml"
        write(path, affinity("x"), affinity("y"))
        async with watched(tmp_path) as watch:
            await watch.expect(Snapshot)
            path.unlink()
            write(path, affinity("x"), affinity("y", "10.9.0.0/26"))
            changes = await watch.expect(Changes)
            assert [record.name for record in changes.upserts] == ["y"]
            # As vim does with its `backup` option: the old file is renamed away first.
            path.rename(tmp_path / "a.yaml~")
            write(path, affinity("x"), affinity("y", "10.8.0.0/26"))
            changes = await watch.expect(Changes)
            assert [record.name for record in changes.upserts] == ["y"]
            assert watch.withdrawn() == set()

    run(scenario())


def test_a_single_file_deleted_and_created_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        path = tmp_path / "a.yaml"
        write(path, affinity("x"))
        async with watched(path) as watch:
            await watch.expect(Snapshot)
            path.unlink()
            write(path, affinity("x", "10.9.0.0/26"))
            await watch.expect(Changes)
            path.unlink()
            lost = await watch.expect(Lost)
            assert str(path) in lost.reason
            write(path, affinity("y"))
            await watch.expect(Restored)
            await watch.until(lambda: watch.names == {"y"})

    run(scenario())


def test_moved_files_change_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        (tmp_path / "sub").mkdir()
        write(tmp_path / "a.yaml", affinity("x"))
        write(tmp_path / "sub" / "c.yaml", affinity("y"))
        async with watched(tmp_path) as watch:
            await watch.expect(Snapshot)
            (tmp_path / "a.yaml").rename(tmp_path / "sub" / "b.yaml")
            (tmp_path / "sub").rename(tmp_path / "moved")
            write(tmp_path / "moved" / "b.yaml", affinity("x", "10.9.0.0/26"))
            changes = await watch.expect(Changes)
            assert [record.name for record in changes.upserts] == ["x"]
            assert changes.problems == ()
            write(tmp_path / "moved" / "last.yaml", affinity("last"))
            await watch.until(lambda: "last" in watch.names)
            assert watch.withdrawn() == set()
            assert not any(isinstance(event, Batch) and event.problems for event in watch.seen)

    run(scenario())


def test_folders_that_come_and_go(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with watched(tmp_path) as watch:
            await watch.expect(Snapshot)
            deep = tmp_path / "a" / "b" / "c"
            deep.mkdir(parents=True)
            write(deep / "x.yaml", affinity("x"))
            await watch.until(lambda: watch.names == {"x"})
            write(deep / "x.yaml", affinity("x", "10.9.0.0/26"))
            await watch.until(lambda: cidr_in_force(watch, "x") == "10.9.0.0/26")
            shutil.rmtree(tmp_path / "a")
            await watch.until(lambda: watch.names == set())
            shutil.copytree(make_folder(tmp_path.parent / "elsewhere", "y"), tmp_path / "copied")
            await watch.until(lambda: watch.names == {"y"})
            (tmp_path.parent / "elsewhere").rename(tmp_path / "moved-in")
            await watch.until(lambda: bool(watch.last.problems))
            assert "twice" in watch.last.problems[0].reason

    run(scenario())


def make_folder(folder: Path, *names: str) -> Path:
    folder.mkdir()
    for name in names:
        write(folder / f"{name}.yaml", affinity(name))
    return folder


def test_what_editors_leave_beside_is_not_read(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with watched(tmp_path) as watch:
            await watch.expect(Snapshot)
            for name in (".x.yaml.swp", "x.yaml~", ".#x.yaml", "#x.yaml#", "4913", ".hidden.yaml", "x.txt"):
                write(tmp_path / name, affinity("no"))
            (tmp_path / ".git").mkdir()
            write(tmp_path / ".git" / "x.yaml", affinity("no"))
            write(tmp_path / "x.yaml", affinity("x"))
            await watch.expect(Changes)
            assert watch.names == {"x"}

    run(scenario())


def config_map(volume: Path, generation: str, **files: str) -> None:
    """Puts a generation of files into force as the kubelet does: a new folder, then `..data` renamed over."""
    folder = volume / f"..{generation}"
    folder.mkdir()
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)
        link = volume / f"{name}.yaml"
        if not link.is_symlink():
            link.symlink_to(f"..data/{name}.yaml")
    swap = volume / "..data_tmp"
    swap.symlink_to(folder.name)
    old = (volume / "..data").resolve() if (volume / "..data").exists() else None
    swap.rename(volume / "..data")
    for link in volume.glob("*.yaml"):
        if link.stem not in files:
            link.unlink()
    if old is not None:
        shutil.rmtree(old)


@pytest.mark.parametrize("single", [False, True])
def test_a_config_map_is_swapped_by_its_links(tmp_path: Path, single: bool) -> None:
    async def scenario() -> None:
        config_map(tmp_path, "1", x=affinity("x"))
        async with watched(tmp_path / "x.yaml" if single else tmp_path) as watch:
            await watch.expect(Snapshot)
            for generation in range(2, 5):
                cidr = f"10.{generation}.0.0/26"
                config_map(tmp_path, str(generation), x=affinity("x", cidr), y=affinity("y", cidr))
                await watch.until(lambda cidr=cidr: cidr_in_force(watch, "x") == cidr)  # type: ignore[misc]
            if not single:
                await watch.until(lambda: "y" in watch.names)
                config_map(tmp_path, "9", x=affinity("x"))
                await watch.until(lambda: watch.names == {"x"})
            assert watch.withdrawn() <= {"y"}

    run(scenario())


def test_a_linked_file_is_followed_where_it_leads(tmp_path: Path) -> None:
    async def scenario() -> None:
        folder, elsewhere = make_folder(tmp_path / "folder"), make_folder(tmp_path / "elsewhere", "x", "z")
        (folder / "link.yaml").symlink_to("../elsewhere/x.yaml")
        async with watched(folder) as watch:
            await watch.expect(Snapshot)
            assert watch.names == {"x"}
            write(elsewhere / "x.yaml", affinity("x", "10.9.0.0/26"))
            await watch.until(lambda: cidr_in_force(watch, "x") == "10.9.0.0/26")
            replace(elsewhere / "x.yaml", affinity("y"))
            await watch.until(lambda: watch.names == {"y"})
            (folder / "new").symlink_to("../elsewhere/z.yaml")
            (folder / "new").rename(folder / "link.yaml")
            await watch.until(lambda: watch.names == {"z"})
            (folder / "second.yaml").symlink_to("../elsewhere/x.yaml")
            await watch.until(lambda: watch.names == {"y", "z"})
            write(elsewhere / "x.yaml", affinity("y", "10.7.0.0/26"))
            await watch.until(lambda: cidr_in_force(watch, "y") == "10.7.0.0/26")

    run(scenario())


def test_a_linked_root_is_followed_when_the_link_is_swapped(tmp_path: Path) -> None:
    async def scenario() -> None:
        make_folder(tmp_path / "v1", "x", "y")
        make_folder(tmp_path / "v2", "y", "z")
        (tmp_path / "current").symlink_to("v1")
        async with watched(tmp_path / "current") as watch:
            await watch.expect(Snapshot)
            (tmp_path / "next").symlink_to("v2")
            (tmp_path / "next").rename(tmp_path / "current")
            await watch.until(lambda: watch.names == {"y", "z"})
            assert watch.withdrawn() == {"x"}
            assert not any(isinstance(event, Lost) for event in watch.seen)
            write(tmp_path / "v2" / "w.yaml", affinity("w"))
            await watch.until(lambda: "w" in watch.names)

    run(scenario())


@pytest.mark.parametrize("depth", [1, 3])
def test_a_path_that_is_missing_is_waited_for(tmp_path: Path, depth: int) -> None:
    async def scenario() -> None:
        path = tmp_path.joinpath(*"abc"[:depth])
        async with watched(path) as watch:
            lost = await watch.expect(Lost)
            assert str(path) in lost.reason
            assert lost.since.tzinfo is not None
            path.mkdir(parents=True)
            write(path / "x.yaml", affinity("x"))
            await watch.expect(Restored)
            await watch.expect(Snapshot)
            await watch.until(lambda: watch.names == {"x"})

    run(scenario())


def test_a_folder_that_vanishes_withdraws_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        folder, away = make_folder(tmp_path / "folder", "x", "y"), tmp_path / "away"
        async with watched(folder) as watch:
            await watch.expect(Snapshot)
            folder.rename(away)
            await watch.expect(Lost)
            write(away / "y.yaml", affinity("y", "10.9.0.0/26"))
            write(away / "z.yaml", affinity("z"))
            (away / "x.yaml").unlink()
            away.rename(folder)
            await watch.expect(Restored)
            changes = await watch.expect(Changes)
            assert [record.name for record in changes.upserts] == ["y", "z"]
            assert (await watch.expect(Changes)).deletes == (key("x"),)

    run(scenario())


def test_a_folder_that_comes_back_as_it_was_changes_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        folder, away = make_folder(tmp_path / "folder", "x", "y"), tmp_path / "away"
        async with watched(folder) as watch:
            await watch.expect(Snapshot)
            for _ in range(2):
                folder.rename(away)
                await watch.expect(Lost)
                shutil.copytree(away, folder)
                await watch.expect(Restored)
                shutil.rmtree(away)
            write(folder / "z.yaml", affinity("z"))
            changes = await watch.expect(Changes)
            assert [record.name for record in changes.upserts] == ["z"]
            assert watch.withdrawn() == set()

    run(scenario())


def test_a_folder_replaced_by_an_empty_one_is_lost_until_there_are_files(tmp_path: Path) -> None:
    """As where a volume is unmounted, or someone copies a folder anew."""

    async def scenario() -> None:
        folder = make_folder(tmp_path / "folder", "x", "y")
        async with watched(folder) as watch:
            await watch.expect(Snapshot)
            folder.rename(tmp_path / "away")
            folder.mkdir()
            lost = await watch.expect(Lost)
            assert "empty" in lost.reason
            write(folder / "x.yaml", affinity("x", "10.9.0.0/26"))
            await watch.expect(Restored)
            write(folder / "y.yaml", affinity("y"))
            await watch.until(lambda: cidr_in_force(watch, "x") == "10.9.0.0/26")
            assert watch.withdrawn() == set()

    run(scenario())


def test_all_files_deleted_one_by_one_is_no_loss(tmp_path: Path) -> None:
    async def scenario() -> None:
        folder = make_folder(tmp_path / "folder", "x", "y")
        async with watched(folder) as watch:
            await watch.expect(Snapshot)
            (folder / "x.yaml").unlink()
            (folder / "y.yaml").unlink()
            await watch.until(lambda: watch.names == set())
            assert not any(isinstance(event, Lost) for event in watch.seen)

    run(scenario())


def test_a_burst_of_files(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with watched(tmp_path) as watch:
            await watch.expect(Snapshot)
            for number in range(500):
                write(
                    tmp_path / f"{number}.yaml",
                    affinity(f"n{number}", f"10.{number >> 8}.{number & 255}.0/26"),
                )
            await watch.until(lambda: len(watch.in_force) == 500)
            for number in range(0, 500, 2):
                (tmp_path / f"{number}.yaml").unlink()
            await watch.until(lambda: len(watch.in_force) == 250)

    run(scenario())


def test_a_writer_without_a_pause_does_not_starve_the_reader(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with watched(tmp_path) as watch:
            await watch.expect(Snapshot)
            done = threading.Event()

            def scribble() -> None:
                with (tmp_path / "a.yaml").open("w") as busy:
                    busy.write(affinity("x"))
                    while not done.wait(0.005):
                        busy.write("# more\n")
                        busy.flush()

            writer = asyncio.create_task(asyncio.to_thread(scribble))
            try:
                await watch.until(lambda: watch.names == {"x"})
            finally:
                done.set()
                await writer

    run(scenario())


def test_large_files_are_parsed_beside_the_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: set[str] = set()
    load_all = file._load_all

    def noting(paths: dict[str, bool]) -> object:
        threads.add(threading.current_thread().name)
        return load_all(paths)

    monkeypatch.setattr(file, "_load_all", noting)
    monkeypatch.setattr(file, "THREAD_SIZE", 4096)
    monkeypatch.setattr(file, "THREAD_FILES", 2)

    async def scenario() -> None:
        make_folder(tmp_path / "folder", "x", "y", "z")
        write(tmp_path / "folder" / "big.yaml", *(affinity(f"n{n}") for n in range(100)))
        async with watched(tmp_path / "folder") as watch:
            await watch.expect(Snapshot)
            assert len(watch.in_force) == 103
            (tmp_path / "folder" / "sub").mkdir()
            write(tmp_path / "folder" / "sub" / "w.yaml", affinity("w"))
            await watch.until(lambda: "w" in watch.names)

    run(scenario())
    assert any(name != threading.main_thread().name for name in threads)


def test_a_close_while_parsing_ends_the_watch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parsing, go_on = threading.Event(), threading.Event()
    load_all = file._load_all

    def slow(paths: dict[str, bool]) -> object:
        parsing.set()
        assert go_on.wait(LONG)
        return load_all(paths)

    monkeypatch.setattr(file, "_load_all", slow)
    monkeypatch.setattr(file, "THREAD_SIZE", 0)

    async def scenario() -> None:
        write(tmp_path / "a.yaml", affinity("x"))
        async with watched(tmp_path) as watch:
            await asyncio.to_thread(parsing.wait, LONG)
            asyncio.get_running_loop().call_later(0.01, go_on.set)
        assert watch.events.empty()

    run(scenario())


def test_an_unreadable_file_leaves_its_records_until_it_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Permissions do not stop root, so the refusal is made up."""
    refused: set[str] = set()
    real_open = os.open

    def refusing(path: str, flags: int, *args: int) -> int:
        if path in refused:
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return real_open(path, flags, *args)

    monkeypatch.setattr("routed.datastore.files.os.open", refusing)

    async def scenario() -> None:
        path = tmp_path / "a.yaml"
        write(path, affinity("x"))
        async with watched(tmp_path) as watch:
            await watch.expect(Snapshot)
            refused.add(str(path))
            write(path, affinity("y"))
            changes = await watch.expect(Changes)
            assert (changes.upserts, changes.deletes) == ((), ())
            assert [(p.source, p.reason) for p in changes.problems] == [
                (str(path), "cannot be read: Permission denied")
            ]
            refused.clear()
            path.chmod(0o600)
            await watch.until(lambda: watch.names == {"y"})
            assert watch.last.problems == ()

    run(scenario())


def test_a_folder_that_cannot_be_listed_keeps_its_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused: set[str] = set()
    real_scandir = os.scandir

    def refusing(path: str) -> object:
        if path in refused:
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return real_scandir(path)

    monkeypatch.setattr("routed.datastore.files.os.scandir", refusing)

    async def scenario() -> None:
        make_folder(tmp_path / "sub", "x")
        async with watched(tmp_path) as watch:
            await watch.expect(Snapshot)
            refused.add(str(tmp_path / "sub"))
            (tmp_path / "other").mkdir()  # a reason to look at all again
            changes = await watch.expect(Changes)
            assert [problem.source for problem in changes.problems] == [str(tmp_path / "sub")]
            refused.clear()
            (tmp_path / "sub" / "x.yaml").unlink()
            (tmp_path / "other").rmdir()
            await watch.until(lambda: not watch.last.problems and watch.names == set())
            assert watch.withdrawn() == {"x"}

    run(scenario())


class Scribbler:
    """Does to a folder what people and tools do, at random."""

    def __init__(self, root: Path, seed: int) -> None:
        self.root = root
        self.random = random.Random(seed)

    def step(self) -> None:
        """One thing. What cannot be done as things stand is left out."""
        actions = [self.write, self.write, self.replace, self.rename, self.delete, self.truncate, self.link]
        actions += [self.make_folder, self.move_folder, self.remove_folder, self.swap_root]
        with contextlib.suppress(OSError):
            self.random.choice(actions)()

    def folder(self) -> Path:
        folders = [self.root, *sorted(path for path in self.root.rglob("*") if path.is_dir())]
        return self.random.choice(folders)

    def file(self) -> Path:
        return self.folder() / f"{self.random.choice('abc')}.yaml"

    def text(self) -> str:
        names = self.random.sample("uvwxyz", self.random.randint(1, 3))
        return "---\n".join(affinity(name, f"10.0.{self.random.randint(0, 255)}.0/26") for name in names)

    def write(self) -> None:
        self.file().write_text(self.text())

    def replace(self) -> None:
        replace(self.file(), self.text())

    def rename(self) -> None:
        self.file().rename(self.file())

    def delete(self) -> None:
        self.file().unlink()

    def truncate(self) -> None:
        self.file().write_text("")

    def link(self) -> None:
        if self.random.random() < 0.5:
            self.file().symlink_to(self.file())
        else:
            self.file().hardlink_to(self.file())

    def make_folder(self) -> None:
        (self.folder() / self.random.choice("def")).mkdir()

    def move_folder(self) -> None:
        folder = self.folder()
        if folder != self.root:
            folder.rename(self.folder() / self.random.choice("def"))

    def remove_folder(self) -> None:
        folder = self.folder()
        if folder != self.root:
            shutil.rmtree(folder)

    def swap_root(self) -> None:
        away = self.root.with_name("away")
        self.root.rename(away)
        if self.random.random() < 0.5:
            shutil.copytree(away, self.root, symlinks=True)
            shutil.rmtree(away)
        else:
            away.rename(self.root)


@pytest.mark.parametrize("seed", range(8))
def test_whatever_happens_it_ends_as_a_fresh_look_would_have_it(tmp_path: Path, seed: int) -> None:
    async def scenario() -> None:
        root = make_folder(tmp_path / "root", "x", "y", "z")
        scribbler = Scribbler(root, seed)
        async with watched(root) as watch:
            await watch.expect(Snapshot)
            for number in range(120):
                scribbler.step()
                if number % 3 == 0:
                    await asyncio.sleep(scribbler.random.choice([0, 0, 0.001, 0.02]))
            write(root / "last.yaml", affinity("last"))
            async with watched(root) as fresh:
                await fresh.expect(Snapshot)
            await watch.until(lambda: watch.in_force == fresh.in_force)
            await watch.until(lambda: set(watch.last.problems) == set(fresh.last.problems))

    run(scenario())


def test_lost_events_are_made_up_for_by_a_look_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel's queue overflows: it says so, and nothing else."""

    def overflowing(self: Inotify) -> list[FileEvent]:
        return [FileEvent("", "", Mask.OVERFLOW)] if read(self) else []

    read = Inotify.read
    monkeypatch.setattr(Inotify, "read", overflowing)

    async def scenario() -> None:
        write(tmp_path / "b.yaml", affinity("y"))
        async with watched(tmp_path) as watch:
            await watch.expect(Snapshot)
            write(tmp_path / "a.yaml", affinity("x"))
            await watch.until(lambda: "x" in watch.names)
            (tmp_path / "b.yaml").unlink()
            await watch.until(lambda: watch.names == {"x"})

    run(scenario())


def no_instance(self: Inotify) -> None:
    raise OSError(errno.EMFILE, "Too many open files")


def no_watch(self: Inotify, directory: str, mask: Mask) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    ("method", "refusal", "limit"),
    [("__init__", no_instance, "max_user_instances"), ("watch", no_watch, "max_user_watches")],
)
def test_without_inotify_the_files_are_looked_at_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, refusal: Callable[..., None], limit: str
) -> None:
    monkeypatch.setattr(Inotify, method, refusal)
    monkeypatch.setattr(file, "BLIND_RESCAN_PERIOD", 0.05)

    async def scenario() -> None:
        write(tmp_path / "a.yaml", affinity("x"))
        async with watched(tmp_path) as watch:
            snapshot = await watch.expect(Snapshot)
            (problem,) = snapshot.problems
            assert problem.severity == "warning"
            assert limit in problem.reason
            write(tmp_path / "b.yaml", affinity("y"))
            await watch.until(lambda: watch.names == {"x", "y"})
            (tmp_path / "a.yaml").unlink()
            await watch.until(lambda: watch.names == {"y"})

    run(scenario())


def open_descriptors() -> set[str]:
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        try:
            found.add(f"{entry.name} {entry.readlink()}")
        except OSError:
            continue
    return {name for name in found if "inotify" in name}


def test_nothing_is_left_open(tmp_path: Path) -> None:
    before = open_descriptors()

    async def closed() -> None:
        async with watched(tmp_path) as watch:
            await watch.expect(Snapshot)
            assert len(open_descriptors()) == len(before) + 1

    async def cancelled() -> None:
        watch = open_datastore(f"file:{tmp_path}").watch()
        assert isinstance(await anext(watch), Snapshot)
        task = asyncio.ensure_future(anext(watch))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def abandoned() -> None:
        async for event in open_datastore(f"file:{tmp_path}").watch():
            assert isinstance(event, Snapshot)
            break

    for scenario in (closed, cancelled, abandoned):
        run(scenario())
        gc.collect()
        assert open_descriptors() == before


def test_a_datastore_can_be_watched_again_but_not_twice_at_once(tmp_path: Path) -> None:
    async def scenario() -> None:
        datastore = FileDatastore(str(tmp_path))
        for _ in range(2):
            watch = datastore.watch()
            assert isinstance(await anext(watch), Snapshot)
            with pytest.raises(RuntimeError):
                await anext(datastore.watch())
            await datastore.close()
            with pytest.raises(StopAsyncIteration):
                await anext(watch)

    run(scenario())


def test_closing_what_was_never_watched_does_no_harm(tmp_path: Path) -> None:
    async def scenario() -> None:
        datastore = FileDatastore(str(tmp_path))
        await datastore.close()
        await datastore.close()

    run(scenario())


def test_a_quiet_folder_costs_nothing(tmp_path: Path) -> None:
    """No polling: once a change is told, nothing is due before the slow look at all files."""

    async def scenario() -> None:
        datastore = FileDatastore(str(tmp_path))
        watch = datastore.watch()
        assert isinstance(await anext(watch), Snapshot)
        write(tmp_path / "a.yaml", affinity("x"))
        assert isinstance(await anext(watch), Changes)
        (tmp_path / "a.yaml").unlink()
        assert isinstance(await anext(watch), Changes)
        follower = datastore._follower
        assert follower is not None
        assert follower._next_deadline() > asyncio.get_running_loop().time() + 1
        await datastore.close()
        await watch.aclose()

    run(scenario())
