"""The status API over HTTP/1.1, on a Unix socket and on loopback TCP; metrics and health on any address.

`outlet` is all that is imported before somebody asks: it has the listening sockets, made by `sockets`. The
first connection brings the rest. `serving` accepts, `connection` speaks HTTP (h11), `messages` are requests
and responses, `guard` says who may ask for what, `routing` finds the handler. `endpoints` is the table of
them with those that look, `actions` are those that do something, `parameters` what may be asked, `streams`
what is sent as it is made; `openapi` makes the published document of the table.
"""
