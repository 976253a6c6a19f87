"""Logs: levels that change while running, one line an event, whatever is in it."""

from __future__ import annotations

import json

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
    log.get("bgp").info("session down", reason="bye\n\x1b[31mred\r\u202e", peer="\x9b2J")
    (line,) = lines(capsys)
    assert line.isprintable()
