"""BIRD-compatible control sockets: `bird.ctl` and `bird6.ctl`, for the tools that read those of Calico's two
BIRDs.

What is said is what routed knows, in the words and columns of BIRD 1.6.8 (nest/cmds.c, nest/proto.c,
nest/rt-table.c, proto/bgp); docs/bird-socket.md says where the two differ. `outlet.py` opens the sockets,
`connection.py` serves one client, `commands.py` has the table of commands; what each of them answers is in
the module of its subject. A command is a generator of lines: the server takes them in portions, with turns of
the event loop in between, and no faster than the client reads.
"""
