"""Route reflectors beside each other: BIRD 2, FRR, GoBGP and routed under the same load on loopback.

    python -m benchmarks reflector [--quick | --full] [--daemons routed,bird2] [--clients 100,500]

Without options: 100, 500 and 1,000 clients × 20 routes and a feed of 1,000,000 routes, some five minutes.
Needs a C compiler for the load generator, and of the daemons those that are to be compared.
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import NoReturn

from benchmarks.reflector import campaign, plot, table
from benchmarks.reflector.daemons import DAEMONS
from benchmarks.reflector.load import LoadError, build

_ROOT = Path(__file__).resolve().parents[2]
README = _ROOT / "benchmarks" / "README.md"
PICTURE = _ROOT / "docs" / "images" / "reflector.svg"
#: What is between these two lines of README is replaced by --update.
BEGIN, END = "<!-- reflector: begin -->", "<!-- reflector: end -->"


def say(text: str) -> None:
    """Progress, apart from the table."""
    print(text, file=sys.stderr, flush=True)


def _terminated(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _names(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    for name in names:
        if name not in DAEMONS:
            raise argparse.ArgumentTypeError(f"{name!r}: known are {', '.join(DAEMONS)}")
    return names


def _clients(text: str) -> tuple[int, ...]:
    numbers = tuple(int(number) for number in text.split(",") if number)
    if any(not 2 <= number <= 50_000 for number in numbers):
        raise argparse.ArgumentTypeError("clients are 2 to 50,000")
    return numbers


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks reflector",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="100 clients, one run of each: half a minute")
    size.add_argument(
        "--full", action="store_true", help="5 runs, one more feed, GoBGP at all sizes: up to two hours"
    )
    parser.add_argument(
        "--daemons", type=_names, default=tuple(DAEMONS), metavar="NAMES", help=",".join(DAEMONS)
    )
    parser.add_argument(
        "--clients", type=_clients, metavar="N,N", help="fan-outs of these sizes, and no feed"
    )
    parser.add_argument(
        "--feed", action="store_true", help="with --clients: the feed too; alone: only the feed"
    )
    parser.add_argument("--runs", type=int, help="repetitions; the table has their medians")
    parser.add_argument(
        "--limit", type=float, help="seconds that one run may take at most (60; with --full 300)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every single result here")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="draw the table's main figures here")
    parser.add_argument(
        "--update", action="store_true", help="put the table into benchmarks/README.md and draw its picture"
    )
    return parser.parse_args()


def _plan(options: argparse.Namespace, daemons: tuple[str, ...]) -> campaign.Plan:
    feeds = (campaign.FEED, campaign.FEED_SETS) if options.full else (campaign.FEED,)
    sizes = options.clients
    if sizes is None:
        sizes = () if options.feed else (100,) if options.quick else (100, 500, 1000)
        with_feeds = options.feed or not options.quick
    else:
        with_feeds = options.feed
    return campaign.Plan(
        scenarios=(*map(campaign.fan_out, sizes), *(feeds if with_feeds else ())),
        daemons=daemons,
        runs=options.runs or (1 if options.quick else 5 if options.full else 3),
        limit=options.limit or (300.0 if options.full else 60.0),
        slow_daemons_too=options.full,
    )


def update_readme(results: campaign.Results) -> None:
    """Replace the published table and picture by these results."""
    text = README.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    README.write_text(f"{before}{BEGIN}\n{table.markdown(results)}\n{END}{after}")
    plot.write(results, PICTURE)


def main() -> int:
    """Run the benchmark; the exit status."""
    options = _options()
    try:
        build()
    except LoadError as error:
        say(f"skipped: {error}")
        return 0
    signal.signal(signal.SIGTERM, _terminated)
    versions = campaign.available(options.daemons, say)
    plan = _plan(options, tuple(versions))
    results = campaign.Results(campaign.machine(), versions, plan.runs)
    busy = results.machine["load_at_start"]
    if busy > table.QUIET_LOAD:
        say(f"other work runs here (load average {busy}): take the ratios, not the times")
    status = 0
    try:
        campaign.run(plan, results, say)
    except KeyboardInterrupt:
        say("interrupted: what was measured so far")
        status = 130
    print(table.markdown(results))
    if options.json:
        results.save(options.json)
    if options.svg:
        plot.write(results, options.svg)
    if options.update and not status:
        update_readme(results)
    return status


if __name__ == "__main__":
    sys.exit(main())
