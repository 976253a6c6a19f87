"""The cells of the matrix: each is what was seen in a real run."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.faults.pair import RouteMonitor
from tests.matrix.scene import (
    BULK,
    OUR_AS,
    OUR_BLOCKS,
    OUR_COMMUNITY,
    OUR_SEVERAL,
    OURS,
    PASSWORD,
    PEER_AS,
    THEIR_PREFIXES,
    THEIR_SEVERAL,
    THEIRS,
    Scene,
    scene,
)
from tests.matrix.speakers import LARGE_COMMUNITY, Speaker
from tests.netns import DeadlineError, wait_for
from tests.raw_peer import (
    ADD_PATH,
    AS_PATH,
    EXTENDED_MESSAGE,
    FOUR_OCTET_AS,
    GRACEFUL_RESTART,
    LARGE_COMMUNITIES,
    MULTIPROTOCOL,
    ROUTE_REFRESH,
    family,
)
from tests.recorder import Kind

YES = "yes"
NOT_OFFERED = "not offered by peer"
#: For how long routes must be there while an end is gone, seconds.
GONE = 2.0
#: RFC 4271 section 4.1.
_USUAL_OCTETS = 4096

Judge = Callable[[Scene], str]


def exchange(version: int) -> Judge:
    """Routes of a family in both directions."""

    def judge(seen: Scene) -> str:
        if family(version)[:2] not in {value[:2] for value in seen.capability(MULTIPROTOCOL, version)}:
            return NOT_OFFERED
        wait_for(lambda: seen.has_theirs(version), "routed has the peer's route", 60)
        wait_for(lambda: seen.speaker.show(OUR_BLOCKS[version]), "the peer has routed's route", 60)
        return YES

    return judge


def four_octet_as(seen: Scene) -> str:
    """AS numbers above 65535 in OPEN and in AS_PATH, both ways."""
    if seen.capability(FOUR_OCTET_AS) != [PEER_AS.to_bytes(4, "big")]:
        return NOT_OFFERED
    ours, theirs = OUR_AS.to_bytes(4, "big"), PEER_AS.to_bytes(4, "big")
    for told, number in (
        (path_of(seen, OURS[4], THEIRS[4]), ours),
        (path_of(seen, THEIRS[4], OURS[4]), theirs),
    ):
        if told != b"\x02\x01" + number:
            return f"no: AS_PATH is {told.hex()}"
    return YES


def path_of(seen: Scene, source: str, target: str) -> bytes:
    """AS_PATH of the first route that one end told the other of its own prefixes."""
    prefix = OUR_BLOCKS[4] if source == OURS[4] else THEIR_PREFIXES[4]
    for told in seen.wire.updates(source, target, add_path=sends_paths(seen, source)):
        if prefix in {route.prefix for route in told.announced}:
            return told.attributes[AS_PATH].value
    return b""


def sends_paths(seen: Scene, source: str) -> bool:
    """Whether path identifiers go from one end to the other (RFC 7911 section 4)."""
    target = THEIRS[4] if source == OURS[4] else OURS[4]
    modes = []
    for one, other in ((source, target), (target, source)):
        values = seen.wire.open(one, other).values(ADD_PATH)
        tuples = [value[i : i + 4] for value in values for i in range(0, len(value), 4)]
        modes.append(next((one[3] for one in tuples if one[:3] == family(4)), 0))
    return bool(modes[0] & 2 and modes[1] & 1)


def add_path(seen: Scene) -> str:
    """Two paths to a prefix, in the directions that the peer offers."""
    if not seen.capability(ADD_PATH):
        return NOT_OFFERED
    done = []
    if sends_paths(seen, OURS[4]):
        wait_for(lambda: seen.speaker.path_count(OUR_SEVERAL) == 2, "the peer has both paths", 60)
        done.append("from routed")
    if sends_paths(seen, THEIRS[4]):
        wait_for(lambda: told_paths(seen) == 2, "the peer tells both paths", 60)
        wait_for(lambda: received(seen) == all_told(seen), "routed has all paths", 60)
        done.append("to routed")
    if len(done) == 2:
        return YES
    return f"{YES}, {done[0]} only" if done else "no: negotiated in neither direction"


def told_paths(seen: Scene) -> int:
    """How many paths of its prefix the daemon has told routed."""
    return len([one for one in table_told(seen) if one[0] == THEIR_SEVERAL])


def table_told(seen: Scene) -> set[tuple[str, int]]:
    """Prefixes and path identifiers that the daemon has told routed and not taken back."""
    table: set[tuple[str, int]] = set()
    for told in seen.wire.updates(THEIRS[4], OURS[4], add_path=sends_paths(seen, THEIRS[4])):
        table -= {(route.prefix, route.path_id) for route in told.withdrawn}
        table |= {(route.prefix, route.path_id) for route in told.announced}
    return table


def all_told(seen: Scene) -> int:
    """How many routes the daemon has told routed."""
    return len(table_told(seen))


def received(seen: Scene) -> int:
    """How many routes routed has from the daemon."""
    (session,) = [one for one in seen.routed.status()["sessions"] if one["peer"] == THEIRS[4]]
    return int(session["received"]["ipv4"])


def route_refresh(seen: Scene) -> str:
    """The daemon asks, and is told all again."""
    if not seen.capability(ROUTE_REFRESH):
        return NOT_OFFERED
    before = len(seen.wire.messages(THEIRS[4], OURS[4], Kind.ROUTE_REFRESH))
    told_before = len(seen.wire.messages(OURS[4], THEIRS[4], Kind.UPDATE))
    seen.speaker.refresh()

    def asked() -> bool:
        return len(seen.wire.messages(THEIRS[4], OURS[4], Kind.ROUTE_REFRESH)) > before

    try:
        wait_for(asked, "ROUTE-REFRESH on the wire", 10)
    except DeadlineError:
        return "no: the peer takes the question, but never asks"

    def told_again() -> bool:
        updates = seen.wire.updates(OURS[4], THEIRS[4], add_path=sends_paths(seen, OURS[4]))[told_before:]
        return OUR_BLOCKS[4] in {route.prefix for told in updates for route in told.announced}

    wait_for(told_again, "the routes again", 60)
    return YES


def extended_messages(seen: Scene) -> str:
    """A message of more than 4,096 octets, taken."""
    if not seen.capability(EXTENDED_MESSAGE):
        return NOT_OFFERED
    wait_for(lambda: seen.speaker.show(BULK[-1]) and seen.speaker.show(BULK[0]), "the bulk has arrived", 60)
    longest = max(one.length for one in seen.wire.messages(OURS[4], THEIRS[4], Kind.UPDATE))
    return YES if longest > _USUAL_OCTETS else f"no: routed's longest message has {longest} octets"


def large_communities(seen: Scene) -> str:
    """Each end's, in the other's table."""

    def ours_told() -> bool:
        return OUR_COMMUNITY in seen.speaker.large_communities(OUR_BLOCKS[4])

    def theirs_told() -> bool:
        value = b"".join(number.to_bytes(4, "big") for number in LARGE_COMMUNITY)
        for told in seen.wire.updates(THEIRS[4], OURS[4], add_path=sends_paths(seen, THEIRS[4])):
            if THEIR_PREFIXES[4] in {route.prefix for route in told.announced}:
                found = told.attributes.get(LARGE_COMMUNITIES)
                return found is not None and value in found.value
        return False

    wait_for(ours_told, "the peer shows routed's large community", 60)
    return YES if theirs_told() else NOT_OFFERED


def graceful_restart(seen: Scene) -> str:
    """Either end crashes and comes back; the other keeps its routes."""
    offered = seen.capability(GRACEFUL_RESTART)
    if not offered:
        return NOT_OFFERED
    prefix = OUR_BLOCKS[4]
    if seen.speaker.has_table:
        seen.routed.kill()
        if not stays(lambda: bool(seen.speaker.show(prefix))):
            return "no: the peer drops the routes of a routed that crashed"
        seen.routed.start()
        seen.wait_established(4, 6)
        if not stays(lambda: bool(seen.speaker.show(prefix))):
            return "no: the peer drops the routes of a routed that is back"
    wait_for(lambda: seen.has_theirs(4), "routed has the peer's route", 60)
    with_families = any(len(value) > 2 for value in offered)
    monitor = RouteMonitor(seen.routed.machine)
    seen.speaker.kill()
    kept = stays(lambda: seen.has_theirs(4))
    seen.speaker.start()
    seen.wait_established(4, 6, timeout=90)
    wait_for(lambda: seen.has_theirs(4), "the peer's route after its restart", 60)
    if not with_families:
        return f"{YES}, as a helper only: the peer says that it keeps nothing itself"
    if not kept or [line for line in monitor.deleted() if THEIR_PREFIXES[4] in line]:
        return "no: routed drops the routes of a peer that crashed"
    return YES if seen.speaker.has_table else f"{YES}: its routes are kept; it keeps no table itself"


def stays(condition: Callable[[], bool]) -> bool:
    """Whether a condition holds for a while."""
    until = time.monotonic() + GONE
    while time.monotonic() < until:
        if not condition():
            return False
        time.sleep(0.1)
    return True


def md5(seen: Scene) -> str:
    """A session whose every segment is signed, at both ends."""
    seen.wait_established(4, 6)
    wait_for(lambda: seen.has_theirs(4), "routed has the peer's route", 60)
    unsigned = [one[0] for one in directions() if seen.wire.signed[one] != {True}]
    return f"no: {', '.join(unsigned)} sends segments unsigned" if unsigned else YES


def directions() -> list[tuple[str, str]]:
    """Sender and receiver of both sessions, both ways."""
    return [
        (one[version], other[version])
        for version in (4, 6)
        for one, other in ((OURS, THEIRS), (THEIRS, OURS))
    ]


def gtsm(seen: Scene) -> str:
    """Packets with a TTL of 255 and no other, both ways."""
    seen.wait_established(4, 6)
    wait_for(lambda: seen.has_theirs(4), "routed has the peer's route", 60)
    wrong = {one[0]: sorted(seen.wire.ttls[one]) for one in directions() if seen.wire.ttls[one] != {255}}
    return f"no: TTLs {wrong}" if wrong else YES


FEATURES: dict[str, Judge] = {
    "IPv4": exchange(4),
    "IPv6": exchange(6),
    "4-octet AS": four_octet_as,
    "ADD-PATH": add_path,
    "graceful restart": graceful_restart,
    "route refresh": route_refresh,
    "extended messages": extended_messages,
    "MD5": md5,
    "GTSM": gtsm,
    "large communities": large_communities,
}
#: What has a run of its own; graceful restart comes last, because it ends processes.
_OWN_RUN = {"MD5": {"password": PASSWORD}, "GTSM": {"ttl_security": True}}
_LAST = "graceful restart"


def judged(judge: Judge, seen: Scene) -> str:
    """A cell; what was waited for in vain is the reason for a no."""
    try:
        return judge(seen)
    except DeadlineError as error:
        return "no: " + str(error).split(":")[0]


def row(kind: type[Speaker], say: Callable[[str], None]) -> dict[str, str]:
    """All cells of one daemon."""
    cells: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="routed-matrix-") as folder:
        with scene(kind, Path(folder, "a")) as seen:
            feed(seen)
            order = [name for name in FEATURES if name not in _OWN_RUN and name != _LAST]
            for name in (*order, _LAST):
                cells[name] = judged(FEATURES[name], seen)
                say(f"{kind.name.rstrip('.')}: {name}: {cells[name]}")
        for number, (name, options) in enumerate(_OWN_RUN.items()):
            with scene(kind, Path(folder, f"b{number}"), **options) as seen:  # type: ignore[arg-type]
                cells[name] = judged(FEATURES[name], seen)
                say(f"{kind.name.rstrip('.')}: {name}: {cells[name]}")
    return {name: cells[name] for name in FEATURES}


def feed(seen: Scene) -> None:
    """Sessions, and what the feeders announce."""
    seen.wait_established(4, 6)
    for name, one in seen.feeders.items():
        if name.startswith("theirs") and not seen.speaker.has_table:
            continue
        one.wait_established(40)
        prefix = OUR_SEVERAL if name.startswith("ours") else THEIR_SEVERAL
        one.announce(prefix, as_path=(one.options.asn,))
    bulk = seen.feeders["ours-1"]
    for start in range(0, len(BULK), 500):
        bulk.announce(*BULK[start : start + 500], as_path=(bulk.options.asn,))
