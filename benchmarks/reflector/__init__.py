"""Route reflectors beside each other: BIRD 2, FRR, GoBGP and routed under the same load on loopback."""
