"""Actions over the API: what they do to a session, and what they answer."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from routed.bgp.session_types import RefreshRequested
from routed.observe import documents
from routed.observe.events import EventKind
from routed.observe.http.actions import NAMED, near
from tests.bgp.scripted import Scripted
from tests.bgp.test_add_path import to
from tests.bgp.test_speaker import Router
from tests.observe.http.client import JSON_HEADERS, api_of
from tests.observe.http.test_api import TO_B, pair
from tests.observe.views.scene import observed
from tests.virtual import Wire, until, virtual


@virtual
async def test_a_peer_is_shut_down_with_a_message_and_brought_up(wire: Wire) -> None:
    one, _, b = await pair(wire)
    async with api_of(one) as here:
        answered = await here.post(f"/api/v1/peers/{TO_B}/shutdown", {"message": "Wartung bis 15 Uhr, Grüße"})
        assert (answered.status, answered.json()["done"].split(":")[0]) == (200, TO_B)
        await until(lambda: len(b.table()) == 1)
        assert "Wartung bis 15 Uhr, Grüße" in str(b.speaker.peers["to_10.0.0.1"].session.last_error)
        for document in (
            (await here.good("/api/v1/peers"))["peers"][0],
            await here.good(f"/api/v1/peers/{TO_B}"),
        ):
            assert (document["shut_down"], document["state"]) == ("Wartung bis 15 Uhr, Grüße", "idle")
        answered = await here.post(f"/api/v1/peers/{TO_B}/up")
        assert answered.json() == {"done": f"{TO_B}: brought up"}
        await until(lambda: len(b.table()) == 2, within=300)
        assert (await here.good("/api/v1/peers"))["peers"][0]["shut_down"] is None
        assert (await here.post(f"/api/v1/peers/{TO_B}/up")).json() == {"done": f"{TO_B}: was not shut down"}
        kinds = [event["kind"] for event in (await here.good(f"/api/v1/events?peer={TO_B}"))["events"]]
        assert kinds[-4:] == ["peer-shut-down", "session-down", "peer-brought-up", "session-up"]


BODIES: dict[str, tuple[str, bytes, str]] = {
    "no JSON": ("shutdown", b"{", "the body: "),
    "no UTF-8": ("shutdown", b'{"message":"\xff"}', "the body: "),
    "a list": ("shutdown", b"[]", "the body: Expected `object`"),
    "a number for a text": ("shutdown", b'{"message":7}', "Expected `str`, got `int` - at `$.message`"),
    "a field too many": ("shutdown", b'{"massage":"x"}', "unknown field `massage`"),
    "a message that is too long": (
        "shutdown",
        msgspec.json.encode({"message": "ü" * 128}),
        "message: has more than 255 octets (RFC 9003)",
    ),
    "a message with escapes": (
        "shutdown",
        msgspec.json.encode({"message": "\x1b[2J"}),
        "message: is one line of printable characters",
    ),
    "no direction": ("refresh", b'{"direction":"up"}', "Invalid enum value 'up' - at `$.direction`"),
    "deep": ("up", b'{"a":' * 5000, "the body: "),
    "something for up": ("up", b'{"message":"x"}', "unknown field `message`"),
}


@pytest.mark.parametrize("name", BODIES)
def test_a_wrong_body_is_said_and_nothing_is_done(name: str) -> None:
    async def body(wire: Wire) -> None:
        one, a, _ = await pair(wire)
        action, content, text = BODIES[name]
        async with api_of(one) as here:
            answered = await here.ask("POST", f"/api/v1/peers/{TO_B}/{action}", content, JSON_HEADERS)
            error = msgspec.json.decode(answered.body, type=documents.Error)
            assert answered.status == 400
            assert text in error.error
        assert a.established() == 1
        assert not one.events.latest(kinds=[EventKind.PEER_SHUT_DOWN, EventKind.PEER_REFRESHED])

    virtual(body)()


@virtual
async def test_the_longest_message_is_taken_whole(wire: Wire) -> None:
    one, _, b = await pair(wire)
    async with api_of(one) as here:
        message = "ü" * 127
        await here.post(f"/api/v1/peers/{TO_B}/shutdown", {"message": message})
        await until(lambda: b.established() == 0)
        assert message in str(b.speaker.peers["to_10.0.0.1"].session.last_error)


@virtual
async def test_an_unknown_peer_is_answered_with_those_there_are(wire: Wire) -> None:
    one, a, _ = await pair(wire)
    for number in range(20, 60):
        a.speaker.set_peer(a.peer(Router(wire, number), passive=True))
    async with api_of(one) as here:
        for action in ("shutdown", "up", "refresh"):
            answered = await here.post("/api/v1/peers/to_10.0.0.9/" + action)
            assert answered.status == 404
            assert "to_10.0.0." in answered.json()["hint"]
            assert "more" in answered.json()["hint"]


@pytest.mark.parametrize(
    "typed", ["Node_10_3_299_7", "Node_10_3_99", "ode_10_3_99_7", "Mode_10_3_99_7", "Node-10_3_99_7"]
)
def test_a_name_is_found_among_many_where_its_beginning_or_its_end_is_right(typed: str) -> None:
    names = [f"Node_10_{number >> 8}_{number & 255}_7" for number in range(5000)]
    found = near(typed, names)
    assert len(found) <= NAMED
    assert "Node_10_3_99_7" in found
    assert near("nobody", names) == near("x", []) == []


async def scripted(wire: Wire, **changes: Any) -> tuple[Router, Scripted, str]:
    router = Router(wire, 1)
    router.originate("10.1.0.0/26")
    router.set_peers(to(router, 9, passive=True))
    peer = Scripted(wire, 9, router.address, **changes)
    await peer.connect()
    await until(lambda: router.converged is not None and len(peer.heard) >= 2)
    peer.heard.clear()
    return router, peer, next(iter(router.speaker.peers))


@virtual
async def test_routes_are_sent_again_in_the_direction_that_is_asked_for(wire: Wire) -> None:
    router, peer, name = await scripted(wire)
    one = observed(router)

    async def heard(body: Any) -> tuple[int, int]:
        """ROUTE-REFRESHes and announcements."""
        peer.heard.clear()
        async with api_of(one) as here:
            assert (await here.post(f"/api/v1/peers/{name}/refresh", body)).status == 200
        begun = router.speaker.loop.time()
        await until(lambda: router.speaker.loop.time() > begun + 5)
        refreshes = sum(isinstance(message, RefreshRequested) for message in peer.heard)
        return refreshes, sum(bool(update.announced) for update in peer.updates)

    assert await heard(None) == (1, 0)
    assert await heard({}) == (1, 0)
    assert await heard({"direction": "in"}) == (1, 0)
    assert await heard({"direction": "out"}) == (0, 1)
    assert await heard({"direction": "both"}) == (1, 1)
    assert [event.fields["asked"] for event in one.events.latest()] == [True, True, True, False, True]


@virtual
async def test_a_refresh_that_cannot_be_is_a_conflict(wire: Wire) -> None:
    router, _, name = await scripted(wire, route_refresh=False)
    router.speaker.set_peer(router.peer(Router(wire, 5), passive=True))
    async with api_of(observed(router)) as here:
        answered = await here.post(f"/api/v1/peers/{name}/refresh", {"direction": "both"})
        assert answered.status == 409
        assert "did not negotiate route refresh" in answered.json()["error"]
        assert (await here.post(f"/api/v1/peers/{name}/refresh", {"direction": "out"})).status == 200
        answered = await here.post("/api/v1/peers/to_10.0.0.5/refresh")
        assert (answered.status, answered.json()["error"]) == (409, "to_10.0.0.5: no session is established")


@virtual
async def test_drain_and_back(wire: Wire) -> None:
    one, a, b = await pair(wire)
    before = b.best("10.1.0.0/26").attributes
    async with api_of(one) as here:
        assert (await here.post("/api/v1/undrain")).json() == {"done": "did not drain"}
        assert "last choice of 1 peers" in (await here.post("/api/v1/drain")).json()["done"]
        assert (await here.post("/api/v1/drain")).json() == {"done": "drains already"}
        await until(lambda: b.best("10.1.0.0/26").attributes.local_pref == 0)
        assert (await here.good("/api/v1/status"))["draining"]
        assert (await here.good("/api/v1/status"))["listening"] == []
        assert (await here.post("/api/v1/undrain")).status == 200
        await until(lambda: b.best("10.1.0.0/26").attributes == before)
        status = await here.good("/api/v1/status")
        assert (status["draining"], status["listening"]) == (False, ["10.0.0.1:179"])
        a.speaker.drain(to_stop=True)
        answered = await here.post("/api/v1/undrain")
        assert (answered.status, "about to stop" in answered.json()["error"]) == (409, True)
