"""`python -m routed`."""

from routed.cli import main

main()
