"""What the API answers, of a speaker with sessions and routes."""

from __future__ import annotations

import asyncio
import json
from ipaddress import ip_address, ip_network
from urllib.parse import quote

import msgspec
import pytest

from routed.bgp.config import ClientRange
from routed.bgp.nlri import Family
from routed.bgp.path import SourceKind
from routed.bgp.transport import Endpoint
from routed.observe import documents
from routed.observe.events import EventKind
from routed.observe.http.endpoints import TABLES
from routed.observe.http.parameters import MOST_ROUTES
from routed.observe.observed import Observed
from routed.observe.options import ObserveOptions
from routed.secret import SecretValue
from tests.bgp.test_speaker import Router, nlri
from tests.observe.http.client import JSON_HEADERS, api_of
from tests.observe.views.scene import observed
from tests.virtual import Wire, until, virtual

TO_B = "to_10.0.0.2"
HERE, THERE = "10.1.0.0/26", "10.2.0.0/26"


async def pair(wire: Wire) -> tuple[Observed, Router, Router]:
    """A node in a session with another, each with a route."""
    a, b = Router(wire, 1), Router(wire, 2)
    one = observed(a)
    a.originate(HERE)
    b.originate(THERE)
    a.set_peers(a.peer(b))
    b.set_peers(b.peer(a))
    await until(lambda: len(a.table()) == len(b.table()) == 2)
    return one, a, b


@virtual
async def test_every_document_is_what_the_table_says(wire: Wire) -> None:
    one, *_ = await pair(wire)
    queries = {"/api/v1/explain": "?target=10.2.0.0/26"}
    async with api_of(one) as here:
        for endpoint in TABLES["api"]:
            if endpoint.method == "GET" and endpoint.answer is not None:
                path = endpoint.path.format(name=TO_B) + queries.get(endpoint.path, "")
                answered = await here.get(path)
                assert answered.status in (200, *endpoint.errors), (path, answered.body)
                assert answered.headers["content-type"] == "application/json"
                assert answered.headers["cache-control"] == "no-store"
                assert answered.headers["x-content-type-options"] == "nosniff"
                msgspec.json.decode(answered.body, type=endpoint.answer)


@virtual
async def test_what_is_for_people_is_the_same_with_lines(wire: Wire) -> None:
    one, *_ = await pair(wire)
    async with api_of(one) as here:
        for path in ("peers", "routes", "events"):
            plain, pretty = await here.good(f"/api/v1/{path}"), await here.get(f"/api/v1/{path}?pretty")
            assert json.loads(pretty.body) == plain
            assert pretty.body.count(b"\n") > 2
            assert (await here.get(f"/api/v1/{path}?pretty=0")).body.count(b"\n") == 1


@virtual
async def test_routes_are_as_they_are_asked_for(wire: Wire) -> None:
    one, a, _ = await pair(wire)
    a.originate("10.1.0.64/26", "10.1.0.128/26")
    a.speaker.flush()

    async with api_of(one) as here:

        async def prefixes(query: str) -> list[str]:
            document = await here.good(f"/api/v1/routes{query}")
            return [route["prefix"] for route in document["routes"]]

        everything = [HERE, "10.1.0.64/26", "10.1.0.128/26", THERE]
        assert await prefixes("") == everything
        assert await prefixes("?prefix=10.2.0.0/26") == [THERE]
        assert await prefixes("?prefix=10.2.0.9") == [THERE]
        assert await prefixes("?prefix=10.2.0.9&match=exact") == []
        assert await prefixes("?prefix=10.1.0.0/16&match=subnets") == everything[:3]
        assert await prefixes("?family=ipv6") == []
        assert await prefixes(f"?received_from={TO_B}") == [THERE]
        assert await prefixes(f"?advertised_to={TO_B}&limit=2") == everything[:2]
        assert await prefixes("?scope=best&family=ipv4") == everything
        # Pages.
        found: list[str] = []
        after = ""
        while True:
            page = await here.good(f"/api/v1/routes?limit=3{after}")
            found += [route["prefix"] for route in page["routes"]]
            assert page["total"] == 4
            if page["next"] is None:
                break
            after = f"&after={quote(page['next'])}"
        assert found == everything


@virtual
async def test_a_large_table_is_sent_while_the_loop_goes_on(wire: Wire) -> None:
    """Others are served while one answer is on its way, and routes that go meanwhile do no harm."""
    a = Router(wire, 1)
    one = observed(a)
    for number in range(5000):
        a.speaker.originate(Family.IPV4, nlri(f"10.{number >> 8}.{number & 255}.0/24"))
    a.speaker.flush()
    async with api_of(one) as here:
        client = await here.connect(buffer=4096)
        client.begin("GET", f"/api/v1/routes?limit={MOST_ROUTES}")
        assert (await client.head()).status_code == 200
        assert (await here.good("/api/v1/status"))["routes"]["ipv4"] == 5000
        for number in range(2500):
            a.speaker.withdraw(Family.IPV4, nlri(f"10.{number >> 8}.{number & 255}.0/24"), SourceKind.STATIC)
        a.speaker.flush()
        body = b""
        while hasattr(event := await client.event(), "data"):
            body += event.data
        document = msgspec.json.decode(body, type=documents.Routes)
        prefixes = [route.prefix for route in document.routes]
        assert len(prefixes) == len(set(prefixes))
        assert set(prefixes) >= {f"10.{number >> 8}.{number & 255}.0/24" for number in range(2500, 5000)}


WRONG: dict[str, tuple[str, int, str]] = {
    "limit": ("/api/v1/routes?limit=-1", 400, "limit='-1': is no whole number from 1 to"),
    "huge": ("/api/v1/routes?limit=" + "9" * 200, 400, "limit='999"),
    "digits of others": ("/api/v1/routes?limit=%D9%A3", 400, "limit="),
    "prefix": ("/api/v1/routes?prefix=10.1", 400, "prefix='10.1': is neither a prefix"),
    "match": ("/api/v1/routes?prefix=10.1.0.0/26&match=x", 400, "use one of exact, longest"),
    "family": ("/api/v1/routes?family=ipx", 400, "family='ipx': use one of ipv4, ipv6"),
    "cursor": ("/api/v1/routes?after=x", 400, "after='x'"),
    "twice": ("/api/v1/routes?limit=1&limit=2", 400, "limit: is there 2 times"),
    "unknown": ("/api/v1/routes?colour=red", 400, "'colour': no such parameter"),
    "kind": ("/api/v1/events?kind=session-up,x", 400, "kind='x': use one of started"),
    "after": ("/api/v1/events?after=x", 400, "after='x': is no whole number"),
    "no target": ("/api/v1/explain", 400, "target: is missing"),
    "received from": ("/api/v1/routes?received_from=nobody", 404, "nobody"),
    "advertised to": ("/api/v1/routes?advertised_to=nobody", 404, "nobody"),
    "peer": ("/api/v1/peers/nobody", 404, "'nobody': no such peer"),
    "path": ("/api/v1/nothing", 404, "'/api/v1/nothing': there is nothing here"),
    "version": ("/api/v2/status", 404, "there is nothing here"),
    "page": ("/", 404, "there is nothing here"),
    "outside": ("/page/../../../etc/passwd", 404, "there is nothing here"),
    "outside, quoted": ("/page/%2e%2e%2fopenapi.py", 404, "there is nothing here"),
    "octets": ("/api/v1/peers/%ff%00%1b[31m", 404, "no such peer"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_question_is_answered_with_what_is_wrong(name: str) -> None:
    async def body(wire: Wire) -> None:
        target, status, text = WRONG[name]
        one, *_ = await pair(wire)
        async with api_of(one, options=ObserveOptions(looking_glass=name.startswith("outside"))) as here:
            answered = await here.get(target)
            error = msgspec.json.decode(answered.body, type=documents.Error)
            assert (answered.status, text in error.error) == (status, True), error
            assert b"\x1b" not in answered.body

    virtual(body)()


@virtual
async def test_methods_and_types(wire: Wire) -> None:
    one, *_ = await pair(wire)
    async with api_of(one) as here:
        answered = await here.ask("DELETE", "/api/v1/peers")
        assert (answered.status, answered.headers["allow"]) == (405, "GET, HEAD")
        answered = await here.ask("GET", "/api/v1/drain")
        assert (answered.status, answered.headers["allow"]) == (405, "POST")
        head = await here.ask("HEAD", "/api/v1/peers")
        assert (head.status, head.body) == (200, b"")
        assert (await here.ask("HEAD", "/api/v1/events/stream")).status == 200
        assert one.events._listeners == []
        for accept, status in (
            ("application/json", 200),
            ("text/html, application/xhtml+xml, */*;q=0.8", 200),
            ("application/*", 200),
            ("text/html", 406),
            ("application/json;q=0, */*", 406),
            ("application/json; q=x", 200),
        ):
            assert (await here.get("/api/v1/status", Accept=accept)).status == status, accept
        assert (await here.get("/api/v1/events/stream", Accept="application/json")).status == 406
        assert (await here.get("/metrics", Accept="text/html")).status == 200


@virtual
async def test_a_peer_is_found_by_its_address_where_that_says_enough(wire: Wire) -> None:
    one, a, b = await pair(wire)
    async with api_of(one) as here:
        assert (await here.good("/api/v1/peers/10.0.0.2"))["name"] == TO_B
        a.speaker.set_peer(a.peer(b, name="a/b c?", remote=Endpoint(ip_address("10.0.0.2"), 1790)))
        assert (await here.good(f"/api/v1/peers/{quote('a/b c?', safe='')}"))["name"] == "a/b c?"
        answered = await here.get("/api/v1/peers/10.0.0.2")
        assert answered.status == 404
        assert TO_B in answered.json()["hint"]


@virtual
async def test_the_metrics_listener_has_nothing_else(wire: Wire) -> None:
    one, *_ = await pair(wire)
    async with api_of(one, "metrics", "0.0.0.0:9179") as here:
        metrics = await here.get("/metrics", Host="node7.example:9179")
        assert metrics.status == 200
        assert metrics.headers["content-type"].startswith("text/plain")
        assert b"# TYPE routed_" in metrics.body
        for path in ("/liveness", "/readiness"):
            assert (await here.get(path, Host="node7")).json()["ok"] in (True, False)
        for endpoint in TABLES["api"]:
            if endpoint not in TABLES["metrics"]:
                answered = await here.ask(
                    endpoint.method, endpoint.path.replace("{", "").replace("}", ""), headers=JSON_HEADERS
                )
                assert answered.status == 404, endpoint.path


@virtual
async def test_probes_get_a_status(wire: Wire) -> None:
    one, a, _ = await pair(wire)
    async with api_of(one) as here:
        await until(lambda: a.converged is not None)
        answered = await here.get("/readiness")
        assert (answered.status, answered.json()["ok"]) == (200, True)
        await asyncio.sleep(1000)
        a.speaker.shut_down_peer(TO_B)
        a.speaker.set_peer(a.peer(Router(wire, 7)))
        answered = await here.get("/readiness")
        assert (answered.status, answered.json()["ok"]) == (503, False)
        assert "to_10.0.0.7" in answered.json()["reason"]
        assert (await here.get("/liveness")).status == 200


@virtual
async def test_the_page_is_there_where_it_is_wanted(wire: Wire) -> None:
    one, *_ = await pair(wire)
    async with api_of(one, options=ObserveOptions(looking_glass=True)) as here:
        page = await here.get("/", Accept="text/html")
        assert page.status == 200
        assert page.headers["content-type"].startswith("text/html")
        assert page.headers["content-security-policy"].startswith("default-src 'self';")
        from routed.observe.page import files

        for path, (body, content_type) in files().items():
            answered = await here.get(path)
            assert (answered.status, answered.body) == (200, body), path
            assert answered.headers["content-type"] == content_type


@virtual
async def test_hostile_texts_stay_data(wire: Wire) -> None:
    """JSON stays JSON, whatever peers and records are called."""
    one, a, b = await pair(wire)
    evil = '</script><script>alert(1)</script>"\x1b]0;x\x07\r\n\ud800\u2028'
    a.speaker.set_peer(a.peer(b, name=evil, filters=(evil,)))
    a.speaker.peers[evil].session.last_error = evil
    one.events.publish(EventKind.BAD_UPDATE, evil, evil, reason=[evil])
    async with api_of(one) as here:
        for path in ("peers", "events", "status"):
            answered = await here.get(f"/api/v1/{path}")
            assert answered.status == 200
            assert b"\x1b" not in answered.body
            assert answered.body.count(b"\n") == 1
            json.loads(answered.body)
        client = await here.connect()
        client.begin("GET", "/api/v1/events/stream?after=0")
        await client.head()
        raw = b""
        while b"alert" not in raw:
            event = await client.event()
            raw += event.data  # type: ignore[union-attr]
        for line in raw.decode().split("\n"):
            assert not line or line.split(":")[0] in ("", "id", "event", "data")


@virtual
async def test_rates_are_sampled_from_the_first_question_on(wire: Wire) -> None:
    one, *_ = await pair(wire)
    async with api_of(one) as here:
        assert len((await here.good("/api/v1/rates"))["samples"]) == 2
        await asyncio.sleep(35)
        samples = (await here.good("/api/v1/rates"))["samples"]
        assert len(samples) == 5
        assert samples[-1]["established"] == 1


@virtual
async def test_a_password_is_nowhere(wire: Wire) -> None:
    one, a, b = await pair(wire)
    a.speaker.set_peer(a.peer(b, password=SecretValue(b"Semifreddo")))
    a.speaker.set_client_ranges([ClientRange(ip_network("10.9.0.0/16"), password=SecretValue(b"Semifreddo"))])
    queries = {"/api/v1/explain": f"?target={TO_B}"}
    async with api_of(one, options=ObserveOptions(metrics_per_peer=True)) as here:
        assert (await here.good(f"/api/v1/peers/{TO_B}"))["protection"]["tcp_md5"] is True
        for endpoint in TABLES["api"]:
            if endpoint.method == "GET" and not endpoint.path.endswith("/stream"):
                path = endpoint.path.format(name=TO_B, file="x", folder="y") + queries.get(endpoint.path, "")
                answered = await here.get(path)
                assert b"Semifreddo" not in answered.body
