"""The page for those who use it without a mouse, without seeing it, or without motion."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.observe.page import samples
from tests.observe.page.fake_node import FakeNode
from tests.observe.page.visit import VIEWS, Visit

pytestmark = pytest.mark.browser
Open = Callable[..., Visit]


@pytest.mark.parametrize(("theme", "width"), [("light", 360), ("dark", 1280)])
def test_no_violation_in_any_view(visit: Open, node: FakeNode, theme: str, width: int) -> None:
    node.blocks = samples.blocks(60)
    page = visit(width=width, theme=theme)
    for view in VIEWS:
        page.go(view)
        found = Axe().run(page.page)
        assert found.violations_count == 0, f"{view}: {found.generate_report()}"


def test_no_violation_where_something_is_wrong(visit: Open, node: FakeNode) -> None:
    page = visit("peers/nobody", network_errors=True)
    assert Axe().run(page.page).violations_count == 0
    node.peers = []
    page.go("peers")
    assert Axe().run(page.page).violations_count == 0
    node.stop()
    expect(page.find(".lost-bar")).to_be_visible()
    found = Axe().run(page.page)
    assert found.violations_count == 0, found.generate_report()
    node.start()


def test_the_first_tab_skips_to_the_content(visit: Open) -> None:
    page = visit("peers")
    page.page.keyboard.press("Tab")
    expect(page.role("link", "Skip to content")).to_be_focused()
    expect(page.role("link", "Skip to content")).to_be_in_viewport()
    page.page.keyboard.press("Enter")
    expect(page.find("#main")).to_be_focused()
    expect(page.find("main h1")).to_have_text("Peers")


def test_landmarks_and_headings(visit: Open) -> None:
    page = visit()
    for role, name in [("banner", None), ("navigation", "Views"), ("search", None), ("main", None)]:
        assert page.role(role, name).count() == 1, role
    for view in VIEWS:
        page.go(view)
        levels = page.find("main h1, main h2, main h3").evaluate_all(
            "all => all.map((one) => Number(one.tagName[1]))"
        )
        assert levels[0] == 1
        assert levels.count(1) == 1
        assert all(after - before <= 1 for before, after in itertools.pairwise(levels)), view


def test_the_view_that_is_shown_is_marked(visit: Open) -> None:
    page = visit("peers")
    expect(page.role("link", "Peers", exact=True)).to_have_attribute("aria-current", "page")
    page.role("link", "Routes", exact=True).click()
    expect(page.find("[aria-current]")).to_have_count(1)
    expect(page.find("main h1")).to_be_focused()
    assert "Routes" in page.page.title()


def test_everything_is_reached_with_tab_and_the_focus_is_seen(visit: Open) -> None:
    page = visit("peers")
    seen: list[str] = []
    for _ in range(40):
        page.page.keyboard.press("Tab")
        found = page.run(
            """() => {
              const one = document.activeElement;
              if (one === document.body) return "";
              const outline = getComputedStyle(one).outlineStyle;
              const name = one.id || one.getAttribute("aria-label") || one.textContent;
              return `${one.tagName} ${name} ${outline}`;
            }"""
        )
        if not found:
            break
        seen.append(found)
    assert len(seen) < 35  # a table is one stop, whatever it holds
    assert all(not one.endswith(" none") for one in seen), seen
    assert any("search-input" in one for one in seen)
    assert any(one.startswith("A Mesh") for one in seen)


def test_nothing_moves_where_that_is_not_wanted(visit: Open, node: FakeNode) -> None:
    moving = """() => [...document.querySelectorAll("*")].filter((one) => {
      const style = getComputedStyle(one);
      return style.animationName !== "none" || style.transitionDuration !== "0s";
    }).length"""
    page = visit("rates")
    node.held.clear()
    page.run("location.hash = '#/routes'")
    expect(page.find(".state.loading")).to_be_visible()
    assert page.run(moving) > 0
    page.page.emulate_media(reduced_motion="reduce")
    assert page.run(moving) == 0
    page.page.emulate_media(reduced_motion="no-preference")
    node.held.set()


def test_a_table_has_its_semantics(visit: Open) -> None:
    page = visit("peers", width=360)
    table = page.role("table", "Peers")
    expect(table).to_have_attribute("aria-rowcount", "13")
    cells = page.find(".rows tbody tr").first.get_by_role("cell").count()
    assert table.get_by_role("columnheader").count() == cells > 3
    assert page.find(".rows tbody tr").first.get_attribute("aria-rowindex") == "2"
    page.page.get_by_label("Sort by").select_option("flaps")
    expect(page.find("[aria-sort] button")).to_have_text("Flaps")


def test_it_can_be_enlarged_twice(visit: Open) -> None:
    page = visit(width=640, height=400, device_scale_factor=2)
    for view in VIEWS:
        page.go(view)
        assert page.overflow() <= 0
