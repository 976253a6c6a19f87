"""Asking a local ExaBGP whether it takes a rendered configuration."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from routed.render.check import TIME_LIMIT, Checked
from routed.render.exabgp import FILE


class NoExabgpError(Exception):
    """There is no ExaBGP here that answers. The text says what to install."""


def find_exabgp() -> list[str]:
    """The beginning of the command that checks a file: 5 has `validate`, 4 has `--validate`.

    Raises NoExabgpError."""
    program = shutil.which("exabgp")
    if program is None:
        raise NoExabgpError("there is no exabgp on the PATH: install it (Debian's package `exabgp`)")
    # 5 has taken `--version` away, and 4 takes `version` for the name of a file.
    for option, check in (("--version", "--validate"), ("version", "validate")):
        status, said = _run([program, option])
        if status == 0 and "ExaBGP" in said:
            return [program, check]
    raise NoExabgpError(f"{program} does not say its version: version 4 or 5 is needed")


def check_exabgp(files: Mapping[str, str], command: list[str]) -> Iterator[Checked]:
    """Lets ExaBGP parse the file. The program of a `process` section must be there too."""
    with tempfile.TemporaryDirectory(prefix="routed-check-") as folder:
        path = Path(folder, FILE)
        path.touch(mode=0o600)
        path.write_text(files[FILE])
        status, said = _run([*command, str(path)])
    # It prints the line that it does not take, and that could be the one with a password.
    complaint = "\n".join(line for line in said.splitlines() if "md5-password" not in line)
    error = complaint.replace(f"{folder}/", "").strip()[-2000:] or f"exit status {status}"
    yield Checked(FILE, command[0], error if status else None)


def _run(command: list[str]) -> tuple[int, str]:
    try:
        run = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIME_LIMIT,
            check=False,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "exabgp_daemon_daemonize": "false", "exabgp_tcp_bind": ""},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return -1, f"{command[0]}: {error}"
    return run.returncode, run.stdout + run.stderr
