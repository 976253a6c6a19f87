"""Logs: levels that change while running, one line an event, whatever is in it."""

from __future__ import annotations

import contextlib
import io
import json
import os

import pytest

from routed import log


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().out.splitlines()


def test_levels_are_calicos_names_in_any_case_and_change_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("Warning", "json")
    logger = log.get("bgp")
    logger.info("quiet")
    log.set_level("DEBUG")
    logger.debug("loud", peer="a")
    log.set_level("none")
    logger.error("nothing")
    (line,) = lines(capsys)
    document = json.loads(line)
    assert (document["event"], document["room"], document["peer"], document["level"]) == (
        "loud",
        "bgp",
        "a",
        "debug",
    )
    with pytest.raises(ValueError, match="unknown log level 'loud'"):
        log.set_level("loud")


@pytest.mark.parametrize("output", ["json", "console"])
def test_hostile_text_stays_one_line_without_escapes(
    output: log.Format, capsys: pytest.CaptureFixture[str]
) -> None:
    log.configure("info", output)
    error = ValueError("bad\nvalue")
    log.get("bgp").info("session down\n", reason="bye\n\x1b[31mred\r\u202e", peer="\x9b2J", error=error)
    (line,) = lines(capsys)
    assert line.isprintable()
    assert "red" in line
    assert "bad" in line


def test_an_encoding_that_lacks_letters_costs_no_session(monkeypatch: pytest.MonkeyPatch) -> None:
    octets = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(octets, "latin-1"))
    log.configure("info", "console")
    log.get("bgp").info("session down", reason="\u65e5\u672c \u00e9")
    (line,) = octets.getvalue().splitlines()
    assert b"\\u65e5\\u672c \\xe9" in line


def test_a_line_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("info", "console")
    logger = log.get("bgp").bind(peer="a", count=1)
    logger.error("told", reason="two words", missing=None, count=2, empty="")
    logger.bind(room="kernel").warning("other", families=["ipv4", "ipv6"])
    first, second = lines(capsys)
    time, level, rest = first.partition("[error    ]")
    assert level
    assert len(time.split(":")) == 3
    assert " ".join(rest.split()) == "told count=2 empty= missing=None peer=a reason='two words' room=bgp"
    assert second.endswith("count=1 families=ipv4,ipv6 peer=a room=kernel")


def test_an_event_without_its_own_fields_has_those_that_are_bound(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure("info", "json")
    logger = log.get("bgp").bind(peer="a")
    logger.info("first", families=("ipv4",), error=OSError(1, "no"))
    logger.info("second")
    first, second = map(json.loads, lines(capsys))
    assert (first["families"], first["error"], first["peer"]) == (["ipv4"], "[Errno 1] no", "a")
    assert set(second) == {"event", "level", "peer", "room", "timestamp"}
    assert second["timestamp"].endswith("Z")


def test_a_reader_that_has_gone_away_costs_only_the_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    log.configure("info", "json")
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w", buffering=1) as gone:
        monkeypatch.setattr("sys.stdout", gone)
        log.get("bgp").info("nobody hears")
        with contextlib.suppress(OSError):
            gone.close()
