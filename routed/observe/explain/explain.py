"""The tables of gates, and from a target to its explanation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import ip_address, ip_network

from routed.bgp.nlri import Network
from routed.bgp.route import Address
from routed.observe import documents
from routed.observe.explain import address as addresses
from routed.observe.explain import kernel, learned, peering, records, sessions, told
from routed.observe.explain.gates import Gate, first_stop, walk
from routed.observe.explain.question import (
    AddressQuestion,
    PeerQuestion,
    PrefixQuestion,
    address_question,
    prefix_question,
)
from routed.observe.explain.rules import source_text
from routed.observe.observed import Observed
from routed.text import printable

#: Letters of a target that are looked at and given back: no name in the records is longer.
_MOST_LETTERS = 512


def _missing(question: PrefixQuestion) -> bool:
    return not question.known


def _always(question: object) -> bool:
    return True


def _down(question: PeerQuestion) -> bool:
    return not question.up


#: From the records to the kernel.
PREFIX_GATES: tuple[Gate[PrefixQuestion], ...] = (
    Gate("datastore", "Are the records known?", records.datastore, _missing),
    Gate("pool", "Which IPPool holds it?", records.pool, _missing),
    Gate("service", "Is it an address of a service, and announced?", records.service, _missing),
    Gate("block", "Which block is it, or is it in?", records.block, _missing),
    Gate("affinity", "Whose block is it?", records.affinity, _missing),
    Gate("origin", "Does this node make it, and why?", records.origin, _missing),
    Gate("owner", "Is the node that holds the block there?", records.owner, _missing),
    Gate("session", "Is there a session that could bring it?", learned.session, _missing),
    Gate("received", "Who announces it?", learned.received, _missing),
    Gate("loop", "Must it be ignored, since it came from here before?", learned.loop, _missing),
    Gate("import", "What do the import filters say?", learned.imported, _missing),
    Gate("best-path", "Which path is the best, and why?", learned.best, _missing),
    Gate("next-hop", "Can its next hop be reached?", learned.next_hop, _always),
    Gate("group", "Is there anybody to tell?", told.group, told.wants_readers),
    Gate("export", "Who is told, and what?", told.export, _always),
    Gate("kernel", "Are kernel routes programmed?", kernel.available, _always),
    Gate("kernel-policy", "Do the pool or the services leave it to others?", kernel.policy, _always),
    Gate("wireguard", "Does the agent route to its next hop by WireGuard?", kernel.wireguard, _always),
    Gate("kernel-way", "Is there a way that the kernel would take?", kernel.way, _always),
    Gate("kernel-route", "What is in the kernel?", kernel.written, _always),
)
#: Before those of its longest match ...
ADDRESS_GATES: tuple[Gate[AddressQuestion], ...] = (
    Gate("allocation", "Who has the address?", addresses.allocation, _always),
    Gate("workload", "Is the workload's own route there?", addresses.workload, _always),
    Gate("longest-match", "Which route does it take?", addresses.match, _always),
)
#: ... and after them.
LOOKUP_GATES: tuple[Gate[AddressQuestion], ...] = (
    Gate("lookup", "Where would the kernel send it?", addresses.lookup, _always),
)
#: From the records to the session.
PEER_GATES: tuple[Gate[PeerQuestion], ...] = (
    Gate("datastore", "Are the records known?", records.datastore, _down),
    Gate("target", "Is there anything of this name?", peering.target, _always),
    Gate("node", "Can this node have sessions?", peering.local_end, _down),
    Gate("peering", "Which record and rule make the peering?", peering.peering, _always),
    Gate("running", "Does it run, or another in its place?", peering.running, _down),
    Gate("families", "Which families do both ends carry?", peering.families, _always),
    Gate("held", "Does the configuration forbid it?", peering.held, _down),
    Gate("shut-down", "Did an operator shut it down?", peering.shut_down, _down),
    Gate("password", "Is the password there?", peering.password, _down),
    Gate("ttl-security", "How far away may the peer be?", peering.ttl_security, _down),
    Gate("dial", "Who dials?", peering.dials, _down),
    Gate("key-mismatch", "Do both ends have one password?", sessions.key_mismatch, _down),
    Gate("prefix-limit", "Did it send too many prefixes?", sessions.prefix_limit, _down),
    Gate("tcp", "Is there a connection?", sessions.tcp, _down),
    Gate("open", "Does each end take the other's OPEN?", sessions.opened, _down),
    Gate("hold-timer", "Is the peer heard?", sessions.hold_timer, _down),
    Gate("notification", "Did either end say why it ended?", sessions.notification, _down),
    Gate("session", "In which state is the session?", sessions.session, _down),
    Gate("convergence", "What is waited for?", sessions.convergence, _down),
    Gate("exchanged", "What goes each way?", sessions.exchanged, _down),
    Gate("history", "What happened last?", sessions.history, _down),
)


def explain(observed: Observed, target: str) -> documents.Explanation:
    """Why something is, or is not. `target` is a prefix; an address; or a peering: its name, the peer's
    address, or its node's name. An address with the length of one (10.0.0.2/32) is a prefix, whoever has it.

    Never raises: what is none of these is answered with a stop at the gate `target`."""
    asked = printable(target.strip()[:_MOST_LETTERS])
    peers = _peers_of(observed, asked)
    if peers:
        return _explain_peer(asked, peers)
    if (address := _address(asked)) is not None:
        return _explain_address(asked, address_question(observed, address))
    if (network := _network(asked)) is not None:
        return _explain_prefix(asked, prefix_question(observed, network))
    tables = None if observed.compiler is None else observed.compiler.tables
    return _explain_peer(asked, [PeerQuestion(observed, asked, tables)])


def _explain_prefix(asked: str, question: PrefixQuestion) -> documents.Explanation:
    steps = walk(PREFIX_GATES, question)
    if not question.known and question.single:
        before = walk(
            ADDRESS_GATES[:1], AddressQuestion(question.observed, question.network[0], question, None)
        )
        steps = [*before, *steps]
    return _explanation(asked, "prefix", steps, _prefix_verdict(question, steps))


def _explain_address(asked: str, question: AddressQuestion) -> documents.Explanation:
    steps = [
        *walk(ADDRESS_GATES, question),
        *walk(PREFIX_GATES, question.match or question.host),
        *walk(LOOKUP_GATES, question),
    ]
    verdict = _address_verdict(question, steps)
    return _explanation(asked, "address", steps, verdict)


def _explain_peer(asked: str, questions: Sequence[PeerQuestion]) -> documents.Explanation:
    """All peerings of a node: one a family, as a rule."""
    steps = [step for question in questions for step in walk(PEER_GATES, question)]
    stop = first_stop(steps)
    up = sum(question.up for question in questions)
    if stop is not None:
        verdict = f"{asked}: {stop.text}"
        if len(questions) > 1:
            verdict = f"{asked}, {up} of {len(questions)} sessions up: {stop.text}"
    else:
        names = ", ".join(question.name or "" for question in questions)
        verdict = f"{asked}: {names} {'is' if len(questions) == 1 else 'are'} Established"
    return _explanation(asked, "peer", steps, printable(verdict))


def _explanation(
    asked: str, kind: documents.TargetKind, steps: list[documents.Step], verdict: str
) -> documents.Explanation:
    stop = first_stop(steps)
    return documents.Explanation(
        target=asked, kind=kind, verdict=verdict, ok=stop is None, stopped_by=stop, steps=steps
    )


def _address_verdict(question: AddressQuestion, steps: Sequence[documents.Step]) -> str:
    """One line: what stops it, or the way it takes."""
    stop = first_stop(steps)
    if stop is not None:
        return printable(f"{question.address}: {stop.text}")
    route = _prefix_verdict(question.match or question.host, steps)
    return f"{question.address} takes {route}"


def _prefix_verdict(question: PrefixQuestion, steps: Iterable[documents.Step]) -> str:
    """One line: what stops it, or where it comes from and where it goes."""
    stop = first_stop(steps)
    best = question.best
    where = f"{question.network}"
    if best is not None:
        source = best.source
        where += f" by {source_text(source)}"
    if stop is not None:
        return printable(f"{where}: {stop.text}")
    last = [s.text for s in steps if s.gate in ("kernel-route", "export") and s.outcome == "pass"]
    return printable(": ".join((where, "; ".join(last[:2]) or "known, and nothing is to be done")))


# What a target is


def _peers_of(observed: Observed, asked: str) -> list[PeerQuestion]:
    """The peerings that a target names, or the node or address that could have one."""
    speaker, tables = observed.speaker, None if observed.compiler is None else observed.compiler.tables
    sessions = {} if tables is None else tables.sessions
    address = _address(asked)
    names: dict[str, None] = {}
    if asked in speaker.peers or asked in sessions:
        names[asked] = None
    elif address is not None:
        names |= {name: None for name, one in sessions.items() if one.peer_address == address}
        names |= {one.name: None for one in speaker.peers.values() if one.config.remote.address == address}
    else:
        names |= {name: None for name, one in sessions.items() if one.peer_node == asked}
    if names:
        return [
            PeerQuestion(
                observed, asked, tables, sessions.get(name), speaker.peers.get(name), address=address
            )
            for name in sorted(names)
        ]
    nodes = [] if tables is None or address is None else tables.cluster.nodes_with(address)
    if tables is not None and address is None and asked in tables.cluster.nodes:
        nodes = [asked]
    if nodes:
        return [PeerQuestion(observed, asked, tables, node=nodes[0], address=address)]
    if address is not None and _may_peer(observed, address):
        return [PeerQuestion(observed, asked, tables, address=address)]
    return []


def _may_peer(observed: Observed, address: Address) -> bool:
    """Whether a record, or a client range, is about this address."""
    if any(address in one.network for one in observed.speaker.client_ranges):
        return True
    if observed.compiler is None:
        return False
    peers = observed.compiler.tables.cluster.peers.values()
    return any(one.peer_ip is not None and one.peer_ip.address == address for one in peers)


def _address(text: str) -> Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None


def _network(text: str) -> Network | None:
    """A prefix; bits behind its length are taken for a slip."""
    try:
        return ip_network(text, strict=False) if "/" in text else None
    except ValueError:
        return None
