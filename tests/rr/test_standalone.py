"""What an operator asks of a standalone reflector, and how the agent is then told to run."""

from __future__ import annotations

import resource
from ipaddress import IPv4Address, ip_address, ip_network
from pathlib import Path

import pytest
from typer.testing import CliRunner

from routed.bgp.nlri import Family
from routed.bgp.transport import Endpoint
from routed.cli import application
from routed.daemon.reflector import password_from_file
from routed.intent.options import Options
from routed.rr.from_records import agent_options, from_node_record
from routed.rr.standalone import Reflector, Running, missing_descriptors
from routed.secret import SecretValue

LISTEN = Endpoint(ip_address("192.0.2.1"), 179)
WILDCARD = Endpoint(ip_address("0.0.0.0"), 179)
ID = IPv4Address("192.0.2.1")
RANGE = (ip_network("192.0.2.0/24"),)
RR = ["rr", "--listen", "127.0.0.1:1790", "--as", "64512", "--router-id", "127.0.0.1"]


def test_clients_of_a_range_and_another_reflector() -> None:
    reflector = Reflector(
        listen=(WILDCARD, LISTEN),
        local_as=64512,
        router_id=ID,
        cluster_id=IPv4Address("192.0.2.9"),
        clients=RANGE,
        peers=(Endpoint(ip_address("192.0.2.2"), 1790), Endpoint(ip_address("2001:db8::2"), 179)),
    )
    options = agent_options(reflector, Running(graceful_stop=True, drain_time=2.5))
    assert options.reflector
    assert not options.use_kernel
    assert options.identity is not None
    assert (options.identity.router_id, options.identity.cluster_id) == (ID.packed, b"\xc0\0\2\x09")
    assert [one.network for one in options.client_ranges] == list(RANGE)
    assert (options.graceful_stop, options.drain_time) == (True, 2.5)
    beside, other_family = options.peers
    assert (beside.name, beside.remote.port) == ("Reflector_192_0_2_2", 1790)
    assert (beside.route_reflector_client, beside.passive, beside.dynamic) == (False, False, False)
    assert beside.families == frozenset(Family)
    assert (beside.source, other_family.source) == (LISTEN.address, None)


def test_records_know_it_by_its_first_address() -> None:
    reflector = Reflector((WILDCARD, LISTEN), 64512, ID, ID, from_records=True)
    assert agent_options(reflector, Running()).compiler.reflector_address == LISTEN.address
    with pytest.raises(ValueError, match="wildcard"):
        Reflector((WILDCARD,), 64512, ID, ID, from_records=True)
    with pytest.raises(ValueError, match="no clients"):
        Reflector((LISTEN,), 64512, ID, ID)


def test_a_reflector_with_a_record_takes_its_identity_from_there() -> None:
    options = from_node_record(Options(node="rr1"), (), Running(drain_time=1.0))
    assert options.reflector
    assert options.identity is None
    assert options.listen is None
    assert from_node_record(Options(node="rr1"), (LISTEN,), Running()).listen == (LISTEN,)


@pytest.mark.parametrize(
    ("limit", "missing"),
    [
        (resource.RLIM_INFINITY, None),
        (10_064, None),
        (1024, "9040 descriptors are missing for 10000 clients"),
    ],
)
def test_descriptors_that_are_missing_are_counted(limit: int, missing: str | None) -> None:
    said = missing_descriptors(limit, [ip_network("127.1.0.0/16")])
    assert (said == "") is (missing is None)
    assert said.startswith(missing or "")


def test_a_small_range_asks_for_few_descriptors() -> None:
    assert missing_descriptors(1024, [ip_network("192.0.2.0/24")]) == ""
    assert "1 descriptors are missing for 2 clients" in missing_descriptors(65, [ip_network("192.0.2.0/31")])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["rr", "--as", "64512", "--router-id", "1.1.1.1", "--clients", "127.1.0.0/16"], "--listen"),
        ([*RR[:3], "--router-id", "1.1.1.1", "--clients", "127.1.0.0/16"], "--as"),
        ([*RR[:5], "--clients", "127.1.0.0/16"], "--router-id"),
        ([*RR, "--clients", "127.1.0.0/16", "--drain-time", "-1"], "--drain-time"),
        ([*RR, "--clients", "127.1.0.0/16", "--drain-time", "1e9"], "--drain-time"),
        ([*RR, "--clients", "127.1.0.0/16", "--on-stop", "never"], "--on-stop"),
        ([*RR, "--clients", "127.1.0.0/16", "--peer", "192.0.2.2"], "--peer"),
        (["rr", "--node", "rr1"], "--datastore"),
        (["rr", "--node", "rr1", "--datastore", "file:x", "--as", "64512"], "--as"),
        (["rr", "--node", "rr1", "--datastore", "file:x", "--clients", "127.1.0.0/16"], "--clients"),
        (["rr", "--node", "rr1", "--datastore", "file:x", "--router-id", "x"], "--router-id"),
    ],
)
@pytest.mark.usefixtures("daemons_in_process")
def test_what_does_not_fit_together_is_refused(arguments: list[str], says: str) -> None:
    result = CliRunner().invoke(application(), arguments, env={"CALICO_ROUTER_ID": ""})
    assert result.exit_code == 2, result.output
    assert says in result.output
    assert "Traceback" not in result.output


def test_clients_of_the_ranges_share_password_and_limit() -> None:
    password = SecretValue(b"Zabaione")
    reflector = Reflector(
        (LISTEN,), 64512, ID, ID, RANGE, password=password, max_prefixes=10, max_prefixes_time=7.0
    )
    (clients,) = reflector.client_ranges
    assert (clients.password, clients.max_prefixes, clients.max_prefixes_time) == (password, 10, 7.0)
    assert "Zabaione" not in repr(reflector) + repr(clients)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [(None, "No such file"), (b"", "empty"), (b"\n", "empty"), (b"x" * 81, "81 octets")],
)
def test_a_password_file_that_cannot_be_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | None, complaint: str
) -> None:
    path = tmp_path / "password"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SystemExit) as caught:
        password_from_file(str(path))
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert f"--password-file {path}: " in said
    assert complaint in said
    assert "xxx" not in said


def test_the_end_of_the_last_line_is_no_part_of_the_password(tmp_path: Path) -> None:
    path = tmp_path / "password"
    for content, expected in ((b"a b\n", b"a b"), (b"ab\r\n", b"ab"), (b"ab", b"ab"), (b"a\n\n", b"a\n")):
        path.write_bytes(content)
        password = password_from_file(str(path))
        assert password is not None
        assert password.reveal() == expected
    assert password_from_file(None) is None
