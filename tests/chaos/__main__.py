"""Chaos: `python -m tests.chaos --seed 1 --minutes 2`, or `make chaos SEED=1 MINUTES=2`.

A stack of its own, all flows under the real supervisor, a feeder whose truth is known; random faults on every process;
then everything is drained and compared with the truth. The schedule depends on the seed alone and is printed first.
Exit code 0: exact; 1: something is lost, doubled, wrong, or did not come back.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from tests.chaos.run import Outcome, chaos

RATE = 200.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="equal seeds have equal messages and faults (1)")
    parser.add_argument("--minutes", type=float, default=2.0, help="of faults; settling and checking come on top (2)")
    parser.add_argument("--rate", type=float, default=RATE, help=f"messages a second ({RATE:g})")
    parser.add_argument(
        "--kills-only", action="store_true", help="single kills of flows, one after the other has passed"
    )
    parser.add_argument("--recovery-s", type=float, help="fail where a flow took longer than this after a single kill")
    parser.add_argument("--keep", type=Path, help="folder for data and logs; kept. Default: a temporary one, removed")
    parser.add_argument("--json", action="store_true", help="the outcome as JSON on stdout")
    args = parser.parse_args()

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory(prefix="trends-chaos-") as folder:
        home = args.keep or Path(folder)
        outcome = chaos(home, args.seed, args.minutes * 60, args.rate, kills_only=args.kills_only, say=say)
    if args.json:
        print(json.dumps(asdict(outcome) | {"exact": outcome.exact}, indent=2))
    else:
        show(outcome)
    slow = args.recovery_s is not None and (outcome.slowest_s is None or outcome.slowest_s > args.recovery_s)
    return 0 if outcome.exact and not slow else 1


def show(outcome: Outcome) -> None:
    """The outcome for a person."""
    for recovery in outcome.recoveries:
        took = "never" if recovery.seconds is None else f"{recovery.seconds:5.1f} s"
        print(f"{recovery.process:>12} killed at {recovery.at_s:6.1f} s: its partitions committed again after {took}; "
              f"those of its neighbours at least every {recovery.neighbours_gap_s:.1f} s")  # fmt: skip
    for name, count in outcome.counts.items():
        print(f"{name:>26} {count:>10,}")
    for label in ("lost", "doubled", "wrong", "verify", "faults"):
        findings = getattr(outcome, label)
        print(f"{label:>26} {len(findings):>10,}")
        for finding in findings:
            print(f"      {finding}")
    print(f"seed {outcome.seed}: {outcome.hits} faults, {len(outcome.exits)} processes ended and came back, "
          f"{'exact' if outcome.exact else 'NOT EXACT'}")  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
