"""End to end: connector → Kafka → embed → cluster → score, summarize → PostgreSQL, against two simpler things.

- the bare embedder: as many processes of one thread as the pipeline embeds with, the same titles, nothing else;
- the naive way: one process encodes 512 titles as they come, with all cores, and INSERTs them one by one (no stories,
  no trends, no recovery).

The flows run before the clock starts, as they do in service; each round has items that no round before it had.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

import asyncpg
from pgvector.asyncpg import register_vector

from benchmarks.embed import FixedBatches
from benchmarks.harness import Result, Row, in_turns
from benchmarks.own_stack import own_stack, stored_after
from connectors import connector_of
from connectors.synthetic import SyntheticOptions, World
from models.text import clean_title
from sinks.postgres import SyncReader, migrate
from streams.admin import StreamAdmin
from streams.errors import SettingsError, UnavailableError
from trends.demo import Stages, processes
from trends.flow_processes import ONE_THREAD, flow_supervisor
from trends.settings import Settings, environment_of
from trends.supervisor import Supervisor

ITEMS = 4_000
WARM_UP = 300
SETTLE_S = 600.0
NAIVE_BATCH = 512

Item = dict[str, str]


def run(args: argparse.Namespace, tell: Callable[[str], None]) -> Result:
    """Items a second."""
    count = args.items or ITEMS
    source = _items(args.data)
    warm = list(islice(source, WARM_UP))
    slices = [list(islice(source, count)) for _ in range(args.rounds)]
    if not warm or any(len(part) < count for part in slices):
        raise SettingsError(f"{args.data}: {args.rounds} rounds of {count:,} items need more rows than it has")
    with own_stack() as settings, tempfile.TemporaryDirectory() as folder:
        StreamAdmin(settings.kafka(), settings.generation).apply()
        asyncio.run(migrate(settings.postgres()))
        embedders = processes()["embed"]
        with (
            flow_supervisor(settings, processes(), lambda _name, _line: None) as flows,
            Stages(settings) as stages,
        ):
            _feed(settings, warm, Path(folder) / "warm.csv", flows, stages)
            rounds = {name: iter(slices) for name in ("pipeline", "bare", "naive")}
            number = iter(range(args.rounds))
            rates = in_turns(
                args.rounds,
                {
                    "pipeline": lambda: count / _feed(
                        settings, next(rounds["pipeline"]), Path(folder) / f"{next(number)}.csv", flows, stages
                    ),
                    "bare": lambda: count / _bare(settings, [i["title"] for i in next(rounds["bare"])], embedders),
                    "naive": lambda: count / asyncio.run(_naive(settings.dsns()[0], next(rounds["naive"]))),
                },
                tell,
            )  # fmt: skip
        with SyncReader(settings.postgres()) as sync:
            stored = sync.ask(sync.reader.counts())
    if stored.items != WARM_UP + count * args.rounds:
        raise UnavailableError(f"{stored.items:,} items are stored, {WARM_UP + count * args.rounds:,} were sent")
    rows = (
        Row("pipeline", tuple(rates["pipeline"]), "end to end, stored and searchable"),
        Row("bare embedder", tuple(rates["bare"]), f"{embedders} processes of one thread"),
        Row("naive way", tuple(rates["naive"]), "encode 512 as they come, INSERT one by one"),
    )
    ratios = {f"pipeline / {row.name}": rows[0].median / row.median for row in rows[1:]}
    facts = {
        "items a round": count,
        "data": args.data.name if args.data else "the synthetic world",
        "stored": f"{stored.items:,} items, {stored.topics:,} topics, {stored.trends:,} trends",
    }
    return Result("pipeline", "items/s", rows, ratios, facts)


def _feed(settings: Settings, items: list[Item], path: Path, flows: Supervisor, stages: Stages) -> float:
    """Seconds from the first row read until everything is stored."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["id", "title", "url", "created_at"])
        writer.writeheader()
        writer.writerows(items)
    return stored_after(settings, connector_of(f"file:{path}"), flows, stages, SETTLE_S)


def _bare(settings: Settings, titles: list[str], embedders: int) -> float:
    """Seconds until the slowest of so many processes has embedded its share."""
    command = [sys.executable, "-m", "benchmarks.bare_embed"]
    environment = environment_of(settings) | ONE_THREAD
    running = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        for _ in range(embedders)
    ]
    for process in running:
        assert process.stdout is not None
        process.stdout.readline()  # ready
    for number, process in enumerate(running):
        assert process.stdin is not None
        process.stdin.write("\n".join(clean_title(t) or "-" for t in titles[number::embedders]))
        process.stdin.close()
    seconds = 0.0
    for process in running:
        assert process.stdout is not None
        seconds = max(seconds, float(process.stdout.readline()))
        process.wait()
    return seconds


async def _naive(dsn: str, items: list[Item]) -> float:
    """Seconds of a loop that many services start with."""
    embedder = FixedBatches(NAIVE_BATCH, threads=os.cpu_count() or 1)
    embedder.embed(["warm up"] * 64)
    connection = await asyncpg.connect(dsn)
    await register_vector(connection)
    await connection.execute(
        "CREATE TABLE IF NOT EXISTS naive (id text PRIMARY KEY, title text, url text, at timestamptz, v vector(384))"
    )
    began = time.perf_counter()
    for start in range(0, len(items), NAIVE_BATCH):
        batch = items[start : start + NAIVE_BATCH]
        vectors = embedder.embed([clean_title(item["title"]) or "-" for item in batch])
        for item, vector in zip(batch, vectors, strict=True):
            at = datetime.fromisoformat(item["created_at"])
            await connection.execute(
                "INSERT INTO naive VALUES ($1, $2, $3, $4, $5)", item["id"], item["title"], item["url"], at, vector
            )
    seconds = time.perf_counter() - began
    await connection.close()
    return seconds


def _items(path: Path | None) -> Iterator[Item]:
    """Rows with id, title, url and time: of a CSV, else the first sightings of the synthetic world."""
    if path is None:
        seen: set[str] = set()
        for sighting in World(SyntheticOptions(items=100_000)):
            if sighting.external_id not in seen:
                seen.add(sighting.external_id)
                yield {
                    "id": sighting.external_id, "title": sighting.title, "url": sighting.url or "",
                    "created_at": sighting.published_at.isoformat(),
                }  # fmt: skip
        return
    with path.open(encoding="utf-8") as lines:
        at = datetime(2026, 1, 1, tzinfo=UTC)
        for number, record in enumerate(csv.DictReader(lines)):
            when = record.get("created_at") or (at + timedelta(seconds=60 * number)).isoformat()
            yield {
                "id": record.get("id") or str(number), "title": record["title"], "url": record.get("url") or "",
                "created_at": when,
            }  # fmt: skip
