"""A browser for the tests of the page, and a node that it looks at."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from tests import browser
from tests.observe.page.fake_node import FakeNode
from tests.observe.page.visit import Visit

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture
def node() -> Iterator[FakeNode]:
    """A fake node."""
    fake = FakeNode()
    yield fake
    fake.stop()


# For the tests of this folder alone: playwright's event loop is that of the thread, and must not be in the
# way of others.
@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    """Debian's Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        program = playwright.chromium.launch(executable_path=browser.chromium())
        yield program
        program.close()


@pytest.fixture
def visit(chromium: Browser, node: FakeNode) -> Iterator[Callable[..., Visit]]:
    """Opens the page of the fake node, or of another URL; see `Visit`."""
    opened: list[Visit] = []

    def make(place: str = "", *, url: str | None = None, **options: Any) -> Visit:
        made = Visit(chromium, url or node.url, **options)
        opened.append(made)
        made.go(place)
        return made

    yield make
    for one in opened:
        one.close()
