"""The `routed` command, and `python -m routed`."""

from __future__ import annotations

import sys

from routed import daemon


def main() -> None:
    """Read the command line and do what it says; or be the daemon that it asked for."""
    if not daemon.run_handed_over():
        try:
            from routed import cli

            cli.main(sys.argv[1:])
        except KeyboardInterrupt:  # Ctrl-C while all is read; from then on each command sees to it
            raise SystemExit(130) from None


if __name__ == "__main__":
    main()
