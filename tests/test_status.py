"""The status file: what it says is what the status API says, and nothing keeps it from being written."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec

from routed.observe.views.peers import peer
from routed.status import StatusFile, speaker_document
from tests.bgp.test_speaker import Router, join
from tests.observe.views.scene import observed
from tests.virtual import Wire, until, virtual


@virtual
async def test_a_session_is_the_same_in_the_file_and_in_the_api(wire: Wire) -> None:
    a, b = Router(wire, 1), Router(wire, 2)
    watched = observed(a)
    a.originate("10.1.0.0/26")
    join(a, b)
    await until(lambda: len(b.table()) == 1)
    (session,) = speaker_document(a.speaker)["sessions"]
    line = msgspec.to_builtins(peer(watched, "to_10.0.0.2"))
    assert session.pop("peer") == line["address"]
    assert session.pop("ignored") == {"announcements": line["ignored"], "reason": line["ignored_reason"]}
    assert session.pop("advertised") == {"ipv4": 1}
    assert session == {name: line[name] for name in session}
    assert session["agreed"]["add_path_send"] == ["ipv4"]


def test_a_name_that_no_utf_8_holds_is_written_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    StatusFile(path, lambda: {"node": "\udcff", "problems": ["\ud800 \x1b[2J"]}).write()
    written = json.loads(path.read_text())
    assert (written["node"], written["problems"]) == ("\ufffd", ["\ufffd \x1b[2J"])
    assert list(tmp_path.iterdir()) == [path]
