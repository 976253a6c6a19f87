"""What the tests of this folder share."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from tests import netns
from tests.netns import wait_for
from tests.observe.bird.scene import Side, settled, side


@pytest.fixture(scope="package")
def sides(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Side, Side]]:
    """BIRD, and routed, when both have all routes."""
    netns.remove_leftovers()
    with contextlib.ExitStack() as stack:
        both: list[Side] = []
        for daemon in ("bird", "routed"):
            lab = stack.enter_context(netns.temporary_lab(tmp_path_factory.mktemp(daemon)))
            both.append(stack.enter_context(side(lab, daemon)))
        for one in both:
            wait_for(lambda one=one: settled(one), f"{one.daemon} has all routes", timeout=60)  # type: ignore[misc]
        yield both[0], both[1]
