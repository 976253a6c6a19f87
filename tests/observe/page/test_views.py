"""What each view shows, and what can be done in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from playwright.sync_api import expect

from routed.observe import documents
from tests.observe.page import samples
from tests.observe.page.fake_node import FakeNode
from tests.observe.page.visit import VIEWS, Visit

pytestmark = pytest.mark.browser
Open = Callable[..., Visit]


@pytest.mark.parametrize("width", [360, 768, 1440])
def test_every_view_fits_the_window(visit: Open, width: int) -> None:
    page = visit(width=width)
    for view in VIEWS:
        page.go(view)
        assert page.overflow() <= 0, view
        assert page.find("main .state.failed").count() == 0, view


def test_the_overview_says_whether_all_is_well(visit: Open, node: FakeNode) -> None:
    page = visit()
    expect(page.find(".verdict")).to_have_text("1 of 12 sessions is not up.")
    expect(page.role("list", "Sessions that are not up")).to_contain_text("Mesh_10_240_0_4")
    expect(page.find("main")).to_contain_text("spec.peerIP '10.0.0.300' is no address")
    expect(page.role("heading", "worker-17.fra1")).to_be_visible()
    node.peers = samples.peers(down=(), tors=1)
    page.page.reload()
    expect(page.find(".verdict")).to_have_text("All 11 sessions are up.")
    assert page.role("list", "Sessions that are not up").count() == 0


AMISS: list[tuple[dict[str, Any], str]] = [
    ({"draining": True}, "The node is draining."),
    ({"converged": False}, "Not converged yet."),
    (
        {
            "datastore": documents.DatastoreStatus(
                synced=True, lost_since=samples.stamp(9), lost_reason="etcd: gone", changed_at=None, losses=2
            )
        },
        "The datastore is lost.",
    ),
]


def test_the_overview_names_what_is_amiss(visit: Open, node: FakeNode) -> None:
    page = visit()
    for changes, words in AMISS:
        node.status_changes = changes
        node.publish("problem", "something is amiss")
        expect(page.find(".verdict")).to_contain_text(words)


def test_a_reflector_without_records_or_kernel(visit: Open, node: FakeNode) -> None:
    node.status_changes = {
        "datastore": None,
        "kernel": None,
        "role": "reflector",
        "cluster_id": "1.1.1.1",
        "problems": [],
        "incidents": {
            "refused_connections": 4,
            "sessions_ended": {"hold timer expired": 3},
            "none": 0,
            "no": {},
        },
    }
    page = visit()
    expect(page.find("main")).to_contain_text("It works without records.")
    expect(page.find("main")).to_contain_text("No routes are programmed, by design.")
    expect(page.find("main")).to_contain_text("refused connections4sessions ended: hold timer expired3")


def test_the_graph_leads_to_peers_and_kinds(visit: Open, node: FakeNode) -> None:
    page = visit()
    peers = page.find(".graph a.peer")
    expect(peers).to_have_count(12)
    assert {"look-up", "look-connecting", "look-shut"} <= set(
        " ".join(peers.evaluate_all("all => all.map((one) => one.getAttribute('class'))")).split()
    )
    paths = page.find(".graph a.peer path").evaluate_all("all => all.map((one) => one.getAttribute('d'))")
    assert len(set(paths)) == 3
    peers.nth(4).click()
    expect(page.role("heading", node.peers[4].name)).to_be_focused()
    page.page.go_back()
    page.role("link", "eBGP 2: show as a table").focus()
    page.page.keyboard.press("Enter")
    expect(page.find(".rows-peers tbody tr")).to_have_count(2)


def test_the_graph_is_one_tab_stop_with_arrow_keys(visit: Open) -> None:
    page = visit()
    expect(page.find(".graph a[tabindex='0']")).to_have_count(1)
    page.find(".graph a[tabindex='0']").focus()
    page.page.keyboard.press("End")
    last = page.run("document.activeElement.dataset.key")
    page.page.keyboard.press("ArrowRight")
    first = page.run("document.activeElement.dataset.key")
    assert last.startswith("peer ")
    assert first == "kind mesh"
    assert page.find(".graph a[tabindex='0']").count() == 1


def test_peers_are_filtered_sorted_and_linked(visit: Open, node: FakeNode) -> None:
    page = visit("peers?state=not-up")
    expect(page.find(".rows tbody tr")).to_have_count(2)
    expect(page.find(".count")).to_have_text("2 of 12 peers")
    page.page.get_by_label("State", exact=True).select_option("")
    expect(page.find(".rows tbody tr")).to_have_count(12)
    assert page.page.url.endswith("#/peers")
    page.page.get_by_label("Name, address or AS").fill("172.16")
    expect(page.find(".rows tbody tr")).to_have_count(2)
    assert page.page.url.endswith("#/peers?text=172.16")
    page.page.get_by_label("Name, address or AS").fill("nobody")
    expect(page.find("main")).to_contain_text("No peer matches")


def test_sort_buttons_say_how_it_is_sorted(visit: Open) -> None:
    page = visit("peers")
    names = page.find(".rows tbody .c-name a")
    expect(page.role("columnheader", "State")).to_have_attribute("aria-sort", "ascending")
    page.role("button", "Peer").click()
    expect(page.role("columnheader", "Peer")).to_have_attribute("aria-sort", "ascending")
    assert page.find("[aria-sort]").count() == 1
    shown = names.all_inner_texts()
    assert shown.index("Mesh_10_240_0_9") + 1 == shown.index("Mesh_10_240_0_10")  # by number
    page.role("button", "Peer").click()
    expect(page.role("columnheader", "Peer")).to_have_attribute("aria-sort", "descending")
    assert names.all_inner_texts() == shown[::-1]


def test_rows_are_reached_with_arrow_keys(visit: Open) -> None:
    page = visit("peers")
    page.find(".rows tbody a[tabindex='0']").focus()
    page.page.keyboard.press("End")
    expect(page.find(".rows tr:last-child .c-name a")).to_be_focused()
    page.page.keyboard.press("ArrowUp")
    row = page.run("document.activeElement.closest('tr').getAttribute('aria-rowindex')")
    assert row == "12"
    page.page.keyboard.press("Enter")
    expect(page.find("main h1")).to_be_focused()
    assert page.page.url.count("#/peers/") == 1


def test_a_peering_whole(visit: Open, node: FakeNode) -> None:
    page = visit("peers/Mesh_10_240_0_3")
    main = page.find("main")
    for words in (
        "10.240.0.3:179",
        "90 s agreed",
        "71.4 s left",
        "ADD-PATH ipv4 both",
        "hold timer expired",
        "BGPPeer rack-a",
    ):
        expect(main).to_contain_text(words)
    expect(page.find(".timeline svg")).to_have_attribute(
        "aria-label", page.find(".timeline figcaption").inner_text()
    )
    page.role("link", "Received").click()
    expect(page.page.get_by_label("Received from")).to_have_value("Mesh_10_240_0_3")
    expect(page.find(".count")).to_have_text("30 routes")


def test_a_peering_that_is_down(visit: Open, node: FakeNode) -> None:
    page = visit(f"peers/{node.peers[11].name}")
    expect(page.find("main")).to_contain_text("Shut down by an operator: line card swap")
    expect(page.find("main")).to_contain_text("Nothing is agreed on until the session is up.")


def test_a_peer_that_is_not_there(visit: Open) -> None:
    page = visit("peers/nobody", network_errors=True)
    expect(page.role("alert")).to_contain_text("there is no such peer")
    expect(page.role("alert")).to_contain_text("see peers")


def test_routes_are_asked_for_with_their_filters(visit: Open, node: FakeNode) -> None:
    page = visit("routes?family=ipv6&scope=all")
    expect(page.find(".count")).to_have_text("60 routes")
    page.page.get_by_label("Received from").fill("Mesh_10_240_0_5")
    page.page.keyboard.press("Enter")
    expect(page.find(".count")).to_have_text("30 routes")
    page.page.get_by_label("Show", exact=True).select_option("rejected")
    expect(page.find("main")).to_contain_text("None matches these filters.")
    asked = [one for one in node.asked if "routes?" in one]
    assert asked[0] == "/api/v1/routes?family=ipv6&scope=all&limit=500"
    assert "received_from=Mesh_10_240_0_5" in asked[-1]


def test_an_explanation_marks_the_gate_that_stopped_it(visit: Open, node: FakeNode) -> None:
    page = visit("explain/10.66.4.0/24")
    steps = page.find(".chain > li")
    expect(steps).to_have_count(6)
    stopped = page.find(".first-stop")
    expect(stopped).to_have_count(1)
    expect(stopped).to_contain_text("Stopped here")
    expect(stopped).to_contain_text("spec.importV4[1]")
    assert page.find(".chain").get_by_text("Stopped here").count() == 1
    expect(page.find("main")).to_contain_text("There is no path.")
    page.go("explain/10.64.0.0/26")
    expect(page.find(".path")).to_have_count(1)
    expect(page.find(".path")).to_contain_text("64512:100")


def test_the_search_explains_what_is_typed(visit: Open) -> None:
    page = visit("peers")
    page.page.keyboard.press("/")
    expect(page.role("combobox", "Explain a prefix, an address or a peer")).to_be_focused()
    page.page.keyboard.type("10.64.0.0/26")
    with page.page.expect_request("**/api/v1/explain?target=10.64.0.0%2F26"):
        page.page.keyboard.press("Enter")
    expect(page.role("heading", "Explain 10.64.0.0/26")).to_be_focused()
    assert page.page.url.endswith("#/explain/10.64.0.0/26")


def test_the_search_offers_peers(visit: Open) -> None:
    page = visit("rates")
    page.page.keyboard.press("/")
    page.page.keyboard.type("172.16")
    expect(page.role("listbox", "Peers").get_by_role("option")).to_have_count(2)
    page.page.keyboard.press("ArrowDown")
    page.page.keyboard.press("ArrowDown")
    expect(page.role("option", "Global_172_16_1_1", exact=False)).to_have_attribute("aria-selected", "true")
    expect(page.find("#search-input")).to_have_attribute("aria-activedescendant", "search-option-1")
    page.page.keyboard.press("Escape")
    expect(page.find("#search-options")).to_be_hidden()
    page.page.keyboard.type(".1")
    page.page.keyboard.press("ArrowUp")
    page.page.keyboard.press("Enter")
    expect(page.find("main h1")).to_have_text("Explain Global_172_16_1_1")


def test_a_slash_in_a_field_is_a_slash(visit: Open) -> None:
    page = visit("routes")
    page.page.get_by_label("Prefix or address").press("/")
    expect(page.page.get_by_label("Prefix or address")).to_have_value("/")


def test_the_block_map_is_read_cell_by_cell(visit: Open, node: FakeNode) -> None:
    page = visit("blocks")
    expect(page.find(".pool .cell")).to_have_count(400)
    first = page.find(".pool .block-map").first
    first.focus()
    expect(page.find(".readout")).to_contain_text("10.64.0.64/26")
    page.page.keyboard.press("ArrowRight")
    expect(page.find(".readout")).to_contain_text("10.64.0.128/26")
    chosen = first.get_attribute("aria-activedescendant")
    expect(page.find(f"#{chosen}")).to_have_attribute("aria-selected", "true")
    assert "10.64.0.128/26: " in (page.find(f"#{chosen}").get_attribute("aria-label") or "")
    page.page.keyboard.press("End")
    expect(page.find(".readout")).not_to_contain_text("10.64.0.128/26")


def test_blocks_of_one_owner_stand_out(visit: Open, node: FakeNode) -> None:
    page = visit("blocks")
    page.page.get_by_label("Owner", exact=True).select_option("worker-17.fra1")
    mine = sum(block.ours for block in node.blocks.blocks)
    expect(page.find(".cell.marked")).to_have_count(mine)
    expect(page.find(".cell.muted")).to_have_count(400 - mine)
    expect(page.find(".rows-blocks")).to_have_attribute("aria-rowcount", str(mine + 1))
    assert page.page.url.endswith("#/blocks?owner=worker-17.fra1")
    expect(page.find("main")).to_contain_text("shop/cart-7d9f")


def test_rates_are_read_with_the_keyboard(visit: Open) -> None:
    page = visit("rates")
    chart = page.role("slider", "UPDATEs received")
    chart.focus()
    page.page.keyboard.press("Home")
    expect(chart).to_have_attribute("aria-valuenow", "0")
    first = chart.get_attribute("aria-valuetext") or ""
    assert " per second at " in first
    page.page.keyboard.press("ArrowRight")
    expect(chart).to_have_attribute("aria-valuenow", "1")
    page.find("summary").click()
    expect(page.find("details tbody tr")).to_have_count(60)


def test_too_few_samples_are_no_chart(visit: Open, node: FakeNode) -> None:
    node.rates = samples.rates(1)
    expect(visit("rates").find("main")).to_contain_text("Not enough samples yet")


EMPTY = {
    "peers": "No peers",
    "routes": "No routes",
    "blocks": "No pools and no blocks",
    "events": "Nothing has happened yet",
    "overview": "No peers are configured.",
    "explain": "Nothing is asked for",
}


def test_empty_views_say_so(visit: Open, node: FakeNode) -> None:
    node.peers, node.routes, node.events = [], [], []
    node.blocks = documents.Blocks(node="", pools=[], blocks=[], borrowed_in=[], borrowed_out=[])
    page = visit()
    for view, words in EMPTY.items():
        page.go(view)
        expect(page.find("main")).to_contain_text(words)


def test_a_failure_is_told_and_tried_again(visit: Open, node: FakeNode) -> None:
    node.failing["status"] = 500
    page = visit("overview", network_errors=True)
    for view in ("overview", "routes", "blocks", "rates", "explain/10.0.0.1"):
        path = {"overview": "status", "explain/10.0.0.1": "explain"}.get(view, view)
        node.failing[path] = 500
        page.go(view)
        expect(page.role("alert").first).to_contain_text("the view failed")
        expect(page.role("alert").first).to_contain_text("see the log of routed")
        del node.failing[path]
        page.run("document.querySelector('.state.failed button')?.click()")  # unless it was tried meanwhile
        expect(page.find(".state.failed")).to_have_count(0)


def test_what_cannot_be_read_anew_stays_and_is_said_to_be_old(visit: Open, node: FakeNode) -> None:
    page = visit("peers", network_errors=True)
    node.failing["peers"] = 503
    node.publish("session-down", "session down: hold timer expired", node.peers[0].name)
    expect(page.find(".note.warn")).to_contain_text("This could not be read anew: the view failed")
    expect(page.find(".rows tbody tr")).to_have_count(12)
    del node.failing["peers"]
    node.publish("session-up", "session established", node.peers[0].name)
    expect(page.find(".note.warn")).to_have_count(0)


def test_reading_takes_its_time(visit: Open, node: FakeNode) -> None:
    page = visit("rates")
    node.held.clear()
    page.run("location.hash = '#/peers'")
    expect(page.find(".state.loading")).to_contain_text("Reading the peers")
    node.held.set()
    expect(page.find(".rows tbody tr")).to_have_count(12)


def test_a_place_that_is_not_there(visit: Open) -> None:
    page = visit("rates")
    page.run("location.hash = '#/nowhere'")
    expect(page.role("alert")).to_contain_text("There is no such view")


def test_the_theme_is_kept(visit: Open) -> None:
    page = visit("rates", theme="light")
    paper = "getComputedStyle(document.body).backgroundColor"
    light = page.run(paper)
    page.role("button", "Theme: System. Change to light").click()
    assert page.run(paper) == light
    page.role("button", "Theme: Light. Change to dark").click()
    dark = page.run(paper)
    assert dark != light
    page.page.reload()
    assert page.run(paper) == dark
    page.role("button", "Theme: Dark. Change to system").click()
    assert page.run(paper) == light
    assert page.run("localStorage.length") == 0


def test_a_block_with_a_size_beyond_floats(visit: Open, node: FakeNode) -> None:
    wide = msgspec.structs.replace(
        node.blocks.blocks[0], cidr="fd00::/64", family="ipv6", size=64, allocated=10
    )
    node.blocks = msgspec.structs.replace(node.blocks, blocks=[wide])
    expect(visit("blocks").find(".rows-blocks")).to_contain_text("10 of 2^64")
