"""Well-known communities that have a meaning here (RFC 1997, RFC 8326, RFC 9494)."""

from __future__ import annotations

from typing import Final

#: Whoever sent the route is about to stop: use it only where there is no other (RFC 8326 section 5).
GRACEFUL_SHUTDOWN: Final = 0xFFFF0000
NO_EXPORT: Final = 0xFFFFFF01
NO_ADVERTISE: Final = 0xFFFFFF02
NO_EXPORT_SUBCONFED: Final = 0xFFFFFF03
#: The route is long-lived stale: whoever sent it is gone since some time (RFC 9494 section 3.2).
LLGR_STALE: Final = 0xFFFF0006
#: The route must not be kept as long-lived stale (RFC 9494 section 3.3).
NO_LLGR: Final = 0xFFFF0007
