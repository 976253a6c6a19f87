"""Pages of other sites get nothing from the loopback listener, and have nothing done."""

from __future__ import annotations

import pytest

from tests.bgp.test_speaker import Router
from tests.observe.http.client import JSON_HEADERS, api_of
from tests.observe.views.scene import observed
from tests.virtual import Wire, virtual

HOSTS: dict[str, bool] = {
    "localhost": True,
    "LOCALHOST:9179": True,
    "127.0.0.1:9179": True,
    "127.9.9.9": True,
    "[::1]:80": True,
    "localhost:8080": True,  # a port that was forwarded
    "evil.example": False,
    "evil.example:9179": False,
    "localhost.evil.example": False,
    "127.0.0.1.evil.example": False,
    "localhost@evil.example": False,
    "evil.example@localhost": True,  # the host of that is localhost
    "10.0.0.1:9179": False,
    "[::ffff:10.0.0.1]": False,
    "0.0.0.0": False,
    "[": False,
    "": False,
    "%6cocalhost": False,
}


@pytest.mark.parametrize("host", HOSTS)
def test_the_host_must_be_loopback(host: str) -> None:
    async def body(wire: Wire) -> None:
        one = observed(Router(wire, 1))
        async with api_of(one, listen="127.0.0.1:9179") as here:
            for path in ("/api/v1/status", "/metrics", "/", "/nothing"):
                status = (await here.get(path, Host=host)).status
                assert (status != 421) == HOSTS[host], (path, status)
        async with api_of(one) as here:  # whoever reaches the Unix socket may call it as they like
            assert (await here.get("/api/v1/status", Host=host)).status == 200

    virtual(body)()


@virtual
async def test_the_host_of_the_target_itself_is_not_believed(wire: Wire) -> None:
    async with api_of(observed(Router(wire, 1)), listen="127.0.0.1:9179") as here:
        answered = await here.get("http://localhost/api/v1/status", Host="evil.example")
        assert answered.status == 421


@virtual
async def test_an_address_that_is_listened_on_is_a_host(wire: Wire) -> None:
    async with api_of(observed(Router(wire, 1)), listen="10.7.7.7:9179") as here:
        assert (await here.get("/api/v1/status", Host="10.7.7.7:9179")).status == 200


ACTIONS: dict[str, tuple[dict[str, str], int]] = {
    "curl": ({"Content-Type": "application/json"}, 200),
    "with a charset": ({"Content-Type": "Application/JSON; charset=utf-8"}, 200),
    "our page": ({**JSON_HEADERS, "Origin": "http://localhost:9179", "Sec-Fetch-Site": "same-origin"}, 200),
    "a page of another site": ({**JSON_HEADERS, "Origin": "http://evil.example"}, 403),
    "a page of another port": ({**JSON_HEADERS, "Origin": "http://localhost:8000"}, 403),
    "over TLS": ({**JSON_HEADERS, "Origin": "https://localhost:9179"}, 403),
    "a sandbox": ({**JSON_HEADERS, "Origin": "null"}, 403),
    "without origin, across sites": ({**JSON_HEADERS, "Sec-Fetch-Site": "cross-site"}, 403),
    "a form": ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
    "a form of text": ({"Content-Type": "text/plain"}, 415),
    "a disguise": ({"Content-Type": "text/plain; application/json"}, 415),
    "nothing": ({}, 415),
}


@pytest.mark.parametrize("name", ACTIONS)
def test_actions_are_not_for_pages_of_others(name: str) -> None:
    async def body(wire: Wire) -> None:
        router = Router(wire, 1)
        headers, status = ACTIONS[name]
        async with api_of(observed(router), listen="127.0.0.1:9179") as here:
            answered = await here.ask("POST", "/api/v1/drain", b"", {"Host": "localhost:9179", **headers})
            assert answered.status == status, answered.body
            assert router.speaker.draining == (status == 200)

    virtual(body)()


FETCHES: dict[str, tuple[dict[str, str], int]] = {
    "a script of ours": ({"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"}, 200),
    "a person": ({"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate"}, 200),
    "a link from elsewhere": ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, 200),
    "a script of others": ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, 403),
    "one of another port": ({"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors"}, 403),
}


@pytest.mark.parametrize("name", FETCHES)
def test_pages_of_others_cannot_make_it_work(name: str) -> None:
    async def body(wire: Wire) -> None:
        headers, status = FETCHES[name]
        async with api_of(observed(Router(wire, 1)), listen="127.0.0.1:9179") as here:
            assert (await here.get("/api/v1/status", **headers)).status == status

    virtual(body)()


@virtual
async def test_nobody_is_told_that_other_origins_may_read(wire: Wire) -> None:
    async with api_of(observed(Router(wire, 1)), listen="127.0.0.1:9179") as here:
        preflight = await here.ask(
            "OPTIONS",
            "/api/v1/drain",
            headers={"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"},
        )
        assert preflight.status == 405
        answered = await here.get("/api/v1/status", Origin="http://evil.example")
        for one in (preflight, answered):
            assert not any(name.startswith("access-control") for name in one.headers)
            assert one.headers["cross-origin-resource-policy"] == "same-origin"
            assert one.headers["content-security-policy"].startswith("default-src 'none'")
