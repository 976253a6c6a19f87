"""The `routed` command, and `python -m routed`."""

from __future__ import annotations

from routed import daemon


def main() -> None:
    """Read the command line and do what it says; or be the daemon that it asked for."""
    if not daemon.run_handed_over():
        try:
            from routed.cli import app

            app()
        except KeyboardInterrupt:  # Ctrl-C while all is read; from then on each command sees to it
            raise SystemExit(130) from None


if __name__ == "__main__":
    main()
