"""Fixtures and markers that all tests share: what cannot run here is skipped with the reason, never
passed."""

from __future__ import annotations

import os
import signal
import ssl
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from routed import daemon
from tests import browser, daemons, netns

#: How the names of variables begin that routed, clients of datastores and terminals read.
_READ = (
    *("ROUTED_", "CALICO_", "BGP_", "ETCD_", "DATASTORE_TYPE", "WAIT_FOR_DATASTORE"),
    *("K8S_", "KUBECONFIG", "KUBERNETES_"),
    *("NAMESPACE", "NODENAME", "USE_POD_CIDR", "XDG_RUNTIME_DIR"),
    # Processes of one test after another need not compile routed anew each.
    "PYTHONDONTWRITEBYTECODE",
    *("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "TTY_", "GITHUB_ACTIONS"),
)
_KEPT = ("ROUTED_LONG_TESTS",)

# What the shell that starts the tests has set is no part of them.
for _name in [name for name in os.environ if name.startswith(_READ) and name not in _KEPT]:
    del os.environ[_name]
# Many processes of one name run in tests, some at the same time: a socket is where a test asks for one.
os.environ["ROUTED_API"] = "none"
# A shell starts what is to run in the background with these ignored, which every process of a test would
# inherit: tests send them.
for _number in (signal.SIGINT, signal.SIGQUIT):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, signal.default_int_handler if _number is signal.SIGINT else signal.SIG_DFL)

# Machines that test are shared, and slow at times: no example has a deadline. Continuous integration tries
# the same examples each time, so that a change is to blame when it fails; others try new ones.
settings.register_profile("routed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile(
    "routed-ci", settings.get_profile("routed"), derandomize=True, database=None, print_blob=True
)
settings.load_profile("routed-ci" if os.environ.get("CI") else "routed")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--keep-lab",
        action="store_true",
        help="leave the namespaces and daemons of each test running, for a look",
    )
    parser.addoption(
        "--require-all",
        action="store_true",
        help="fail, instead of skipping, the tests that need namespaces or daemons which this machine lacks",
    )


def missing_means(item: pytest.Item) -> str | None:
    """Why a test cannot run on this machine, or None where it can."""
    if item.get_closest_marker("netns") is not None and (reason := netns.unavailable()):
        return reason
    if item.get_closest_marker("browser") is not None and (reason := browser.unavailable()):
        return reason
    for marker in item.iter_markers("daemon"):
        for name in marker.args:
            if reason := daemons.unavailable(name):
                return reason
    return None


def pytest_runtest_setup(item: pytest.Item) -> None:
    if reason := missing_means(item):
        if item.config.getoption("--require-all"):
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int | pytest.ExitCode) -> None:
    """A run in which nothing ran is a failure, also where every test was skipped."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if exitstatus != pytest.ExitCode.OK or session.config.option.collectonly or reporter is None:
        return
    if not any(reporter.stats.get(outcome) for outcome in ("passed", "xfailed")):
        session.exitstatus = pytest.ExitCode.NO_TESTS_COLLECTED


@pytest.fixture
def daemons_in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """`routed run` and `routed rr` go on in this process, with the modules it has, instead of anew."""
    monkeypatch.setattr(daemon, "start", daemon.run)
    monkeypatch.setitem(sys.modules, "ssl", ssl)


@pytest.fixture(scope="session")
def _no_leftovers() -> None:
    netns.remove_leftovers()


@pytest.fixture
def lab(_no_leftovers: None, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[netns.Lab]:
    """An empty laboratory for one test, removed after it; `--keep-lab` leaves it. Mark the test `netns`."""
    keep = bool(request.config.getoption("--keep-lab"))
    with netns.temporary_lab(tmp_path, keep=keep) as laboratory:
        yield laboratory
        if keep:
            print(f"\nkept: namespaces {laboratory.prefix}-*, files in {tmp_path}")
