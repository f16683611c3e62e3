"""``trends eval``: how well topics agree with the stories of a labelled file."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from connectors import pairs
from streams.records import Granularity
from trends.cli.context import current_settings
from trends.cli.output import JsonOption, progress, progress_bar, show
from trends.evaluation import MEASURES, Evaluated, evaluate, orders_of
from trends.flows import embedder_of
from trends.labelled import LABELS, Posts, posts_of
from trends.text import plain

BAD_SHOWN = 5


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command("eval")(evaluate_file)


def evaluate_file(
    file: Annotated[Path, typer.Argument(help="CSV or JSON Lines, plain or gzipped.", metavar="FILE")],
    label: Annotated[
        str | None,
        typer.Option(
            "--label",
            metavar="COLUMN",
            show_default=False,
            help=f"The column that says which story a post belongs to; else the first there is of {', '.join(LABELS)}.",
        ),
    ] = None,
    columns: Annotated[
        list[str] | None, typer.Option("--map", help="FIELD=COLUMN, as of a file source: title=headline.")
    ] = None,
    shuffled: Annotated[
        int, typer.Option("--shuffled", min=0, max=100, help="So many random orders too.", metavar="N")
    ] = 0,
    dilute: Annotated[
        Path | None,
        typer.Option(
            "--dilute",
            metavar="FILE",
            help="And among these posts, which are not judged; columns by name.",
            show_default=False,
        ),
    ] = None,
    granularity: Annotated[
        Granularity | None,
        typer.Option("--granularity", help="How wide topics are; not given: as the settings say.", show_default=False),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of what is drawn by chance.")] = 1,
    as_json: JsonOption = False,
) -> None:
    """Measure how well topics agree with the stories of a labelled file.

    Router, embedder (that of the settings) and engine read the file as the flows would, without streams and stores:
    nothing needs to run, and nothing is kept. Posts without a label are read with the others, and not judged. Shown
    are BCubed precision, recall and F1, normalised mutual information, the adjusted Rand index and completeness, each
    1 where topics are the stories; at emission: by the topic that a post was given when it came; the others: by the
    one that it belongs to once merges are followed. The same call prints the same figures.

    \b
    Examples:
      trends eval posts.csv --label story
      trends eval headlines.jsonl --label cluster --map title=text --shuffled 3
      trends eval posts.csv --label story --granularity fine
      trends eval posts.csv --label story --dilute others.csv --json
    """
    mapping = pairs(columns or [])
    posts = posts_of(file, label, mapping)
    others = posts_of(dilute, None, {}, labelled=False) if dilute else None
    _tell_bad(posts, others)
    orders = orders_of(posts, seed, shuffled, others)
    total = sum(len(order.sightings) for _, order in orders)
    from models.clustering import ClusterConfig
    from models.embedding import EmbeddingCache

    settings = current_settings()
    config = ClusterConfig.of(granularity or settings.granularity)
    embedder = embedder_of(settings)
    try:
        with progress_bar("reading posts") as bar:
            read = 0

            def done(count: int) -> None:
                nonlocal read
                read += count
                bar(read, total)

            found = list(evaluate(orders, embedder, EmbeddingCache(len(orders[-1][1].sightings)), done, config))
    finally:
        embedder.close()
    value = {
        "file": str(file), "embedder": embedder.name, "granularity": config.granularity,
        "posts": len(posts.sightings), "labelled": len(posts.labels),
        "stories": len(set(posts.labels.values())), "bad_rows": len(posts.bad), "seed": seed,
        "orders": [asdict(each) for each in found],
    }  # fmt: skip
    show(value, as_json, lambda: _table(posts, found, embedder.name))


def _tell_bad(*files: Posts | None) -> None:
    for posts in files:
        if posts is None or not posts.bad:
            continue
        progress(f"{posts.name}: {len(posts.bad):,} rows cannot be read and are left out, such as")
        for line in posts.bad[:BAD_SHOWN]:
            progress(f"  {plain(line, 200)}")


def _table(posts: Posts, found: list[Evaluated], model: str) -> RenderableType:
    table = Table("order", box=None, header_style="bold")
    for name in (*MEASURES, "at emission", "topics"):
        table.add_column(name.replace("completeness", "compl."), justify="right", no_wrap=True)
    for each in found:
        figures = (*(getattr(each.final, key) for key in MEASURES.values()), each.at_emission.f1)
        table.add_row(each.order, *(f"{figure:.3f}" for figure in figures), f"{each.final.clusters:,}")
    stories = len(set(posts.labels.values()))
    told = f"{len(posts.labels):,} of {len(posts.sightings):,} posts have a label, in {stories:,} stories; {model}"
    return Group(table, Text(told, style="dim"))
