"""What changes while one looks: events, documents that follow them, a connection that is lost and comes
back."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from playwright.sync_api import expect

from tests.observe.page.fake_node import FakeNode
from tests.observe.page.visit import Visit

pytestmark = pytest.mark.browser
Open = Callable[..., Visit]


def lose(node: FakeNode, index: int) -> None:
    """Have a session go down."""
    node.peers[index] = msgspec.structs.replace(
        node.peers[index], state="idle", established_for=None, since=None, last_error="hold timer expired"
    )
    node.publish("session-down", "session down: hold timer expired", node.peers[index].name)


def live(page: Visit) -> None:
    """Wait until events are heard."""
    expect(page.find("#connection")).to_have_text("Live")


def test_a_lost_session_is_seen_and_said(visit: Open, node: FakeNode) -> None:
    page = visit()
    live(page)
    expect(page.find("#announcer")).to_have_text("")  # what was before is no news
    lose(node, 6)
    expect(page.find(".verdict")).to_have_text("2 of 12 sessions are not up.")
    expect(page.role("link", f"{node.peers[6].name}: Idle")).to_have_class("peer look-down changed")
    expect(page.find("#announcer")).to_have_text(f"Session with {node.peers[6].name} down")
    expect(page.find(".event").first).to_contain_text("hold timer expired")


def test_many_changes_are_one_announcement(visit: Open, node: FakeNode) -> None:
    page = visit("peers")
    live(page)
    page.run(
        """() => {
          window.said = [];
          const one = document.getElementById("announcer");
          new MutationObserver(() => window.said.push(one.textContent))
            .observe(one, { childList: true, characterData: true, subtree: true });
        }"""
    )
    for index in (0, 1, 2, 4, 5):
        lose(node, index)
    node.publish("routes", "ipv4: 2,000 changes", changes=2_000)
    expect(page.find(".rows-peers tbody")).to_contain_text("Idle")
    expect(page.find("#announcer")).not_to_have_text("")
    said = page.run("window.said")
    assert len(said) <= 2
    assert said[-1].startswith("Session") or "sessions down" in said[-1]


def test_events_appear_on_top_and_can_be_held(visit: Open, node: FakeNode) -> None:
    page = visit("events")
    rows = page.find(".rows-events tbody tr")
    live(page)
    node.publish("problem", "a first thing")
    expect(rows.first).to_contain_text("a first thing")
    page.role("button", "Hold").click()
    node.publish("problem", "a second thing")
    expect(page.find(".count")).to_contain_text("held, 1 new since")
    expect(rows.first).to_contain_text("a first thing")
    page.role("button", "Hold").click()
    expect(rows.first).to_contain_text("a second thing")
    page.page.get_by_label("Text").fill("first")
    expect(rows).to_have_count(1)


def test_routes_are_named_in_their_events(visit: Open, node: FakeNode) -> None:
    page = visit("events?kind=routes")
    live(page)
    prefixes = [f"10.0.{number}.0/24" for number in range(9)]
    node.publish("routes", "ipv4: 10 changes", changes=10, announced=prefixes, withdrawn=["10.9.0.0/24"])
    expect(page.find(".rows tbody tr").first).to_contain_text(
        "ipv4: 10 changes: announced 10.0.0.0/24, 10.0.1.0/24, 10.0.2.0/24, 10.0.3.0/24 and 5 more; "
        "withdrawn 10.9.0.0/24"
    )


def test_the_focus_stays_where_it_is_when_documents_are_read_anew(visit: Open, node: FakeNode) -> None:
    page = visit()
    live(page)
    page.role("link", "Prefixes", exact=True).focus()
    lose(node, 6)
    expect(page.find(".verdict")).to_contain_text("2 of 12")
    expect(page.role("link", "Prefixes", exact=True)).to_be_focused()
    page.go("peers")
    link = page.role("link", node.peers[7].name)
    link.focus()
    lose(node, 8)
    expect(page.find(".rows tbody")).to_contain_text("Idle")
    expect(link).to_be_focused()


def test_a_lost_connection_is_told_and_made_up_for(visit: Open, node: FakeNode) -> None:
    page = visit("events", network_errors=True)
    live(page)
    node.stop()
    expect(page.find("#connection")).to_have_text("Connection lost")
    expect(page.find(".lost-bar")).to_contain_text("The connection to routed was lost at")
    expect(page.find("#announcer")).to_have_text("Connection to routed lost")
    node.publish("session-down", "while nobody could hear it", node.peers[0].name)
    node.start()
    page.page.evaluate("document.querySelector('.lost-bar button')?.click()")
    live(page)
    expect(page.find(".lost-bar")).to_be_hidden()
    expect(page.find(".rows-events tbody tr").first).to_contain_text("while nobody could hear it")
    expect(page.find(".count")).to_have_text("61 events")


def test_it_connects_again_by_itself(visit: Open, node: FakeNode) -> None:
    page = visit("rates", network_errors=True)
    live(page)
    node.stop()
    expect(page.find("#connection")).to_have_text("Connection lost")
    node.start()
    live(page)


def test_a_node_that_was_started_anew_has_events_of_its_own(visit: Open, node: FakeNode) -> None:
    page = visit("events", network_errors=True)
    live(page)
    expect(page.find(".count")).to_have_text("60 events")
    node.restart()
    node.publish("started", "another process")
    page.page.evaluate("document.querySelector('.lost-bar button')?.click()")
    expect(page.find(".count")).to_have_text("1 events")
    expect(page.find(".rows-events tbody tr")).to_have_count(1)


def test_a_storm_of_events_is_few_questions(visit: Open, node: FakeNode) -> None:
    page = visit("peers")
    live(page)
    before = node.asked.count("/api/v1/peers")
    for number in range(300):
        node.publish("session-down", f"session down, {number}", node.peers[number % 12].name)
    node.publish("session-up", "the last one", node.peers[0].name)
    page.run("location.hash = '#/events'")
    expect(page.find(".rows-events tbody tr").first).to_contain_text("the last one")
    assert node.asked.count("/api/v1/peers") - before <= 3


def test_a_page_that_nobody_sees_asks_for_nothing(visit: Open, node: FakeNode) -> None:
    page = visit("peers", clock=True)
    live(page)
    page.run(
        """() => {
          Object.defineProperty(document, "hidden", { configurable: true, get: () => true });
          document.dispatchEvent(new Event("visibilitychange"));
        }"""
    )
    node.asked.clear()
    lose(node, 0)
    page.page.clock.run_for(120_000)
    assert node.asked == []
    page.run(
        """() => {
          Object.defineProperty(document, "hidden", { configurable: true, get: () => false });
          document.dispatchEvent(new Event("visibilitychange"));
        }"""
    )
    expect(page.find(".rows-peers tbody")).to_contain_text("Idle")


def test_a_tab_that_is_hidden_for_long_gives_its_connection_back(visit: Open, node: FakeNode) -> None:
    page = visit("events", clock=True)
    live(page)
    hide = """(hidden) => {
      Object.defineProperty(document, "hidden", { configurable: true, get: () => hidden });
      document.dispatchEvent(new Event("visibilitychange"));
    }"""
    page.run(hide, True)
    page.page.clock.run_for(5_000)
    page.run(hide, False)
    page.page.clock.run_for(30_000)
    expect(page.find("#connection")).to_have_text("Live")
    page.run(hide, True)
    page.page.clock.run_for(30_000)
    expect(page.find("#connection")).to_have_text("Paused")
    node.publish("problem", "while the tab was hidden")
    page.run(hide, False)
    live(page)
    page.page.clock.run_for(100)
    expect(page.find(".rows-events tbody tr").first).to_contain_text("while the tab was hidden")


def test_nothing_goes_on_after_a_view_is_left(visit: Open, node: FakeNode) -> None:
    page = visit("peers", clock=True)
    live(page)
    page.go("explain")
    node.asked.clear()
    lose(node, 0)
    page.page.clock.run_for(30_000)
    assert "/api/v1/peers" not in node.asked


def test_streams_end_with_the_page(visit: Open, node: FakeNode) -> None:
    page = visit("rates")
    live(page)
    assert node.listeners == 1
    page.go("events")
    page.go("peers")
    assert node.listeners == 1
