"""The page on a real node, by the node's own HTTP server."""

from __future__ import annotations

import re
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import expect

from routed.observe.page import files
from tests.observe.page.real_nodes import RealNodes
from tests.observe.page.visit import Visit
from tests.routed_process import block

pytestmark = pytest.mark.browser
Open = Callable[..., Visit]
_PATIENCE = 60_000  # milliseconds


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealNodes]:
    """Two nodes, and a third that never comes."""
    running = RealNodes(tmp_path_factory.mktemp("nodes"))
    yield running
    running.close()


def test_every_view_of_a_real_node(visit: Open, nodes: RealNodes) -> None:
    page = visit(url=nodes.url)
    peers = page.role("group", "2 peers around alpha")
    expect(peers.get_by_role("link", name="Mesh_127_0_0_12: Established")).to_be_visible(timeout=_PATIENCE)
    expect(peers.get_by_role("link", name="Mesh_127_0_0_13")).to_have_class("peer look-down")
    expect(page.find("#connection")).to_have_text("Live")
    page.go("peers")
    expect(page.find(".rows-peers tbody tr")).to_have_count(2)
    page.go("peers/Mesh_127_0_0_12")
    expect(page.find("main")).to_contain_text("90 s agreed, 90 s configured")
    expect(page.find("main")).to_contain_text("ADD-PATH")
    page.role("link", "Received").click()
    expect(page.find(".rows-routes")).to_contain_text("10.66.3.0/26")
    page.go("routes?scope=all")
    expect(page.find(".rows-routes")).to_contain_text("10.66.1.2/32")
    page.go("blocks?owner=bravo")
    expect(page.find(".pool .cell")).to_have_count(4)
    expect(page.find(".cell.marked")).to_have_count(2)
    expect(page.find("main")).to_contain_text("default/cart")
    page.go("explain/10.66.4.0/26")
    expect(page.find(".first-stop")).to_contain_text("the session with node charlie")
    page.go("explain/10.66.2.0/26")
    expect(page.find(".path")).to_contain_text("127.0.0.12")
    page.go("explain/Mesh_127_0_0_12")
    expect(page.find(".chain > li").first).to_be_visible()
    page.go("events")
    expect(page.find(".rows-events")).to_contain_text("session established")
    page.go("rates")
    expect(page.find("main")).not_to_contain_text("could not")


def test_a_change_of_records_is_seen_without_asking(visit: Open, nodes: RealNodes) -> None:
    page = visit("events", url=nodes.url)
    expect(page.find("#connection")).to_have_text("Live")
    nodes.records.put("more", block("alpha", "10.66.77.0/26"))
    expect(page.find(".rows-events")).to_contain_text(
        re.compile(r"10\.66\.77\.0/26 announced|: 6 changes"), timeout=_PATIENCE
    )
    page.go("routes")
    expect(page.find(".rows-routes")).to_contain_text("10.66.77.0/26")


def test_a_session_that_ends_is_seen_without_asking(visit: Open, nodes: RealNodes) -> None:
    page = visit(url=nodes.url)
    expect(page.find(".verdict")).to_contain_text("1 of 2 sessions is not up.", timeout=_PATIENCE)
    expect(page.find("#connection")).to_have_text("Live")
    nodes.stop("bravo")
    expect(page.find(".verdict")).to_contain_text("2 of 2 sessions are not up.", timeout=_PATIENCE)
    expect(page.find("#announcer")).to_have_text("Session with Mesh_127_0_0_12 down", timeout=_PATIENCE)
    nodes.start("bravo")
    expect(page.find(".verdict")).to_contain_text("1 of 2 sessions is not up.", timeout=_PATIENCE)


def test_every_file_is_served_with_a_strict_policy(nodes: RealNodes) -> None:
    for path, (body, content_type) in files().items():
        with urllib.request.urlopen(nodes.url.rstrip("/") + path) as answer:
            assert answer.read() == body
            assert answer.headers["Content-Type"] == content_type
            assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
            assert "unsafe" not in answer.headers["Content-Security-Policy"]


def test_a_page_that_was_not_asked_for_is_not_there(nodes: RealNodes) -> None:
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"{nodes.url}page/__init__.py")
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"{nodes.url}page/views/../../options.py")
