"""``python -m benchmarks list | run NAME…``"""

from __future__ import annotations

import argparse
import signal
import sys
from importlib import import_module
from pathlib import Path

from rich.console import Console

from benchmarks.harness import Result, Scores, show, write_json
from streams.errors import TrendsError

BENCHMARKS = {
    "routing": "trends against known subjects, the share of the largest, and the router's speed",
    "embed": "the onnx embedder against sentence-transformers with batches of 32 and 512 (where installed)",
    "kafka": "the transactional pair against Bytewax's own Kafka source and sink",
    "verify": "how fast an audit is and in how much memory, against reading the same streams alone",
    "scale": "two processes against one, and what transactions and state cost",
    "recovery": "reading state back from the log after many updates a key, and a stand-by's take-over",
    "echoes": "copies found against known copies, by kind",
    "clustering": "topics against known stories, in several orders; models alone and through the pipeline",
    "trends": "bursts against the stories of the synthetic world; of a file, the first ten at every midnight",
    "summaries": "summaries and labels against the items of their topics; how often a model would be asked",
    "engine": "the cluster engine alone with 5,000, 50,000 and 200,000 active topics, vectors given",
    "pipeline": "end to end, against the bare embedder and against encode-512-then-INSERT-one-by-one",
}
"""Each is a module of this package with ``run(args, tell) -> Result``, or ``Scores`` where quality is measured."""


def main() -> int:
    """The command line of the benchmarks."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Benchmarks, each against the bare engine in the same run."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="what there is")
    run = commands.add_parser("run", help="run some, one after the other")
    run.add_argument("names", nargs="+", choices=sorted(BENCHMARKS), metavar="NAME")
    run.add_argument("--rounds", type=int, default=3, help="how often each way is run (default 3)")
    run.add_argument("--items", type=int, default=0, help="items or records of a run (default: each benchmark's own)")
    run.add_argument("--updates", type=int, default=0, help="recovery: how often each key is written (default 20)")
    run.add_argument("--data", type=Path, help="a CSV or JSONL file with titles, instead of the synthetic world")
    run.add_argument("--label", metavar="COLUMN", help="the column with what is known of a post (default: by name)")
    run.add_argument(
        "--map",
        metavar="FIELD=COLUMN",
        action="append",
        default=[],
        help="which column is which field, as of a file source",
    )
    run.add_argument(
        "--dilute", type=Path, metavar="FILE", help="clustering: unlabelled posts to put among the labelled"
    )
    run.add_argument(
        "--story",
        metavar="WORDS[@TIME]",
        action="append",
        default=[],
        help="trends: what must rise in a file: words of titles and trends, from a time on (uber@2016-09-14)",
    )
    run.add_argument("--unlabelled", action="store_true", help="summaries: the file of --data has no labels")
    run.add_argument("--device", help="embed: where sentence-transformers runs: cuda, cpu (default: cpu, if installed)")
    run.add_argument("--seed", type=int, default=1, help="of whatever is drawn by chance (default 1)")
    run.add_argument("--models-only", action="store_true", help="quality: leave out the run through the pipeline")
    run.add_argument("--json", type=Path, help="write the results, with facts about the machine, to this file")
    args = parser.parse_args()
    console = Console(highlight=False)
    if args.command == "list":
        for name, about in BENCHMARKS.items():
            console.print(f"  [bold]{name:10}[/bold] {about}")
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started is stopped then, too
    notes = Console(stderr=True, highlight=False)
    results: list[Result | Scores] = []
    try:
        for name in args.names:
            result = import_module(f"benchmarks.{name}").run(args, lambda line: notes.print(f"[dim]… {line}[/dim]"))
            show(result, console)
            results.append(result)
    except TrendsError as error:
        notes.print(f"[bold red]error:[/bold red] {error}")
        return int(error.exit_code)
    if args.json:
        write_json(results, args.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
