"""BGP daemons of Debian's packages, run in machines of a laboratory: BIRD 1.6, BIRD 2, FRR and GoBGP.

Each is made from the same `Config`, started without any service manager on files in its machine's folder, and
asked for the same plain tables: `sessions()` by neighbour address, `routes()` by prefix. So a test is written
once and run against each of them.
"""

from __future__ import annotations

import abc
import dataclasses
import functools
import ipaddress
import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from tests.netns import CommandError, Machine, Process, wait_for, which

_REPOSITORY = Path(__file__).resolve().parent.parent
#: scripts/bootstrap unpacks Debian packages here that it must not or cannot install.
_UNPACKED = _REPOSITORY / ".cache" / "daemons"
ESTABLISHED = "Established"


@dataclass(frozen=True, slots=True)
class Neighbor:
    """One configured BGP neighbour of a daemon."""

    address: str
    asn: int
    passive: bool = False
    route_reflector_client: bool = False
    next_hop_self: bool = False
    families: tuple[int, ...] = ()
    """IP versions to carry; empty: that of the address."""
    port: int = 179
    add_path: bool = False
    """Send and receive all paths of a prefix (RFC 7911). FRR receives them in any case."""
    extended_messages: bool = False
    """RFC 8654 (BIRD). FRR has it in any case."""
    password: str | None = None
    """TCP-MD5."""
    ttl_security_hops: int | None = None
    """GTSM."""

    @property
    def version(self) -> int:
        """IP version of the transport."""
        return ipaddress.ip_address(self.address).version

    @property
    def carried(self) -> tuple[int, ...]:
        """IP versions that the session carries."""
        return self.families or (self.version,)


@dataclass(frozen=True, slots=True)
class Config:
    """What a daemon is to do."""

    asn: int
    router_id: str
    neighbors: tuple[Neighbor, ...] = ()
    announce: tuple[str, ...] = ()
    """Prefixes that it originates, both families."""
    cluster_id: str | None = None
    hold_time: int = 90
    kernel: bool = False
    """Install learned routes into the machine's kernel (BIRD and FRR)."""
    port: int = 179
    """Where BIRD 2 listens, on each neighbour's local address."""
    multihop: bool = False
    """Neighbours need not be on a link of the machine (BIRD)."""

    def announced(self, version: int) -> list[str]:
        """The originated prefixes of one IP version."""
        return [prefix for prefix in self.announce if ipaddress.ip_network(prefix).version == version]


@dataclass(frozen=True, slots=True)
class BgpPath:
    """One path to a prefix as a daemon shows it; fields that it does not show are None."""

    next_hop: str | None = None
    as_path: tuple[int, ...] = ()
    origin: str | None = None
    """`igp`, `egp` or `incomplete`."""
    local_pref: int | None = None
    originator_id: str | None = None
    cluster_list: tuple[str, ...] = ()
    communities: frozenset[str] = frozenset()
    local: bool = False
    """The daemon originates it itself."""


Table = dict[str, list[BgpPath]]


class Daemon(abc.ABC):
    """A daemon on a machine. `start` returns when it answers questions."""

    program: ClassVar[str]

    def __init__(self, machine: Machine, config: Config) -> None:
        self.machine = machine
        self.config = config
        self.directory = machine.directory / self.program
        self.directory.mkdir(exist_ok=True)
        self.processes: list[Process] = []

    def start(self) -> None:
        """Writes its configuration and starts it."""
        self.processes = self._start()
        wait_for(self._answers, f"{self.machine.name}: {self.program} answers", timeout=60)

    def stop(self) -> None:
        """SIGTERM."""
        for process in self.processes:
            process.stop()

    def kill(self) -> None:
        """SIGKILL: a crash."""
        for process in self.processes:
            process.kill()

    def announce(self, *prefixes: str) -> None:
        """Originates more prefixes, live."""
        self.config = dataclasses.replace(self.config, announce=(*self.config.announce, *prefixes))
        self._change(added=prefixes, removed=())

    def withdraw(self, *prefixes: str) -> None:
        """Stops originating prefixes, live."""
        rest = tuple(prefix for prefix in self.config.announce if prefix not in prefixes)
        self.config = dataclasses.replace(self.config, announce=rest)
        self._change(added=(), removed=prefixes)

    def reconfigure(self) -> None:
        """Puts the options of its neighbours in force live (FRR: their passwords)."""
        self._change(added=(), removed=())

    def established(self, address: str) -> bool:
        """True while the session with that neighbour is Established."""
        return self.sessions().get(address) == ESTABLISHED

    def wait_established(self, *addresses: str, timeout: float = 60.0) -> None:
        """Waits until the sessions with these neighbours, or with all, are Established."""
        wanted = addresses or tuple(neighbor.address for neighbor in self.config.neighbors)

        def established() -> bool:
            states = self.sessions()
            down = {address: states.get(address) for address in wanted if states.get(address) != ESTABLISHED}
            assert not down, down
            return True

        wait_for(established, f"{self.machine.name}: {self.program} sessions Established", timeout)

    def wait_routes(self, have: Iterable[str] = (), lack: Iterable[str] = (), timeout: float = 60.0) -> None:
        """Waits until it has a path to each prefix of `have` and none to those of `lack`, of either
        family."""
        have, lack = set(have), set(lack)

        def complete() -> bool:
            seen = {prefix for version in (4, 6) for prefix in self.routes(version)}
            assert have <= seen, f"lacks {sorted(have - seen)}"
            assert not lack & seen, f"still has {sorted(lack & seen)}"
            return True

        wait_for(complete, f"{self.machine.name}: {self.program} routes", timeout)

    def path(self, prefix: str) -> BgpPath:
        """The best path to a prefix; LookupError where there is none."""
        return self.routes(ipaddress.ip_network(prefix).version)[prefix][0]

    def _answers(self) -> bool:
        for process in self.processes:
            process.check()
        return set(self.sessions()) == {neighbor.address for neighbor in self.config.neighbors}

    @abc.abstractmethod
    def sessions(self) -> dict[str, str]:
        """State of each session by neighbour address, `Established` where it is."""

    @abc.abstractmethod
    def routes(self, version: int) -> Table:
        """All paths of one IP version by prefix, the best first."""

    @abc.abstractmethod
    def _start(self) -> list[Process]: ...

    @abc.abstractmethod
    def _change(self, added: tuple[str, ...], removed: tuple[str, ...]) -> None: ...


# --- BIRD
# ------------------------------------------------------------------------------------------------------

_BIRD_ROUTE = re.compile(r"^(?P<prefix>[0-9a-f.:]+/\d+)?\s.*\[(?P<protocol>\S+) [^\]]*\]")
_BIRD_ATTRIBUTE = re.compile(r"^\s+BGP\.(?P<name>\w+): (?P<value>.*)$")


def parse_bird_routes(text: str) -> Table:
    """The output of `show route all`, of BIRD 1.6 and 2."""
    table: Table = {}
    prefix = ""
    found: list[tuple[str, str, dict[str, str]]] = []
    for line in text.splitlines():
        if line.startswith("\t"):
            if (attribute := _BIRD_ATTRIBUTE.match(line)) and found:
                found[-1][2][attribute["name"]] = attribute["value"].strip()
        elif route := _BIRD_ROUTE.match(line):
            prefix = route["prefix"] or prefix
            found.append((prefix, route["protocol"], {}))
    for prefix, protocol, attributes in found:
        if protocol == "connected":
            continue
        next_hop = attributes.get("next_hop", "").split()
        table.setdefault(prefix, []).append(
            BgpPath(
                next_hop=next_hop[0] if next_hop else None,
                as_path=tuple(
                    int(number) for number in attributes.get("as_path", "").split() if number.isdigit()
                ),
                origin=attributes["origin"].lower() if "origin" in attributes else None,
                local_pref=int(attributes["local_pref"]) if "local_pref" in attributes else None,
                originator_id=attributes.get("originator_id"),
                cluster_list=tuple(attributes.get("cluster_list", "").split()),
                communities=frozenset(
                    f"{high}:{low}"
                    for high, low in re.findall(r"\((\d+),(\d+)\)", attributes.get("community", ""))
                ),
                local=protocol.startswith("announce"),
            )
        )
    return table


class _Bird(Daemon):
    """What both BIRDs share. Each instance runs one or two processes, each with a control socket of its
    own."""

    def _protocol_name(self, neighbor: Neighbor) -> str:
        return "peer_" + re.sub(r"[^0-9a-zA-Z]", "_", neighbor.address)

    @abc.abstractmethod
    def _instances(self) -> dict[str, tuple[str, str, str]]:
        """By name: the daemon's program, its client's, and its configuration."""

    def _write(self) -> None:
        for name, (_, _, configuration) in self._instances().items():
            (self.directory / f"{name}.conf").write_text(configuration)

    def _start(self) -> list[Process]:
        self._write()
        # Relative paths: a Unix socket's path must fit in 108 bytes.
        return [
            self.machine.start(
                name,
                [program, "-f", "-c", f"{name}.conf", "-s", f"{name}.ctl", "-P", f"{name}.pid"],
                cwd=self.directory,
            )
            for name, (program, _, _) in self._instances().items()
        ]

    def ask(self, instance: str, *command: str) -> str:
        """The answer of one instance's control socket, without code numbers."""
        client = self._instances()[instance][1]
        done = subprocess.run(
            [client, "-s", f"{instance}.ctl", *command],
            cwd=self.directory,
            capture_output=True,
            text=True,
            timeout=60,
            stdin=subprocess.DEVNULL,
        )
        if done.returncode or "syntax error" in done.stdout:
            raise CommandError(f"{client} {' '.join(command)}: {done.stdout}{done.stderr}")
        return done.stdout

    def _change(self, added: tuple[str, ...], removed: tuple[str, ...]) -> None:
        self._write()
        for instance in self._instances():
            answer = self.ask(instance, "configure")
            if "Reconfigured" not in answer and "in progress" not in answer:
                raise CommandError(f"{instance}: configure: {answer}")

    def sessions(self) -> dict[str, str]:
        names = {self._protocol_name(neighbor): neighbor.address for neighbor in self.config.neighbors}
        states: dict[str, str] = {}
        for instance in self._instances():
            for line in self.ask(instance, "show", "protocols").splitlines():
                words = line.split()
                if words and words[0] in names:
                    states[names[words[0]]] = words[-1]
        return states

    def _head(self, channels: str) -> str:
        # Next hops of iBGP routes resolve through the connected routes.
        parts = ["log stderr all;", f"router id {self.config.router_id};", "protocol device { scan time 5; }"]
        parts.append(f"protocol direct connected {{ {channels} }}")
        return "\n".join(parts) + "\n"

    def _bgp(self, neighbor: Neighbor, channels: str) -> str:
        options = [
            f"local {self.machine.address(neighbor.version)} {self._listen()}as {self.config.asn};",
            f"neighbor {neighbor.address} {self._port(neighbor)}as {neighbor.asn};",
            f"hold time {self.config.hold_time};",
            "connect delay time 1; connect retry time 1; error wait time 1, 2;",
        ]
        if self.config.port != 179:
            # A listening socket an address, so that several programs can share the port.
            options.append("strict bind;")
        if neighbor.ttl_security_hops:
            options.append(f"multihop {neighbor.ttl_security_hops}; ttl security on;")
        elif self.config.multihop:
            options.append("multihop;")
        if neighbor.password is not None:
            options.append(f'password "{neighbor.password}";')
        if neighbor.passive:
            options.append("passive;")
        if neighbor.extended_messages:
            options.append("enable extended messages;")
        if neighbor.route_reflector_client:
            options.append("rr client;")
        if self.config.cluster_id and neighbor.asn == self.config.asn:
            options.append(f"rr cluster id {self.config.cluster_id};")
        return f"protocol bgp {self._protocol_name(neighbor)} {{ {' '.join(options)} {channels} }}\n"

    def _port(self, neighbor: Neighbor) -> str:
        return f"port {neighbor.port} " if neighbor.port != 179 else ""

    def _listen(self) -> str:
        return f"port {self.config.port} " if self.config.port != 179 else ""

    def _statics(self, version: int) -> str:
        return " ".join(f"route {prefix} blackhole;" for prefix in self.config.announced(version))


_BIRD_EXPORT = "export where source ~ [ RTS_STATIC, RTS_BGP ];"


class Bird2(_Bird):
    """BIRD 2: both families in one process."""

    program = "bird2"

    def _instances(self) -> dict[str, tuple[str, str, str]]:
        daemon = bird2_program()
        return {"bird": (daemon, daemon + "c", self._configuration())}

    def _configuration(self) -> str:
        parts = [self._head("ipv4; ipv6;")]
        for version in (4, 6):
            parts.append(f"protocol static announce{version} {{ ipv{version}; {self._statics(version)} }}\n")
            if self.config.kernel:
                channel = f"ipv{version} {{ import none; export where source = RTS_BGP; }};"
                parts.append(f"protocol kernel kernel{version} {{ {channel} merge paths on; }}\n")
        for neighbor in self.config.neighbors:
            own = " next hop self;" if neighbor.next_hop_self else ""
            own += " add paths on;" if neighbor.add_path else ""
            channels = "".join(
                f"ipv{version} {{ import all; {_BIRD_EXPORT}{own} }};" for version in neighbor.carried
            )
            parts.append(self._bgp(neighbor, channels))
        return "".join(parts)

    def routes(self, version: int) -> Table:
        return parse_bird_routes(self.ask("bird", "show", "route", "all", "table", f"master{version}"))


class Bird1(_Bird):
    """BIRD 1.6, which Calico's own BIRD descends from: a process a family."""

    program = "bird1"

    def _instances(self) -> dict[str, tuple[str, str, str]]:
        folder = bird1_folder()
        return {
            name: (str(folder / name), str(folder / client), self._configuration(version))
            for name, client, version in (("bird", "birdc", 4), ("bird6", "birdc6", 6))
        }

    def _configuration(self, version: int) -> str:
        parts = [self._head("")]
        parts.append(f"protocol static announce{version} {{ {self._statics(version)} }}\n")
        if self.config.kernel:
            parts.append("protocol kernel { import none; export where source = RTS_BGP; merge paths on; }\n")
        for neighbor in self.config.neighbors:
            if neighbor.version == version:
                own = " next hop self;" if neighbor.next_hop_self else ""
                own += " add paths on;" if neighbor.add_path else ""
                parts.append(self._bgp(neighbor, f"import all; {_BIRD_EXPORT}{own}"))
        return "".join(parts)

    def routes(self, version: int) -> Table:
        return parse_bird_routes(self.ask("bird" if version == 4 else "bird6", "show", "route", "all"))


# --- FRR
# -------------------------------------------------------------------------------------------------------


class Frr(Daemon):
    """FRR: zebra and bgpd, on sockets of their own."""

    program = "frr"
    _FOLDER = Path("/usr/lib/frr")

    def __init__(self, machine: Machine, config: Config) -> None:
        super().__init__(machine, config)
        # zebra insists on being the user frr, who cannot look into the folders of a test run by root.
        folder = tempfile.TemporaryDirectory(prefix="routed-frr-")
        machine.lab.cleanup.enter_context(folder)
        self.directory = Path(folder.name)
        shutil.chown(self.directory, "frr", "frr")

    def _start(self) -> list[Process]:
        (self.directory / "zebra.conf").write_text("hostname zebra\n")
        (self.directory / "bgpd.conf").write_text(self._configuration())
        common = [
            "--vty_socket",
            str(self.directory),
            "-z",
            str(self.directory / "zserv.api"),
            "--log",
            "stdout",
        ]
        zebra = self.machine.start("zebra", self._command("zebra", common))
        socket = self.directory / "zserv.api"

        def listens() -> bool:
            zebra.check()
            return socket.exists()

        wait_for(listens, f"{self.machine.name}: zebra listens", timeout=60)
        bgpd = self.machine.start(
            "bgpd", self._command("bgpd", [*common, *(() if self.config.kernel else ("-n",))])
        )
        return [zebra, bgpd]

    def _command(self, name: str, options: list[str]) -> list[str]:
        files = [
            "-f",
            str(self.directory / f"{name}.conf"),
            "-i",
            str(self.directory / f"{name}.pid"),
            "-P",
            "0",
        ]
        return [str(self._FOLDER / name), *options, *files]

    def _configuration(self) -> str:
        config = self.config
        lines = [
            f"router bgp {config.asn}",
            f" bgp router-id {config.router_id}",
            " no bgp ebgp-requires-policy",
            " no bgp default ipv4-unicast",
            " no bgp network import-check",
            f" timers bgp {max(1, config.hold_time // 3)} {config.hold_time}",
        ]
        if config.cluster_id:
            lines.append(f" bgp cluster-id {config.cluster_id}")
        for neighbor in config.neighbors:
            lines += [
                f" neighbor {neighbor.address} remote-as {neighbor.asn}",
                f" neighbor {neighbor.address} update-source {self.machine.address(neighbor.version)}",
                f" neighbor {neighbor.address} timers connect 1",
                f" neighbor {neighbor.address} advertisement-interval 0",
                f" neighbor {neighbor.address} port {neighbor.port}",
            ]
            if neighbor.passive:
                lines.append(f" neighbor {neighbor.address} passive")
            if neighbor.password is not None:
                lines.append(f" neighbor {neighbor.address} password {neighbor.password}")
            if neighbor.ttl_security_hops:
                hops = neighbor.ttl_security_hops
                lines.append(f" neighbor {neighbor.address} ttl-security hops {hops}")
        for version in (4, 6):
            lines.append(f" address-family ipv{version} unicast")
            lines += [f"  network {prefix}" for prefix in config.announced(version)]
            for neighbor in config.neighbors:
                if version not in neighbor.carried:
                    continue
                lines.append(f"  neighbor {neighbor.address} activate")
                if neighbor.route_reflector_client:
                    lines.append(f"  neighbor {neighbor.address} route-reflector-client")
                if neighbor.next_hop_self:
                    lines.append(f"  neighbor {neighbor.address} next-hop-self")
                if neighbor.add_path:
                    lines.append(f"  neighbor {neighbor.address} addpath-tx-all-paths")
            lines.append(" exit-address-family")
        return "\n".join(lines) + "\n"

    def ask(self, *commands: str) -> str:
        """What vtysh prints for commands given to bgpd."""
        arguments = [argument for command in commands for argument in ("-c", command)]
        done = subprocess.run(
            [which("vtysh") or "vtysh", "--vty_socket", str(self.directory), "-d", "bgpd", *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            stdin=subprocess.DEVNULL,
        )
        if done.returncode or "% " in done.stdout:
            raise CommandError(f"vtysh {commands}: {done.stdout[-500:]}{done.stderr[-500:]}")
        return done.stdout

    def reconfigure(self) -> None:
        commands = ["configure terminal", f"router bgp {self.config.asn}"]
        for neighbor in self.config.neighbors:
            name = f"neighbor {neighbor.address}"
            password = neighbor.password
            commands.append(f"{name} password {password}" if password is not None else f"no {name} password")
        self.ask(*commands)

    def _change(self, added: tuple[str, ...], removed: tuple[str, ...]) -> None:
        commands = ["configure terminal", f"router bgp {self.config.asn}"]
        for word, prefixes in (("", added), ("no ", removed)):
            for prefix in prefixes:
                version = ipaddress.ip_network(prefix).version
                commands += [
                    f"address-family ipv{version} unicast",
                    f"{word}network {prefix}",
                    "exit-address-family",
                ]
        self.ask(*commands)

    def sessions(self) -> dict[str, str]:
        neighbors: dict[str, Any] = json.loads(self.ask("show bgp neighbors json"))
        return {
            address: str(entry["bgpState"]) for address, entry in neighbors.items() if isinstance(entry, dict)
        }

    def routes(self, version: int) -> Table:
        listed: dict[str, Any] = json.loads(self.ask(f"show bgp ipv{version} unicast json"))
        prefixes = list(listed["routes"])
        # The list leaves out originator and cluster list; the answers for single prefixes follow one another.
        text = (
            self.ask(*(f"show bgp ipv{version} unicast {prefix} json" for prefix in prefixes))
            if prefixes
            else ""
        )
        table: Table = {}
        decoder = json.JSONDecoder()
        for prefix in prefixes:
            entry, end = decoder.raw_decode(text.lstrip())
            text = text.lstrip()[end:]
            if paths := entry.get("paths"):  # none where it went since the list was made
                table[prefix] = [_frr_path(path) for path in sorted(paths, key=_frr_not_best)]
        return table


def _frr_not_best(path: dict[str, Any]) -> bool:
    return not path.get("bestpath", {}).get("overall", False)


def _frr_path(path: dict[str, Any]) -> BgpPath:
    next_hops = path.get("nexthops", [])
    used: dict[str, Any] = next((hop for hop in next_hops if hop.get("scope", "global") == "global"), {})
    segments = path.get("aspath", {}).get("segments", [])
    return BgpPath(
        next_hop=used.get("ip"),
        as_path=tuple(int(number) for segment in segments for number in segment["list"]),
        origin=str(path["origin"]).lower() if "origin" in path else None,
        local_pref=path.get("locPrf"),
        originator_id=path.get("originatorId"),
        cluster_list=tuple(path.get("clusterList", {}).get("list", ())),
        communities=frozenset(path.get("community", {}).get("list", ())),
        local=bool(path.get("local") or path.get("sourced")),
    )


# --- GoBGP
# -----------------------------------------------------------------------------------------------------

_GOBGP_ORIGIN = {0: "igp", 1: "egp", 2: "incomplete"}


class GoBgp(Daemon):
    """GoBGP, with its API on the machine's own loopback."""

    program = "gobgp"
    _STATES: ClassVar = ("Unknown", "Idle", "Connect", "Active", "OpenSent", "OpenConfirm", ESTABLISHED)

    def _start(self) -> list[Process]:
        (self.directory / "gobgpd.toml").write_text(self._configuration())
        daemon = which("gobgpd") or "gobgpd"
        options = ["-f", "gobgpd.toml", "--api-hosts", "127.0.0.1:50051", "--pprof-disable", "-p"]
        process = self.machine.start("gobgpd", [daemon, *options], cwd=self.directory)
        wait_for(lambda: self.ask("global"), f"{self.machine.name}: gobgpd answers", timeout=60)
        # Prefixes are no part of its configuration file; the table is empty before.
        self._change(added=self.config.announce, removed=())
        return [process]

    def _configuration(self) -> str:
        config = self.config
        addresses = ", ".join(f'"{text.split("/")[0]}"' for text in self.machine.addresses)
        lines = [
            "[global.config]",
            f"as = {config.asn}",
            f'router-id = "{config.router_id}"',
            f"local-address-list = [{addresses}]",
        ]
        for neighbor in config.neighbors:
            lines += [
                "[[neighbors]]",
                "[neighbors.config]",
                f"peer-as = {neighbor.asn}",
                f'neighbor-address = "{neighbor.address}"',
                *([f'auth-password = "{neighbor.password}"'] if neighbor.password is not None else []),
                "[neighbors.timers.config]",
                "connect-retry = 5",
                "idle-hold-time-after-reset = 1",
                f"hold-time = {config.hold_time}",
                "[neighbors.transport.config]",
                f'local-address = "{self.machine.address(neighbor.version)}"',
                f"passive-mode = {str(neighbor.passive).lower()}",
                f"remote-port = {neighbor.port}",
            ]
            if neighbor.ttl_security_hops:
                least = 256 - neighbor.ttl_security_hops
                lines += ["[neighbors.ttl-security.config]", "enabled = true", f"ttl-min = {least}"]
            if neighbor.route_reflector_client:
                cluster = config.cluster_id or config.router_id
                lines += [
                    "[neighbors.route-reflector.config]",
                    "route-reflector-client = true",
                    f'route-reflector-cluster-id = "{cluster}"',
                ]
            for version in neighbor.carried:
                lines += ["[[neighbors.afi-safis]]", "[neighbors.afi-safis.config]"]
                lines.append(f'afi-safi-name = "ipv{version}-unicast"')
                if neighbor.add_path:
                    lines += ["[neighbors.afi-safis.add-paths.config]", "receive = true", "send-max = 16"]
        return "\n".join(lines) + "\n"

    def ask(self, *arguments: str) -> str:
        """What `gobgp ARGUMENTS` prints."""
        return self.machine.run(which("gobgp") or "gobgp", *arguments)

    def _change(self, added: tuple[str, ...], removed: tuple[str, ...]) -> None:
        for word, prefixes in (("add", added), ("del", removed)):
            for prefix in prefixes:
                version = ipaddress.ip_network(prefix).version
                # Told its next hop: over a session of the other family it would send an IPv4-mapped one.
                attributes = (
                    ("origin", "igp", "nexthop", self.machine.address(version)) if word == "add" else ()
                )
                self.ask("global", "rib", word, "-a", f"ipv{version}", prefix, *attributes)

    def sessions(self) -> dict[str, str]:
        neighbors: list[dict[str, Any]] = json.loads(self.ask("-j", "neighbor"))
        states: dict[str, str] = {}
        for neighbor in neighbors:
            state = neighbor["state"]
            number = state.get("session_state", 0)
            states[neighbor["conf"]["neighbor_address"]] = self._STATES[number]
        return states

    def routes(self, version: int) -> Table:
        listed: dict[str, list[dict[str, Any]]] = json.loads(
            self.ask("-j", "global", "rib", "-a", f"ipv{version}")
        )
        return {prefix: [_gobgp_path(path) for path in paths] for prefix, paths in listed.items()}


def _gobgp_path(path: dict[str, Any]) -> BgpPath:
    attributes = {int(attribute["type"]): attribute for attribute in path["attrs"]}
    segments = attributes.get(2, {}).get("as_paths") or []
    next_hop = attributes.get(3, {}).get("nexthop") or attributes.get(14, {}).get("nexthop")
    return BgpPath(
        next_hop=next_hop,
        as_path=tuple(int(number) for segment in segments for number in segment["asns"]),
        origin=_GOBGP_ORIGIN.get(attributes.get(1, {}).get("value")),
        local_pref=attributes.get(5, {}).get("value"),
        originator_id=attributes.get(9, {}).get("value"),
        cluster_list=tuple(attributes.get(10, {}).get("value", ())),
        communities=frozenset(
            f"{value >> 16}:{value & 0xFFFF}" for value in attributes.get(8, {}).get("communities", ())
        ),
        local="neighbor-ip" not in path,
    )


# --- what is here
# ----------------------------------------------------------------------------------------------

DAEMONS: dict[str, type[Daemon]] = {daemon.program: daemon for daemon in (Bird1, Bird2, Frr, GoBgp)}


def _version(program: str | Path | None) -> str:
    """What `PROGRAM --version` says; empty where there is no such program or it does not run."""
    if program is None:
        return ""
    try:
        done = subprocess.run(
            [program, "--version"], capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return (done.stdout + done.stderr).strip()


@functools.cache
def bird2_program() -> str:
    """Path of BIRD 2: the installed one, or the one that scripts/bootstrap unpacked. Its client is beside it,
    with a `c`.

    Raises LookupError where there is none."""
    for program in (which("bird"), _UNPACKED / "bird2/usr/sbin/bird"):
        if _version(program).startswith("BIRD version 2."):
            return str(program)
    raise LookupError("no BIRD 2 (Debian's package bird2; scripts/bootstrap installs it)")


@functools.cache
def bird1_folder() -> Path:
    """The folder of BIRD 1.6's programs; raises LookupError where there is none."""
    installed = which("bird")
    for folder in (_UNPACKED / "bird1/usr/sbin", Path(installed).parent if installed else None):
        if folder and _version(folder / "bird").startswith("BIRD version 1.6"):
            return folder
    raise LookupError("no BIRD 1.6 (Debian 12's package bird; scripts/bootstrap test unpacks it)")


@functools.cache
def unavailable(name: str) -> str | None:
    """Why the daemon of that name (a key of DAEMONS) cannot run here, or None where it can."""
    try:
        if name == "bird1":
            bird1_folder()
        elif name == "bird2":
            bird2_program()
        elif name == "frr":
            if not _version("/usr/lib/frr/bgpd") or which("vtysh") is None:
                return "no FRR (Debian's package frr; scripts/bootstrap test installs it)"
        elif name == "gobgp":
            if not _version(which("gobgpd")) or which("gobgp") is None:
                return "no GoBGP (Debian's package gobgpd; scripts/bootstrap test installs it)"
        else:
            return f"unknown daemon {name!r}; known: {', '.join(DAEMONS)}"
    except LookupError as error:
        return str(error)
    return None
