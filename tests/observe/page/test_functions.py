"""The page's pure functions, as the browser runs them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import pytest

from tests.observe.page.fake_node import FakeNode
from tests.observe.page.samples import HOSTILE
from tests.observe.page.visit import Pages, Visit

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def page(pages: Pages) -> Iterator[Visit]:
    """A page whose modules are called."""
    node = FakeNode()
    visit = Visit(pages, node.url, locale="en-US")
    visit.go("rates")
    yield visit
    visit.close()
    node.stop()


def test_durations_sizes_and_parts(page: Visit) -> None:
    times = [None, 0, 0.4, 59, 60, 3_661, 86_400, 273_845]
    assert page.module("parts/text.js", "v.map(m.duration)", times) == [
        "–",
        "0 s",
        "0 s",
        "59 s",
        "1 min",
        "1 h 1 min",
        "1 d",
        "3 d 4 h",
    ]
    parts = [[0, 0], [0, 5], [1, 1_000], [999, 1_000], [5, 5], [1, 3]]
    assert page.module("parts/text.js", "v.map(([a, b]) => m.percent(a, b))", parts) == [
        "–",
        "0 %",
        "<1 %",
        ">99 %",
        "100 %",
        "33 %",
    ]
    prefixes = ["10.0.0.0/26", "fd00::/122", "fd00::/64", "10.0.0.1"]
    assert page.module("parts/text.js", "v.map(m.prefixSize).map(m.size)", prefixes) == [
        "64",
        "64",
        "2^64",
        "1",
    ]
    families = [{"ipv6": 2, "ipv4": 1_000}, {"ipv4": 3}, {}, None]
    assert page.module("parts/text.js", "v.map(m.eachFamily)", families) == ["1,000 + 2", "3", "–", "–"]


def test_unseen_characters_are_named_and_long_texts_cut(page: Visit) -> None:
    shown = page.module("parts/text.js", "v.map((one) => m.visible(one))", list(HOSTILE))
    for text in shown:
        assert not any(
            ord(one) < 32 or 0x202A <= ord(one) <= 0x202E or 0x2066 <= ord(one) <= 0x2069 for one in text
        )
    assert "⟨U+202E⟩" in shown[6]
    cut = page.module("parts/text.js", "v.map((one) => m.clip(one, 20))", list(HOSTILE))
    assert all(len(text.replace("⟨", "").split("…")[0]) <= 20 * 8 for text in cut)
    assert page.module("parts/text.js", "m.clip('\\u{1f9ea}'.repeat(30), 20)") == "\U0001f9ea" * 10 + "…"


def test_places_survive_the_way_through_a_link(page: Visit) -> None:
    names = [*HOSTILE, "10.0.0.0/24", "fd00::/64", "a/b?c#d%2F", "100%", "a//b", " "]
    found = page.module(
        "parts/places.js", "v.map((one) => m.parse(m.link('peers', one, {text: one, state: ''})))", names
    )
    assert found == [{"view": "peers", "name": one, "query": {"text": one}} for one in names]
    links = page.module("parts/places.js", "v.map((one) => m.link('explain', one))", names)
    assert all(link.startswith("#/explain/") for link in links)
    assert "#/explain/10.0.0.0/24" in links
    broken = page.module("parts/places.js", "['#/peers/%', '', '#', '#/', '#/routes?%%%'].map(m.parse)")
    assert [one["view"] for one in broken] == ["peers", "overview", "overview", "overview", "routes"]
    assert page.module("parts/places.js", "m.link('peers', 'a\\ud800b')") == "#/peers/a%EF%BF%BDb"


_LAYOUT = """(() => {
  const peers = Array.from({ length: v.count + 3 }, (_, index) => ({
    name: `p${index}`, address: "10.0.0.1", state: index % 40 ? "established" : "idle",
    shut_down: null, stale: false,
    kind: index < v.count ? "ibgp" : "ebgp", route_reflector_client: index < v.count / 2,
  }));
  const drawing = m.layout(peers, v.width, v.height);
  const places = drawing.sectors.flatMap((sector) => sector.places);
  return {
    ...drawing,
    sectors: [],
    callouts: drawing.callouts.map(({ side, y }) => [side, y]),
    names: places.map((place) => place.peer.name),
    places: places.map(({ x, y }) => [x, y]),
  };
})()"""


@pytest.mark.parametrize("count", [1, 2, 12, 80, 300, 1_000, 3_000])
@pytest.mark.parametrize(("width", "height"), [(328, 328), (700, 400), (1_380, 480)])
def test_the_graph_has_a_place_for_each_peer(page: Visit, count: int, width: int, height: int) -> None:
    size = {"count": count, "width": width, "height": height}
    drawing = page.module("parts/graph_layout.js", _LAYOUT, size)
    assert sorted(drawing["names"]) == sorted(f"p{number}" for number in range(count + 3))
    for x, y in drawing["places"]:
        assert 0 < x < width
        assert 0 < y < height
        assert math.hypot(x - drawing["x"], y - drawing["y"]) >= drawing["inner"]
    assert len({(round(x, 1), round(y, 1)) for x, y in drawing["places"]}) == count + 3
    for side in (-1, 1):
        heights = sorted(y for one, y in drawing["callouts"] if one == side)
        assert all(later - earlier >= 21.9 for earlier, later in itertools.pairwise(heights))
        assert all(0 <= one <= height for one in heights)


def test_rates_are_differences_and_a_counter_that_was_set_back_is_a_gap(page: Visit) -> None:
    taken: list[dict[str, Any]] = [
        {"time": f"2026-03-04T09:00:{second:02}Z", "n": value}
        for second, value in [(0, 5), (5, 15), (10, 3), (10, 9)]
    ]
    found = page.module("parts/chart.js", "m.perSecond(v, 'n').map((one) => one.value)", taken)
    assert found == [2, None, None]


@pytest.mark.parametrize("high", [0, 0.03, 0.9, 1, 2, 7, 40, 999, 1_600, 1e6, 123_456_789])
def test_ticks_are_few_and_hold_all_values(page: Visit, high: float) -> None:
    whole, exact = page.module("parts/chart.js", "[m.niceTicks(v, true), m.niceTicks(v)]", high)
    for ticks in (whole, exact):
        assert 2 <= len(ticks) <= 5
        assert ticks[0] == 0
        assert ticks[-1] >= high
        assert len({round(later - earlier, 9) for earlier, later in itertools.pairwise(ticks)}) == 1
    assert all(tick == int(tick) for tick in whole)


def test_a_history_becomes_spans(page: Visit) -> None:
    history = [
        {"kind": kind, "time": f"2026-03-04T09:00:{second:02}Z"}
        for kind, second in [("peer-added", 0), ("session-up", 10), ("session-down", 20), ("session-up", 30)]
    ]
    script = "m.spans(v, true, Date.parse('2026-03-04T09:00:40Z')).map((one) => [one.to - one.from, one.up])"
    found = page.module("parts/timeline.js", script, history)
    assert found == [[10_000, True], [10_000, False], [10_000, True]]
