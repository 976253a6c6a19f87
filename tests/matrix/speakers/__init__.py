"""The other daemons, each with every feature of the matrix switched on that it has.

All are configured from the same `Setup` and asked the same few questions. What they do not have is not
pretended: whether a feature is there is seen on the wire, not here."""

from tests.matrix.speakers.base import LARGE_COMMUNITY, Neighbor, Setup, Speaker
from tests.matrix.speakers.bird import Bird1, Bird2
from tests.matrix.speakers.exabgp import ExaBgp
from tests.matrix.speakers.frr import Frr
from tests.matrix.speakers.gobgp import GoBgp
from tests.matrix.speakers.openbgpd import OpenBgpd

__all__ = ["LARGE_COMMUNITY", "SPEAKERS", "ExaBgp", "Neighbor", "Setup", "Speaker"]

SPEAKERS: tuple[type[Speaker], ...] = (Bird1, Bird2, Frr, GoBgp, OpenBgpd, ExaBgp)
