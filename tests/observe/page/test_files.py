"""The page's files: all there, and free of what the content security policy forbids."""

from __future__ import annotations

import fnmatch
import posixpath
import re
import tomllib
from pathlib import Path

import pytest

from routed.observe.page import CONTENT_TYPES, files

_ROOT = Path(__file__).resolve().parents[3]
_PAGE = _ROOT / "routed/observe/page"
SOURCES = {path: body.decode() for path, (body, _) in files().items()}
SCRIPTS = {path: text for path, text in SOURCES.items() if path.endswith(".js")}


def test_the_index_is_at_the_root_and_all_else_below_page() -> None:
    assert files()["/"][1] == "text/html; charset=utf-8"
    assert all(path == "/" or path.startswith("/page/") for path in files())
    assert "/page/app.js" in files()
    assert not any(path.endswith((".py", ".pyc")) for path in files())


def test_every_file_is_in_the_package() -> None:
    project = tomllib.loads((_ROOT / "pyproject.toml").read_text())
    patterns = project["tool"]["setuptools"]["package-data"]["routed"]
    present = [path for path in _PAGE.rglob("*") if path.suffix in CONTENT_TYPES]
    assert len(present) == len(files())
    for path in present:
        name = str(path.relative_to(_ROOT / "routed"))
        depth = [one for one in patterns if one.count("/") == name.count("/")]
        assert any(fnmatch.fnmatch(name, one) for one in depth), name


@pytest.mark.parametrize("path", sorted(SCRIPTS))
def test_what_a_script_imports_is_there(path: str) -> None:
    for target in re.findall(r'^(?:import|export)\b.* from "([^"]+)";$', SCRIPTS[path], re.MULTILINE):
        assert target.startswith("."), f"{path} imports {target}"
        assert posixpath.normpath(posixpath.join(posixpath.dirname(path), target)) in files()


def test_every_script_and_style_is_used() -> None:
    everything = "\n".join(SOURCES.values())
    unused = [path for path in files() if path != "/" and posixpath.basename(path) not in everything]
    assert unused == []


def test_the_index_names_files_that_are_there() -> None:
    for target in re.findall(r'(?:src|href)="(/[^"]*)"', SOURCES["/"]):
        assert target in files()


@pytest.mark.parametrize(
    "forbidden",
    [
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|createContextualFragment",
        r"\beval\(|new Function|setTimeout\(\s*[\"'`]|setInterval\(\s*[\"'`]",
        r"https?://(?!www\.w3\.org/2000/svg)",
        r"\sstyle=|\son[a-z]+=\"|javascript:",
        r"\bmethod: *[\"'](POST|PUT|DELETE)",
    ],
)
def test_nothing_parses_text_as_markup_or_code_or_leaves_the_node(forbidden: str) -> None:
    found = [path for path, text in SOURCES.items() if re.search(forbidden, text)]
    assert found == []
