"""Commands that change something: peers are shut down and brought up as by the API, and nothing else is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Final

from routed.bgp.errors import RefusedError
from routed.observe.bird.protocols import Protocol, select
from routed.observe.bird.replies import (
    ACCESS_DENIED,
    ALREADY_DISABLED,
    ALREADY_ENABLED,
    CANNOT_READ,
    CONFIGURATION_OK,
    DISABLED,
    ENABLED,
    NOTHING_TO_DO,
    READING,
    RECONFIGURED,
    RELOAD_FAILED,
    RELOADING,
    RESTARTED,
    UNDO_REQUESTED,
    CommandError,
    Line,
    Reply,
    syntax_error,
)
from routed.observe.bird.view import View
from routed.observe.bird.words import Word

#: What peers are told (RFC 9003).
MESSAGE: Final = "disabled on the BIRD control socket"


def _chosen(view: View, words: list[Word]) -> Iterator[tuple[Protocol, str]]:
    """The peers of a command, with their names, and a turn of the event loop between two of them: one that is
    gone meanwhile is left out."""
    if not words:
        raise syntax_error()
    peers = view.observed.speaker.peers
    for one in select(view, words):
        if one.peer is not None and peers.get(one.peer.name) is one.peer:
            yield one, one.peer.name


def _local(view: View, words: list[Word]) -> Iterator[Protocol]:
    return (one for one in select(view, words) if one.peer is None)


def disable(view: View, words: list[Word]) -> Reply:
    """Shut peers down."""
    speaker = view.observed.speaker
    for one, name in _chosen(view, words):
        if one.state == "down":
            yield Line(ALREADY_DISABLED, f"{one.name}: already disabled")
        else:
            speaker.shut_down_peer(name, MESSAGE)
            yield Line(DISABLED, f"{one.name}: disabled")
        yield None
    yield from _refuse_local(view, words)


def enable(view: View, words: list[Word]) -> Reply:
    """Bring peers up that were shut down."""
    speaker = view.observed.speaker
    if words:
        for local in _local(view, words):
            yield Line(ALREADY_ENABLED, f"{local.name}: already enabled")
    for one, name in _chosen(view, words):
        if one.state != "down":
            yield Line(ALREADY_ENABLED, f"{one.name}: already enabled")
        else:
            speaker.bring_up_peer(name)
            yield Line(ENABLED, f"{one.name}: enabled")
        yield None


def restart(view: View, words: list[Word]) -> Reply:
    """Shut peers down and bring them up again."""
    speaker = view.observed.speaker
    for one, name in _chosen(view, words):
        if one.state == "down":
            yield Line(ALREADY_DISABLED, f"{one.name}: already disabled")
        else:
            speaker.shut_down_peer(name, "restarted on the BIRD control socket")
            if name in speaker.peers:
                speaker.bring_up_peer(name)
            yield Line(RESTARTED, f"{one.name}: restarted")
        yield None
    yield from _refuse_local(view, words)


def reload(view: View, words: list[Word]) -> Reply:
    """`reload [in|out] ...`: ask for a peer's routes again, send it ours again, or both."""
    ask = resend = True
    if words[:1] in ([Word("in")], [Word("out")]):
        ask, resend = words[0].text == "in", words[0].text == "out"
        words = words[1:]
    speaker = view.observed.speaker
    for one, name in _chosen(view, words):
        if one.state == "down":
            yield Line(ALREADY_DISABLED, f"{one.name}: already disabled")
        elif one.state == "up":
            try:
                speaker.refresh_peer(name, ask=ask, resend=resend)
            except RefusedError:
                yield Line(RELOAD_FAILED, f"{one.name}: reload failed")
            else:
                yield Line(RELOADING, f"{one.name}: reloading")
        yield None


def _refuse_local(view: View, words: list[Word]) -> Reply:
    """Our own routes are not disabled: that is for the records to say."""
    for one in _local(view, words):
        if words != [Word("all")] and not words[0].quoted:
            raise CommandError(ACCESS_DENIED, f"{one.name}: Access denied: what it does the records say")
    yield from ()


def configure(view: View, words: list[Word]) -> Reply:
    """There is nothing to read again: records are in force as soon as they change. BIRD's codes of success
    let scripts go on."""
    kind = words[0].text if words and not words[0].quoted else ""
    rest = words[1:] if kind else words
    if kind == "confirm":
        _no_more(rest)
        yield Line(NOTHING_TO_DO, "Nothing to do", last=True)
    elif kind == "undo":
        _no_more(rest)
        yield Line(UNDO_REQUESTED, "Undo requested")
        yield Line(NOTHING_TO_DO, "Nothing to do", last=True)
    elif kind in ("", "soft", "check", "timeout"):
        if kind == "timeout" and rest and rest[-1].text.isdecimal():
            rest = rest[:-1]
        yield from _read(rest)
        if kind == "check":
            yield Line(CONFIGURATION_OK, "Configuration OK", last=True)
        else:
            yield Line(RECONFIGURED, "Reconfigured", last=True)
    else:
        raise syntax_error()


def _read(words: list[Word]) -> Reply:
    if words:
        if not words[0].quoted or len(words) > 1:
            raise syntax_error()
        yield Line(READING, f"Reading configuration from {words[0]}")
        raise CommandError(CANNOT_READ, f"{words[0]}: routed reads records, and no file")
    yield Line(READING, "Reading configuration from records: they are in force as soon as they change")


def _no_more(words: list[Word]) -> None:
    if words:
        raise syntax_error()


def down(view: View, words: list[Word]) -> Reply:
    """Not from here."""
    _no_more(words)
    raise CommandError(
        ACCESS_DENIED, f"Access denied: stop routed by its service, or by SIGTERM to {os.getpid()}"
    )
