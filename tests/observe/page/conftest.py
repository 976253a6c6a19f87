"""A browser for the tests of the page, and a node that it looks at."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests import browser
from tests.observe.page.fake_node import FakeNode
from tests.observe.page.visit import Pages, Visit


@pytest.fixture(scope="package")
def _server() -> Iterator[FakeNode]:
    """One for all tests, so that the browser has the page's files."""
    fake = FakeNode()
    yield fake
    fake.stop()


@pytest.fixture
def node(_server: FakeNode) -> FakeNode:
    """A fake node."""
    _server.reset()
    return _server


# For the tests of this folder alone: playwright's event loop is that of the thread, and must not be in the
# way of others.
@pytest.fixture(scope="package")
def pages() -> Iterator[Pages]:
    """Of Debian's Chromium."""
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=60_000)  # milliseconds
    with sync_playwright() as playwright:
        program = playwright.chromium.launch(executable_path=browser.chromium())
        yield Pages(program)
        program.close()


@pytest.fixture
def visit(pages: Pages, node: FakeNode) -> Iterator[Callable[..., Visit]]:
    """Opens the page of the fake node, or of another URL; see `Visit`."""
    opened: list[Visit] = []

    def make(place: str = "", *, url: str | None = None, **options: Any) -> Visit:
        made = Visit(pages, url or node.url, **options)
        opened.append(made)
        made.go(place)
        return made

    yield make
    for one in opened:
        one.close()
