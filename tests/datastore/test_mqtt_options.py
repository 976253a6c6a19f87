"""What a URL of a broker says, and topics."""

from __future__ import annotations

from pathlib import Path

import pytest

from routed.datastore import DatastoreURLError, open_datastore
from routed.datastore.mqtt_client import MqttOptions, read_url
from routed.datastore.mqtt_wire import Contents, Relays, Status, Topics
from routed.resources import Key


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("mqtt://broker/calico", MqttOptions("broker", 1883, "calico")),
        ("mqtt://[fd00::1]:2000/a/b/", MqttOptions("fd00::1", 2000, "a/b")),
        ("mqtts://broker/calico", MqttOptions("broker", 8883, "calico", (None, None, None))),
        ("mqtt://u:p%40@broker/c", MqttOptions("broker", 1883, "c", None, "u", "p@")),
    ],
)
def test_urls(url: str, options: MqttOptions) -> None:
    assert read_url(url, {}) == options


@pytest.mark.parametrize(
    "url",
    [
        *(
            "mqtt:",
            "mqtt:broker",
            "mqtt://broker",
            "mqtt://broker/",
            "mqtt://broker/a/#",
            "mqtt://broker/+/a",
        ),
        *("mqtt://broker/$SYS", "mqtt://broker:x/a", "mqtt://broker/a?b", "mqtt://:geheim@broker/a"),
        "mqtt://[/a",
    ],
)
def test_urls_that_are_none(url: str) -> None:
    with pytest.raises(DatastoreURLError) as raised:
        open_datastore(url, {})
    assert "geheim" not in str(raised.value)


@pytest.mark.parametrize(
    ("scheme", "environ"),
    [
        ("mqtt", {"ROUTED_MQTT_CA_CERT_FILE": "/ca"}),
        ("mqtts", {"ROUTED_MQTT_CERT_FILE": "/cert"}),
        ("mqtt", {"ROUTED_MQTT_PASSWORD": "geheim"}),
        ("mqtt", {"ROUTED_MQTT_PASSWORD_FILE": "/nowhere/password"}),
    ],
)
def test_environments_that_do_not_fit(scheme: str, environ: dict[str, str]) -> None:
    with pytest.raises(DatastoreURLError) as raised:
        open_datastore(f"{scheme}://broker/a", environ)
    assert "geheim" not in str(raised.value)


def test_the_password_is_in_no_text(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("geheim\n")
    environ = {"ROUTED_MQTT_USERNAME": "u", "ROUTED_MQTT_PASSWORD_FILE": str(tmp_path / "password")}
    options = read_url("mqtt://broker/a", environ)
    assert options.password == "geheim"
    assert "geheim" not in f"{options}{options!r}"


def test_a_name_is_one_level_of_a_topic() -> None:
    topics = Topics("a/b")
    assert topics.record(Key("Service", "ns/web")) == "a/b/records/Service/ns%2Fweb"
    assert topics.record(Key("BGPPeer", "node:1.x_y")) == "a/b/records/BGPPeer/node:1.x_y"


def test_contents_do_not_depend_on_the_order() -> None:
    one, other = Contents(), Contents()
    for topic in ("a", "b", "c"):
        one.put(topic, b"1")
    for topic in ("c", "x", "a", "b"):
        other.put(topic, b"0")
        other.put(topic, b"1")
    assert not other.matches(one.marker("r", 1))
    other.put("x", b"")
    assert other.matches(one.marker("r", 1))
    one.put("a", b"2")
    assert not other.matches(one.marker("r", 1))


def test_who_leads() -> None:
    now = 0.0
    relays = Relays(lambda: now)
    assert relays.leader(None) is None
    for name, lost in (("b", ""), ("c", ""), ("a", "away")):
        relays.take(name, b'{"relay":"%s","beat":1,"lost":"%s"}' % (name.encode(), lost.encode()))
    assert relays.leader(None) == "b"
    assert relays.leader(Contents().marker("c", 1)) == "c"
    assert relays.leader(Contents().marker("a", 1)) == "b"
    relays.take("b", b"")
    relays.take("c", b"garbage")
    assert relays.leader(None) == "c"
    now = 1000.0
    assert relays.expire() == ["c", "a"]
    relays.take("c", b'{"relay":"c","beat":1}')
    assert relays.there == []
    relays.take("c", b'{"relay":"c","beat":2}')
    assert relays.there == [Status("c", 2)]
