"""Texts of peers and records are data: nothing of them runs, and none breaks the page."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from playwright.sync_api import expect

from routed.observe import documents
from tests.observe.page import samples
from tests.observe.page.fake_node import FakeNode
from tests.observe.page.samples import HOSTILE
from tests.observe.page.visit import Visit

pytestmark = pytest.mark.browser
Open = Callable[..., Visit]
replace = msgspec.structs.replace


def hostile(number: int) -> str:
    return HOSTILE[number % len(HOSTILE)]


@pytest.fixture
def enemy(node: FakeNode) -> FakeNode:
    """A node all of whose texts are hostile."""
    node.peers = [
        replace(
            one,
            name=f"{hostile(number)}{number}",
            node=hostile(number + 1),
            last_error=hostile(number + 2),
            router_id=hostile(number + 3),
            shut_down=hostile(number) if number % 5 == 0 else None,
            state=one.state if number % 7 else hostile(number),
        )
        for number, one in enumerate(samples.peers(24, range(0, 24, 3)))
    ]
    node.status_changes = {
        "node": HOSTILE[0] + HOSTILE[9],
        "version": HOSTILE[1],
        "router_id": HOSTILE[2],
        "listening": list(HOSTILE),
        "problems": list(HOSTILE),
        "incidents": {text: text for text in HOSTILE},
        "datastore": documents.DatastoreStatus(
            synced=False, lost_since=HOSTILE[1], lost_reason=HOSTILE[9], changed_at=HOSTILE[0], losses=3
        ),
        "kernel": documents.KernelStatus(error=HOSTILE[1] + HOSTILE[9], installed={}, failed=1, kept_out={}),
    }
    node.peer_changes = {
        "record": HOSTILE[0],
        "filters": list(HOSTILE),
        "next_hop_mode": HOSTILE[1],
        "capabilities": list(HOSTILE),
        "ignored": 3,
        "ignored_reason": HOSTILE[9],
        "history": [samples.event(number, hostile(number), text) for number, text in enumerate(HOSTILE)],
    }
    node.routes = [
        samples.route(
            number,
            source=text,
            next_hop=hostile(number + 1),
            as_path=hostile(number + 2),
            kernel=hostile(number + 3),
            communities=list(HOSTILE),
            not_best=text,
            interface=text,
            origin_record=text,
        )
        for number, text in enumerate(HOSTILE)
    ]
    node.blocks = _blocks(node.blocks)
    node.events = [
        samples.event(number + 1, "session-down" if number % 2 else text, text, text)
        for number, text in enumerate(HOSTILE)
    ]
    node.explain = _explanation
    return node


def _blocks(blocks: documents.Blocks) -> documents.Blocks:
    borrowed = [
        documents.Borrowed(address=text, block=text, owner=text, node=text, pod=text) for text in HOSTILE
    ]
    return replace(
        blocks,
        pools=[replace(blocks.pools[0], name=text, encapsulation=text) for text in HOSTILE],
        blocks=[
            replace(
                one,
                owner=hostile(number),
                pool=hostile(number + 1),
                lent=[documents.Lent(node=hostile(number + 2), addresses=1)],
                problem=hostile(number) if number % 3 else None,
                state=hostile(number + 3),
            )
            for number, one in enumerate(blocks.blocks)
        ],
        borrowed_in=borrowed,
        borrowed_out=borrowed,
    )


def _explanation(target: str) -> documents.Explanation:
    steps = [
        documents.Step(
            gate=text,
            outcome="stop" if number == 3 else "pass",
            text=text,
            record=text,
            field=text,
            peer=text,
            prefix=text,
        )
        for number, text in enumerate(HOSTILE)
    ]
    return documents.Explanation(
        target=target,
        kind="prefix",
        verdict=HOSTILE[0] + HOSTILE[9],
        ok=False,
        stopped_by=steps[3],
        steps=steps,
    )


@pytest.mark.parametrize("width", [360, 1440])
def test_nothing_runs_and_no_layout_breaks(visit: Open, enemy: FakeNode, width: int) -> None:
    page = visit(width=width)
    names = [msgspec.to_builtins(one)["name"] for one in enemy.peers[:13]]
    for view in ("overview", "peers", "routes", "blocks", "rates", "events", "explain/10.64.0.0/26"):
        page.go(view)
        _check(page, view)
    for name in names:
        page.run("(name) => { location.hash = `#/peers/${encodeURIComponent(name)}`; }", name)
        expect(page.find(".lead")).to_be_visible()
        _check(page, name)
    for target in HOSTILE[:8]:
        page.run("(name) => { location.hash = `#/explain/${encodeURIComponent(name)}`; }", target)
        expect(page.find(".chain")).to_be_visible()
        _check(page, target)


def _check(page: Visit, what: str) -> None:
    found: dict[str, Any] = page.run(
        """() => ({
          ran: window.ran === undefined,
          elements: document.querySelectorAll("main script, img, iframe, object, [onload], [onerror]").length,
          links: [...document.querySelectorAll("a")].every((one) => /^#/.test(one.getAttribute("href"))),
          text: document.body.innerText,
        })"""
    )
    assert found["ran"], what
    assert found["elements"] == 0, what
    assert found["links"], what
    assert not set(found["text"]) & set("\u202e\u2066\u200f\x1b\x00\x07"), what
    assert page.overflow() <= 0, what


def test_they_are_shown_as_what_they_are(visit: Open, enemy: FakeNode) -> None:
    page = visit("events")
    expect(page.find("main")).to_contain_text("<script>window.ran = true</script>")
    expect(page.find("main")).to_contain_text("⟨U+202E⟩gnp.exe⟨U+202C⟩")
    expect(page.find("main")).to_contain_text("⟨U+001B⟩[31m⟨U+0000⟩")


def test_links_with_hostile_names_lead_to_their_peers(visit: Open, enemy: FakeNode) -> None:
    page = visit("peers", height=2_000)
    for one in enemy.peers[:13]:
        page.go("peers")
        expect(page.find(".rows tbody tr")).to_have_count(len(enemy.peers))
        links = page.find(".rows tbody a").evaluate_all("all => all.map((one) => one.getAttribute('href'))")
        wanted = page.module("parts/places.js", "m.link('peers', v)", one.name)
        assert wanted in links
        page.run("(hash) => { location.hash = hash; }", wanted)
        expect(page.find(".lead")).to_be_visible()


def test_a_hostile_link_is_only_a_name(visit: Open, node: FakeNode) -> None:
    page = visit("rates", network_errors=True)
    for text in HOSTILE:
        page.run("(name) => { location.hash = `#/peers/${encodeURIComponent(name)}?${name}`; }", text)
        expect(page.role("alert")).to_contain_text("there is no such peer")
        _check(page, text)


def test_the_theme_that_is_kept_may_be_anything(visit: Open, node: FakeNode) -> None:
    page = visit("rates")
    page.run("(text) => localStorage.setItem('routed.theme', text)", HOSTILE[1])
    page.page.reload()
    expect(page.role("button", "Theme: System. Change to light")).to_be_visible()
    assert page.run("window.ran") is None


def test_elements_refuse_what_could_run(visit: Open) -> None:
    page = visit("rates")
    script = "(() => { try { return m.h('a', {[v[0]]: v[1]}) && 'made'; } catch { return 'refused'; } })()"
    for name in ("onclick", "OnClick", "style", "srcdoc"):
        assert page.module("parts/dom.js", script, [name, "x"]) == "refused"
    for target in ("javascript:x", "https://x", " javascript:x", "data:text/html,x"):
        assert page.module("parts/dom.js", script, ["href", target]) == "refused"
    assert page.module("parts/dom.js", script, ["href", "#/peers"]) == "made"
