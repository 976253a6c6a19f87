"""BIRD configuration: the words for each part, and whole nodes that a real BIRD 1.6 parses."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from ipaddress import IPv4Address, ip_network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routed.bgp.nlri import Family
from routed.intent.compiler import compile_intent
from routed.intent.filters import Direction, compile_rule
from routed.intent.options import Options
from routed.intent.types import NodeIntent
from routed.render.bird import function_name, render, statement, without_passwords
from routed.render.check import check
from routed.resources import (
    Action,
    AddCommunity,
    BGPFilter,
    BGPPeer,
    FilterRule,
    LargeCommunity,
    MatchOperator,
    Node,
    PeerType,
    PrefixLength,
    PrependASPath,
    Record,
    Secret,
    SecretValue,
    SetPriority,
    Source,
    StandardCommunity,
)
from tests import daemons
from tests.intent.clusters import EVERYTHING, records

from .cases import CASES, Case

TEN = ip_network("10.0.0.0/8")
IN = MatchOperator.IN


def words(**fields: Any) -> str:
    fields.setdefault("action", Action.REJECT)
    if "cidr" in fields:
        fields.setdefault("match_operator", IN)
    return statement(compile_rule(FilterRule(**fields)))


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, "reject;"),
        ({"action": Action.ACCEPT}, "accept;"),
        ({"cidr": TEN}, "if ((net ~ 10.0.0.0/8)) then { reject; }"),
        (
            {"cidr": TEN, "match_operator": MatchOperator.EQUAL},
            "if ((net = 10.0.0.0/8)) then { reject; }",
        ),
        (
            {"cidr": TEN, "match_operator": MatchOperator.NOT_EQUAL},
            "if ((net != 10.0.0.0/8)) then { reject; }",
        ),
        (
            {"cidr": TEN, "match_operator": MatchOperator.NOT_IN},
            "if ((net !~ 10.0.0.0/8)) then { reject; }",
        ),
        (
            {"cidr": TEN, "prefix_length": PrefixLength(16, 24)},
            "if ((net ~ [ 10.0.0.0/8{16,24} ])) then { reject; }",
        ),
        (
            {"cidr": TEN, "prefix_length": PrefixLength(None, 24), "match_operator": MatchOperator.NOT_IN},
            "if ((net !~ [ 10.0.0.0/8{8,24} ])) then { reject; }",
        ),
        (
            {"source": Source.REMOTE_PEERS},
            "if (((defined(source))&&(source ~ [ RTS_BGP ]))) then { reject; }",
        ),
        ({"interface": "eth*"}, 'if (((defined(ifname))&&(ifname ~ "eth*"))) then { reject; }'),
        ({"communities": (StandardCommunity(1, 2),)}, "if (((1, 2) ~ bgp_community)) then { reject; }"),
        (
            {"communities": (LargeCommunity(1, 2, 3),)},
            "if (((1, 2, 3) ~ bgp_large_community)) then { reject; }",
        ),
        ({"as_path_prefix": (1, 2)}, "if ((bgp_path ~ [= 1 2 * =])) then { reject; }"),
        (
            {"priority": 100},
            "if ((defined(bgp_local_pref)&&(bgp_local_pref = 2147483547))) then { reject; }",
        ),
        (
            {
                "action": Action.ACCEPT,
                "operations": (
                    AddCommunity(StandardCommunity(1, 2)),
                    AddCommunity(LargeCommunity(1, 2, 3)),
                    PrependASPath((7, 8)),
                    SetPriority(256),
                ),
            },
            "bgp_community.add((1, 2)); bgp_large_community.add((1, 2, 3)); bgp_path.prepend(8); "
            "bgp_path.prepend(7); bgp_local_pref = 2147483391; accept;",
        ),
        (
            {"cidr": TEN, "source": Source.REMOTE_PEERS, "interface": "e", "priority": 0},
            "if ((net ~ 10.0.0.0/8)&&((defined(source))&&(source ~ [ RTS_BGP ]))&&((defined(ifname))&&"
            '(ifname ~ "e"))&&(defined(bgp_local_pref)&&(bgp_local_pref = 2147483647))) then { reject; }',
        ),
    ],
)
def test_a_rule_in_birds_words(fields: dict[str, Any], expected: str) -> None:
    assert words(**fields) == expected


@pytest.mark.parametrize(
    ("cidr", "written", "shown"),
    [
        ("5000::/64", "5000::0/64", "5000::0/64"),
        ("5000::/64", "5000:0::/64", "5000:0::/64"),
        ("10.0.0.0/8", "10.1.2.3/8", "10.0.0.0/8"),
        ("10.0.0.1/32", "10.0.0.1", "10.0.0.1/32"),
        ("10.0.0.0/8", None, "10.0.0.0/8"),
        ("10.0.0.0/8", "nonsense/8", "10.0.0.0/8"),
    ],
)
def test_a_prefix_is_shown_as_it_was_written(cidr: str, written: str | None, shown: str) -> None:
    assert words(cidr=ip_network(cidr), cidr_text=written) == f"if ((net ~ {shown})) then {{ reject; }}"


def test_names_of_functions_fit_bird() -> None:
    assert function_name("a" * 45, Direction.IMPORT, 4) == f"'bgp_{'a' * 45}_importFilterV4'"
    long = "long-name." * 25
    name = function_name(long, Direction.EXPORT, 6)
    digest = sha256(long.encode()).hexdigest()[:16].upper()
    assert name == f"'bgp_{long[:28]}_{digest}_exportFilterV6'"
    assert len(name) == 66
    assert function_name(long + "x", Direction.EXPORT, 6) != name


def test_a_filter_that_asks_for_the_peers_type_is_told_it() -> None:
    rule = FilterRule(action=Action.REJECT, peer_type=PeerType.EBGP)
    text = main_file(
        BGPFilter(name="f", import_v4=(rule,), export_v4=(FilterRule(action=Action.REJECT),)),
        peer("i", "192.0.2.1", filters=("f",)),
        peer("e", "192.0.2.2", as_number=65001, filters=("f",)),
    )
    assert (
        "function 'bgp_f_importFilterV4'(bool internal_peer) {\n  if ((!internal_peer)) then { reject; }"
        in text
    )
    assert "function 'bgp_f_exportFilterV4'() {" in text
    assert [line.strip() for line in text.splitlines() if "FilterV4'(" in line and ";" in line] == [
        "'bgp_f_importFilterV4'(true);",
        "'bgp_f_exportFilterV4'();",
        "'bgp_f_importFilterV4'(false);",
        "'bgp_f_exportFilterV4'();",
    ]


def peer(name: str, ip: str, **fields: Any) -> BGPPeer:
    from ipaddress import ip_address

    from routed.resources import PeerAddress

    fields.setdefault("as_number", 64512)
    return BGPPeer(name=name, peer_ip=PeerAddress(ip_address(ip)), **fields)


def intent_of(*extra: Record) -> NodeIntent:
    from ipaddress import IPv4Interface

    own = Node(name="a", ipv4_address=IPv4Interface("10.0.0.1/24"))
    return compile_intent([own, *extra], Options("a"))


def main_file(*extra: Record) -> str:
    return render(intent_of(*extra)).files["bird.cfg"]


def test_a_filter_that_is_not_there_is_not_called() -> None:
    assert "bgp_gone" not in main_file(peer("p", "192.0.2.1", filters=("gone",)))


@pytest.mark.parametrize("password", [b'with "quote', b"two\nlines", b"\xff\xfe", b"\0"])
def test_a_password_that_bird_cannot_be_given(password: bytes) -> None:
    from routed.resources import SecretKeyRef

    secret = Secret(namespace="kube-system", name="s", data={"k": SecretValue(password)})
    rendered = render(intent_of(secret, peer("p", "192.0.2.1", password=SecretKeyRef("s", "k"))))
    assert "password" not in rendered.files["bird.cfg"]
    assert [str(problem.key) for problem in rendered.problems] == ["BGPPeer p"]


def test_passwords_are_not_for_people_to_look_at() -> None:
    from routed.resources import SecretKeyRef

    secret = Secret(namespace="kube-system", name="s", data={"k": SecretValue(b"hush; it's #1")})
    rendered = render(intent_of(secret, peer("p", "192.0.2.1", password=SecretKeyRef("s", "k"))))
    assert '  password "hush; it\'s #1";' in rendered.files["bird.cfg"]
    shown = without_passwords(rendered)
    assert "hush" not in str(shown)
    assert '  password "********";' in shown["bird.cfg"]


def test_an_unknown_router_id_is_left_to_bird() -> None:
    assert "router id" not in render(compile_intent([], Options("a"))).files["bird.cfg"]


@pytest.mark.parametrize("severity", ["Debug", "Trace", "Info", "Warning", "None"])
def test_debug(severity: str) -> None:
    text = render(replace(intent_of(), log_severity=severity)).files["bird.cfg"]
    every, states = text.count("debug all;"), text.count("debug { states")
    expected = {"Debug": (3, 0), "Trace": (3, 0), "None": (0, 0)}.get(severity, (0, 3))
    assert (every, states) == expected


# --- whole nodes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_whole_node(case: Case) -> None:
    """The files are as they were last looked at (`python -m tests.render.cases` writes them)."""
    made = case.render()
    assert {**made.files} == case.expected()
    assert case.problems_expected() == [str(problem) for problem in made.problems]


@pytest.mark.daemon("bird1")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_bird_takes_a_whole_node(case: Case) -> None:
    assert refusals(case.render().files) == []


def refusals(files: Any) -> list[str]:
    folder = daemons.bird1_folder()
    programs = {Family.IPV4: str(folder / "bird"), Family.IPV6: str(folder / "bird6")}
    outcomes = list(check(files, programs))
    assert [outcome.file for outcome in outcomes] == ["bird.cfg", "bird6.cfg"]
    return [outcome.error for outcome in outcomes if outcome.error]


@pytest.mark.daemon("bird1")
def test_bird_refuses_what_is_wrong() -> None:
    files = dict(CASES[0].render().files)
    files["bird6_aggr.cfg"] += "nonsense;\n"
    (refusal,) = refusals(files)
    assert refusal.startswith("bird: bird6_aggr.cfg:17:")


@pytest.mark.daemon("bird1")
@settings(max_examples=25, deadline=None)
@given(st.lists(records, max_size=12), st.sampled_from(("a", "b")))
def test_bird_takes_whatever_the_records_say(changed: list[Record], node: str) -> None:
    together = {record.key: record for record in (*EVERYTHING, *changed)}
    intent = compile_intent(together.values(), Options(node, router_id=IPv4Address("10.0.0.1")))
    assert refusals(render(intent).files) == []


@given(st.lists(records, max_size=20), st.randoms())
@settings(max_examples=40, deadline=None)
def test_the_order_of_records_makes_no_difference(found: list[Record], random: Any) -> None:
    together = list({record.key: record for record in found}.values())
    shuffled = random.sample(together, len(together))
    options = Options("a", use_pod_cidr=True)
    assert render(compile_intent(together, options)) == render(compile_intent(shuffled, options))


def test_the_cases_have_every_line_of_the_templates() -> None:
    """Each line of fixed text in a template is in some expected file."""
    folder = Path(__file__).parents[2] / "routed" / "templates"
    expected = "\n".join(text for case in CASES for text in case.expected().values())
    for template in folder.glob("bird*.j2"):
        for line in template.read_text().splitlines():
            text = line.strip()
            if text and "{" not in text.replace("{ reject; }", "") and "}" not in text and "#" not in text:
                assert text in expected, f"{template.name}: {text}"
