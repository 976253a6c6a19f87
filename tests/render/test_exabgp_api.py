"""The conversation with ExaBGP on virtual time, against a small model of ExaBGP's side of it."""

from __future__ import annotations

import itertools
import re
from collections import deque
from collections.abc import Iterable, Mapping
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from routed.render import exabgp_api
from routed.render.exabgp_api import (
    PACE_TIME,
    RETRY_TIMES,
    SETTLE_TIME,
    SHOW,
    SILENCE_TIME,
    WINDOW,
    Announcer,
    Kind,
    Tables,
)

A, B, C = (ip_address(text) for text in ("192.0.2.1", "192.0.2.2", "2001:db8::3"))
N1, N2, N3, N6 = (ip_network(text) for text in ("10.0.0.0/26", "10.0.1.0/26", "10.0.2.1/32", "fd00::/122"))
X, Y = "next-hop self origin igp", "next-hop self origin igp local-preference 7"

_ROUTE = re.compile(r"neighbor (\S+) (announce|withdraw) route (\S+) (.*)")
_EOR = re.compile(r"neighbor (\S+) announce eor ipv[46] unicast")


class Model:
    """ExaBGP: neighbors, their Adj-RIB-Out, and commands that wait to be done."""

    def __init__(self, *peers: str, acknowledges: bool = True) -> None:
        self.peers = set(peers)
        self.acknowledges = acknowledges
        self.rib: dict[tuple[str, str], str] = {}
        self.waiting: deque[str] = deque()
        self.strict = True
        self.ends_of_rib: list[str] = []
        self.said_at: dict[tuple[str, str], float] = {}
        self.log: list[str] = []

    def take(self, commands: Iterable[str], now: float) -> None:
        for text in commands:
            self.waiting.append(text)
            self.log.append(text)
            if route := _ROUTE.fullmatch(text):
                key = route[1], route[3]
                assert now - self.said_at.get(key, -SETTLE_TIME) >= SETTLE_TIME, "a route is left to settle"
                self.said_at[key] = now

    def remove(self, peer: str) -> None:
        """Take a neighbor out of the configuration; its routes go with it."""
        self.peers.discard(peer)
        self.strict = False
        self.rib = {key: words for key, words in self.rib.items() if key[0] != peer}

    def do(self, count: int | None = None) -> list[str]:
        """Do some of the waiting commands; what it writes back."""
        lines: list[str] = []
        for _ in range(len(self.waiting) if count is None else min(count, len(self.waiting))):
            lines += self._do(self.waiting.popleft())
        return lines

    def _do(self, text: str) -> list[str]:
        if text == SHOW:
            shown = [
                f"neighbor {peer} local-ip 192.0.2.9 local-as 1 peer-as 2 router-id 192.0.2.9 "
                f"family-allowed in-open {'ipv6' if ':' in network else 'ipv4'} unicast {network} {words}"
                for (peer, network), words in self.rib.items()
            ]
            return [*shown, *self._answer("done")]
        if eor := _EOR.fullmatch(text):
            self.ends_of_rib.append(eor[1])
            return self._answer("done")
        route = _ROUTE.fullmatch(text)
        assert route is not None, text
        peer, action, network, words = route.groups()
        if peer not in self.peers:
            return self._answer("error")
        if action == "announce":
            self.rib[peer, network] = words
        else:
            assert (peer, network) in self.rib or not self.strict, "only what is announced is withdrawn"
            self.rib.pop((peer, network), None)
        return self._answer("done")

    def _answer(self, word: str) -> list[str]:
        return [word] if self.acknowledges else []


class Talk:
    """An announcer and a model, and the clock of both."""

    def __init__(self, model: Model, now: float = 100.0) -> None:
        self.model = model
        self.now = now
        self.announcer = Announcer()

    def say(self) -> list[str]:
        """What the announcer says now; the model has it, and has not done it."""
        commands = self.announcer.commands(self.now)
        texts = [command.text for command in commands]
        if self.announcer.answers and commands:
            octets = [len(text) + 1 for text in (*self.model.waiting, *texts)]
            assert sum(octets[:-1]) < WINDOW
        self.model.take(texts, self.now)
        return texts

    def hear(self, *lines: str) -> None:
        for line in lines:
            self.announcer.receive(line, self.now)

    def settle(self, limit: float = 600.0) -> None:
        """Until nothing is left to do, or only what no time changes."""
        end = self.now + limit
        for _ in range(10_000):
            said = self.say()
            heard = self.model.do()
            self.hear(*heard)
            if said or heard:
                continue
            deadline = self.announcer.deadline()
            if deadline is None or deadline > end:
                return
            self.now = max(self.now, deadline)
        raise AssertionError("it does not come to rest")

    def rib(self) -> dict[tuple[str, str], str]:
        return dict(self.model.rib)


def flat(tables: Tables) -> dict[tuple[str, str], str]:
    return {
        (str(peer), str(network)): words for peer, table in tables.items() for network, words in table.items()
    }


def test_nothing_is_said_before_records_are_there() -> None:
    talk = Talk(Model(str(A)))
    talk.hear("neighbor 192.0.2.1 up", "done", "")
    assert talk.say() == []
    assert talk.announcer.deadline() is None


def test_first_it_asks_what_is_there_then_it_announces_then_end_of_rib() -> None:
    talk = Talk(Model(str(A), str(C)))
    tables = {A: {N1: X, N2: Y}, C: {N6: X}}
    talk.announcer.want(tables)
    assert talk.say() == [SHOW]
    assert talk.say() == []
    talk.hear(*talk.model.do())
    assert sorted(talk.say()) == [
        f"neighbor 192.0.2.1 announce route 10.0.0.0/26 {X}",
        f"neighbor 192.0.2.1 announce route 10.0.1.0/26 {Y}",
        f"neighbor 2001:db8::3 announce route fd00::/122 {X}",
    ]
    assert talk.say() == []
    talk.hear(*talk.model.do())
    assert talk.say() == [
        "neighbor 192.0.2.1 announce eor ipv4 unicast",
        "neighbor 2001:db8::3 announce eor ipv6 unicast",
    ]
    talk.hear("error", "done")
    assert talk.say() == []
    assert talk.announcer.idle
    assert talk.rib() == flat(tables)


def test_only_the_difference_is_said() -> None:
    talk = Talk(Model(str(A), str(B)))
    shared = {N1: X, N2: X}
    talk.announcer.want({A: shared, B: shared})
    talk.settle()
    before = len(talk.model.log)
    talk.announcer.want({A: shared, B: shared})
    talk.settle()
    assert talk.model.log[before:] == []
    changed = {N1: Y, N3: X}
    talk.announcer.want({A: changed, B: shared})
    talk.settle()
    assert sorted(talk.model.log[before:]) == [
        f"neighbor 192.0.2.1 announce route 10.0.0.0/26 {Y}",
        f"neighbor 192.0.2.1 announce route 10.0.2.1/32 {X}",
        "neighbor 192.0.2.1 withdraw route 10.0.1.0/26 next-hop self",
    ]


def test_what_an_earlier_process_announced_is_adopted() -> None:
    model = Model(str(A), str(B))
    model.rib = {(str(A), str(N1)): X, (str(A), str(N2)): X, (str(B), str(N1)): Y}
    talk = Talk(model)
    talk.announcer.want({A: {N1: X}})
    talk.settle()
    assert talk.rib() == {(str(A), str(N1)): X}
    assert talk.announcer.counts.adopted == 3
    assert talk.announcer.counts.withdrawn == 2


def test_a_route_is_left_to_settle_before_it_changes_again() -> None:
    talk = Talk(Model(str(A)))
    talk.announcer.want({A: {N1: X}})
    talk.settle(limit=0)
    for table in ({N1: Y}, {}, {N1: Y}):
        talk.announcer.want({A: table})
        assert talk.say() == []
    deadline = talk.announcer.deadline()
    assert deadline == pytest.approx(talk.now + SETTLE_TIME)
    talk.now += SETTLE_TIME
    assert talk.say() == [f"neighbor 192.0.2.1 announce route 10.0.0.0/26 {Y}"]


def test_a_neighbor_that_is_not_there_is_tried_again() -> None:
    talk = Talk(Model(str(A)))
    tables = {A: {N1: X}, B: {N1: X, N2: X}}
    talk.announcer.want(tables)
    talk.settle(limit=0)
    assert talk.rib() == flat({A: tables[A]})
    (refused,) = talk.announcer.refusals
    assert refused.retry_in == RETRY_TIMES[0]
    waits = []
    for _ in range(6):
        talk.announcer.refusals.clear()
        start = talk.now
        while not talk.announcer.refusals:
            deadline = talk.announcer.deadline()
            assert deadline is not None
            talk.now = deadline
            talk.say()
            talk.hear(*talk.model.do())
        waits.append(talk.now - start)
    assert waits == pytest.approx([5, 10, 20, 40, 60, 60])
    talk.model.peers.add(str(B))
    talk.settle()
    assert talk.rib() == flat(tables)


@pytest.mark.parametrize(
    "line",
    [
        "neighbor 192.0.2.2 up",
        '{ "exabgp": "4.0.1", "type": "state", "neighbor": { "address": { "local": "192.0.2.9", '
        '"peer": "192.0.2.2" }, "state": "up" } }',
    ],
    ids=["text", "json"],
)
def test_a_neighbor_that_comes_up_has_its_routes_and_end_of_rib_at_once(line: str) -> None:
    talk = Talk(Model(str(A)))
    tables = {A: {N1: X}, B: {N1: X, N2: X}}
    talk.announcer.want(tables)
    talk.settle(limit=2)
    talk.model.peers.add(str(B))
    talk.model.ends_of_rib.clear()
    talk.hear(line)
    talk.settle(limit=0)
    assert talk.rib() == flat(tables)
    assert talk.model.ends_of_rib == [str(B)]


def test_no_end_of_rib_while_routes_are_unanswered() -> None:
    talk = Talk(Model(str(A)))
    talk.announcer.want({A: {}})
    talk.settle(limit=0)
    talk.announcer.want({A: {N1: X}})
    talk.hear("neighbor 192.0.2.1 up")
    assert talk.say() == [f"neighbor 192.0.2.1 announce route 10.0.0.0/26 {X}"]
    assert talk.say() == []
    talk.hear(*talk.model.do())
    assert talk.say() == ["neighbor 192.0.2.1 announce eor ipv4 unicast"]


def test_never_more_than_a_window_is_unanswered() -> None:
    talk = Talk(Model(str(A)))
    tables = {A: {ip_network(f"10.{n >> 8}.{n & 255}.0/24"): X for n in range(1000)}}
    talk.announcer.want(tables)
    talk.say()
    talk.hear(*talk.model.do())
    first = sum(len(text) + 1 for text in talk.say())
    assert 0.9 * WINDOW < first < WINDOW + 100
    assert talk.say() == []
    talk.hear(*talk.model.do(1))
    assert len(talk.say()) == 1
    talk.settle()
    assert talk.rib() == flat(tables)


def test_an_exabgp_that_does_not_answer_is_told_all_the_same() -> None:
    talk = Talk(Model(str(A), acknowledges=False))
    tables = {A: {ip_network(f"10.{n >> 8}.{n & 255}.0/24"): X for n in range(300)}}
    talk.announcer.want(tables)
    assert talk.say() == [SHOW]
    assert talk.announcer.deadline() == talk.now + SILENCE_TIME
    talk.now += SILENCE_TIME
    assert talk.announcer.answers
    assert talk.say()
    assert not talk.announcer.answers
    assert talk.say() == [], "paced"
    assert talk.announcer.deadline() == talk.now + PACE_TIME
    talk.settle()
    assert talk.rib() == flat(tables)
    assert talk.model.ends_of_rib == [str(A)]
    talk.announcer.want({A: {}})
    talk.settle()
    assert talk.rib() == {}


def test_answers_that_come_too_late_are_still_about_what_was_said() -> None:
    talk = Talk(Model(str(A)))
    talk.announcer.want({A: {N1: X}, B: {N1: X}})
    talk.say()
    talk.now += SILENCE_TIME
    talk.say()
    talk.now += SETTLE_TIME
    talk.announcer.want({A: {N1: Y}, B: {N1: X}})
    talk.say()
    assert not talk.announcer.answers
    assert talk.rib() == {}
    talk.hear(*talk.model.do())
    assert talk.announcer.answers
    assert talk.rib() == {(str(A), str(N1)): Y}
    (refused,) = talk.announcer.refusals
    assert refused.command.peer is None
    assert refused.command.route is not None
    assert refused.command.route.peer == B
    talk.model.peers.add(str(B))
    talk.settle()
    assert talk.rib() == {(str(A), str(N1)): Y, (str(B), str(N1)): X}


def test_what_was_never_answered_is_not_remembered_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exabgp_api, "MAX_UNANSWERED", 5)
    talk = Talk(Model(str(A), acknowledges=False))
    talk.announcer.want({A: {N1: X}})
    for words in (X, Y) * 10:
        talk.announcer.want({A: {N1: words}})
        talk.settle()
    assert talk.rib() == {(str(A), str(N1)): Y}
    talk.hear("error")
    assert talk.announcer.counts.refused == 0
    talk.settle()
    assert talk.rib() == {(str(A), str(N1)): Y}


def test_an_answer_within_the_time_is_no_silence() -> None:
    talk = Talk(Model(str(A)))
    talk.announcer.want({A: {N1: X}})
    talk.say()
    talk.now += SILENCE_TIME - 1
    talk.hear(*talk.model.do())
    talk.say()
    talk.now += SILENCE_TIME - 1
    talk.hear(*talk.model.do())
    talk.settle()
    assert talk.announcer.answers


@pytest.mark.parametrize(
    "line",
    [
        "shutdown 12 34",
        '{ "exabgp": "4.0.1", "pid": 12, "type": "notification", "notification": "shutdown" }',
        '{ "answer": "shutdown", "message": "exbgp exited" }',
    ],
)
def test_after_its_shutdown_nothing_is_said(line: str) -> None:
    talk = Talk(Model(str(A)))
    talk.announcer.want({A: {N1: X}})
    talk.hear(line)
    assert talk.announcer.ended
    assert talk.say() == []
    assert talk.announcer.deadline() is None


def test_answers_in_json() -> None:
    talk = Talk(Model(str(A)))
    talk.announcer.want({A: {N1: X}})
    talk.say()
    talk.hear('{ "answer": "done", "message": "command completed" }')
    assert talk.say() == [f"neighbor 192.0.2.1 announce route 10.0.0.0/26 {X}"]
    talk.hear('{ "answer": "error", "message": "this command does not support json output" }')
    assert talk.announcer.counts.refused == 1


noise = st.one_of(
    st.text(max_size=40),
    st.sampled_from(
        [
            "done",
            "error",
            "{",
            "{}",
            "[]",
            '{"neighbor": 1}',
            '{"type": "state", "neighbor": {"state": "up"}}',
            '{"type": "state", "neighbor": {"state": "up", "address": {"peer": 7}}}',
            "neighbor up",
            "neighbor nowhere up",
            "neighbor nowhere ipv4 unicast 10.0.0.0/26 next-hop self",
            "neighbor 192.0.2.1 ipv4 unicast 10.0.0.1/26 next-hop self",
            "neighbor 192.0.2.1 ipv4 unicast",
            "neighbor 192.0.2.1 down - peer reset, message [closing connection] error[...]",
            "{" * 3000,
        ]
    ),
)


@given(st.lists(noise, max_size=20))
def test_no_line_is_too_odd(lines: list[str]) -> None:
    talk = Talk(Model(str(A)))
    talk.hear(*lines)
    talk.announcer.want({A: {N1: X}})
    talk.say()
    talk.hear(*lines)
    talk.say()


# --- any history --------------------------------------------------------------------------------------------

table_strategy = st.dictionaries(st.sampled_from([N1, N2, N3]), st.sampled_from([X, Y]))
steps = st.one_of(
    st.tuples(st.just("want"), st.dictionaries(st.sampled_from([A, B, C]), table_strategy)),
    st.tuples(st.just("do"), st.integers(1, 5)),
    st.tuples(st.just("wait"), st.sampled_from([0.0, 0.3, 1.0, 6.0])),
    st.tuples(st.just("appear"), st.sampled_from([A, B, C])),
    st.tuples(st.just("vanish"), st.sampled_from([A, B, C])),
    st.tuples(st.just("up"), st.sampled_from([A, B, C])),
    st.tuples(st.just("restart"), st.none()),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(steps, max_size=25))
def test_any_history_ends_with_what_is_wanted(history: list[tuple[str, object]]) -> None:
    """Neighbors come and go, answers are late, the process is restarted: in the end ExaBGP has just what is
    wanted for the neighbors it has."""
    talk = Talk(Model(str(A)))
    talk.model.strict = False  # what is refused while answers are late may be withdrawn
    wanted: Mapping[object, Mapping[object, str]] | None = None
    vanished: set[str] = set()
    for action, value in history:
        match action:
            case "want":
                assert isinstance(value, dict)
                wanted = value
                talk.announcer.want(value)
            case "do":
                assert isinstance(value, int)
                talk.hear(*talk.model.do(value))
            case "wait":
                assert isinstance(value, float)
                talk.now += value
            case "appear":
                talk.model.peers.add(str(value))
            case "vanish":
                talk.model.remove(str(value))
                vanished.add(str(value))
            case "up":
                if str(value) in talk.model.peers:
                    talk.hear(f"neighbor {value} up")
            case "restart":
                # ExaBGP drops what the old process had not been answered, and runs another one.
                talk.model.do()
                talk.announcer = Announcer()
                if wanted is not None:
                    talk.announcer.want(wanted)  # type: ignore[arg-type]
                talk.now += SETTLE_TIME
        talk.say()
    talk.model.peers |= {str(peer) for peer in (A, B, C)}
    talk.hear(*(f"neighbor {peer} up" for peer in sorted(vanished)))
    talk.settle()
    if wanted is None:
        assert talk.model.log == []
    else:
        assert talk.rib() == flat(wanted)  # type: ignore[arg-type]
        assert talk.announcer.idle


def test_a_thousand_neighbors_share_the_work_of_a_group() -> None:
    """One table object for all: its difference is worked out once, and said to each."""
    peers = [ip_address(f"10.{n >> 8}.{n & 255}.1") for n in range(1000)]
    talk = Talk(Model(*map(str, peers)))

    class Counted(dict[object, str]):
        reads = itertools.count()

        def get(self, key: object, default: object = None) -> object:  # type: ignore[override]
            next(self.reads)
            return super().get(key, default)

    before = Counted({N1: X, N2: X})
    talk.announcer.want(dict.fromkeys(peers, before))  # type: ignore[arg-type]
    talk.settle(limit=0)
    after = Counted({N1: X, N2: Y})
    reads = next(Counted.reads)
    talk.announcer.want(dict.fromkeys(peers, after))  # type: ignore[arg-type]
    assert next(Counted.reads) - reads < 20
    talk.settle()
    assert talk.rib() == {(str(p), str(n)): w for p in peers for n, w in ((N1, X), (N2, Y))}


def test_kinds_are_told_apart() -> None:
    talk = Talk(Model(str(A)))
    talk.announcer.want({A: {N1: X}})
    kinds = [command.kind for command in talk.announcer.commands(talk.now)]
    talk.hear("done")
    kinds += [command.kind for command in talk.announcer.commands(talk.now)]
    talk.hear("done")
    kinds += [command.kind for command in talk.announcer.commands(talk.now)]
    talk.now += SETTLE_TIME
    talk.announcer.want({A: {}})
    kinds += [command.kind for command in talk.announcer.commands(talk.now)]
    assert kinds == [Kind.SHOW, Kind.ANNOUNCE, Kind.END_OF_RIB, Kind.WITHDRAW]
