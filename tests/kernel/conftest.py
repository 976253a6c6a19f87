"""A network namespace for each test that asks for one. Such tests are marked `netns`, which skips them, with
the reason, where there is no root or no namespaces."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kernel.kernel import Namespace, temporary_namespace


@pytest.fixture
def ns() -> Iterator[Namespace]:
    with temporary_namespace() as namespace:
        yield namespace
