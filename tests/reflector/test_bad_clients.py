"""Bad clients beside good ones: what they do is contained, counted and to be seen, and the good ones go on.

How long a change takes beside them is measured by `benchmarks.bad_clients`, with the same bad clients."""

from __future__ import annotations

import contextlib
import itertools
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.bad_clients import BAD, LIMIT, Good, incidents
from benchmarks.soak import reflector


class Site:
    """A reflector with good clients, and its status."""

    def __init__(self, port: int, status: Path) -> None:
        self.port = port
        self.status = status
        self.good = Good(port, 10, hold_time=3)
        self.good.begin()
        self.good.fleet.run_until(status.exists, 10, "the first status")

    def sessions(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.status.read_text())["sessions"]
        return found

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """The good clients go on until it is so, each with a change that all others get."""
        for _ in itertools.count():
            if condition():
                return
            self.good.change()
            self.good.fleet.run(0.05)
            assert _ < 300, what

    def go_on(self) -> None:
        """Every good session is the one that it was, and holds what the other good ones say."""
        self.good.change()
        good = self.good
        assert good.fleet.counts.lost == 0, good.fleet.counts.reasons
        whole = len(good.sessions) * good.routes - good.routes
        assert [one.held() for one in good.sessions] == [whole] * len(good.sessions)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One reflector for all kinds: what one of them leaves behind would show in the next."""
    folder = tmp_path_factory.mktemp("site")
    status = folder / "status.json"
    options = ("--max-prefixes", str(LIMIT), "--max-prefixes-time", "3600", "--status-file", str(status))
    with reflector(folder, *options, "--log-level", "error") as (port, process):
        one = Site(port, status)
        try:
            yield one
        finally:
            one.good.fleet.close()
        assert process.poll() is None
    assert "Traceback" not in (folder / "output").read_text()


@contextlib.contextmanager
def beside(site: Site, name: str) -> Iterator[None]:
    """A bad client, in a thread."""
    stop = threading.Event()
    errors: list[BaseException] = []

    def run() -> None:
        try:
            BAD[name](site.port, stop.is_set)
        except OSError:
            pass  # the reflector ended it
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    assert not errors


@pytest.mark.parametrize(
    ("name", "counted", "at_least"),
    [
        ("garbage", "attempts_failed: sent Message Header Error/Connection Not Synchronized", 5),
        ("garbage", "sessions_ended: sent Message Header Error/Connection Not Synchronized", 5),
        ("bad_updates", "bad_updates: treat as withdraw", 20),
        ("flaps", "sessions_ended: connection lost", 20),
        ("too_many", "sessions_ended: sent Cease/Maximum Number of Prefixes Reached", 1),
        ("connects_twice", "second_connections", 20),
        ("from_outside", "connections_refused", 20),
        ("loops", "announcements_ignored", 1000),
    ],
)
def test_it_is_counted_and_the_others_go_on(site: Site, name: str, counted: str, at_least: int) -> None:
    before = incidents(site.status).get(counted, 0)
    with beside(site, name):
        site.until(
            lambda: incidents(site.status).get(counted, 0) >= before + at_least, f"{counted} does not show"
        )
        site.go_on()
    site.go_on()


def test_those_that_say_nothing_are_seen(site: Site) -> None:
    with beside(site, "never_opens"):
        site.until(
            lambda: sum(one["state"] == "opensent" for one in site.sessions()) >= 200, "200 wait for an OPEN"
        )
        site.go_on()
    site.until(lambda: all(one["state"] != "opensent" for one in site.sessions()), "they are forgotten")


def test_those_that_do_not_read_are_seen(site: Site) -> None:
    """Their part of the log is held back for them alone; the others are told at once."""
    bad = {f"127.1.203.{n}" for n in range(1, 11)}
    good = site.good
    version = itertools.count(1_000_000)

    # Communities, so that few changes fill the socket buffers of those that do not read.
    long = b"\xd0\x08" + (3000).to_bytes(2) + bytes(range(250)) * 12

    def unread() -> bool:
        for _ in range(50):
            for session in good.sessions:
                session.announce([good.own(session).start], next(version), long)
            good.fleet.run(0.002)
        behind = {one["peer"] for one in site.sessions() if one["unsent_octets"] > 0}
        return behind >= bad

    with beside(site, "stops_reading"):
        site.until(lambda: bad <= {one["peer"] for one in site.sessions()}, "they have sessions")
        site.until(unread, "they are behind")
        site.go_on()
    site.until(lambda: not bad & {one["peer"] for one in site.sessions()}, "they are gone")
    site.go_on()


def test_all_at_once(site: Site) -> None:
    stop = threading.Event()

    def run(name: str) -> None:
        with contextlib.suppress(OSError):
            BAD[name](site.port, stop.is_set)

    threads = [threading.Thread(target=run, args=(name,)) for name in BAD if name != "too_many"]
    for thread in threads:
        thread.start()
    try:
        for _ in range(10):
            site.good.change()
            site.good.fleet.run(0.05)
        site.go_on()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    site.go_on()
