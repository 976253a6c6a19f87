"""The kernel room: `fib` programs routes, `monitor` learns of links, addresses and other people's routes.

`dryrun` stands in for both with `--no-kernel`; the types that they share are in `base`.
"""
