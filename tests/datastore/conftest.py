"""Fixtures of the datastores' tests: what needs a server that is not installed is skipped, and says so."""

from __future__ import annotations

import pytest

from tests.datastore import etcd_server
from tests.datastore import mosquitto as mosquitto_server


@pytest.fixture
def etcd(request: pytest.FixtureRequest) -> None:
    """There is an etcd to start."""
    if reason := etcd_server.unavailable():
        if request.config.getoption("--require-all"):
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)


@pytest.fixture
def mosquitto(request: pytest.FixtureRequest) -> None:
    """There is a mosquitto to start."""
    if reason := mosquitto_server.unavailable():
        if request.config.getoption("--require-all"):
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
