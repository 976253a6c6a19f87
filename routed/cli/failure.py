"""How a command ends that asks a running routed: its exit status, and one line on standard error."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from enum import IntEnum
from pathlib import Path
from typing import NoReturn, ParamSpec

from routed.cli.text import safe

P = ParamSpec("P")


class Status(IntEnum):
    """Exit statuses."""

    OK = 0
    NO = 1
    """routed answers, and the answer is no: not found, not ready, not as one would wish."""
    USAGE = 2
    """The command cannot be understood."""
    UNREACHABLE = 3
    """There is no answer."""
    INTERRUPTED = 130
    """As the shell says it of SIGINT."""
    BROKEN_PIPE = 141
    """As the shell says it of SIGPIPE: whoever read the output wanted no more of it."""


class CommandError(Exception):
    """Ends the command. The message becomes one safe line, whatever is in it."""

    def __init__(self, message: str, status: Status = Status.USAGE) -> None:
        super().__init__(safe(message))
        self.status = status


def ends_well(command: Callable[P, None]) -> Callable[P, None]:
    """Has a command end as `Status` says, whatever happens to it."""

    @functools.wraps(command)
    def run(*arguments: P.args, **options: P.kwargs) -> None:
        _prepare_output()
        try:
            command(*arguments, **options)
            sys.stdout.flush()
        except CommandError as failure:
            _flush()
            print(f"routed: {failure}", file=sys.stderr)
            raise SystemExit(failure.status) from None
        except KeyboardInterrupt:
            _flush()
            raise SystemExit(Status.INTERRUPTED) from None
        except BrokenPipeError:
            _broken_pipe()
        except OSError as error:  # of the output: all others have become a CommandError
            _give_up_output()
            print(f"routed: cannot write: {safe(error.strerror or str(error))}", file=sys.stderr)
            raise SystemExit(Status.NO) from None

    return run


def _prepare_output() -> None:
    """What the terminal's encoding does not have is shown as an escape, and never an error; and a standard
    stream that is closed is a place like another."""
    sys.stdout = sys.stdout or Path(os.devnull).open("w")  # noqa: SIM115 - until the process ends
    sys.stderr = sys.stderr or Path(os.devnull).open("w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if reconfigure := getattr(stream, "reconfigure", None):
            reconfigure(errors="backslashreplace")


def _flush() -> None:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _broken_pipe()


def _broken_pipe() -> NoReturn:
    """Nobody reads any more."""
    _give_up_output()
    raise SystemExit(Status.BROKEN_PIPE) from None


def _give_up_output() -> None:
    """What was not written is not: the interpreter would complain when it flushes at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
