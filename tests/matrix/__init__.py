"""Which BGP features work between routed and other daemons, seen on the wire: the matrix of
docs/interoperability.md, made by `python -m tests.matrix`."""
