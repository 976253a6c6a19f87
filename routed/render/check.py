"""Asking a local BIRD whether it takes a rendered configuration (`bird -p`)."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from routed.bgp.nlri import Family
from routed.render.bird import FILES

PROGRAMS = {Family.IPV4: "bird", Family.IPV6: "bird6"}
TIME_LIMIT = 30

# Calico's BIRD knows an attribute `krt_tunnel` that Debian's does not.
_TUNNEL = re.compile(r'krt_tunnel=("[^"]*")')


@dataclass(frozen=True, slots=True)
class Checked:
    """What a BIRD said of one family's files: nothing (`error` is None) where it takes them."""

    file: str
    program: str
    error: str | None


class NoBirdError(Exception):
    """There is no BIRD of the right version here. The text says what to install."""


def find_programs() -> dict[Family, str]:
    """The paths of BIRD 1.6's programs. Raises NoBirdError."""
    found = {}
    for family, program in PROGRAMS.items():
        path = shutil.which(program)
        if path is None:
            raise NoBirdError(
                f"there is no {program} on the PATH: install BIRD 1.6 (Debian's package `bird`)"
            )
        version = _run([path, "--version"]).strip()
        if " 1." not in version:
            raise NoBirdError(f"{path} is {version or 'of unknown version'}: BIRD 1.6 is needed")
        found[family] = path
    return found


def check(
    files: Mapping[str, str], programs: Mapping[Family, str], keep_tunnel: bool = False
) -> Iterator[Checked]:
    """Lets each family's BIRD parse its files.

    Unless `keep_tunnel` (for Calico's own BIRD), its attribute `krt_tunnel` is replaced by one that any BIRD
    has."""
    with tempfile.TemporaryDirectory(prefix="routed-check-") as folder:
        for name, text in files.items():
            shown = text if keep_tunnel else _TUNNEL.sub(r"krt_metric = 1", text)
            Path(folder, name).write_text(shown)
        for family, program in programs.items():
            main = FILES[family].main
            if main in files:
                said = _run([program, "-p", "-c", str(Path(folder, main))])
                yield Checked(main, program, said.replace(f"{folder}/", "").strip() or None)


def _run(command: list[str]) -> str:
    """What a program says; an empty text is all well with `bird -p`."""
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=TIME_LIMIT, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{command[0]}: {error}"
    said = run.stdout + run.stderr
    return said or (f"exit status {run.returncode}" if run.returncode else "")
