"""The demonstration: the records of `examples/cluster/` come up on network namespaces of this machine.

`make demo` runs it. `docs/demo.md` shows what it draws and prints.
"""
