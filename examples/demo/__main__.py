"""`python -m examples.demo run|stop`: what `make demo` and `make demo-stop` start.

Environment: KEEP=1 leaves the cluster running; DEMO=loopback leaves the namespaces out, as where there are
none.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import NoReturn

from rich.text import Text

from examples.demo import cluster as records
from examples.demo import loopback, probes, show
from examples.demo.machines import OUTSIDE, PREFIX, REPOSITORY, Machines
from tests import daemons, netns

#: Everything that the demonstration writes is here, and is replaced by the next one.
STATE = REPOSITORY / ".cache" / PREFIX
_UNSHARED = "ROUTED_DEMO_UNSHARED"
#: The node whose routed is replaced by a new process.
UPGRADED = "worker02"


class StoppedError(Exception):
    """Somebody asked the demonstration to stop."""


def main(arguments: list[str]) -> int:
    """The exit status: 0 when every probe arrived, 1 when not or when something failed, 130 when
    interrupted."""
    if arguments not in (["run"], ["stop"]):
        print(__doc__, file=sys.stderr)
        return 2
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)
    try:
        with _only_one():
            return run() if arguments == ["run"] else stop()
    except StoppedError as stopped:
        show.console.print(f"\nstopped by {stopped}; everything of the demonstration is removed")
        return 130
    except (netns.DeadlineError, netns.CommandError, RuntimeError) as error:
        show.console.print(Text(f"\nfailed: {error}", style="bold red"))
        show.console.print(f"logs are in {STATE}")
        return 1


def _stop(number: int, _frame: FrameType | None) -> NoReturn:
    # From here on everything is being removed, which takes a moment: a second Ctrl-C must not cut that short.
    for other in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(other, signal.SIG_IGN)
    raise StoppedError(signal.Signals(number).name)


@contextlib.contextmanager
def _only_one() -> Iterator[None]:
    """Two demonstrations would use the same names. The lock is an abstract socket: it goes with the
    process."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as lock:
        try:
            lock.bind(f"\0{PREFIX}-{os.getuid()}")
        except OSError:
            raise RuntimeError(
                "another demonstration is running on this machine (Ctrl-C in its terminal ends it)"
            ) from None
        yield


def run() -> int:
    """The demonstration, in namespaces where they can be had, else over loopback."""
    reason = "DEMO=loopback" if os.environ.get("DEMO") == "loopback" else netns.unavailable()
    if reason and os.geteuid() != 0 and _UNSHARED not in os.environ and "DEMO" not in os.environ:
        _try_user_namespace()
    if reason is None:
        reason = daemons.unavailable("bird2") or (
            None if netns.which("ping") else "no `ping` (Debian's package iputils-ping)"
        )
    _remove_leftovers()
    STATE.mkdir(parents=True)
    folder = STATE / "records"
    records.copy_records(folder)
    cluster = records.read(folder)
    if reason:
        return loopback.run(cluster, folder, STATE, reason, keep=_keep())
    return _run_in_namespaces(cluster, folder)


def _keep() -> bool:
    return os.environ.get("KEEP", "") not in ("", "0")


def stop() -> int:
    """Removes what KEEP=1 left."""
    removed = _remove_leftovers()
    print(
        f"removed {removed} namespaces and what ran in them"
        if removed
        else "nothing of the demonstration is running"
    )
    return 0


def _remove_leftovers() -> int:
    """Namespaces, with the processes in them, and files of an earlier demonstration. Returns how many
    namespaces."""
    left = netns.namespaces(PREFIX)
    for name in left:
        netns.remove_namespace(name)
    if STATE.exists():
        shutil.rmtree(STATE)
    return len(left)


def _try_user_namespace() -> None:
    """Without root: starts again as root of a user namespace of our own, where the kernel allows it; else
    returns."""
    unshare = netns.which("unshare")
    if unshare is None:
        return
    wrapper = [unshare, "--user", "--map-root-user", "--net", "--mount", "--"]
    # `ip netns` keeps its names in /run, which is nobody's to write outside.
    script = 'mount -t tmpfs tmpfs /run && exec "$@"'
    check = [*wrapper, "sh", "-c", script, "sh", "ip", "netns", "add", "try"]
    environment = {**os.environ, "PATH": netns.PATH}
    if subprocess.run(check, env=environment, capture_output=True, stdin=subprocess.DEVNULL).returncode:
        return
    show.console.print("not root: in a user namespace of its own")
    command = [*wrapper, "sh", "-c", script, "sh", sys.executable, "-m", "examples.demo", "run"]
    os.execve(unshare, command, {**environment, _UNSHARED: "1"})  # noqa: S606 - it takes this process's place


def _run_in_namespaces(cluster: records.Cluster, folder: Path) -> int:
    show.console.print(Text("A Calico cluster on this machine, described by examples/cluster/", style="bold"))
    lab = netns.Lab(PREFIX, STATE)
    keep = _keep()
    try:
        machines = Machines(lab, cluster, folder)
        bring_up(machines)
        show_state(machines)
        arrived = probe(machines)
        watch_new_block(machines, folder)
        arrived &= upgrade(machines)
        if keep:
            explain_how_to_look(machines)
        return 0 if arrived else 1
    except StoppedError:
        keep = False
        raise
    finally:
        if keep:
            show.console.print("Left running; to end it: make demo-stop")
        else:
            with show.step("everything removed"):
                lab.close()


def bring_up(machines: Machines) -> None:
    """Builds the machines and waits until sessions and routes are as the records say."""
    cluster = machines.cluster
    with show.step("machines") as step:
        machines.build()
        step.say(f"{len(cluster.nodes)} nodes, {len(cluster.pods)} pods, a router outside with BIRD 2")
    with show.step("routed") as step:
        machines.start_speakers()
        speakers = machines.speakers.values()
        step.until(
            lambda: (
                all(s.status() for s in speakers),
                f"running on {sum(bool(s.status()) for s in speakers)} nodes",
            ),
            30,
        )

    def established() -> tuple[bool, str]:
        up = sum(speaker.established() for speaker in speakers)
        known = sum(len(speaker.sessions()) for speaker in speakers)
        return known > 0 and up == known == expected_sessions(
            cluster
        ), f"{up} of {expected_sessions(cluster)} established"

    def converged() -> tuple[bool, str]:
        missing = machines.missing_routes()
        outside = machines.missing_outside()
        wanted = sum(len(cluster.expected_routes(node.name)) for node in cluster.nodes)
        here = wanted - sum(map(len, missing.values()))
        settled = all(speaker.status().get("converged") for speaker in speakers)
        examples = [f"{name} lacks {', '.join(some[:3])}" for name, some in missing.items()]
        examples += [f"outside lacks {prefix}" for prefix in sorted(outside)[:3]]
        return settled and not missing and not outside, "; ".join(
            [f"{here} of {wanted} in the kernels", *examples]
        )

    with show.step("BGP sessions") as step:
        step.until(established, 60)
    with show.step("routes") as step:
        step.until(converged, 60)


def expected_sessions(cluster: records.Cluster) -> int:
    """Ends of sessions on the nodes: one of each family to each reflector and back, and to the router
    outside."""
    total = 0
    for version in (4, 6):
        nodes = [node for node in cluster.nodes if node.address(version)]
        reflectors = sum(node.reflector for node in nodes)
        total += 2 * reflectors * (len(nodes) - reflectors)
        total += len(nodes) * sum(":" in address for address in cluster.outside.addresses if version == 6)
        total += len(nodes) * sum(":" not in address for address in cluster.outside.addresses if version == 4)
    return total


def show_state(machines: Machines) -> None:
    """The tables."""
    statuses = {name: speaker.status() for name, speaker in machines.speakers.items()}
    router = machines.router
    at_router = {**router.routes(4), **router.routes(6)} if router else {}
    show.sessions(show.names_by_address(machines.cluster), statuses)
    show.announcements(statuses, at_router)
    show.kernel_routes(machines)
    show.borrowed(machines.cluster)


def probe(machines: Machines) -> bool:
    """Pings; True where all arrived."""
    with show.step("probes"):
        answered = probes.send(probes.plan(machines.cluster), machines.pods)
    return show.probes(answered, machines.cluster)


def watch_new_block(machines: Machines, folder: Path) -> None:
    """Adds an affinity, and shows how long its route took into another node's kernel."""
    node, cidr = records.NEW_BLOCK
    watcher = machines.speakers[show.WATCHER].machine
    show.heading(f"A new block: {cidr} becomes {node}'s")
    # `ip -ts monitor` prints each route event with the time at which it read it from netlink.
    monitor = watcher.start("monitor", ["ip", "-4", "-ts", "monitor", "route"])
    try:
        # Its subscription is there once it shows a change that we make: an address of its own table.
        netns.wait_for(lambda: _subscribed(watcher, monitor), "ip monitor sees events", timeout=10)
        unfinished, name = records.new_block(folder, node, cidr)
        written = time.time()
        unfinished.rename(name)
        line = netns.wait_for(
            lambda: _event(monitor, cidr), f"{cidr} in {show.WATCHER}'s kernel", timeout=15, interval=0.005
        )
    finally:
        monitor.stop()
    stamp, route = line
    milliseconds = (stamp - written) * 1000
    show.console.print(f"  {show.WATCHER}: {route}")
    show.console.print(
        Text(
            f"{milliseconds:.1f} ms from the file in the folder to the route in {show.WATCHER}'s kernel",
            style="green",
        )
    )


def _subscribed(machine: netns.Machine, monitor: netns.Process) -> bool:
    machine.ip("route", "replace", "blackhole", "192.0.2.255/32", "table", "77")
    machine.ip("route", "del", "blackhole", "192.0.2.255/32", "table", "77")
    return "192.0.2.255" in monitor.output()


def _event(monitor: netns.Process, cidr: str) -> tuple[float, str] | None:
    """The first event about a prefix: its time in seconds since the epoch, and the route."""
    for line in monitor.output().splitlines():
        if match := re.match(rf"\[(?P<time>[^\]]+)\]\s*(?P<route>{re.escape(cidr)}\s.*)$", line):
            return datetime.fromisoformat(match["time"]).timestamp(), match["route"].strip()
    return None


def upgrade(machines: Machines) -> bool:
    """Ends routed on a node and starts it anew, as an upgrade does, while packets go to and from its pods;
    True where all arrived."""
    node = UPGRADED
    speaker = machines.speakers[node]
    show.heading(f"An upgrade of routed on {node}: SIGTERM, then a new process")
    pods = [pod for pod in machines.cluster.pods if pod.node == node]
    there = {pod.name for pod in pods}
    some = [
        probe
        for probe in probes.plan(machines.cluster)
        if (probe.target in there) != (probe.source in there) and "web-1" in (probe.source, probe.target)
    ]
    streams = [probes.Stream(machines.pods[probe.source], probe) for probe in some]
    assert speaker.process is not None
    before = time.time()
    speaker.process.stop()
    stopped = time.time() - before
    speaker.status_file.unlink()
    speaker.start()

    def back() -> bool:
        status = speaker.status()
        up = all(one["state"] == "established" for one in status.get("sessions", ()))
        return bool(status.get("sessions")) and up and bool(status.get("converged"))

    netns.wait_for(back, f"{node}: routed is back", timeout=60)
    took = time.time() - before
    counted = [stream.end() for stream in streams]
    sent, answered = sum(sent for sent, _ in counted), sum(answered for _, answered in counted)
    show.console.print(
        f"  stopped in {stopped * 1000:.0f} ms; {took:.1f} s later the new one has all sessions and routes"
    )
    how = f"one every {probes.Stream.INTERVAL * 1000:.0f} ms on {len(streams)} ways"
    show.console.print(
        Text(
            f"{answered} of {sent} packets to and from its pods arrived, {how}",
            style="green" if answered == sent else "bold red",
        )
    )
    return answered == sent


def explain_how_to_look(machines: Machines) -> None:
    """What KEEP=1 leaves, and how to end it."""
    show.heading("To look around (KEEP=1)")
    router = machines.router
    lines = [
        f"ip netns exec {PREFIX}-worker01 ip route              a node's kernel routes",
        f"ip netns exec {PREFIX}-pod-web-3 ping 10.244.0.70     from a pod to the borrowed address",
        f"tail -f {STATE}/worker01/routed.log",
        f"cat {STATE}/worker01/status.json",
        f"export ROUTED_SOCKET={STATE}/worker01/api.sock",
        ".venv/bin/routed status           and peers, routes, blocks, events, explain 10.244.0.70",
    ]
    if router is not None:
        client = daemons.bird2_program() + "c"
        lines.append(f"(cd {router.directory} && {client} -s bird.ctl show route)     the router {OUTSIDE}")
    lines.append(f"edit the records in {STATE}/records: each change is in force at once")
    for line in lines:
        show.console.print(f"  {line}")
    if _UNSHARED in os.environ:
        show.console.print(
            f"  These namespaces are in a user namespace; to enter it:\n"
            f"  nsenter --target {os.getpid()} --user --net --mount --preserve-credentials\n"
            f"Press Ctrl-C to end."
        )
        signal.pause()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
