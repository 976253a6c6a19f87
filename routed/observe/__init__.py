"""What there is to see: read-only views of the other rooms, and the ways by which they are looked at.

`observed.py` is what the views look at, `documents.py` what they answer, `events.py` what happens. Everything
else is a way out: the status API, the BIRD control sockets, metrics, events to a broker. `outlets.py` starts
those that the options ask for. Nothing in other rooms imports this one but the processes (`agent`,
`rr.process`) and the status file. The ways out, and the libraries that they need, are imported when they are
asked for: a reflector that nobody looks at goes without.
"""
