"""Machines of a laboratory: network namespaces on one bridge, and the processes in them.

A `Lab` owns every namespace it makes; their names begin with its prefix and carry the process that made them,
so that what a killed run left behind can be told from what is in use. Nothing is put into the namespace that
the program runs in: the bridge has a namespace of its own.

    with Lab("rtt", directory) as lab:
        a = lab.machine("a", "192.0.2.1/24", "2001:db8::1/64")
        b = lab.machine("b", "192.0.2.2/24", "2001:db8::2/64")
        a.run("ping", "-c1", "192.0.2.2")

It needs root (or a user namespace of one's own) and iproute2; `unavailable()` says what is missing.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import ipaddress
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

T = TypeVar("T")

#: Debian keeps daemons and `ip` where a user's PATH may not look.
PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"))
NETNS_DIRECTORY = Path("/run/netns")
INTERFACE = "eth0"
_CLONE_NEWNET = 0x40000000
_counter = itertools.count(1)

#: A machine forwards, answers at once, and does no duplicate address detection.
SYSCTLS: Mapping[str, str] = {
    "ipv4/ip_forward": "1",
    "ipv4/conf/all/rp_filter": "0",
    "ipv4/conf/default/rp_filter": "0",
    "ipv4/conf/all/send_redirects": "0",
    "ipv4/conf/default/send_redirects": "0",
    "ipv6/conf/all/disable_ipv6": "0",
    "ipv6/conf/default/disable_ipv6": "0",
    "ipv6/conf/all/forwarding": "1",
    "ipv6/conf/default/forwarding": "1",
    "ipv6/conf/all/accept_dad": "0",
    "ipv6/conf/default/accept_dad": "0",
    "ipv6/conf/default/accept_ra": "0",
}


class CommandError(RuntimeError):
    """A command failed; the message has the command and its complaint."""


class DeadlineError(AssertionError):
    """A condition that did not come true in time."""


def wait_for(
    condition: Callable[[], T | None], what: str, timeout: float = 60.0, interval: float = 0.02
) -> T:
    """Calls `condition` until it returns something true, and returns that.

    An exception of `condition` counts as not yet. Raises `DeadlineError` after `timeout` seconds, with `what`
    was waited for and what was seen last."""
    deadline = time.monotonic() + timeout
    while True:
        seen: object
        try:
            value = condition()
            if value:
                return value
            seen = value
        except (
            CommandError,
            OSError,
            ValueError,
            LookupError,
            AssertionError,
            subprocess.SubprocessError,
        ) as error:
            seen = repr(error)
        if time.monotonic() > deadline:
            raise DeadlineError(f"{what}: not within {timeout:g} s; last seen: {seen}")
        time.sleep(interval)


def which(program: str) -> str | None:
    """The path of a program, also of one in an sbin folder; None where there is none."""
    return shutil.which(program, path=PATH)


def _environment() -> dict[str, str]:
    return {**os.environ, "PATH": PATH, "LC_ALL": "C.UTF-8"}


def _ip(*arguments: str, batch: Iterable[str] | None = None, check: bool = True) -> str:
    """Runs `ip`, with `batch` as lines of `ip -batch -`. Returns what it printed; raises CommandError with
    its complaint."""
    command = ["ip", *arguments, *(("-batch", "-") if batch is not None else ())]
    done = subprocess.run(
        command,
        input="\n".join(batch) + "\n" if batch is not None else None,
        capture_output=True,
        text=True,
        env=_environment(),
        timeout=60,
    )
    if check and done.returncode:
        raise CommandError(f"{' '.join(command)}: {done.stderr.strip() or done.returncode}")
    return done.stdout


@functools.cache
def unavailable() -> str | None:
    """Why no namespaces can be made here, or None where they can."""
    if which("ip") is None:
        return "no `ip` (Debian's package iproute2)"
    if not Path("/proc/sys/net/ipv6").is_dir():
        return "no IPv6 in this kernel"
    name = f"rtprobe-{os.getpid()}"
    try:
        _ip("netns", "add", name)
    except (CommandError, OSError, subprocess.SubprocessError) as error:
        return f"no network namespaces here: {error}"
    try:
        _ip(
            "-n",
            name,
            batch=["link add br0 type bridge", "link add eth0 type veth peer name p0", "link del br0"],
        )
    except (CommandError, subprocess.SubprocessError) as error:
        return f"no bridges or veths here: {error}"
    finally:
        _ip("netns", "del", name, check=False)
    return None


class Process:
    """A program that a laboratory started, with its output in a file."""

    def __init__(self, name: str, popen: subprocess.Popen[bytes], log: Path) -> None:
        self.name = name
        self.popen = popen
        self.log = log

    @property
    def pid(self) -> int:
        """The process itself: `ip netns exec` becomes the program it runs."""
        return self.popen.pid

    @property
    def running(self) -> bool:
        """False once it ended."""
        return self.popen.poll() is None

    def output(self) -> str:
        """All that it printed so far, standard error included."""
        return self.log.read_text(errors="replace")

    def check(self) -> None:
        """Raises RuntimeError with the end of its output where it is not running."""
        if not self.running:
            raise RuntimeError(f"{self.name} ended with {self.popen.returncode}: {self.output()[-2000:]}")

    def stop(self, timeout: float = 30.0) -> int:
        """SIGTERM, and SIGKILL after `timeout` seconds. Returns its exit status."""
        return self._end(signal.SIGTERM, timeout)

    def interrupt(self, timeout: float = 30.0) -> int:
        """SIGINT, and SIGKILL after `timeout` seconds. Returns its exit status."""
        return self._end(signal.SIGINT, timeout)

    def kill(self) -> None:
        """SIGKILL: a crash."""
        self._end(signal.SIGKILL, 10.0)

    def _end(self, number: signal.Signals, timeout: float) -> int:
        if self.popen.poll() is None:
            self.popen.send_signal(number)
            try:
                self.popen.wait(timeout)
            except subprocess.TimeoutExpired:
                self.popen.kill()
        return self.popen.wait(10)


class Machine:
    """One namespace: a host with `eth0` on the laboratory's bridge, and a folder for its files."""

    def __init__(self, lab: Lab, name: str, directory: Path) -> None:
        self.lab = lab
        self.name = name
        self.namespace = f"{lab.prefix}-{name}"
        self.directory = directory
        self.addresses: tuple[str, ...] = ()
        self.processes: list[Process] = []

    def address(self, version: int) -> str:
        """Its first address of that IP version, without the prefix length."""
        for text in self.addresses:
            interface = ipaddress.ip_interface(text)
            if interface.version == version:
                return str(interface.ip)
        raise LookupError(f"{self.name} has no IPv{version} address")

    def ip(self, *arguments: str) -> str:
        """`ip ARGUMENTS` in this machine; returns what it printed, raises RuntimeError where it fails."""
        return _ip("-n", self.namespace, *arguments)

    def ip_batch(self, lines: Iterable[str]) -> None:
        """Many `ip` commands at once."""
        _ip("-n", self.namespace, batch=lines)

    def ip_json(self, *arguments: str) -> list[dict[str, Any]]:
        """`ip -j ARGUMENTS`, parsed."""
        text = _ip("-n", self.namespace, "-j", *arguments)
        parsed: list[dict[str, Any]] = json.loads(text) if text.strip() else []
        return parsed

    def routes(self, version: int) -> dict[str, dict[str, Any]]:
        """The main table of one IP version by destination: `ip -j -N route`'s objects, types by name,
        protocols by number.

        A single address is written with its length, as records and BGP do; the default route as 0.0.0.0/0 or
        ::/0."""
        table: dict[str, dict[str, Any]] = {}
        for route in self.ip_json("-d", "-N", f"-{version}", "route", "show"):
            destination = str(route["dst"])
            if destination == "default":
                destination = "0.0.0.0/0" if version == 4 else "::/0"
            elif "/" not in destination:
                destination += "/32" if version == 4 else "/128"
            # -N prints types by number as well (RTN_UNICAST and RTN_BLACKHOLE, linux/rtnetlink.h).
            route["type"] = {"1": "unicast", "6": "blackhole"}.get(
                str(route.get("type")), str(route.get("type"))
            )
            if destination not in table or route.get("metric", 0) < table[destination].get("metric", 0):
                table[destination] = route
        return table

    def command(self, *arguments: str) -> list[str]:
        """The command line that runs `arguments` in this machine."""
        return ["ip", "netns", "exec", self.namespace, *arguments]

    def run(
        self, *arguments: str, check: bool = True, timeout: float = 60.0, input: str | None = None
    ) -> str:
        """Runs a program in this machine and returns what it printed; CommandError where it fails."""
        done = subprocess.run(
            self.command(*arguments),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            input=input,
            stdin=subprocess.DEVNULL if input is None else None,
            env=_environment(),
            cwd=self.directory,
        )
        if check and done.returncode:
            complaint = f"{done.stderr.strip()} {done.stdout.strip()[-500:]}"
            raise CommandError(f"{self.name}: {' '.join(arguments)}: exit {done.returncode}: {complaint}")
        return done.stdout

    def start(
        self,
        name: str,
        arguments: Sequence[str],
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> Process:
        """Starts a program in this machine; its output goes to NAME.log in the machine's folder, added to
        what is there."""
        log = self.directory / f"{name}.log"
        with log.open("ab") as output:
            popen = subprocess.Popen(
                self.command(*arguments),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**_environment(), **(env or {})},
                cwd=cwd or self.directory,
                # A Ctrl-C in the terminal is for the program that runs the laboratory, which then stops these
                # in order.
                start_new_session=True,
            )
        process = Process(f"{self.name}/{name}", popen, log)
        self.processes.append(process)
        return process

    def socket(self, family: int = socket.AF_INET, kind: int = socket.SOCK_STREAM) -> socket.socket:
        """A socket of this machine for use in this process: a socket belongs for ever to the namespace it was
        made in.

        Made in a thread of its own, because setns(2) moves the calling thread alone."""
        made: list[socket.socket | OSError] = []

        def make() -> None:
            try:
                with (NETNS_DIRECTORY / self.namespace).open("rb") as namespace:
                    if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), _CLONE_NEWNET):
                        number = ctypes.get_errno()
                        raise OSError(number, os.strerror(number), self.namespace)
                made.append(socket.socket(family, kind))
            except OSError as error:
                made.append(error)

        thread = threading.Thread(target=make)
        thread.start()
        thread.join()
        result = made[0]
        if isinstance(result, OSError):
            raise result
        return result

    def pod(self, name: str, interface: str, addresses: Iterable[str]) -> Machine:
        """A namespace behind a `cali*` veth of this machine, set up as Calico's CNI plugin and Felix do it.

        The pod has its addresses as /32 and /128 on `eth0` and its default routes by way of 169.254.1.1 and
        the link-local address that the host end of every Calico veth has; the host has a route to each pod
        address (metric 1024, protocol 80) through it. Calico lets the host end answer ARP for 169.254.1.1 by
        proxy, which works by the host's default route; a machine here has none, lest a probe arrives by it,
        so the pod is told that MAC."""
        pod = self.lab.namespace(name)
        pod.addresses = tuple(addresses)
        mac = "ee:ee:ee:ee:ee:ee"
        self.ip_batch(
            [
                f"link add {interface} address {mac} type veth peer name {INTERFACE} netns {pod.namespace}",
                f"link set {interface} up",
            ]
        )
        versions = {ipaddress.ip_interface(address).version for address in pod.addresses}
        lines = _address_lines(pod.addresses)
        lines.append(f"link set {INTERFACE} up")
        if 4 in versions:
            lines.append(f"neigh add 169.254.1.1 lladdr {mac} dev {INTERFACE} nud permanent")
            lines.append(f"route add 169.254.1.1 dev {INTERFACE} scope link")
            lines.append(f"route add default via 169.254.1.1 dev {INTERFACE}")
        if 6 in versions:
            # The host end's link-local address by EUI-64 of that MAC.
            lines.append(f"route add default via fe80::ecee:eeff:feee:eeee dev {INTERFACE}")
        pod.ip_batch(lines)
        self.ip_batch(
            f"route add {address} dev {interface} metric 1024 protocol 80" for address in pod.addresses
        )
        return pod

    def sysctl(self, values: Mapping[str, str]) -> None:
        """Sets kernel parameters of this machine: paths under /proc/sys/net and their values."""
        script = "\n".join(f"echo {value} > /proc/sys/net/{path}" for path, value in values.items())
        self.run("sh", "-e", "-c", script)


class Lab(contextlib.AbstractContextManager["Lab"]):
    """Namespaces on one bridge. Leaving the context stops every process that it started and removes every
    namespace."""

    def __init__(self, prefix: str, directory: Path) -> None:
        """`prefix` begins the name of each namespace; `directory` gets a folder for each machine."""
        self.prefix = prefix
        self.directory = directory
        self.machines: dict[str, Machine] = {}
        #: Called back when the laboratory is closed, after its processes ended.
        self.cleanup = contextlib.ExitStack()
        self._bridge: Machine | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def namespace(self, name: str) -> Machine:
        """A machine with nothing but a loopback interface."""
        directory = self.directory / name
        directory.mkdir(parents=True, exist_ok=True)
        machine = Machine(self, name, directory)
        # Remembered before it is made, so that it is removed whatever comes.
        self.machines[name] = machine
        _ip("netns", "add", machine.namespace)
        machine.sysctl(SYSCTLS)
        machine.ip("link", "set", "lo", "up")
        return machine

    def machine(self, name: str, *addresses: str) -> Machine:
        """A machine whose `eth0`, with `addresses` (each with its prefix length), is on the bridge."""
        if self._bridge is None:
            self._bridge = self.namespace("bridge")
            self._bridge.ip_batch(["link add br0 type bridge forward_delay 0", "link set br0 up"])
        machine = self.namespace(name)
        machine.addresses = addresses
        port = f"port{len(self.machines)}"
        self._bridge.ip_batch(
            [
                f"link add {port} type veth peer name {INTERFACE} netns {machine.namespace}",
                f"link set {port} master br0 up",
            ]
        )
        machine.ip_batch([*_address_lines(addresses), f"link set {INTERFACE} up"])
        return machine

    def close(self) -> None:
        """Stops all processes, all at once and then one after another, and removes the namespaces."""
        processes = [process for machine in self.machines.values() for process in machine.processes]
        for process in processes:
            if process.running:
                process.popen.terminate()
        for process in processes:
            process.stop()
        for machine in self.machines.values():
            remove_namespace(machine.namespace)
        self.machines.clear()
        self._bridge = None
        self.cleanup.close()


def _address_lines(addresses: Iterable[str]) -> list[str]:
    """`ip` commands that give `eth0` its addresses."""
    return [
        f"addr add {address} dev {INTERFACE}{' nodad' if ':' in address else ''}" for address in addresses
    ]


def namespaces(prefix: str) -> list[str]:
    """Names of all namespaces that begin with `prefix-`."""
    if not NETNS_DIRECTORY.is_dir():
        return []
    return sorted(path.name for path in NETNS_DIRECTORY.iterdir() if path.name.startswith(f"{prefix}-"))


def remove_namespace(name: str) -> None:
    """Ends every process inside a namespace of ours, then removes it; interfaces go with it."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        pids = [int(pid) for pid in _ip("netns", "pids", name, check=False).split()]
        if not pids:
            break
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        with contextlib.suppress(DeadlineError):
            wait_for(
                lambda: not _ip("netns", "pids", name, check=False).split(), f"{name} is empty", timeout=3
            )
    _ip("netns", "del", name, check=False)


def unique_prefix() -> str:
    """A prefix that no other laboratory uses, and that names the process that made it."""
    return f"rtt-{os.getpid()}-{next(_counter)}"


def remove_leftovers() -> None:
    """Removes the namespaces of test runs whose process is gone."""
    for name in namespaces("rtt"):
        owner = name.split("-")[1]
        if owner.isdigit() and not Path("/proc", owner).exists():
            remove_namespace(name)


@contextlib.contextmanager
def temporary_lab(directory: Path, keep: bool = False) -> Iterator[Lab]:
    """A laboratory under a unique prefix. With `keep` everything is left running, for a look at a failure."""
    lab = Lab(unique_prefix(), directory)
    try:
        yield lab
    finally:
        if not keep:
            lab.close()
