"""Settings of the property tests: no deadline for an example, since machines that test are shared and slow at
times."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("routed", deadline=None)
settings.load_profile("routed")
