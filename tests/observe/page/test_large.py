"""A large node: 1,000 peers, 20,000 routes, 2,000 blocks. How long the main thread was busy is printed, not
asserted (`pytest -rP`)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from tests.observe.page import samples
from tests.observe.page.fake_node import FakeNode
from tests.observe.page.visit import Visit

pytestmark = pytest.mark.browser
Open = Callable[..., Visit]
_ROWS = 60  # in the DOM, at most, in a window of 800 pixels


@pytest.fixture
def large(node: FakeNode) -> FakeNode:
    """A reflector of many clients."""
    node.peers = samples.clients(1_000, range(5, 1_000, 50)) + samples.peers(0, (), 2)
    node.routes = [samples.route(number) for number in range(20_000)]
    node.blocks = samples.blocks(2_000)
    node.events = samples.events(node.peers, 2_000)
    return node


def stalls(page: Visit, what: str) -> None:
    """Print the main thread's long tasks since the last call."""
    found = page.run("window.longTasks.splice(0)")
    longest = f", the longest {max(found):.0f} ms" if found else ""
    print(f"{what}: {len(found)} tasks over 50 ms{longest}")


def test_the_graph_of_a_thousand_peers_is_few_elements(visit: Open, large: FakeNode) -> None:
    page = visit()
    expect(page.find(".verdict")).to_have_text("20 of 1,002 sessions are not up.")
    expect(page.find(".graph .crowd")).to_have_count(1)
    assert page.find(".graph *").count() < 400
    expect(page.find(".graph a.peer")).to_have_count(22)
    stalls(page, "overview of 1,002 peers")


def test_any_peer_of_the_crowd_is_found_with_the_pointer(visit: Open, large: FakeNode) -> None:
    page = visit()
    expect(page.find(".graph .crowd")).to_have_count(1)
    box = page.find("svg.graph").bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2 + 110, box["y"] + box["height"] / 2
    page.page.mouse.move(x, y)
    expect(page.find(".tip")).to_contain_text("client-")
    name = page.find(".tip bdi").first.inner_text()
    page.page.mouse.click(x, y)
    expect(page.find("main h1")).to_have_text(name)


def test_twenty_thousand_routes_scroll(visit: Open, large: FakeNode) -> None:
    page = visit("routes")
    rows = page.find(".rows-routes tbody tr")
    table = page.find(".rows-routes")
    expect(page.find(".count")).to_have_text("20,000 routes")
    expect(table).to_have_attribute("aria-rowcount", "20001")
    stalls(page, "first portion of 20,000 routes")
    most = page.run(
        """async () => {
          let most = 0;
          for (let step = 0; step < 60; step++) {
            scrollBy(0, 4000);
            await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
            most = Math.max(most, document.querySelectorAll(".rows-routes tbody tr").length);
          }
          return most;
        }"""
    )
    assert most <= _ROWS
    stalls(page, "60 steps of 4,000 pixels")
    page.run("scrollTo(0, document.documentElement.scrollHeight)")
    last = large.routes[-1].prefix
    expect(rows.last).to_contain_text(last)
    expect(rows.last).to_have_attribute("aria-rowindex", "20001")
    assert rows.count() <= _ROWS
    stalls(page, "jump to the end")
    page.run("scrollTo(0, 0)")
    expect(rows.first).to_contain_text(large.routes[0].prefix)
    asked = [one for one in large.asked if "/routes?" in one]
    assert len(asked) < 20
    assert len(asked) == len(set(asked))


def test_keys_lead_to_the_end_of_the_table(visit: Open, large: FakeNode) -> None:
    page = visit("routes")
    page.find(".rows-routes tbody a[tabindex='0']").focus()
    page.page.keyboard.press("End")
    last = page.find(".rows-routes tr[aria-rowindex='20001'] .c-prefix a")
    expect(last).to_have_text(large.routes[-1].prefix)
    expect(last).to_be_focused()
    page.page.keyboard.press("Home")
    expect(page.find(".rows-routes tr[aria-rowindex='2'] .c-prefix a")).to_be_focused()
    assert page.find(".rows-routes tbody tr").count() <= _ROWS + 1


def test_two_thousand_blocks(visit: Open, large: FakeNode) -> None:
    page = visit("blocks")
    expect(page.find(".pool .cell")).to_have_count(2_000)
    expect(page.find(".rows-blocks")).to_have_attribute("aria-rowcount", "2001")
    assert page.find(".rows-blocks tbody tr").count() <= _ROWS
    stalls(page, "2,000 blocks")


def test_peers_and_events_are_bounded_too(visit: Open, large: FakeNode) -> None:
    page = visit("peers")
    expect(page.find(".rows-peers")).to_have_attribute("aria-rowcount", "1003")
    assert page.find(".rows-peers tbody tr").count() <= _ROWS
    stalls(page, "table of 1,002 peers")
    page.role("button", "Received").click()
    stalls(page, "sorted anew")
    page.go("events")
    expect(page.find(".count")).to_have_text("2,000 events")
    assert page.find(".rows-events tbody tr").count() <= _ROWS
    stalls(page, "2,000 events")


def test_more_blocks_than_a_map_has_cells(visit: Open, node: FakeNode) -> None:
    node.blocks = samples.blocks(6_000)
    page = visit("blocks?pool=default-ipv4")
    expect(page.find(".pool .cell")).to_have_count(4_096)
    expect(page.find(".pool")).to_contain_text("704 more blocks are in the table below.")
