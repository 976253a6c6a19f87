"""A NodeIntent as the configuration of a stock ExaBGP: neighbors, and routes unless a process announces them.

What is written is taken by ExaBGP 4.2 (Debian 12) and 5.0 alike. ExaBGP is no router: it passes nothing on
and programs no kernel. Where it cannot do what a session asks for, the session is written without that, and a
problem says so.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import jinja2

from routed.bgp.config import DEFAULT_HOLD_TIME
from routed.bgp.nlri import Network
from routed.intent.types import NodeIntent, PeeringKind, SessionIntent
from routed.render.bird import Rendered
from routed.render.exabgp_export import (
    ExportGroup,
    attributes_text,
    export_group,
    exported_routes,
    local_address,
)
from routed.resources import Address, Key, Node, Problem, SecretValue

FILE: Final = "exabgp.conf"
#: Name of the `process` section, by which neighbors refer to it.
PROCESS_NAME: Final = "routed"
#: Longest TCP-MD5 key of Linux (TCP_MD5SIG_MAXKEYLEN), octets.
MAX_PASSWORD: Final = 80
#: The restart time has 12 bits (RFC 4724 section 3).
MAX_RESTART_TIME: Final = 4095


@dataclass(frozen=True, slots=True)
class Neighbor:
    """One `neighbor` section."""

    session: SessionIntent
    group: ExportGroup
    password: str | None
    """In base64, as ExaBGP then needs no quoting; None: without."""
    restart_time: int
    routes: Sequence[tuple[Network, str]] = ()


def render_exabgp(intent: NodeIntent, process: Sequence[str] | None = None) -> Rendered:
    """`exabgp.conf` of a node. The same intent gives the same bytes.

    `process` is the command, an absolute path and its arguments, that ExaBGP runs to have the routes
    announced; without one they are in the file. Raises ValueError for an argument that ExaBGP's configuration
    has no words for."""
    writer = _Writer(intent)
    neighbors = list(writer.neighbors(with_routes=process is None))
    if not neighbors and process is None:
        writer.report_no_neighbors()
    text = (
        _environment()
        .get_template("exabgp.conf.j2")
        .render(
            node=comment(intent.node),
            router_id=intent.router_id,
            listen_port=intent.listen_port,
            hold_time=DEFAULT_HOLD_TIME,
            process=process,
            process_name=PROCESS_NAME,
            neighbors=neighbors,
        )
    )
    return Rendered({FILE: text}, tuple(writer.problems))


def peer_groups(intent: NodeIntent) -> dict[Address, ExportGroup]:
    """The neighbors that `render_exabgp` writes: their groups by address."""
    return {one.session.peer_address: one.group for one in _Writer(intent).neighbors(with_routes=False)}


class _Writer:
    """Chooses the neighbors, and collects what ExaBGP cannot do."""

    def __init__(self, intent: NodeIntent) -> None:
        self.intent = intent
        self.problems: list[Problem] = []

    def neighbors(self, *, with_routes: bool) -> Iterator[Neighbor]:
        """By session name. A node without a router ID has none; the compiler says why."""
        intent = self.intent
        if intent.router_id is None:
            return
        if intent.cluster_id is not None:
            reason = "ExaBGP reflects no routes: clients get this node's own routes alone"
            self._report_node("spec.bgp.routeReflectorClusterID", reason)
        routes: dict[ExportGroup, list[tuple[Network, str]]] = {}
        for session in self._chosen():
            local = local_address(intent, session)
            if local is None:
                self._report(session, "spec.sourceAddress", "left out: this node has no address for it")
                continue
            self._report_lacks(session, local)
            group = export_group(session, local)
            if with_routes and group not in routes:
                routes[group] = [
                    (network, attributes_text(attributes, group))
                    for network, attributes in exported_routes(intent, group).items()
                ]
            yield Neighbor(
                session,
                group,
                self._password(session, session.password),
                min(session.restart_time, MAX_RESTART_TIME),
                routes.get(group, ()),
            )

    def report_no_neighbors(self) -> None:
        """Without a neighbor and without a process the file is empty to ExaBGP."""
        self._report_node("", "it has no sessions, and ExaBGP refuses a file without neighbors")

    def _chosen(self) -> Iterator[SessionIntent]:
        """One session to each address, by name. Of two the one that the speaker has: a BGPPeer's before the
        mesh's, then the first by name."""
        sessions = self.intent.sessions.values()
        chosen: dict[Address, str] = {}
        for session in sorted(sessions, key=lambda one: (one.kind is PeeringKind.MESH, one.name)):
            chosen.setdefault(session.peer_address, session.name)
        for session in sorted(sessions, key=lambda one: one.name):
            other = chosen[session.peer_address]
            if other == session.name:
                yield session
            else:
                reason = f"left out: ExaBGP has one session to an address, {other}"
                self._report(session, "spec.peerIP", reason)

    def _report_lacks(self, session: SessionIntent, local: Address) -> None:
        """What a session asks for and ExaBGP has not."""
        if session.source_address is None and not session.passive:
            reason = f"ExaBGP needs an address of its own: {local} is used"
            self._report(session, "spec.sourceAddress", reason)
        if session.keepalive_time is not None and session.keepalive_time < DEFAULT_HOLD_TIME // 3:
            reason = (
                "ExaBGP sends keepalives at a third of the hold time: every "
                f"{DEFAULT_HOLD_TIME // 3} s, or more often where the peer's hold time is shorter"
            )
            self._report(session, "spec.keepaliveTime", reason)
        if session.reachable_by is not None:
            reason = (
                f"ExaBGP programs no routes: add one to {session.peer_address} by way of "
                f"{session.reachable_by} by other means"
            )
            self._report(session, "spec.reachableBy", reason)
        if session.restart_time > MAX_RESTART_TIME:
            reason = f"graceful restart ends at {MAX_RESTART_TIME} s (RFC 4724)"
            self._report(session, "spec.maxRestartTime", reason)

    def _password(self, session: SessionIntent, password: SecretValue | None) -> str | None:
        if password is None:
            return None
        value = password.reveal()
        if len(value) > MAX_PASSWORD:
            reason = (
                f"the password is longer than {MAX_PASSWORD} octets, the limit of TCP-MD5: "
                "the session is written without it"
            )
            self._report(session, "spec.password", reason, error=True)
            return None
        return b64encode(value).decode()

    def _report_node(self, field: str, reason: str) -> None:
        self.problems.append(Problem(Key(Node.kind, self.intent.node), field, reason, severity="warning"))

    def _report(self, session: SessionIntent, field: str, reason: str, *, error: bool = False) -> None:
        text = f"{session.name}: {reason}"
        self.problems.append(Problem(session.record, field, text, severity="error" if error else "warning"))


# --- ExaBGP's words -----------------------------------------------------------------------------------------

_PLAIN = re.compile(r"[A-Za-z0-9_./:=@%+~-]+")


def word(text: object) -> str:
    """One word of ExaBGP's configuration, quoted where it must be.

    Raises ValueError where ExaBGP has no way to say it: one kind of quote ends the other, and no line may
    end in a word."""
    plain = str(text)
    if _PLAIN.fullmatch(plain):
        return plain
    if not plain.isprintable() or not plain.isascii() or '"' in plain or "'" in plain:
        raise ValueError(f"{plain!r} cannot be written in ExaBGP's configuration: use plain ASCII, no quotes")
    return '"' + plain.replace("\\", "\\\\") + '"'


def comment(text: object) -> str:
    """Text for a comment. ExaBGP reads escapes there too, and a line break would end it."""
    return "".join(c if c.isascii() and c.isprintable() and c != "\\" else "?" for c in str(text))


_PASSWORD = re.compile(r"^(\s*md5-password )\S+;$", re.MULTILINE)


def without_exabgp_passwords(rendered: Rendered) -> dict[str, str]:
    """The file for people to look at."""
    return {name: _PASSWORD.sub(r"\1********;", text) for name, text in rendered.files.items()}


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("routed", "templates"),
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # noqa: S701  # the outcome is no HTML; texts of records go through the filters
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"comment": comment, "word": word}
    return environment
