"""The daemons, `routed run` and `routed rr`: how one starts, and what both need of a process.

The command line is read by a library that a daemon has no use for once that is done, and which with all that
it imports holds as much memory as a reflector with some hundred clients. So the command line hands over what
it read: `start` has the process begin anew (execve(2)), as the same program with the same arguments and the
same PID, and the options in one environment variable. `run_handed_over` finds them there.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Awaitable, Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

if TYPE_CHECKING:
    import asyncio

    from routed.observe.options import ObserveOptions

Job = Callable[["asyncio.Event"], Awaitable[None]]
"""What a daemon does until the event is set."""

#: Objects made and not freed until the garbage collector looks at the young ones; how often it does that
#: before it looks at older ones, and how often that before all.
GC_THRESHOLDS: Final = (20_000, 20, 10)
#: The module of each daemon; its `main` takes the options by name.
_DAEMONS: Final = {"run": "routed.daemon.node", "rr": "routed.daemon.reflector"}
#: Holds a daemon's name and its options, as JSON. Not an argument: a datastore's URL may have a password.
_HANDED_OVER: Final = "_ROUTED_DAEMON"
#: For glibc's malloc(3): give blocks from this size on back as they are freed. Left alone it raises that
#: size as it goes, to 32 MB, and what a table that grew has left behind stays: a sixth of a reflector with
#: a million routes.
_ALLOCATOR: Final = {"MALLOC_MMAP_THRESHOLD_": str(256 * 1024)}
#: The password in a URL: `mqtt://user:PASSWORD@host`; also one that would have to be percent-encoded.
_PASSWORD_IN_URL: Final = re.compile(r"(?<=://)([^/@:\s]*):\S*@")


def start(daemon: str, options: Mapping[str, object]) -> NoReturn:
    """Become a daemon. `options`, by their names, are what JSON can say; paths go as text. The arguments stay
    as they are for the list of processes, with passwords hidden: nobody reads them again."""
    handed_over = json.dumps((daemon, options), default=os.fspath)
    sys.stdout.flush()
    environment = {**_ALLOCATOR, **os.environ, _HANDED_OVER: handed_over}
    arguments = map(without_password, sys.orig_argv[1:])
    os.execve(sys.executable, [sys.executable, *arguments], environment)  # noqa: S606 - no shell


def without_password(argument: str) -> str:
    """An argument as others may see it."""
    return _PASSWORD_IN_URL.sub(r"\1:***@", argument)


def run_handed_over() -> bool:
    """Run the daemon that `start` wants, until it ends. False where this is no such start."""
    handed_over = os.environ.pop(_HANDED_OVER, None)
    if handed_over is None:
        return False
    daemon, options = json.loads(handed_over)
    run(daemon, options)
    return True


def run(daemon: str, options: Mapping[str, object]) -> None:
    """Run a daemon until it ends, in this process as it is."""
    import_module(_DAEMONS[daemon]).main(**options)


def fail(message: str) -> NoReturn:
    """Say on standard error what is wrong and what to do, and exit with status 2."""
    print(f"routed: {message}", file=sys.stderr)
    raise SystemExit(2)


def configure_logging(level: str | None, output: str) -> None:
    """Set up logs from the two options; exits with 2 where one of them is wrong."""
    if output not in ("auto", "console", "json"):
        fail(f"--log-format {output!r}: use console, json or auto")
    # Not at the top: it brings asyncio, which brings TLS unless a daemon says before that it needs none.
    from routed import log

    try:
        log.configure(level or "info", output)  # type: ignore[arg-type]
    except ValueError as error:
        fail(f"--log-level: {error}")


def observe_options(node: str, options: Mapping[str, Any]) -> ObserveOptions:
    """What is to be seen from outside, by the options that both daemons have; exits with 2 where one is
    wrong."""
    from routed.observe import options as observe

    try:
        return observe.observe_options(node, **options)
    except ValueError as error:
        fail(str(error))


def node_name(option: str | None) -> str:
    """This node's name: the option (or NODENAME), then calico-node's nodename file, HOSTNAME, the host's
    name."""
    if option:
        return option
    path = Path(os.environ.get("CALICO_NODENAME_FILE", "/var/lib/calico/nodename"))
    try:
        name = path.read_text().strip()
    except OSError:
        name = ""
    return name or os.environ.get("HOSTNAME") or os.uname().nodename


def run_until_stopped(job: Job) -> None:
    """Run a daemon: `job` gets an event that SIGTERM or SIGINT sets. A second signal ends at once."""
    # Not at the top: the commands that say a wrong option, or that only read the records, go without.
    import asyncio
    import gc
    import signal

    from routed.event_loop import new_event_loop

    # Routes are freed by their reference counts. The collector only looks for cycles, and looks at all
    # there is: a third of the time of a table transfer, and pauses that grow with the table. There are few
    # cycles.
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)

    async def body() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()

        def on_signal() -> None:
            if stop.is_set():
                os._exit(1)
            stop.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, on_signal)
        await job(stop)

    try:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(body())
    except KeyboardInterrupt:
        sys.exit(130)
